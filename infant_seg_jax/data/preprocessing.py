"""From a scan to what the network sees; training and prediction both come through here."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Shaped
from scipy import ndimage

from infant_seg_jax.data.nifti import Affine, Shape
from infant_seg_jax.data.volumes import Volume
from infant_seg_jax.errors import InputError

Box = tuple[slice, slice, slice]

_SPECK = 0.01


@dataclass(frozen=True)
class Preparation:
    """The parameters of a preparation, recorded with everything that was prepared by it.

    Attributes:
        margin_mm: how much of the surroundings the crop keeps on every side of the brain. Drawn
            gray matter reaches up to 6 mm beyond the box of IBSR's skull-stripped scans.
    """

    margin_mm: float = 8.0

    def __post_init__(self) -> None:
        if not 0 <= self.margin_mm < np.inf:
            raise InputError(f"The margin around the brain is {self.margin_mm} mm, expected >= 0.")


@dataclass(frozen=True, eq=False)
class PreparedVolume:
    """A scan as the network sees it: RAS+, normalised, cropped.

    Attributes:
        image: zero mean and unit variance over the brain in each channel, 0 outside it.
        mask: the brain.
        affine: voxel indices of the crop to RAS+ millimetres.
        box: where the crop lies in the RAS+ volume.
    """

    image: Float32[np.ndarray, "x y z c"]
    mask: Bool[np.ndarray, "x y z"]
    affine: Affine
    box: Box


def prepare_volume(volume: Volume, preparation: Preparation) -> PreparedVolume:
    """Find the brain, crop to it with a margin, and normalise.

    Raises:
        InputError: there is no brain, or a channel is constant over it.
    """
    mask = brain_mask(volume.data)
    if not mask.any():
        raise InputError(f"{volume.path} is empty: every voxel is 0, expected a scan of a brain.")
    box = crop_box(mask, preparation.margin_mm, volume.spacing)
    image, mask = volume.data[box], mask[box]
    for channel in range(image.shape[-1]):
        inside = image[..., channel][mask]
        if inside.min() == inside.max():
            which = f" in channel {channel + 1}" if image.shape[-1] > 1 else ""
            raise InputError(
                f"{volume.path} is constant over the brain{which}: all {inside.size} voxels are "
                f"{inside[0]:g}, expected a scan and not a mask."
            )
    return PreparedVolume(normalise(image, mask), mask, crop_affine(volume.affine, box), box)


def brain_mask(data: Float32[np.ndarray, "x y z c"]) -> Bool[np.ndarray, "x y z"]:
    """The brain of a skull-stripped scan: where any channel is not 0, the background's value.

    Enclosed holes are filled, since fluid in the ventricles may well be exactly 0, and specks are
    dropped: parts that touch the rest by no face and have under 1% of the largest part's voxels.
    """
    foreground = (data != 0).any(axis=-1)
    mask = np.zeros_like(foreground)
    if not foreground.any():
        return mask
    box = crop_box(foreground, 0.0, (1.0, 1.0, 1.0))  # what follows is far quicker on a part
    filled = ndimage.binary_fill_holes(foreground[box])
    parts, _ = ndimage.label(filled)  # pyright: ignore[reportGeneralTypeIssues]
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    mask[box] = (sizes >= _SPECK * sizes.max())[parts]
    return mask


def normalise(
    data: Float32[np.ndarray, "x y z c"], mask: Bool[np.ndarray, "x y z"]
) -> Float32[np.ndarray, "x y z c"]:
    """Give each channel zero mean and unit variance over the mask, and 0 outside it.

    Moments are accumulated in float64. The mask is not empty and no channel constant over it.
    """
    inside = data[mask].astype(np.float64)
    normalised = np.zeros_like(data)
    normalised[mask] = (inside - inside.mean(axis=0)) / inside.std(axis=0)
    return normalised


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
