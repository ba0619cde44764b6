"""Time and memory of `infant-seg evaluate` on one pair, against distance transforms with scipy.

The peer is the usual recipe (MedPy's, and MONAI's on a CPU): nibabel reads both label maps, and of
every tissue's surface scipy's exact Euclidean distance transform is taken over the whole volume,
from the prediction and from the truth. It has the same surfaces and the same five statistics of
their distances, so `largest_difference` should be 0. `ours` reads and measures the pair; the
command is all of `infant-seg evaluate`, from starting Python to the files written.

Without files, the pair is a phantom of 256x256x256 voxels of 1 mm, and the same one warped by a
smooth random displacement.

    python benchmarks/evaluate.py [--prediction=A.nii.gz --truth=B.nii.gz] > evaluate.json

Prints JSON, and a table beside it on standard error.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from inputs import BRAIN, Sizes
from measuring import Found, Row, compare, in_a_process, least, run_command
from table import print_one

Values = dict[str, dict[str, float]]

SIDE = 256
WARP_VOXELS, WARP_SMOOTHNESS = 0.8, 5.0
DISTANCES = ("hausdorff_mm", "hausdorff95_mm", "modified_hausdorff_mm", "assd_mm", "surface_dice")


def make_pair(prediction: str, truth: str, side: int, brain: Sizes) -> Found:
    """Write a phantom's label map, and what a network might have made of it."""
    import nibabel as nib
    import numpy as np
    from scipy import ndimage

    from infant_seg_jax.data.phantom import render_phantom

    x, y, z = brain
    phantom = render_phantom(0, shape=(x, y, z), spacing=BRAIN[0] / x)
    rng = np.random.default_rng(0)
    places = np.indices(brain, np.float32)
    for axis in places:
        noise = ndimage.gaussian_filter(rng.normal(size=brain), WARP_SMOOTHNESS)
        axis += WARP_VOXELS * (noise / noise.std()).astype(np.float32)
    warped = ndimage.map_coordinates(phantom.label_map, places, order=0, mode="nearest")
    around = [((side - size) // 2, (side - size) // 2) for size in brain]
    for path, label_map in ((prediction, warped), (truth, phantom.label_map)):
        nib.save(nib.Nifti1Image(np.pad(label_map, around), phantom.affine), path)
    return {}


def run_transforms(prediction: str, truth: str) -> Found:
    """Distance transforms of the whole volume."""
    import nibabel as nib
    import numpy as np
    from scipy import ndimage

    from infant_seg_jax.data.labels import TISSUE_CLASSES

    def measure() -> Values:
        images = [nib.Nifti1Image.from_filename(path) for path in (prediction, truth)]
        maps = [np.squeeze(np.asanyarray(image.dataobj)) for image in images]
        spacing = [float(size) for size in images[1].header.get_zooms()[:3]]
        found: Values = {}
        for tissue, index in TISSUE_CLASSES.foreground.items():
            masks = [label_map == index for label_map in maps]
            surfaces = [mask ^ ndimage.binary_erosion(mask) for mask in masks]
            away = [
                np.asarray(ndimage.distance_transform_edt(~s, sampling=spacing)) for s in surfaces
            ]
            a, b = away[1][surfaces[0]], away[0][surfaces[1]]
            both = np.concatenate([a, b])
            statistics = (
                both.max(),
                max(np.percentile(a, 95), np.percentile(b, 95)),
                max(a.mean(), b.mean()),
                both.mean(),
                np.mean(both <= 1.0 + 1e-4),
            )
            overlap = np.count_nonzero(masks[0] & masks[1])
            found[tissue] = dict(zip(DISTANCES, map(float, statistics), strict=True))
            found[tissue]["dice"] = 2 * overlap / sum(map(np.count_nonzero, masks))
        return found

    values, found = least(measure)
    return {**found, "values": values}


def run_ours(prediction: str, truth: str) -> Found:
    """What `evaluate` does with a pair."""
    from infant_seg_jax.evaluation.label_maps import measure_label_maps

    def measure() -> Values:
        (found,) = measure_label_maps(Path(prediction), Path(truth)).scores.subjects.values()
        return {
            tissue: {name: values[name] for name in (*DISTANCES, "dice")}
            for tissue, values in found.items()
        }

    values, found = least(measure)
    return {**found, "values": values}


def run_whole_command(prediction: str, truth: str) -> Found:
    """All of the command, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        flags = (f"--prediction={prediction}", f"--truth={truth}", f"--output={folder}")
        return run_command("evaluate", *flags)


def rows(
    benchmark: str,
    *,
    prediction: Path | None = None,
    truth: Path | None = None,
    side: int = SIDE,
    brain: Sizes = BRAIN,
    rounds: int = 2,
) -> Iterator[Row]:
    """What evaluating a pair of label maps takes.

    Args:
        benchmark: what the rows are of.
        prediction, truth: label maps; None: a phantom and the same one warped.
        side: of the phantom's volume, in voxels.
        brain: voxels of that which the brain fills.
        rounds: turns of each.
    """
    values: dict[str, Values] = {}

    def measure(work: Any, environment: dict[str, str]) -> Found:
        found = in_a_process(work, environment, prediction=a, truth=b)
        values[work.__name__] = found.pop("values", {})
        return found

    with tempfile.TemporaryDirectory() as folder:
        if prediction and truth:
            a, b, what = prediction.resolve(), truth.resolve(), truth.name
        else:
            a, b = (Path(folder) / f"{name}.nii.gz" for name in ("prediction", "truth"))
            what = f"a phantom, {side}-cubed"
            in_a_process(make_pair, prediction=a, truth=b, side=side, brain=brain)
        found = compare(
            benchmark,
            f"evaluating {what}",
            {
                "ours": partial(measure, run_ours),
                "distance transforms": partial(measure, run_transforms),
                "the whole command": partial(measure, run_whole_command),
            },
            rounds,
        )
    ours, theirs = values.get("run_ours", {}), values.get("run_transforms", {})
    for row in found:
        if row.who == "ours" and ours and theirs:
            differences = [abs(ours[t][n] - value) for t in ours for n, value in theirs[t].items()]
            dice = {f"Dice of {tissue}": round(ours[tissue]["dice"], 3) for tissue in ours}
            largest = {"largest_difference": round(max(differences), 9)}
            row = replace(row, also={**row.also, **dice, **largest})
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--prediction", type=Path)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--rounds", type=int, default=2, help="turns of each")
    print_one("evaluate", rows("evaluate", **vars(parser.parse_args())))


if __name__ == "__main__":
    main()
