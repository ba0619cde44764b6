"""How far apart the surfaces of two segmentations are, in mm.

A surface is a set of voxels: those of the tissue with at least one of their six face neighbors not
of the tissue, as MONAI and MedPy have it. What lies beyond the volume's edge is not of the tissue.
Distances are Euclidean, from center to center, and every voxel of a surface counts alike.
(DeepMind's `surface-distance` takes all corners between voxels of two kinds, which make a thicker
layer, and weights them by area: its distances are smaller, its surface Dice is higher.)

Ignored voxels have no tissue and make no surface: a voxel of the tissue is not on the surface if
all of its neighbors that are not of the tissue are ignored. So an ignored region cuts no new one.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import binary_erosion
from scipy.spatial import KDTree

_SLACK_MM = 1e-4
"""Affines are often stored with 32 bits: 1.0000001 mm is within a tolerance of 1 mm."""


def surface(
    tissue: Bool[np.ndarray, "x y z"], ignored: Bool[np.ndarray, "x y z"]
) -> Bool[np.ndarray, "x y z"]:
    """The voxels on the surface of `tissue`, of which none is ignored."""
    return tissue & np.logical_not(binary_erosion(tissue | ignored))


def surface_distances(
    prediction: Bool[np.ndarray, "x y z"],
    truth: Bool[np.ndarray, "x y z"],
    spacing: tuple[float, float, float],
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " t"]]:
    """From each voxel of one surface to the nearest voxel of the other, in mm.

    Args:
        prediction, truth: the voxels on two surfaces, neither of them empty.
        spacing: the voxel size along x, y, z in mm.

    Returns:
        The prediction's distances to the truth, and the truth's to the prediction.
    """
    return _to_nearest(prediction, truth, spacing), _to_nearest(truth, prediction, spacing)


def _to_nearest(
    surface: Bool[np.ndarray, "x y z"],
    other: Bool[np.ndarray, "x y z"],
    spacing: tuple[float, float, float],
) -> Float[np.ndarray, " n"]:
    apart = surface & ~other
    distances = np.zeros(np.count_nonzero(surface))  # of what lies on both surfaces
    # Cheaper to build than the default, and as quick to query on a lattice.
    tree = KDTree(np.argwhere(other) * spacing, balanced_tree=False, compact_nodes=False)
    distances[apart[surface]] = tree.query(np.argwhere(apart) * spacing, workers=-1)[0]
    return distances


def hausdorff(to_truth: Float[np.ndarray, " p"], to_prediction: Float[np.ndarray, " t"]) -> float:
    """The largest distance of either surface to the other, in mm (Huttenlocher et al., IEEE
    TPAMI 15, 1993)."""
    return float(max(to_truth.max(), to_prediction.max()))


def hausdorff95(to_truth: Float[np.ndarray, " p"], to_prediction: Float[np.ndarray, " t"]) -> float:
    """The larger one of the two surfaces' 95th percentiles of distance, in mm.

    As MONAI has it; MedPy takes one percentile of all distances together. Between ranks the
    percentile is interpolated linearly.
    """
    return float(max(np.percentile(to_truth, 95), np.percentile(to_prediction, 95)))


def average_symmetric_distance(
    to_truth: Float[np.ndarray, " p"], to_prediction: Float[np.ndarray, " t"]
) -> float:
    """The average symmetric surface distance, in mm: the mean of all distances together
    (Heimann et al., IEEE TMI 28, 2009)."""
    total = to_truth.sum() + to_prediction.sum()
    return float(total / (to_truth.size + to_prediction.size))


def modified_hausdorff(
    to_truth: Float[np.ndarray, " p"], to_prediction: Float[np.ndarray, " t"]
) -> float:
    """The larger one of the two surfaces' mean distances, in mm (Dubuisson and Jain, ICPR 1994).

    iSeg-2017 and iSeg-2019 rank by a distance of this name, for which their organizers published
    no code. Their tables have 5 to 10 mm of it beside average surface distances of 0.1 to 0.4 mm,
    which no mean over these surfaces can be: such values are the size of `hausdorff`.
    """
    return float(max(to_truth.mean(), to_prediction.mean()))


def surface_dice(
    to_truth: Float[np.ndarray, " p"], to_prediction: Float[np.ndarray, " t"], tolerance: float
) -> float:
    """The share of both surfaces together that is within `tolerance` mm of the other (Nikolov et
    al., arXiv 1809.04430, 2018; J Med Internet Res 23, 2021)."""
    near = sum(np.count_nonzero(d <= tolerance + _SLACK_MM) for d in (to_truth, to_prediction))
    return float(near / (to_truth.size + to_prediction.size))
