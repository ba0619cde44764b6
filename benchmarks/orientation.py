"""How often the true front and top of brains are found, however their headers turn them.

Each scan is turned and mirrored by all 48 permutations and flips of its axes, or by some of them
(the scan's own always among them), and each time it is found out whether its header is right.

Rendered scans are of label maps, in 2 mm, stripped, at six contrasts, all but the first with the
head held aslant by up to 40 degrees.

    python benchmarks/orientation.py --output=scores.json --scans IBSR/*/*/IBSR_??.nii.gz \\
        --front-to-back infant_bids/sub-*/ses-*/anat/*_T1w.nii.gz \\
        --label-maps freesurfer:MAPS/2mo_aseg_acpc.nii.gz freesurfer:MAPS/7mo_aseg_acpc.nii.gz

`--front-to-back` are scans whose headers are known to turn the brain front to back.
"""

import argparse
import itertools
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from infant_seg_jax.data.orientation import Coarse, coarse, find_orientation, turned
from infant_seg_jax.data.resampling import grid_with_spacing, resample_labels
from infant_seg_jax.data.schemas import find_schema
from infant_seg_jax.data.volumes import read_image, read_label_map
from infant_seg_jax.progress import progress
from infant_seg_jax.rendering import image
from infant_seg_jax.rendering.anatomy import complete
from infant_seg_jax.rendering.contrast import Prior
from infant_seg_jax.rendering.structures import Structure, to_structures

CONTRASTS = (
    *(("T1w", 0, 1), ("T2w", 0, 1), ("T1w", 5, 7)),
    *(("T2w", 5, 7), ("T1w", 12, 60), ("T2w", 12, 60)),
)
MOST_DEGREES = 40.0
MM = 2.0
SIDE = (112, 120, 112)

ALL = [
    np.eye(3, dtype=int)[:, list(axes)] * signs
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
FRONT_TO_BACK, MIRROR = np.diag([1, -1, 1]), np.diag([-1, 1, 1])

Named = tuple[str, str, Coarse]

_apply = jax.jit(image.apply)


def real(paths: list[Path], group: str, lies: np.ndarray) -> Iterator[Named]:
    """Scans as they would be with a right header, given how the brain lies by the one they have."""
    for path in paths:
        seen = coarse(read_image(path))
        if seen is None:
            print(f"{path} shows a head and is left out")
            continue
        yield group, path.name, as_lying(seen, lies.T)


def rendered(label_maps: list[str]) -> Iterator[Named]:
    """Rendered scans of label maps."""
    for name in label_maps:
        schema, path = name.split(":", 1)
        label_map = read_label_map(Path(path))
        structures = to_structures(label_map.data, find_schema(schema), path)
        structures[structures >= Structure.BONE] = Structure.OUTSIDE
        shape, affine = grid_with_spacing(label_map.shape, label_map.affine, (MM, MM, MM))
        structures = resample_labels(structures, label_map.affine, shape, affine)
        structures = complete(structures, (MM, MM, MM))
        middle = np.argwhere(structures != Structure.OUTSIDE).mean(axis=0)
        seed = zlib.crc32(Path(path).name.encode())
        random = np.random.default_rng(seed)
        for number, (modality, youngest, oldest) in enumerate(CONTRASTS):
            axis, degrees = random.normal(size=3), random.uniform(0, MOST_DEGREES) * (number > 0)
            vector = axis / np.linalg.norm(axis) * degrees
            back = Rotation.from_rotvec(vector, degrees=True).as_matrix().T
            offset = middle - back @ ((np.array(SIDE) - 1) / 2)
            aslant = ndimage.affine_transform(structures, back, offset, SIDE, order=0)
            prior = Prior(modality, youngest, oldest)
            drawn = image.draw(jax.random.key(seed + number), prior, image.GOOD, SIDE, MM)
            scan = np.asarray(_apply(drawn, jax.numpy.asarray(aslant)))[..., 0]
            about = f"{Path(path).name} {modality} {youngest}-{oldest} months, {degrees:.0f} deg"
            yield "rendered", about, (scan, scan > 0, (MM, MM, MM))


def as_lying(seen: Coarse, lies: np.ndarray) -> Coarse:
    """A scan whose brain lies by the columns of `lies`, mirrored or not."""
    scan, mask, spacing = seen
    x, y, z = np.array(spacing)[np.abs(lies.T).argmax(axis=0)].tolist()
    return np.ascontiguousarray(turned(scan, lies.T)), turned(mask, lies.T), (x, y, z)


def outcome(seen: Coarse, lies: np.ndarray) -> tuple[str, float, float]:
    """Whether what is said of a scan's header is right, with the margin and the degrees."""
    found = find_orientation(*as_lying(seen, lies))
    true = lies if np.linalg.det(lies) > 0 else lies @ MIRROR
    header_is_right = np.array_equal(true, np.eye(3))
    if not found.contradicts_header:
        verdict = "nothing, rightly" if header_is_right else "missed"
    elif header_is_right:
        verdict = "wrong warning"
    else:
        verdict = "found" if np.array_equal(found.turn, true) else "wrong direction"
    return verdict, found.margin, found.degrees


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--scans", type=Path, nargs="*", default=[], help="with right headers")
    parser.add_argument("--front-to-back", type=Path, nargs="*", default=[])
    parser.add_argument("--label-maps", nargs="*", default=[], help="SCHEMA:FILE")
    parser.add_argument("--turns", type=int, default=len(ALL), help="of the 48, drawn")
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    scans = [
        *real(arguments.scans, "right headers", np.eye(3, dtype=int)),
        *real(arguments.front_to_back, "front to back", FRONT_TO_BACK),
        *rendered(arguments.label_maps),
    ]
    counts: dict[str, Counter[str]] = {}
    everything = []
    with progress("turning", len(scans) * arguments.turns) as bar:
        for group, name, seen in scans:
            drawn = 1 + random.permutation(len(ALL) - 1)[: arguments.turns - 1]
            for index in (0, *drawn):
                verdict, margin, degrees = outcome(seen, ALL[index])
                counts.setdefault(group, Counter())[verdict] += 1
                everything.append([group, name, ALL[index].tolist(), verdict, margin, degrees])
                bar.update()
            arguments.output.write_text(json.dumps(everything))
    kinds = ("nothing, rightly", "wrong warning", "found", "missed", "wrong direction")
    print(f"| | {' | '.join(kinds)} |\n|{'---|' * (1 + len(kinds))}")
    for group, verdicts in counts.items():
        print(f"| {group} | {' | '.join(str(verdicts[kind]) for kind in kinds)} |")


if __name__ == "__main__":
    main()
