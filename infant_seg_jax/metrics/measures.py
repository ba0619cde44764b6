"""Everything that is measured of a prediction against its truth, tissue by tissue."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from infant_seg_jax.data.cropping import crop_box
from infant_seg_jax.data.labels import IGNORE, TISSUE_CLASSES, ClassSet
from infant_seg_jax.metrics.overlap import Overlap, overlap_per_tissue
from infant_seg_jax.metrics.surfaces import (
    average_symmetric_distance,
    hausdorff,
    hausdorff95,
    modified_hausdorff,
    surface,
    surface_dice,
    surface_distances,
)

TOLERANCE_MM = 1.0
"""How far apart surfaces may be for the surface Dice, unless somebody says otherwise."""


@dataclass(frozen=True)
class Metric:
    """What a number means.

    Attributes:
        unit: `mm`, `ml`, or empty for a share from 0 to 1.
        higher_is_better: or else lower is.
    """

    unit: str
    higher_is_better: bool


METRICS: Mapping[str, Metric] = {
    "dice": Metric("", True),
    "jaccard": Metric("", True),
    "sensitivity": Metric("", True),
    "precision": Metric("", True),
    "volume_similarity": Metric("", True),
    "volume_difference_ml": Metric("ml", False),
    "hausdorff_mm": Metric("mm", False),
    "hausdorff95_mm": Metric("mm", False),
    "modified_hausdorff_mm": Metric("mm", False),
    "assd_mm": Metric("mm", False),
    "surface_dice": Metric("", True),
}
"""By the names that they have in tables and files, in that order."""


def measure(
    prediction: UInt8[np.ndarray, "x y z"],
    truth: UInt8[np.ndarray, "x y z"],
    spacing: tuple[float, float, float],
    tolerance: float = TOLERANCE_MM,
    classes: ClassSet = TISSUE_CLASSES,
) -> dict[str, dict[str, float]]:
    """All of `METRICS` for each tissue, or other class but background.

    Voxels that are `IGNORE` in either label map count in neither; `surfaces` says what that means
    for a surface. A tissue that is in neither label map has no value of anything: NaN. One that is
    in only one of them has the worst: shares are 0, distances infinite, and the volume difference
    is what it is. Distances and the surface Dice take a tissue without a surface, all of whose
    neighbors are ignored, for one that is not there.

    Args:
        prediction, truth: classes on one grid.
        spacing: the voxel size along x, y, z in mm.
        tolerance: of the surface Dice, in mm.
        classes: which they are.

    Returns:
        By tissue, then by metric.
    """
    tissues = ((prediction > 0) & (prediction != IGNORE)) | ((truth > 0) & (truth != IGNORE))
    if tissues.any():  # with the voxels around them, which make the surfaces
        box = crop_box(tissues, max(spacing), spacing)
        prediction, truth = prediction[box], truth[box]
    ignored = (prediction == IGNORE) | (truth == IGNORE)
    counts = overlap_per_tissue(prediction, truth, classes)
    found = {}
    for tissue, index in classes.foreground.items():
        predicted = surface((prediction == index) & ~ignored, ignored)
        true = surface((truth == index) & ~ignored, ignored)
        values = _volumes(counts[tissue], math.prod(spacing) / 1000)
        if predicted.any() and true.any():
            values |= _distances(*surface_distances(predicted, true, spacing), tolerance)
        else:
            values |= _without_surface(bool(predicted.any() or true.any()))
        found[tissue] = {name: values[name] for name in METRICS}
    return found


def _volumes(counts: Overlap, voxel_ml: float) -> dict[str, float]:
    difference = abs(counts.predicted - counts.true) * voxel_ml
    return {
        "dice": counts.dice,
        "jaccard": counts.jaccard,
        "sensitivity": counts.sensitivity,
        "precision": counts.precision,
        "volume_similarity": counts.volume_similarity,
        "volume_difference_ml": difference if counts.predicted or counts.true else math.nan,
    }


def _distances(
    to_truth: np.ndarray, to_prediction: np.ndarray, tolerance: float
) -> dict[str, float]:
    return {
        "hausdorff_mm": hausdorff(to_truth, to_prediction),
        "hausdorff95_mm": hausdorff95(to_truth, to_prediction),
        "modified_hausdorff_mm": modified_hausdorff(to_truth, to_prediction),
        "assd_mm": average_symmetric_distance(to_truth, to_prediction),
        "surface_dice": surface_dice(to_truth, to_prediction, tolerance),
    }


def _without_surface(one_has: bool) -> dict[str, float]:
    """What stands for distances where not both have a surface."""
    distance, share = (math.inf, 0.0) if one_has else (math.nan, math.nan)
    names = ("hausdorff_mm", "hausdorff95_mm", "modified_hausdorff_mm", "assd_mm")
    return {**dict.fromkeys(names, distance), "surface_dice": share}
