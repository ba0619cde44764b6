"""Where the brain is in a skull-stripped scan, where the head is in any other, and which it is."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage

from infant_seg_jax.data.cropping import crop_box

BRAIN, HEAD = "brain", "head"

MAX_BRAIN_ML = 2200.0
"""More than this, ventricles and sulci included, is no brain: men's intracranial volumes reach
about 2,000 ml."""

_SPECK = 0.01
_CONSTANT = 0.5
_CUT = 0.1
# Of a mask's extent, and of its largest section: as far in, a neck is as wide as this or hardly
# widens, where a brain that is cut off a little widens like a ball.
_NEAR, _FAR = 0.05, 0.2
_NECK, _WIDENING = 0.38, 1.5


@dataclass(frozen=True, eq=False)
class Foreground:
    """What is not air.

    Attributes:
        mask: the brain of a stripped scan, or else the head; without holes.
        extent: `"brain"` or `"head"`.
    """

    mask: Bool[np.ndarray, "x y z"]
    extent: str


def find_foreground(
    data: Float32[np.ndarray, "x y z c"], spacing: tuple[float, float, float]
) -> Foreground:
    """Tell the brain, or the head, from the air around it; `spacing` is in mm.

    Around a stripped brain there is one value, mostly 0, and the brain is all that differs from
    it. A scan is of a head if the air around it is not of one value, if what differs is larger than
    any brain, or if it ends in a plane, as necks do and brains hardly ever.

    The head is what is brighter than Otsu's threshold, and all that lies between such voxels along
    two axes or more: bone and fluid may be as dark as air, but have skin or fat on either side.

    A voxel is foreground if it is so in any channel. Enclosed holes are filled, since fluid in the
    ventricles may well have the air's value, and specks are dropped: parts that touch the rest by
    no face and have under 1% of the largest part's voxels. Of a scan with one value everywhere
    nothing is foreground.
    """
    found = [_of_channel(data[..., channel], spacing) for channel in range(data.shape[-1])]
    mask = found[0].mask
    for other in found[1:]:
        mask = mask | other.mask
    extent = HEAD if any(one.extent == HEAD for one in found) else BRAIN
    return Foreground(without_specks(mask), extent)


def _of_channel(
    data: Float32[np.ndarray, "x y z"], spacing: tuple[float, float, float]
) -> Foreground:
    air, share = _value_on_faces(data)
    if share >= _CONSTANT:
        mask = without_specks(data != air)
        ml = np.count_nonzero(mask) * float(np.prod(spacing)) / 1000
        if not mask.any() or (ml <= MAX_BRAIN_ML and not _is_cut(mask)):
            return Foreground(mask, BRAIN)
    bright = without_specks(data > otsu_threshold(data[::2, ::2, ::2].ravel()))
    x, y, z = (_between(bright, axis) for axis in range(3))
    return Foreground((x & y) | (x & z) | (y & z), HEAD)


def without_specks(mask: Bool[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    """Fill enclosed holes, and drop parts with under 1% of the largest part's voxels."""
    cleaned = np.zeros_like(mask)
    if not mask.any():
        return cleaned
    box = crop_box(mask, 0.0, (1.0, 1.0, 1.0))  # what follows is far quicker on a part
    filled = np.asarray(ndimage.binary_fill_holes(mask[box]))
    parts = np.empty(filled.shape, np.int32)
    ndimage.label(filled, output=parts)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    cleaned[box] = (sizes >= _SPECK * sizes.max())[parts]
    return cleaned


def largest_piece(mask: Bool[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    """The largest connected piece of a mask (voxels with a common face are connected)."""
    pieces = np.empty(mask.shape, np.int32)
    ndimage.label(mask, output=pieces)
    sizes = np.bincount(pieces.ravel())[1:]
    return pieces == 1 + sizes.argmax() if sizes.size else mask


def otsu_threshold(values: Float32[np.ndarray, " n"], bins: int = 256) -> float:
    """The threshold with the largest variance between the values below it and above it.

    Otsu, IEEE Transactions on Systems, Man, and Cybernetics 9, 1979; on a histogram that ends at
    the 99.9th percentile, so that single bright voxels do not make its bins coarse. Of thresholds
    that do as well, in a gap between the two, it is the middle one.
    """
    low, high = float(values.min()), float(np.percentile(values, 99.9))
    counts, edges = np.histogram(np.clip(values, low, high), bins)
    centers = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centers)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = sums / below - (sums[-1] - sums) / above
        variance = np.nan_to_num(below.astype(np.float64) * above * apart**2)
    best = np.flatnonzero(variance == variance.max())
    return float(edges[1 + (best[0] + best[-1]) // 2])


def _value_on_faces(data: Float32[np.ndarray, "x y z"]) -> tuple[float, float]:
    """The commonest value on the six faces of a volume, and its share of their voxels."""
    faces = np.concatenate([data.take([0, -1], axis=axis).ravel() for axis in range(3)])
    values, counts = np.unique(faces, return_counts=True)
    commonest = int(np.argmax(counts))
    return float(values[commonest]), float(counts[commonest] / faces.size)


def _is_cut(mask: Bool[np.ndarray, "x y z"]) -> bool:
    """Whether the mask ends in a plane with a neck behind it.

    Its outermost section along an axis is large then, next to its largest one: of a ball `n` voxels
    across it is 4 / n of that at most, and a tenth is what we add. So it is, too, of a brain that a
    mask or the field of view cuts off by 4% of its extent; but there, sections soon grow.
    """
    for axis in range(3):
        areas = np.count_nonzero(mask, axis=tuple(other for other in range(3) if other != axis))
        sections = areas[areas > 0] / areas.max()
        count = sections.size
        for end in (sections, sections[::-1]):
            near, far = np.interp((_NEAR, _FAR), (np.arange(count) + 0.5) / count, end)
            if end[0] > _CUT + 4 / count and (near > _NECK or far < _WIDENING * near):
                return True
    return False


def _between(mask: Bool[np.ndarray, "x y z"], axis: int) -> Bool[np.ndarray, "x y z"]:
    """What has the mask on either side along an axis."""
    before = np.logical_or.accumulate(mask, axis=axis)
    after = np.flip(np.logical_or.accumulate(np.flip(mask, axis), axis=axis), axis)
    return before & after
