"""Volumes of classes and of all within the skull, in ml."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Integer

from infant_seg_jax.data.formats import Affine, Grid
from infant_seg_jax.data.labels import ClassSet, count_classes
from infant_seg_jax.data.volumes import spacing_of, voxel_ml

VOLUMES, INTRACRANIAL, VOXEL = "TissueVolumesMl", "IntracranialVolumeMl", "VoxelSizeMm"
"""Keys of the JSON beside a label map."""


def measure(
    label_map: Integer[np.ndarray, "x y z"], affine: Affine, classes: ClassSet
) -> dict[str, float]:
    """The volume of each class but background in ml, of a label map."""
    counts = count_classes(label_map, classes)
    return {name: round(counts[name] * voxel_ml(affine), 4) for name in classes.foreground}


def intracranial_ml(mask: Bool[np.ndarray, "x y z"], grid: Grid) -> float:
    """The intracranial volume in ml: all within the brain mask."""
    return round(np.count_nonzero(mask) * voxel_ml(grid.affine), 4)


def volumes_record(
    label_map: Integer[np.ndarray, "x y z"],
    mask: Bool[np.ndarray, "x y z"],
    grid: Grid,
    classes: ClassSet,
) -> dict[str, Any]:
    """What the JSON beside a label map says of volumes, given its brain mask."""
    return {
        VOLUMES: measure(label_map, grid.affine, classes),
        INTRACRANIAL: intracranial_ml(mask, grid),
        VOXEL: [round(size, 6) for size in spacing_of(grid.affine)],
    }
