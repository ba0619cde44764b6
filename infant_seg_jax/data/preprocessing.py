"""From a scan to what the network sees, and back; training and prediction both come this way."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float16, Float32, UInt8

from infant_seg_jax.data.bias import correct_bias
from infant_seg_jax.data.cropping import Box, box_shape, crop_affine, crop_box, uncrop
from infant_seg_jax.data.foreground import BRAIN, Foreground, find_foreground
from infant_seg_jax.data.formats.grid import MAX_VOXELS, Affine, Shape, times
from infant_seg_jax.data.labels import BACKGROUND
from infant_seg_jax.data.resampling import (
    grid_with_spacing,
    resample_image,
    resample_labels,
    resample_votes,
)
from infant_seg_jax.data.volumes import Volume
from infant_seg_jax.errors import InputError

OUTLIER = 10.0
"""As a multiple of how far the 1st and the 99th percentile lie from the median. Sound scans of
infants and adults reach 8 at most; single voxels that overflowed in a conversion, over 100."""
_MENTIONED, _HANDFUL = 1e-4, 5
_SLICES = 16


@dataclass(frozen=True)
class Preparation:
    """The parameters of a preparation, recorded with everything that was prepared by it.

    Attributes:
        margin_mm: how much of the surroundings the crop keeps on every side of the brain. Drawn
            gray matter reaches up to 6 mm beyond the box of IBSR's skull-stripped scans.
        spacing_mm: the voxel size, along each axis, that all is resampled to; 0 keeps the scan's.
        clip_percentiles: intensities are clipped to these percentiles of the brain's, (0, 100)
            being none of them.
        bias_correction: whether N4 evens out the intensities first; needs the extra `n4`.
        brain_masks: whether what lies outside the source's brain masks is blanked, where it has
            them.
    """

    margin_mm: float = 8.0
    spacing_mm: float = 0.0
    clip_percentiles: tuple[float, float] = (0.0, 100.0)
    bias_correction: bool = False
    brain_masks: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.margin_mm < np.inf:
            raise InputError(f"The margin around the brain is {self.margin_mm} mm, expected >= 0.")
        if self.spacing_mm != 0 and not 0.1 <= self.spacing_mm <= 10:
            raise InputError(
                f"The voxel size to resample to is {self.spacing_mm} mm, expected 0.1 to 10, or 0 "
                "to keep the scans' own."
            )
        low, high = self.clip_percentiles
        if not 0 <= low < high <= 100:
            raise InputError(
                f"The percentiles to clip to are {low} and {high}, expected two numbers from 0 to "
                "100, the first below the second."
            )


def preparation_from_record(record: Mapping[str, Any]) -> Preparation:
    """A preparation as `dataclasses.asdict` and JSON left it.

    Raises:
        InputError: a value is out of its range.
        KeyError: a key is missing.
        TypeError, ValueError: a key is unknown, or a value of another type.
    """
    names = [field.name for field in fields(Preparation)]
    for missing in set(names) - set(record):
        raise KeyError(missing)
    for unknown in set(record) - set(names):
        raise TypeError(f"{unknown} is not part of a preparation")
    low, high = record["clip_percentiles"]
    values = {**record, "clip_percentiles": (low, high)}
    for name, value in values.items():
        if type(value) is not type(getattr(Preparation(), name)):
            raise TypeError(f"{name} is {value!r}")
    return Preparation(**values)


@dataclass(frozen=True, eq=False)
class PreparedVolume:
    """A scan as the network sees it: RAS+, cropped, resampled if asked for, normalized.

    Attributes:
        image: zero mean and unit variance over the brain in each channel, 0 outside it.
        mask: the brain; the head, of a scan that has its skull and no brain mask.
        affine: voxel indices of `image` to RAS+ millimeters.
        box: where the crop lies in the scan's RAS+ volume, in voxels of that.
        crop_affine: voxel indices of the crop before it was resampled to RAS+ millimeters.
        crop_mask: what `mask` is, on the grid of the crop.
        extent: `"brain"` or `"head"`, what `mask` is of.
        notices: what a person should know, a sentence each.
    """

    image: Float32[np.ndarray, "x y z c"]
    mask: Bool[np.ndarray, "x y z"]
    affine: Affine
    box: Box
    crop_affine: Affine
    crop_mask: Bool[np.ndarray, "X Y Z"]
    extent: str
    notices: tuple[str, ...] = ()

    @property
    def shape(self) -> Shape:
        """Voxels of `image` along x, y, z."""
        x, y, z = self.mask.shape
        return x, y, z

    @property
    def resampled(self) -> bool:
        """Whether `image` has another grid than the crop."""
        return self.shape != box_shape(self.box) or not np.array_equal(
            self.affine, self.crop_affine
        )


def prepare_volume(
    volume: Volume, preparation: Preparation, mask: Bool[np.ndarray, "x y z"] | None = None
) -> PreparedVolume:
    """Find the brain unless `mask` says where it is, crop to it with a margin, and normalize.

    Args:
        volume: the scan; left as it is.
        preparation: the parameters.
        mask: the brain, on the scan's grid; somewhere it is True.

    Raises:
        InputError: there is no brain, or a channel is constant over it, or what was asked for
            cannot be done with this scan: it would have too many voxels, or N4 fails.
    """
    if mask is None:
        found = shown_in(volume)
        mask, extent = found.mask, found.extent
    else:
        extent = BRAIN
    box = crop_box(mask, preparation.margin_mm, volume.spacing)
    image, crop_mask = volume.data[box], mask[box]
    brain = crop_mask
    before = affine = crop_affine(volume.affine, box)
    _check_contrast(image, brain, volume)
    image, outliers = limit_outliers(image, brain)
    notices = ()
    if outliers > max(_MENTIONED * np.count_nonzero(brain), _HANDFUL):
        notices = (describe_outliers(volume.path, outliers),)
    if preparation.bias_correction:
        image = correct_bias(image, brain, volume.spacing, volume.path)
    if size := preparation.spacing_mm:
        shape, affine = grid_with_spacing(box_shape(box), before, (size, size, size))
        if math.prod(shape) > MAX_VOXELS:
            raise InputError(
                f"{volume.path} would have {times(shape)} voxels of {size:g} mm, expected at most "
                f"{MAX_VOXELS}: resample to larger voxels."
            )
        image = resample_image(image, before, shape, affine)
        brain = resample_labels(brain.astype(np.uint8), before, shape, affine) != 0
        if np.count_nonzero(brain) < 2:
            raise InputError(
                f"{volume.path} has no brain left in voxels of {size:g} mm: resample to smaller "
                "voxels."
            )
        _check_contrast(image, brain, volume)
    image = normalize(image, brain, preparation.clip_percentiles)
    return PreparedVolume(image, brain, affine, box, before, crop_mask, extent, notices)


def shown_in(volume: Volume) -> Foreground:
    """The brain or the head that a scan shows.

    Raises:
        InputError: it shows nothing.
    """
    found = find_foreground(volume.data, volume.spacing)
    if not found.mask.any():
        raise InputError(
            f"{volume.path} is empty: no voxel differs from the air around it, expected a scan of "
            "a brain."
        )
    return found


def _check_contrast(
    image: Float32[np.ndarray, "x y z c"], mask: Bool[np.ndarray, "x y z"], volume: Volume
) -> None:
    for channel in range(image.shape[-1]):
        inside = image[..., channel][mask]
        if inside.min() == inside.max():
            which = f" in channel {channel + 1}" if image.shape[-1] > 1 else ""
            raise InputError(
                f"{volume.path} is constant over the brain{which}: all {inside.size} voxels are "
                f"{inside[0]:g}, expected a scan and not a mask."
            )


def sound_range(values: Float32[np.ndarray, " n"]) -> tuple[float, float]:
    """The lowest and highest intensities that are not extreme for a brain.

    That is `OUTLIER` times as far from the median as the 1st or the 99th percentile; where one of
    these is the median, any intensity.
    """
    low, middle, high = (float(value) for value in np.percentile(values, (1, 50, 99)))
    if not low < middle < high:
        return -np.inf, np.inf
    return middle - OUTLIER * (middle - low), middle + OUTLIER * (high - middle)


def describe_outliers(path: Path, count: int) -> str:
    """A sentence about voxels outside `sound_range`."""
    return (
        f"{path} has {count} voxel{'s' * (count > 1)} with an extreme intensity, over {OUTLIER:g} "
        "times as far from the median as the 1st or the 99th percentile; that is the limit when "
        "the scan is prepared or labeled: check whether the scan is damaged."
    )


def limit_outliers(
    image: Float32[np.ndarray, "x y z c"], mask: Bool[np.ndarray, "x y z"]
) -> tuple[Float32[np.ndarray, "x y z c"], int]:
    """Limit each channel to the `sound_range` of its intensities within the mask.

    One voxel that overflowed can be bright enough to turn all others into one gray. An image
    without such voxels is returned as it is, to the bit.

    Returns:
        The image, and how many of the mask's voxels were limited.
    """
    limited, count = image, 0
    for channel in range(image.shape[-1]):
        inside = image[..., channel][mask]
        low, high = sound_range(inside)
        if beyond := int(np.count_nonzero((inside < low) | (inside > high))):
            limited = limited.copy() if limited is image else limited
            limited[..., channel] = np.clip(image[..., channel], low, high)
            count += beyond
    return limited, count


def normalize(
    data: Float32[np.ndarray, "x y z c"],
    mask: Bool[np.ndarray, "x y z"],
    clip_percentiles: tuple[float, float] = (0.0, 100.0),
) -> Float32[np.ndarray, "x y z c"]:
    """Give each channel zero mean and unit variance over the mask, and 0 outside it.

    Moments are accumulated in float64, after clipping to percentiles of the mask's intensities.
    Percentiles that would make a channel constant are not applied to it. The mask is not empty and
    no channel constant over it.
    """
    inside = data[mask].astype(np.float64)
    if clip_percentiles != (0.0, 100.0):
        low, high = np.percentile(inside, clip_percentiles, axis=0)
        differ = low < high
        inside = np.where(differ, np.clip(inside, low, high), inside)
    normalized = np.zeros_like(data)
    normalized[mask] = (inside - inside.mean(axis=0)) / inside.std(axis=0)
    return normalized


def to_half(image: Float32[np.ndarray, "x y z c"]) -> Float16[np.ndarray, "x y z c"]:
    """A normalized image in half precision, to store: 0 where it is 0, and nowhere else.

    Values are rounded to a part in 2,000; those beyond half precision's 65,504, to that.
    """
    half = np.finfo(np.float16)
    stored = np.clip(image, half.min, half.max).astype(np.float16)
    lost = (stored == 0) & (image != 0)
    stored[lost] = np.copysign(half.smallest_subnormal, image[lost])
    return stored


def prepare_labels(
    classes: UInt8[np.ndarray, "X Y Z"], prepared: PreparedVolume
) -> UInt8[np.ndarray, "x y z"]:
    """A scan's classes, on its whole RAS+ grid, brought to the grid of its prepared volume."""
    crop = np.ascontiguousarray(classes[prepared.box])
    if not prepared.resampled:
        return crop
    return resample_labels(crop, prepared.crop_affine, prepared.shape, prepared.affine)


def restore_label_map(
    probabilities: Float[np.ndarray, "x y z k"], prepared: PreparedVolume, shape: Shape
) -> UInt8[np.ndarray, "X Y Z"]:
    """The most probable class of each voxel of a scan's whole RAS+ grid of `shape`.

    Probabilities of a prepared volume go back to the scan's own voxel size before the choice is
    made; outside the crop all is background.
    """
    if prepared.resampled:
        classes = resample_votes(
            lambda index: probabilities[..., index],
            probabilities.shape[-1],
            BACKGROUND,
            prepared.affine,
            box_shape(prepared.box),
            prepared.crop_affine,
        )
    else:
        classes = most_probable(probabilities)
    return uncrop(classes.astype(np.uint8, copy=False), prepared.box, shape)


def most_probable(probabilities: Float[np.ndarray, "x y z k"]) -> UInt8[np.ndarray, "x y z"]:
    """The most probable class of each voxel; of equal ones the first."""
    classes = np.empty(probabilities.shape[:3], np.uint8)
    for first in range(0, len(classes), _SLICES):  # NumPy's indices take 8 bytes a voxel.
        part = slice(first, first + _SLICES)
        classes[part] = probabilities[part].argmax(axis=-1)
    return classes
