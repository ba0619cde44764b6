"""The brain mask of a label map: everything within the skull."""

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from infant_seg_jax.data.cropping import crop_box
from infant_seg_jax.data.foreground import largest_piece

GAP_MM = 2.0
"""Gaps of up to twice this width, such as sulci without labeled CSF, are inside the mask."""


def brain_mask(
    labeled: Bool[np.ndarray, "x y z"], spacing: tuple[float, float, float]
) -> Bool[np.ndarray, "x y z"]:
    """The brain mask of a label map.

    The labeled region is closed (dilated by a box of `GAP_MM` on each side, then eroded), its holes
    are filled, and the largest connected piece is kept (voxels with a common face are connected).
    Labeled voxels outside that piece are added again, so the mask contains every labeled voxel.

    Args:
        labeled: where the label map is not background.
        spacing: voxel size in mm.
    """
    mask = labeled.copy()
    if not mask.any():
        return mask
    steps = [round(GAP_MM / size) for size in spacing]
    box = crop_box(labeled, 0.0, spacing)
    # The padding keeps the dilated region off the border, which erosion treats as outside.
    part = np.pad(labeled[box], [(step + 1, step + 1) for step in steps]).view(np.uint8)
    for filter1d in (ndimage.maximum_filter1d, ndimage.minimum_filter1d):
        for axis, step in enumerate(steps):
            part = filter1d(part, 2 * step + 1, axis)
    filled = np.asarray(ndimage.binary_fill_holes(part))
    within = tuple(slice(step + 1, -step - 1) for step in steps)
    mask[box] |= largest_piece(filled)[within]
    return mask
