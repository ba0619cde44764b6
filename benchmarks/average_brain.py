"""The average brain that `infant_seg_jax.data.orientation` lays over scans.

Each group, of an age say, counts as much as any other, however many label maps it has. The one in
the package is of

    python benchmarks/average_brain.py --output=infant_seg_jax/data/average_brain.npy \\
        --group fetal_atlas:fetal_GA{29,31,33}_operated.nii.gz \\
        --group tissues:sub00{1_infant_infantile,2_infant_isointense,3_infant_adult_like}.nii.gz \\
        --group synthseg:training_seg_0{1,2,3,4,5,6}.nii.gz

docs/trust.md names the label maps and their licenses.
"""

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import Float

from infant_seg_jax.data.average_brain import SIDE, grid_points, normalized
from infant_seg_jax.data.labels import BACKGROUND, CSF, GM, WM
from infant_seg_jax.data.resampling import grid_with_spacing, resample_labels
from infant_seg_jax.data.schemas import find_schema
from infant_seg_jax.data.volumes import read_label_map

SPACING = (2.0, 2.0, 2.0)


def one_brain(schema: str, path: Path) -> Float[np.ndarray, "n 4"]:
    """A label map's brain and its tissues at the average brain's places, from 0 to 1."""
    label_map = read_label_map(path)
    classes = find_schema(schema).to_classes(label_map.data, path)
    grid = grid_with_spacing(label_map.shape, label_map.affine, SPACING)
    classes = resample_labels(classes, label_map.affine, *grid)
    brain = classes != BACKGROUND  # what is of no one tissue, too
    channels = [brain, *(classes == tissue for tissue in (CSF, GM, WM))]
    return normalized(np.stack(channels), brain, SPACING, grid_points())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--group", nargs="+", action="append", required=True, metavar="SCHEMA:FILE")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    groups = []
    for group in arguments.group:
        named = [one.split(":", 1) for one in group]
        groups.append(np.mean([one_brain(schema, Path(path)) for schema, path in named], axis=0))
    mean = np.mean(groups, axis=0).reshape(SIDE, SIDE, SIDE, -1)
    mean = (mean + mean[::-1]) / 2  # left and right are never told apart
    stored = np.rint(np.clip(mean, 0, 1) * 255).astype(np.uint8)
    np.save(arguments.output, np.ascontiguousarray(np.moveaxis(stored, -1, 0)))


if __name__ == "__main__":
    main()
