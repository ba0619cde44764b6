"""Whether voxels are a scan's, a label map's or a mask's; names are not asked."""

import numpy as np
from jaxtyping import Float32

from infant_seg_jax.data.cropping import crop_box
from infant_seg_jax.data.inspection.reports import LABEL_MAP, MASK, SCAN

MOST_LABELS = 512
"""A parcellation has up to about 400 values."""

_TOLERANCE = 1e-3  # a stored slope may leave 2.9999998 for 3
_EQUAL = 0.5
_MOST_BINS = 2**20

Counts = dict[int, int]
"""Voxels of each value that there is, by value."""


def kind_of(data: Float32[np.ndarray, "x y z"]) -> tuple[str, Counts]:
    """What a volume is, and the counts of its values, unless it is a scan.

    Label maps hold whole numbers, few of them, in pieces: of neighbors with a face in common, both
    off the background, most are equal (85% in the finest maps of tissues, 15% in the coarsest
    scans). A mask holds 0 and one other value. The background is the commonest value.
    """
    counts = _count_whole_numbers(data)
    if not counts or len(counts) > MOST_LABELS:
        return SCAN, {}
    if len(counts) == 2 and 0 in counts:
        return MASK, counts
    background = max(counts, key=counts.__getitem__)
    if _share_of_equal_neighbors(data, background) < _EQUAL:
        return SCAN, {}
    return LABEL_MAP, counts


def _count_whole_numbers(data: Float32[np.ndarray, "x y z"]) -> Counts:
    """The counts; none where a value is no whole number, or where there are very many values."""
    whole = np.rint(data)
    if np.abs(data - whole).max() > _TOLERANCE:
        return {}
    low = int(whole.min())
    if int(whole.max()) - low < _MOST_BINS:
        bins = np.bincount((whole - np.float32(low)).astype(np.int32).ravel())
        (found,) = np.nonzero(bins)
        return {int(value) + low: int(bins[value]) for value in found}
    values, voxels = np.unique(whole, return_counts=True)
    return {int(value): int(count) for value, count in zip(values, voxels, strict=True)}


def _share_of_equal_neighbors(data: Float32[np.ndarray, "x y z"], background: int) -> float:
    inside = np.abs(data - np.float32(background)) > _TOLERANCE
    box = crop_box(inside, 0.0, (1.0, 1.0, 1.0))
    data, inside = data[box], inside[box]
    pairs = equal = 0
    for axis in range(3):
        ahead = (slice(None),) * axis + (slice(1, None),)
        behind = (slice(None),) * axis + (slice(None, -1),)
        both = inside[ahead] & inside[behind]
        pairs += np.count_nonzero(both)
        equal += np.count_nonzero(both & (np.abs(data[ahead] - data[behind]) <= _TOLERANCE))
    return equal / pairs if pairs else 1.0
