"""What of a scan is shown to the network for tissues: the brain, where more than that is there.

A network for voxels of 3 mm sees all of a head at once; one for voxels of 1 mm sees a part, and
takes some of the head for brain. The first finds the brain, as in the two stages of nnU-Net's
cascade (Isensee et al., Nature Methods 18, 2021); what lies further from it than `KEPT_MM` is left
out for the second, which knows brains that were stripped too widely.
"""

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage

from infant_seg_jax.data.cropping import uncrop
from infant_seg_jax.data.foreground import HEAD, largest_piece
from infant_seg_jax.data.formats.grid import Shape
from infant_seg_jax.data.preprocessing import PreparedVolume
from infant_seg_jax.data.resampling import resample_image
from infant_seg_jax.data.volumes import spacing_of

KEPT_MM = 3.0
"""How far around the brain that is found everything is kept."""

LEAST_LEFT_OUT = 0.03
"""A skull-stripped scan of which a smaller share would be left out is used as it is."""


def brain_to_show(
    prepared: PreparedVolume, background: Float32[np.ndarray, "x y z"], shape: Shape
) -> Bool[np.ndarray, "X Y Z"] | None:
    """The brain of a head, or of a scan that shows more than the brain; None: all of the scan.

    Args:
        prepared: the scan as the network that finds brains gets it.
        background: the probability that a voxel is no brain.
        shape: voxels of the scan's whole RAS+ grid.
    """
    piece = largest_piece((background < 0.5) & prepared.mask)
    brain = np.asarray(ndimage.binary_fill_holes(piece))
    if not brain.any():
        return None
    spacing = spacing_of(prepared.affine)
    outside_mm = np.asarray(ndimage.distance_transform_edt(~brain, spacing), np.float32)
    # Distances are to the centers of voxels, half a voxel within the brain.
    reach = KEPT_MM + float(np.mean(spacing)) / 2
    crop_shape = prepared.crop_mask.shape
    # Resampling fills with 0 what it does not know, so what is near has to be more than that.
    near = np.maximum(2 * reach - outside_mm, 0)[..., None]
    near = resample_image(near, prepared.affine, crop_shape, prepared.crop_affine)[..., 0]
    shown = prepared.crop_mask & (near >= reach)
    left_out = 1 - np.count_nonzero(shown) / np.count_nonzero(prepared.crop_mask)
    if not shown.any() or (prepared.extent != HEAD and left_out < LEAST_LEFT_OUT):
        return None
    return uncrop(shown, prepared.box, shape)
