"""The brain mask that goes with a label map: all within the skull, and nothing that contradicts."""

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from infant_seg_jax.data.cropping import crop_box

GAP_MM = 2.0
"""Gaps up to twice as wide, as of sulci whose fluid is not labeled, are within the mask."""


def brain_mask(
    labeled: Bool[np.ndarray, "x y z"], spacing: tuple[float, float, float]
) -> Bool[np.ndarray, "x y z"]:
    """The brain mask of a label map, from nothing but what is labeled.

    What is labeled is closed (dilated by a box of `GAP_MM` on each side, then eroded by it), holes
    are filled, and of pieces that touch by no face the largest is kept. All that is labeled
    outside of it joins it again, so that mask and label map never disagree.

    Args:
        labeled: where the label map has another class than background.
        spacing: of its voxels, in mm.
    """
    mask = labeled.copy()
    if not mask.any():
        return mask
    steps = [round(GAP_MM / size) for size in spacing]
    box = crop_box(labeled, 0.0, spacing)
    # The rim keeps dilation away from the border, which erosion takes for outside.
    part = np.pad(labeled[box], [(step + 1, step + 1) for step in steps]).view(np.uint8)
    for filter1d in (ndimage.maximum_filter1d, ndimage.minimum_filter1d):
        for axis, step in enumerate(steps):
            part = filter1d(part, 2 * step + 1, axis)
    filled = np.asarray(ndimage.binary_fill_holes(part))
    pieces = np.empty(filled.shape, np.int32)
    ndimage.label(filled, output=pieces)
    largest = 1 + int(np.bincount(pieces.ravel())[1:].argmax())
    within = tuple(slice(step + 1, -step - 1) for step in steps)
    mask[box] |= (pieces == largest)[within]
    return mask
