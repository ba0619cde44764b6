"""Tissues found again by the intensities of the very scan, from where a network expects them.

A network that has to read any contrast knows better where tissues lie than where exactly they end.
In one scan, within a centimeter, each tissue has one brightness: expectation maximization finds it,
and by it the borders. As in Van Leemput et al. (IEEE Transactions on Medical Imaging 18, 1999) and
FAST (Zhang et al., IEEE Transactions on Medical Imaging 20, 2001), each tissue is Gaussian, its
prior comes from elsewhere (there an atlas, here the network), and neighbors tend to be alike,
which a mean field approximates. Instead of a bias field, mean and variance change from place to
place: that follows myelination as well. What is fluid is also judged by the brightness in the
whole scan, since a place that was wholly taken for another tissue fits itself.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64
from scipy import ndimage
from scipy.special import expit

from infant_seg_jax.cores import count_cores
from infant_seg_jax.data.cropping import crop_box
from infant_seg_jax.data.labels import BACKGROUND, CSF, GM, IGNORE, TISSUE_CLASSES, WM, ClassSet
from infant_seg_jax.data.preprocessing import PreparedVolume, normalize
from infant_seg_jax.data.resampling import resample_image
from infant_seg_jax.data.volumes import Volume, spacing_of
from infant_seg_jax.errors import InputError

ROUNDS = 10

# CSF is as bright everywhere but for the coil; gray and white matter mature from place to place.
_REACH_MM = {CSF: 30.0, GM: 10.0, WM: 10.0}
_GAUSSIANS = {CSF: 1, GM: 1, WM: 2}  # of white matter, one for what is myelinated
_STARTS = np.cumsum(list(_GAUSSIANS.values()))[
    :-1
]  # of the second tissue and the third, in their order

_SHRINKAGE_MM3 = 50.0  # So much tissue of the whole brain's mean and variance is seen everywhere.
_CLIPPED = (0.5, 99.5)  # percentiles, so that bright vessels do not set the scale
_LEAST_SHARE = 1e-3  # of a tissue's Gaussians
_LEAST_DEVIATION = 0.1  # of a tissue's intensities, of the brain's deviation
_PRIOR_BLUR_MM = 1.0  # The network's borders may be off by this.
_PRIOR_FLOOR = 0.01
# The network is surer of itself than it is right, most of all of where gray matter ends.
_PRIOR_POWERS = {CSF: 0.75, GM: 0.5, WM: 0.5}
_FLUID_WEIGHT = np.float32(0.6)  # of the whole scan, where a coil changes intensities, too
_FLUID_BLUR_MM = 2.5  # Fluid that is wider; sulci are left to the means from place to place.
_WIDE = 0.5  # of what is around it
_LEAST_LIKELIHOOD = -20.0
_NEIGHBOR_WEIGHT = 2.0
_NEIGHBOR_MM = 0.8

_TINY = np.float32(1e-6)
_PLANES = 4  # worked on at once by a core, so that they stay in its cache
_ALL = slice(None)

Parts = Float32[np.ndarray, "g n y z"]
"""Of a slab of planes, the posteriors of all tissues' Gaussians, in their order; 0 but inside."""
Moments = Float32[np.ndarray, "_ m _ _ _"]
"""At nodes, of each of a tissue's Gaussians: how much of it there is, and each channel's first and
second moment."""


def refine_scan(
    probabilities: Float32[np.ndarray, "x y z k"],
    prepared: PreparedVolume,
    volume: Volume,
    classes: ClassSet = TISSUE_CLASSES,
) -> Float32[np.ndarray, "X Y Z k"]:
    """As `refine_classes`, in the crop's own voxels, which may be finer than the network's.

    Args:
        probabilities: the network's, on the grid of `prepared`.
        prepared: what the network was given.
        volume: the scan that it is of.
        classes: of the probabilities.

    Raises:
        InputError: as `refine_classes`.
    """
    image, mask, spacing = prepared.image, prepared.crop_mask, spacing_of(prepared.crop_affine)
    if not prepared.resampled:
        return refine_classes(probabilities, image, mask, spacing, classes)
    image = normalize(volume.data[prepared.box], mask, _CLIPPED)
    fine = np.empty((*mask.shape, probabilities.shape[-1]), np.float32)
    for index in range(BACKGROUND + 1, fine.shape[-1]):  # One by one, for the sake of memory.
        one, grid = probabilities[..., [index]], (mask.shape, prepared.crop_affine)
        fine[..., index] = resample_image(one, prepared.affine, *grid)[..., 0]
    np.subtract(1, fine[..., BACKGROUND + 1 :].sum(axis=-1), out=fine[..., BACKGROUND])
    return refine_classes(fine, image, mask, spacing, classes, in_place=True)


def refine_classes(
    probabilities: Float32[np.ndarray, "x y z k"],
    image: Float[np.ndarray, "x y z c"],
    mask: Bool[np.ndarray, "x y z"],
    spacing: tuple[float, float, float],
    classes: ClassSet,
    *,
    in_place: bool = False,
) -> Float32[np.ndarray, "x y z k"]:
    """As `refine`, of classes that belong to tissues: the tissues' sums are refined.

    What a tissue comes to is shared out among its classes as the network has it. A class of no
    single tissue is left as it is, as background is.

    Raises:
        InputError: a tissue has no class.
    """
    if classes == TISSUE_CLASSES:
        return refine(probabilities, image, mask, spacing, in_place=in_place)
    tissues = np.array(classes.tissues)
    if lacking := set(TISSUE_CLASSES.tissues) - set(classes.tissues):
        names = " or ".join(map(TISSUE_CLASSES.name_of, sorted(lacking)))
        raise InputError(
            f"The network tells {classes} apart, of which none is {names}, expected a class of "
            "each tissue to refine by intensities: predict with --norefine."
        )
    mixed = probabilities[..., tissues == IGNORE].sum(axis=-1)
    tissues[tissues == IGNORE] = BACKGROUND
    of_tissues = [tissues == tissue for tissue in TISSUE_CLASSES.tissues]
    sums = np.stack([probabilities[..., of].sum(axis=-1) for of in of_tissues], axis=-1)
    refined = refine(sums, image, mask & (mixed < 0.5), spacing)
    result = np.empty_like(probabilities)
    for of, before, after in zip(
        of_tissues, np.moveaxis(sums, -1, 0), np.moveaxis(refined, -1, 0), strict=True
    ):
        even = np.float32(1 / np.count_nonzero(of))
        for index in np.flatnonzero(of):
            share = np.full_like(before, even)
            np.divide(probabilities[..., index], before, out=share, where=before > 0)
            np.multiply(share, after, out=result[..., index])
    return result


def refine(
    probabilities: Float32[np.ndarray, "x y z k"],
    image: Float[np.ndarray, "x y z c"],
    mask: Bool[np.ndarray, "x y z"],
    spacing: tuple[float, float, float],
    *,
    in_place: bool = False,
) -> Float32[np.ndarray, "x y z k"]:
    """The probabilities of the tissues, given the scan's intensities and a network's probabilities.

    What is more probably background than not stays as it is, unless tissue encloses it, as it does
    where a network takes the darkest fluid in the ventricles for air. Where the tissues look alike,
    the network's probabilities decide, blurred a little.

    Args:
        probabilities: the network's, of the classes.
        image: as prepared, of unit variance in each channel; only order and distance of its
            intensities matter, not which tissue is the brighter.
        mask: the brain, or the head; tissue is looked for in it alone.
        spacing: voxel size in mm.
        in_place: whether to change `probabilities` and return them, which takes less memory; else
            they are left as they are.

    Returns:
        new ones, which sum to 1; a tissue's share of what is not background is its posterior.
    """
    tissue = mask & (probabilities[..., BACKGROUND] < 0.5)
    tissue = np.asarray(ndimage.binary_fill_holes(tissue)) & mask
    result = probabilities if in_place else probabilities.copy()
    if not tissue.any():
        return result
    box = crop_box(tissue, 0.0, spacing)
    inside, inner = tissue[box], result[box]
    found = _maximize_expectation(inner, image[box], inside, spacing)
    background = inner[..., BACKGROUND]
    share = 1 - np.where(background < 0.5, background, 0)
    np.copyto(inner[..., BACKGROUND], 1 - share, where=inside)
    for index, posterior in zip(_REACH_MM, found, strict=True):
        np.copyto(inner[..., index], share * posterior, where=inside)
    return result


def _maximize_expectation(
    probabilities: Float32[np.ndarray, "x y z k"],
    image: Float[np.ndarray, "x y z c"],
    inside: Bool[np.ndarray, "x y z"],
    spacing: tuple[float, float, float],
) -> Float32[np.ndarray, "t x y z"]:
    """The posteriors of the tissues, in the order of `_REACH_MM`; 0 but inside."""
    channels = np.ascontiguousarray(np.moveaxis(image, -1, 0), np.float32)
    posterior = np.empty((len(_REACH_MM), *inside.shape), np.float32)
    for row, index in enumerate(_REACH_MM):
        np.multiply(probabilities[..., index], inside, out=posterior[row])
    prior, alike = np.empty_like(posterior), np.empty_like(posterior)
    around = [Surroundings.of(inside.shape, spacing, reach) for reach in _REACH_MM.values()]
    shrinkage = _SHRINKAGE_MM3 / float(np.prod(spacing))
    slabs = [slice(first, first + _PLANES) for first in range(0, len(inside), _PLANES)]

    def measure(at: slice, parts: Parts) -> list[Moments]:
        found = []
        for row, own in enumerate(np.split(parts, _STARTS)):
            own.sum(axis=0, out=posterior[row, at])
            found.append(around[row].sum(_moments(own, channels[:, at]), at))
        return found

    def expect(at: slice, nodes: Sequence[Moments]) -> Parts:
        parts = np.concatenate(
            [
                _log_densities(tissue.interpolate(own, at), channels[:, at])
                + (prior[row, at] + _NEIGHBOR_WEIGHT * alike[row, at])
                for row, (tissue, own) in enumerate(zip(around, nodes, strict=True))
            ]
        )
        parts -= parts.max(axis=0)
        np.exp(parts, out=parts)
        parts *= inside[at] / parts.sum(axis=0)
        return parts

    with ThreadPoolExecutor(count_cores()) as cores:

        def blur(mm: float, blurred: Float32[np.ndarray, "t x y z"]) -> None:
            """Of each tissue, the posterior."""
            sigma = tuple(mm / size for size in spacing)
            smooth = partial(ndimage.gaussian_filter, sigma=sigma, mode="constant")
            list(cores.map(lambda one, out: smooth(one, output=out), posterior, blurred))

        blur(_PRIOR_BLUR_MM, prior)
        _become_log_prior(prior)
        if (typical := _typical(posterior, channels)) is not None:
            fluid, wide = alike[:2]  # not yet of other use
            for at in slabs:
                fluid[at] = _evidence_of_fluid(typical, channels[:, at]) * inside[at]
            np.copyto(wide, fluid > 0)
            sigma = tuple(_FLUID_BLUR_MM / size for size in spacing)
            ndimage.gaussian_filter(wide, sigma, output=wide, mode="constant")
            np.copyto(fluid, 0, where=(fluid > 0) & (wide < _WIDE))
            prior[0] += fluid
        posterior /= np.maximum(posterior.sum(axis=0), _TINY)
        splits = [
            _split(posterior[row], channels[0], count)
            for row, count in enumerate(_GAUSSIANS.values())
        ]
        sums = cores.map(
            lambda at: measure(at, np.concatenate([split(at) for split in splits])), slabs
        )
        for _ in range(ROUNDS):
            nodes = [_estimate(of_tissue, shrinkage) for of_tissue in _total(sums)]
            blur(_NEIGHBOR_MM, alike)
            step = partial(expect, nodes=nodes)
            sums = cores.map(lambda at, step=step: measure(at, step(at)), slabs)
        _total(sums)  # which waits for the last of them
    return posterior


def _total(sums: Iterable[Sequence[Moments]]) -> list[Float64[np.ndarray, "_ m _ _ _"]]:
    """Of each tissue, the sum over slabs, in their order, as they come."""
    slabs = iter(sums)
    found = [moments.astype(np.float64) for moments in next(slabs)]
    for of_slab in slabs:
        for total, moments in zip(found, of_slab, strict=True):
            total += moments
    return found


def _split(
    weights: Float32[np.ndarray, "x y z"], channel: Float32[np.ndarray, "x y z"], count: int
) -> Callable[[slice], Float32[np.ndarray, "g n y z"]]:
    """What shares a tissue's weights out, between its darker and its brighter part if there are
    two, in a slab of planes."""
    if count == 1:
        return lambda at: weights[None, at]
    total = max(float(weights.sum(dtype=np.float64)), float(_TINY))
    mean = float((weights * channel).sum(dtype=np.float64)) / total
    variance = float((weights * (channel - mean) ** 2).sum(dtype=np.float64)) / total
    deviation = np.sqrt(max(variance, _LEAST_DEVIATION**2))

    def in_two(at: slice) -> Float32[np.ndarray, "g n y z"]:
        brighter = expit(4 * (channel[at] - mean) / deviation)
        return np.stack([weights[at] * (1 - brighter), weights[at] * brighter]).astype(np.float32)

    return in_two


def _become_log_prior(weights: Float32[np.ndarray, "t x y z"]) -> None:
    """In place, of each tissue, the logarithm of its share of what is not background, by its
    power."""
    weights /= np.maximum(weights.sum(axis=0), _TINY)
    weights += np.float32(_PRIOR_FLOOR)
    np.log(weights, out=weights)
    weights *= np.array(list(_PRIOR_POWERS.values()), np.float32)[:, None, None, None]


def _typical(
    weights: Float32[np.ndarray, "t x y z"], channels: Float32[np.ndarray, "c x y z"]
) -> Float64[np.ndarray, "t c 2"] | None:
    """Median and deviation of each tissue in the whole scan, in each channel; None if one is not
    there.

    Unlike the mean, the median stays where it is if a ventricle was taken for another tissue.
    """
    found = []
    for own in weights:
        likely = own > 0.5
        if not likely.any():
            return None
        low, middle, high = np.percentile(channels[:, likely], (16, 50, 84), axis=1)
        found.append(np.stack([middle, np.maximum((high - low) / 2, _LEAST_DEVIATION)], axis=-1))
    return np.array(found)


def _evidence_of_fluid(
    typical: Float64[np.ndarray, "t c 2"], channels: Float32[np.ndarray, "c n y z"]
) -> Float32[np.ndarray, "n y z"]:
    """What the brightness in the whole scan says for CSF, or if it is below 0 against it.

    Means from place to place cannot tell that a whole ventricle was taken for gray matter. Between
    gray and white matter nothing is said, whose brightness does differ from place to place.
    """
    middle, deviation = np.moveaxis(typical.astype(np.float32), -1, 0)[..., None, None, None]
    away = (channels - middle) / deviation
    fluid, *others = np.maximum(-0.5 * np.square(away).sum(axis=1), _LEAST_LIKELIHOOD)
    return _FLUID_WEIGHT * (fluid - np.maximum.reduce(others))


def _moments(
    own: Float32[np.ndarray, "g n y z"], channels: Float32[np.ndarray, "c n y z"]
) -> Float32[np.ndarray, "g m n y z"]:
    """A tissue's posteriors, by themselves and times each channel and its square."""
    moments = np.empty((len(own), 1 + 2 * len(channels), *own.shape[1:]), np.float32)
    moments[:, 0] = own
    for row, channel in enumerate(channels):
        first, second = moments[:, 1 + 2 * row], moments[:, 2 + 2 * row]
        np.multiply(own, channel, out=first)
        np.multiply(first, channel, out=second)
    return moments


def _estimate(sums: Float64[np.ndarray, "_ m _ _ _"], shrinkage: float) -> Moments:
    """Of each of a tissue's Gaussians its share, and its mean and variance in each channel.

    They are drawn towards those of the whole by as much as if `shrinkage` more voxels were seen
    everywhere. `sums` are those of `Surroundings`.
    """
    whole, local = sums[..., -1:, -1:, -1:], sums[..., :-1, :-1, :-1]
    everywhere, amount = whole[:, 0] + _TINY, local[:, 0]
    shares = everywhere / everywhere.sum(axis=0)
    found = np.empty(local.shape, np.float32)
    found[:, 0] = (amount + shrinkage * shares) / (amount.sum(axis=0) + shrinkage)
    for first, second in zip(range(1, sums.shape[1], 2), range(2, sums.shape[1], 2), strict=True):
        mean = whole[:, first] / everywhere
        variance = whole[:, second] / everywhere - mean**2
        # Of what is off the mean of the whole, the local mean and the mean square.
        off = (local[:, first] - mean * amount) / (amount + shrinkage)
        square = local[:, second] - 2 * mean * local[:, first] + mean**2 * amount
        square = (square + shrinkage * variance) / (amount + shrinkage)
        found[:, first] = mean + off
        found[:, second] = np.maximum(square - off**2, _LEAST_DEVIATION**2)
    return found


def _log_densities(
    known: Float32[np.ndarray, "g m n y z"], channels: Float32[np.ndarray, "c n y z"]
) -> Float32[np.ndarray, "g n y z"]:
    """Of each of a tissue's Gaussians, the logarithm of its share times its density.

    `known` is what `_estimate` found, at the voxels.
    """
    scale = np.maximum(known[:, 0], _LEAST_SHARE) ** 2
    distance = np.zeros_like(scale)
    for row, channel in enumerate(channels):
        mean, variance = known[:, 1 + 2 * row], known[:, 2 + 2 * row]
        distance += (channel - mean) ** 2 / variance
        scale /= variance
    return 0.5 * (np.log(scale) - distance)


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Sums over Gaussian surroundings of nodes, a grid of half their reach.

    Both directions are one matrix product along each axis: small ones, of a slab of planes at a
    time, since OpenBLAS has larger ones done by threads of its own, which wait for each other.

    Attributes:
        weights: of each voxel (columns) at each node (rows), along each axis; one more row, of
            ones, is for sums of the whole.
        shares: of each node (columns) at each voxel (rows), by linear interpolation, likewise.
    """

    weights: Sequence[Float32[np.ndarray, "_ _"]]
    shares: Sequence[Float32[np.ndarray, "_ _"]]

    @classmethod
    def of(
        cls, shape: tuple[int, ...], spacing: tuple[float, float, float], reach_mm: float
    ) -> "Surroundings":
        """Those of a volume, with a standard deviation of `reach_mm`."""
        weights, shares = [], []
        for length, size in zip(shape, spacing, strict=True):
            extent = (length - 1) * size
            voxels = np.linspace(0, extent, length)
            nodes = np.linspace(0, extent, int(np.ceil(2 * extent / reach_mm)) + 1)
            apart = (nodes[:, None] - voxels) / reach_mm
            near = np.exp(-0.5 * apart**2).astype(np.float32)
            weights.append(np.concatenate([near, np.ones_like(near[:1])]))
            hats = [np.interp(voxels, nodes, row) for row in np.eye(len(nodes))]
            shares.append(np.stack(hats, axis=1).astype(np.float32))
        return cls(weights, shares)

    def sum(
        self, values: Float32[np.ndarray, "*g n y z"], at: slice = _ALL
    ) -> Float32[np.ndarray, "*g _ _ _"]:
        """At each node, the sum by their weights there of the values of planes, those `at`."""
        first, second, third = self.weights
        return _along_first(first[:, at], second @ values @ third.T)

    def interpolate(
        self, values: Float32[np.ndarray, "*g i j k"], at: slice = _ALL
    ) -> Float32[np.ndarray, "*g n y z"]:
        """At each voxel of planes, those `at`, what is between the values at the nodes around."""
        first, second, third = self.shares
        return second @ (_along_first(first[at], values) @ third.T)


def _along_first(
    matrix: Float32[np.ndarray, "m n"], values: Float32[np.ndarray, "*g n j k"]
) -> Float32[np.ndarray, "*g m j k"]:
    *rest, n, j, k = values.shape
    return (matrix @ values.reshape(*rest, n, j * k)).reshape(*rest, len(matrix), j, k)
