"""How many spoilt scans are flagged, and how many sound ones are all the same.

Sound scans are real ones with right headers, and scans rendered of label maps that no network of
ours has seen. Some of them are spoilt, in twelve ways each. A spoilt scan is predicted only if
nothing is found without that.

    python benchmarks/trust.py --output=trust.json --scans IBSR/*/*/IBSR_??.nii.gz \\
        --front-to-back infant_bids/sub-*/ses-*/anat/*_T1w.nii.gz \\
        --label-maps freesurfer:MAPS/2mo_aseg_acpc.nii.gz:1 freesurfer:MAPS/7mo_aseg_acpc.nii.gz:7

`--front-to-back` are scans whose headers are known to turn the brain front to back. A label map is
followed by the age in months at which it is rendered, as T1w and as T2w.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from infant_seg_jax.compilation import use_compilation_cache
from infant_seg_jax.data.foreground import find_foreground
from infant_seg_jax.data.formats import Grid
from infant_seg_jax.data.orientation import orientation_of, turned_volume
from infant_seg_jax.data.preprocessing import prepare_volume
from infant_seg_jax.data.schemas import find_schema
from infant_seg_jax.data.volumes import Volume, read_image, voxel_ml
from infant_seg_jax.errors import InputError
from infant_seg_jax.prediction.checks import check_air, check_detail, check_orientation, check_shape
from infant_seg_jax.prediction.predictor import Predictor
from infant_seg_jax.prediction.reference_statistics import why_unusual
from infant_seg_jax.progress import progress
from infant_seg_jax.rendering import image
from infant_seg_jax.rendering.anatomy import read_anatomy
from infant_seg_jax.rendering.cohort import render
from infant_seg_jax.rendering.contrast import MODALITIES, Prior
from infant_seg_jax.store.loading import open_predictor


def sound_scans(arguments: argparse.Namespace) -> Iterator[Volume]:
    """Scans as they should be."""
    for name in arguments.label_maps:
        schema, path, months = name.split(":")
        anatomy = read_anatomy(Path(path), find_schema(schema))
        for modality in MODALITIES:
            prior = Prior(modality, float(months), float(months))
            scan = render(anatomy, prior, image.GOOD, seed=7).image
            called = Path(f"{Path(path).name.split('.')[0]}_{modality}.nii.gz")
            yield Volume(scan[..., None], anatomy.affine, anatomy.native, called)
    for path in arguments.front_to_back:
        volume = read_image(path)
        yield with_data(volume, volume.data[:, ::-1])
    yield from map(read_image, arguments.scans)


def with_data(volume: Volume, data: np.ndarray) -> Volume:
    """The same with other voxels."""
    x, y, z = data.shape[:3]
    native = Grid((x, y, z), volume.affine)
    return replace(volume, data=np.ascontiguousarray(data, np.float32), native=native)


def with_mm(volume: Volume, factor: float) -> Volume:
    """The same with voxels of another size."""
    affine = volume.affine.copy()
    affine[:3, :3] *= factor
    return replace(volume, affine=affine)


def blurred(volume: Volume, brain: np.ndarray) -> np.ndarray:
    """Blurred by a Gaussian with an SD of 6 mm, within the brain."""
    deviations = [6 / size for size in volume.spacing]
    weight = ndimage.gaussian_filter(brain.astype(np.float32), deviations)
    smooth = ndimage.gaussian_filter(volume.data[..., 0] * brain, deviations)
    return np.where(brain, smooth / np.maximum(weight, 1e-3), 0)[..., None]


def noise(volume: Volume, brain: np.ndarray) -> np.ndarray:
    """Nothing but noise, in the brain and around it."""
    random = np.random.default_rng(0).normal(size=(2, *volume.shape))
    return np.hypot(*random)[..., None]


def half(volume: Volume, brain: np.ndarray) -> np.ndarray:
    """Without what is left of the middle."""
    middle = int(np.argwhere(brain.any(axis=(1, 2))).mean())
    data = volume.data.copy()
    data[:middle] = volume.data[0, 0, 0]
    return data


def ball(volume: Volume, brain: np.ndarray) -> np.ndarray:
    """A ball of the brain's volume, of one brightness with noise."""
    at = np.stack(np.meshgrid(*map(np.arange, brain.shape), indexing="ij"), axis=-1)
    away = np.linalg.norm((at - np.array(brain.shape) / 2) * volume.spacing, axis=-1)
    radius = np.cbrt(3 * brain.sum() * np.prod(volume.spacing) / (4 * np.pi))
    bright = 100 + np.random.default_rng(0).normal(0, 5, brain.shape)
    return np.where(away < radius, bright, 0)[..., None]


def cut(volume: Volume, brain: np.ndarray) -> np.ndarray:
    """Without the lowest third of the brain, which lies below the field of view."""
    (occupied,) = np.nonzero(brain.any(axis=(0, 1)))
    return volume.data[:, :, occupied[0] + len(occupied) // 3 :]


def voxels(make: Callable[[Volume, np.ndarray], np.ndarray]) -> Callable[..., Volume]:
    """A way to spoil a scan, given what becomes of its voxels."""
    return lambda volume, brain: with_data(volume, make(volume, brain))


WAYS: dict[str, Callable[[Volume, np.ndarray], Volume]] = {
    "upside down": voxels(lambda volume, _: volume.data[:, :, ::-1]),
    "front to back": voxels(lambda volume, _: volume.data[:, ::-1]),
    "turned by 90 degrees": lambda volume, _: turned_volume(
        volume, np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    ),
    "contrast inverted": voxels(lambda volume, _: volume.data.max() - volume.data),
    "contrast inverted, air black": voxels(
        lambda volume, brain: np.where(brain[..., None], volume.data.max() - volume.data, 0)
    ),
    "cut off": voxels(cut),
    "blurred": voxels(blurred),
    "noise": voxels(noise),
    "voxels twice too large": lambda volume, _: with_mm(volume, 2.0),
    "voxels half too small": lambda volume, _: with_mm(volume, 0.5),
    "half of the brain": voxels(half),
    "ball": voxels(ball),
}


def before_prediction(predictor: Predictor, volume: Volume) -> list[str]:
    """What is found of a scan without labeling it."""
    prepared = prepare_volume(volume, predictor.expects.preparation)
    orientation = orientation_of(volume)
    full = find_foreground(volume.data, volume.spacing).mask
    found = [
        check_detail(prepared.image[..., 0], prepared.mask, (1.0, 1.0, 1.0), volume.path),
        check_air(volume.data[..., 0], full, volume.path),
    ]
    if orientation:
        found += [check_shape(orientation, volume.path)]
        found += [check_orientation(orientation, volume.path, fixed=False)]
    size = np.count_nonzero(prepared.mask) * voxel_ml(prepared.affine)
    nan = float("nan")
    by_size = why_unusual(
        volume.path, predictor.reference, entropy=nan, agreement=nan, volume_ml=size
    )
    return [check.sentence for check in found if check.sentence] + list(by_size)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--checkpoint", default="bundled")
    parser.add_argument("--scans", type=Path, nargs="*", default=[])
    parser.add_argument("--front-to-back", type=Path, nargs="*", default=[])
    parser.add_argument("--label-maps", nargs="*", default=[], help="SCHEMA:FILE:MONTHS")
    parser.add_argument("--spoil-every", type=int, default=3, help="of the sound scans")
    arguments = parser.parse_args()
    use_compilation_cache()
    predictor = open_predictor(Path(arguments.checkpoint))
    found: dict[str, list[list[str]]] = {}
    total = 2 * len(arguments.label_maps) + len(arguments.front_to_back) + len(arguments.scans)
    with progress("looking", total) as bar:
        for number, volume in enumerate(sound_scans(arguments)):
            segmentation = predictor.segment(volume)
            entropy = f"entropy {segmentation.confidence.entropy:.3f}"
            found.setdefault("sound", []).append([volume.path.name, entropy, *segmentation.notices])
            brain = find_foreground(volume.data, volume.spacing).mask
            for way, spoil in WAYS.items() if number % arguments.spoil_every == 0 else ():
                spoilt = spoil(volume, brain)
                try:
                    warnings = before_prediction(predictor, spoilt)
                    warnings = warnings or list(predictor.segment(spoilt).notices)
                except InputError as error:
                    warnings = [str(error)]
                found.setdefault(way, []).append([volume.path.name, "", *warnings])
            bar.update()
            arguments.output.write_text(json.dumps(found, indent=1))
    print("| | scans | flagged |\n|---|---|---|")
    for way, scans in found.items():
        print(f"| {way} | {len(scans)} | {sum(len(one) > 2 for one in scans)} |")


if __name__ == "__main__":
    main()
