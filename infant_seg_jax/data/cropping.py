"""Boxes of voxels: around a mask, out of a volume, and back into it."""

import numpy as np
from jaxtyping import Bool, Shaped

from infant_seg_jax.data.formats.grid import Affine, Shape

Box = tuple[slice, slice, slice]


def crop_box(
    mask: Bool[np.ndarray, "x y z"], margin_mm: float, spacing: tuple[float, float, float]
) -> Box:
    """The mask's bounding box, widened by `margin_mm` (rounded up to voxels) within the volume.

    `spacing` is the voxel size in mm. The mask is not empty.
    """

    def side(axis: int) -> slice:
        others = tuple(other for other in range(3) if other != axis)
        (occupied,) = np.nonzero(mask.any(axis=others))
        margin = int(np.ceil(margin_mm / spacing[axis] - 1e-3))  # 0.79999 mm is 0.8 mm
        start = max(int(occupied[0]) - margin, 0)
        return slice(start, min(int(occupied[-1]) + 1 + margin, mask.shape[axis]))

    return side(0), side(1), side(2)


def box_shape(box: Box) -> Shape:
    """Voxels of a box along x, y, z."""
    x, y, z = (side.stop - side.start for side in box)
    return x, y, z


def crop_affine(affine: Affine, box: Box) -> Affine:
    """The affine of a crop: the same axes, the origin moved to the box's first voxel."""
    cropped = affine.copy()
    cropped[:3, 3] += affine[:3, :3] @ [side.start for side in box]
    return cropped


def uncrop(
    crop: Shaped[np.ndarray, "x y z *c"], box: Box, shape: Shape
) -> Shaped[np.ndarray, "X Y Z *c"]:
    """Put a crop back into a volume of `shape`, which is 0 (background) everywhere else."""
    whole = np.zeros(shape + crop.shape[3:], crop.dtype)
    whole[box] = crop
    return whole
