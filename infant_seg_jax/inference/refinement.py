"""Tissues found again by the intensities of the very scan, from where a network expects them.

A network that has to read any contrast knows better where tissues lie than where exactly they end.
In one scan, within a centimetre, each tissue has one brightness: expectation maximisation finds it,
and by it the borders. As in Van Leemput et al. (IEEE Transactions on Medical Imaging 18, 1999) and
FAST (Zhang et al., IEEE Transactions on Medical Imaging 20, 2001), each tissue is Gaussian, its
prior comes from elsewhere (there an atlas, here the network), and neighbours tend to be alike,
which a mean field approximates. Instead of a bias field, mean and variance change from place to
place: that follows myelination as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32
from scipy import ndimage

from infant_seg_jax.data.cropping import crop_box
from infant_seg_jax.data.labels import BACKGROUND, CSF, GM, WM
from infant_seg_jax.data.preprocessing import PreparedVolume, normalise
from infant_seg_jax.data.resampling import resample_image
from infant_seg_jax.data.volumes import Volume, spacing_of

ROUNDS = 10

# CSF is as bright everywhere but for the coil; gray and white matter mature from place to place.
_REACH_MM = {CSF: 30.0, GM: 10.0, WM: 10.0}
_GAUSSIANS = {CSF: 1, GM: 1, WM: 2}  # of white matter, one for what is myelinated

_SHRINKAGE_MM3 = 50.0  # So much tissue of the whole brain's mean and variance is seen everywhere.
_CLIPPED = (0.5, 99.5)  # percentiles, so that bright vessels do not set the scale
_LEAST_SHARE = 1e-3  # of a tissue's Gaussians
_LEAST_DEVIATION = 0.1  # of a tissue's intensities, of the brain's deviation
_PRIOR_BLUR_MM = 1.0  # The network's borders may be off by this.
_PRIOR_FLOOR = 0.01
_PRIOR_POWER = 0.75  # The network is surer of itself than it is right.
_NEIGHBOUR_WEIGHT = 2.0
_NEIGHBOUR_MM = 0.8

_TINY = 1e-6
_AT_ONCE = 8
"""Planes that are worked on at once: enough for all cores, few enough for their caches."""


def refine_scan(
    probabilities: Float32[np.ndarray, "x y z k"], prepared: PreparedVolume, volume: Volume
) -> Float32[np.ndarray, "X Y Z k"]:
    """As `refine`, in the crop's own voxels, which may be finer than those the network was given.

    Args:
        probabilities: the network's, on the grid of `prepared`.
        prepared: what the network was given.
        volume: the scan that it is of.
    """
    image, mask, spacing = prepared.image, prepared.crop_mask, spacing_of(prepared.crop_affine)
    if prepared.resampled:
        image = normalise(volume.data[prepared.box], mask, _CLIPPED)
        tissues = probabilities[..., BACKGROUND + 1 :]
        tissues = resample_image(tissues, prepared.affine, mask.shape, prepared.crop_affine)
        background = 1 - tissues.sum(axis=-1, keepdims=True)
        probabilities = np.concatenate([background, tissues], axis=-1)
    return refine(probabilities, image, mask, spacing)


def refine(
    probabilities: Float32[np.ndarray, "x y z k"],
    image: Float[np.ndarray, "x y z c"],
    mask: Bool[np.ndarray, "x y z"],
    spacing: tuple[float, float, float],
) -> Float32[np.ndarray, "x y z k"]:
    """The probabilities of the tissues, given the scan's intensities and a network's probabilities.

    What is more probably background than not stays as it is, unless tissue encloses it, as it does
    where a network takes the darkest fluid in the ventricles for air. Where the tissues look alike,
    the network's probabilities decide, blurred a little.

    Args:
        probabilities: the network's, of the classes; left as they are.
        image: as prepared, of unit variance in each channel; only order and distance of its
            intensities matter, not which tissue is the brighter.
        mask: the brain, or the head; tissue is looked for in it alone.
        spacing: voxel size in mm.

    Returns:
        new ones, which sum to 1; a tissue's share of what is not background is its posterior.
    """
    tissue = mask & (probabilities[..., BACKGROUND] < 0.5)
    tissue = np.asarray(ndimage.binary_fill_holes(tissue)) & mask
    if not tissue.any():
        return probabilities.copy()
    box = crop_box(tissue, 0.0, spacing)
    inside = tissue[box]
    found = _posteriors(probabilities[box], image[box], inside, spacing)
    background = probabilities[box][inside][:, BACKGROUND]
    share = 1 - np.where(background < 0.5, background, 0)
    result = probabilities.copy()  # Not before: it takes as much memory as finding them.
    inner = result[box]
    inner[inside, BACKGROUND] = 1 - share
    for row, index in enumerate(_REACH_MM):
        inner[inside, index] = share * found[row]
    return result


def _posteriors(
    probabilities: Float32[np.ndarray, "x y z k"],
    image: Float[np.ndarray, "x y z c"],
    inside: Bool[np.ndarray, "x y z"],
    spacing: tuple[float, float, float],
) -> Float32[np.ndarray, "t n"]:
    """The posteriors of the tissues, in the order of `_REACH_MM`, at the voxels inside."""
    length = len(inside)
    more = [(0, -length % _AT_ONCE), (0, 0), (0, 0), (0, 0)]  # planes without tissue

    def by_plane(values: Float[np.ndarray, "x y z c"]) -> Float32[np.ndarray, "padded c y z"]:
        return np.pad(np.moveaxis(np.where(inside[..., None], values, 0), -1, 1), more)

    found = _maximise_expectation(
        by_plane(probabilities[..., list(_REACH_MM)]),
        by_plane(image.astype(np.float32, copy=False)),
        np.pad(inside[:, None], more),
        [
            Surroundings.of(inside.shape, spacing, reach, further=more[0][1])
            for reach in _REACH_MM.values()
        ],
        _SHRINKAGE_MM3 / float(np.prod(spacing)),
        [gaussian_taps(_PRIOR_BLUR_MM / size) for size in spacing],
        [gaussian_taps(_NEIGHBOUR_MM / size) for size in spacing],
    )
    return np.moveaxis(np.asarray(found)[:length], 1, 0)[:, inside]


@jax.jit
def _maximise_expectation(
    tissues: Float32[Array, "x t y z"],
    image: Float32[Array, "x c y z"],
    inside: Bool[Array, "x 1 y z"],
    around: "Sequence[Surroundings]",
    shrinkage: Float[Array, ""] | float,
    prior_taps: Sequence[Float32[Array, " _"]],
    neighbour_taps: Sequence[Float32[Array, " _"]],
) -> Float32[Array, "x t y z"]:
    """The posteriors of the tissues after `ROUNDS`, from their probabilities, 0 outside."""
    prior = _log_prior(tissues, prior_taps)
    posterior = tissues / jnp.maximum(tissues.sum(axis=1, keepdims=True), _TINY)
    # Of each tissue the posteriors of its Gaussians.
    parts = tuple(
        _split(posterior[:, row], image, count) for row, count in enumerate(_GAUSSIANS.values())
    )

    def next_posteriors(_: Any, parts: tuple[Float32[Array, "x _ y z"], ...]) -> Any:
        fields = [
            _local_gaussians(part, image, place, shrinkage)
            for part, place in zip(parts, around, strict=True)
        ]
        whole = _blur(_tissue_sums(parts), neighbour_taps[0], axis=0)

        def of_plane(plane: Any) -> tuple[Float32[Array, "_ y z"], ...]:
            fields, whole, prior, image, inside = plane
            alike = _blur_plane(whole, neighbour_taps)
            logarithms = [
                _log_densities(field, image, place) + prior[row] + _NEIGHBOUR_WEIGHT * alike[row]
                for row, (field, place) in enumerate(zip(fields, around, strict=True))
            ]
            found = jax.nn.softmax(jnp.concatenate(logarithms), axis=0) * inside
            return tuple(jnp.split(found, np.cumsum([*_GAUSSIANS.values()])[:-1]))

        return _each_plane(of_plane, (fields, whole, prior, image, inside))

    return _tissue_sums(jax.lax.fori_loop(0, ROUNDS, next_posteriors, parts))


_each_plane = partial(jax.lax.map, batch_size=_AT_ONCE)


def _tissue_sums(parts: Sequence[Float32[Array, "x _ y z"]]) -> Float32[Array, "x t y z"]:
    return jnp.stack([part.sum(axis=1) for part in parts], axis=1)


def _split(
    weights: Float32[Array, "x y z"], image: Float32[Array, "x c y z"], count: int
) -> Float32[Array, "x g y z"]:
    """A tissue's weights, shared out between its darker and its brighter part if there are two."""
    if count == 1:
        return weights[:, None]
    channel = image[:, 0]
    total = jnp.maximum(_sum(weights), _TINY)
    mean = _sum(weights * channel) / total
    variance = _sum(weights * (channel - mean) ** 2) / total
    deviation = jnp.sqrt(jnp.maximum(variance, _LEAST_DEVIATION**2))
    brighter = jax.nn.sigmoid(4 * (channel - mean) / deviation)
    return jnp.stack([weights * (1 - brighter), weights * brighter], axis=1)


def _sum(values: Float32[Array, "*a"]) -> Float32[Array, ""]:
    """Of all, axis by axis, so that little is lost to rounding."""
    return values if values.ndim == 0 else _sum(values.sum(axis=-1))


def _log_prior(
    tissues: Float32[Array, "x t y z"], taps: Sequence[Float32[Array, " _"]]
) -> Float32[Array, "x t y z"]:
    """Of each tissue, the logarithm of its blurred share of what is not background."""

    def of_plane(plane: Float32[Array, "t y z"]) -> Float32[Array, "t y z"]:
        shares = _blur_plane(plane, taps)
        shares /= jnp.maximum(shares.sum(axis=0), _TINY)
        return _PRIOR_POWER * jnp.log(shares + _PRIOR_FLOOR)

    return _each_plane(of_plane, _blur(tissues, taps[0], axis=0))


def gaussian_taps(deviation: float) -> Float32[np.ndarray, " _"]:
    """A Gaussian of so many voxels, cut at four deviations as SciPy's filter is."""
    radius = int(4 * deviation + 0.5)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / deviation) ** 2)
    return (taps / taps.sum()).astype(np.float32)


def _blur(
    values: Float32[Array, "*a"], taps: Float32[Array, " _"], axis: int
) -> Float32[Array, "*a"]:
    """Along one axis; beyond its ends there is 0."""
    length, radius = values.shape[axis], len(taps) // 2
    width = [(radius, radius) if n == axis % values.ndim else (0, 0) for n in range(values.ndim)]
    padded = jnp.pad(values, width)
    shifted = [
        taps[n] * jax.lax.slice_in_dim(padded, n, n + length, axis=axis) for n in range(len(taps))
    ]
    return sum(shifted[1:], shifted[0])


def _blur_plane(
    plane: Float32[Array, "g y z"], taps: Sequence[Float32[Array, " _"]]
) -> Float32[Array, "g y z"]:
    return _blur(_blur(plane, taps[1], axis=1), taps[2], axis=2)


def _local_gaussians(
    parts: Float32[Array, "x g y z"],
    image: Float32[Array, "x c y z"],
    around: "Surroundings",
    shrinkage: Float[Array, ""] | float,
) -> Float32[Array, "x g s j k"]:
    """Of each Gaussian of a tissue, share, means and variances around the nodes of each plane.

    They are drawn towards those of the whole by as much as if `shrinkage` more voxels were seen
    everywhere.
    """

    def sums_of(plane: Any) -> Any:
        """Of amounts, of intensities and of their squares: all of the plane's, and each node's."""
        parts, image = plane
        values = jnp.concatenate([jnp.ones_like(image[:1]), image, image**2])
        values = parts[:, None] * values
        return values.sum(axis=-1).sum(axis=-1), around.sum_plane(values)

    everywhere, nearby = _each_plane(sums_of, (parts, image))
    everywhere, nearby = everywhere.sum(axis=0)[..., None, None], around.sum_planes(nearby)
    split = [1, 1 + image.shape[1]]
    total, mean, variance = jnp.split(everywhere, split, axis=1)
    total += _TINY
    mean /= total
    variance = variance / total - mean**2
    amount, first, second = jnp.split(nearby, split, axis=2)
    # Around the mean of the whole, to which the local one is drawn.
    second += mean**2 * amount - 2 * mean * first
    first -= mean * amount
    share = amount + shrinkage * total / total.sum()
    share /= amount.sum(axis=1, keepdims=True) + shrinkage
    first /= amount + shrinkage
    second = (second + shrinkage * variance) / (amount + shrinkage)
    local = jnp.maximum(second - first**2, _LEAST_DEVIATION**2)
    return around.interpolate_planes(jnp.concatenate([share, mean + first, local], axis=2))


def _log_densities(
    gaussians: Float32[Array, "g s j k"],
    image: Float32[Array, "c y z"],
    around: "Surroundings",
) -> Float32[Array, "g y z"]:
    """Of each Gaussian, the logarithm of its share around a voxel times its density there."""
    found = around.interpolate_plane(gaussians)
    share, mean, variance = jnp.split(found, [1, 1 + len(image)], axis=1)
    exponent = (image - mean) ** 2 / variance + jnp.log(variance)
    return jnp.log(jnp.maximum(share[:, 0], _LEAST_SHARE)) - 0.5 * exponent.sum(axis=1)


@partial(jax.tree_util.register_dataclass, data_fields=("weights", "shares"), meta_fields=())
@dataclass(frozen=True, eq=False)
class Surroundings:
    """Sums over Gaussian surroundings of nodes, a grid of half their reach, and what lies between.

    Both directions are one matrix product along each axis. Those within a plane are apart from
    those across planes, so that no more than a few planes need be held on the way.

    Attributes:
        weights: of each voxel (columns) at each node (rows), along each axis.
        shares: of each node (columns) at each voxel (rows), by linear interpolation, likewise.
    """

    weights: Sequence[Float32[Array | np.ndarray, "_ _"]]
    shares: Sequence[Float32[Array | np.ndarray, "_ _"]]

    @classmethod
    def of(
        cls,
        shape: tuple[int, ...],
        spacing: tuple[float, float, float],
        reach_mm: float,
        further: int = 0,
    ) -> "Surroundings":
        """Those of a volume, with a standard deviation of `reach_mm`.

        So many `further` planes are as the last one.
        """
        weights, shares = [], []
        for length, size, more in zip(shape, spacing, (further, 0, 0), strict=True):
            extent = (length - 1) * size
            voxels = np.append(np.linspace(0, extent, length), np.full(more, extent))
            nodes = np.linspace(0, extent, int(np.ceil(2 * extent / reach_mm)) + 1)
            apart = (nodes[:, None] - voxels) / reach_mm
            weights.append(np.exp(-0.5 * apart**2).astype(np.float32))
            hats = [np.interp(voxels, nodes, row) for row in np.eye(len(nodes))]
            shares.append(np.stack(hats, axis=1).astype(np.float32))
        return cls(weights, shares)

    def sum_plane(self, values: Float32[Array, "*a y z"]) -> Float32[Array, "*a j k"]:
        """In a plane, at each node, the sum of all voxels' values by their weights there."""
        return _within(self.weights, values)

    def sum_planes(self, values: Float32[Array, "x *a j k"]) -> Float32[Array, "i *a j k"]:
        """The same across planes, of what `sum_plane` has found in each."""
        return _across(self.weights, values)

    def interpolate_planes(self, values: Float32[Array, "i *a j k"]) -> Float32[Array, "x *a j k"]:
        """At each plane, what is between the values at the nodes on either side."""
        return _across(self.shares, values)

    def interpolate_plane(self, values: Float32[Array, "*a j k"]) -> Float32[Array, "*a y z"]:
        """At each voxel of a plane, what is between the values at the nodes around it."""
        return _within(self.shares, values)


# Products of matrices may be rounded to fewer bits, unless told otherwise.
_product = partial(jnp.einsum, precision="highest")


def _across(
    matrices: Sequence[Float32[Array | np.ndarray, "_ _"]], values: Float32[Array, "_ *a"]
) -> Float32[Array, "_ *a"]:
    return _product("ix,x...->i...", matrices[0], values)


def _within(
    matrices: Sequence[Float32[Array | np.ndarray, "_ _"]], values: Float32[Array, "*a _ _"]
) -> Float32[Array, "*a _ _"]:
    _, second, third = matrices
    return _product("jy,...yk->...jk", second, _product("...yz,kz->...yk", values, third))
