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

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy import ndimage
from scipy.special import expit

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

_TINY = np.float32(1e-6)


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
    result = probabilities.copy()
    if not tissue.any():
        return result
    box = crop_box(tissue, 0.0, spacing)
    inside = tissue[box]
    found = _maximise_expectation(probabilities[box], image[box], inside, spacing)
    background = probabilities[box][inside][:, BACKGROUND]
    share = 1 - np.where(background < 0.5, background, 0)
    inner = result[box]
    inner[inside, BACKGROUND] = 1 - share
    for row, index in enumerate(_REACH_MM):
        inner[inside, index] = share * found[row]
    return result


def _maximise_expectation(
    probabilities: Float32[np.ndarray, "x y z k"],
    image: Float[np.ndarray, "x y z c"],
    inside: Bool[np.ndarray, "x y z"],
    spacing: tuple[float, float, float],
) -> Float32[np.ndarray, "t n"]:
    """The posteriors of the tissues, in the order of `_REACH_MM`, at the voxels inside."""
    intensities = image[inside].T.astype(np.float32)
    prior = _log_prior(probabilities, inside, spacing)
    posterior = np.stack([probabilities[..., index][inside] for index in _REACH_MM])
    posterior /= np.maximum(posterior.sum(axis=0), _TINY)
    # Of each tissue the posteriors of its Gaussians.
    parts = [
        _split(weights, intensities[0], _GAUSSIANS[k])
        for k, weights in zip(_REACH_MM, posterior, strict=True)
    ]
    around = {reach: Surroundings.of(inside.shape, spacing, reach) for reach in _REACH_MM.values()}
    shrinkage = _SHRINKAGE_MM3 / float(np.prod(spacing))
    nearby = tuple(_NEIGHBOUR_MM / size for size in spacing)
    whole = np.zeros(inside.shape, np.float32)
    for _ in range(ROUNDS):
        for row, reach in enumerate(_REACH_MM.values()):
            whole[inside] = parts[row].sum(axis=0)
            alike = ndimage.gaussian_filter(whole, nearby, mode="constant")[inside]
            parts[row] = _log_densities(parts[row], intensities, inside, around[reach], shrinkage)
            parts[row] += prior[row] + _NEIGHBOUR_WEIGHT * alike
        largest = np.max([part.max(axis=0) for part in parts], axis=0)
        for part in parts:
            np.exp(part - largest, out=part)
        total = np.sum([part.sum(axis=0) for part in parts], axis=0)
        for part in parts:
            part /= total
    return np.stack([part.sum(axis=0) for part in parts])


def _split(
    weights: Float32[np.ndarray, " n"], channel: Float32[np.ndarray, " n"], count: int
) -> Float32[np.ndarray, "g n"]:
    """A tissue's weights, shared out between its darker and its brighter part if there are two."""
    if count == 1:
        return weights[None].copy()
    mean, variance = _moments(weights, channel)
    brighter = expit(4 * (channel - mean) / np.sqrt(max(variance, _LEAST_DEVIATION**2)))
    return np.stack([weights * (1 - brighter), weights * brighter]).astype(np.float32)


def _log_prior(
    probabilities: Float32[np.ndarray, "x y z k"],
    inside: Bool[np.ndarray, "x y z"],
    spacing: tuple[float, float, float],
) -> Float32[np.ndarray, "t n"]:
    """Of each tissue, the logarithm of its blurred share of what is not background."""
    blur = tuple(_PRIOR_BLUR_MM / size for size in spacing)
    shares = np.stack(
        [
            ndimage.gaussian_filter(probabilities[..., index] * inside, blur, mode="constant")
            for index in _REACH_MM
        ]
    )[:, inside]
    shares /= np.maximum(shares.sum(axis=0), _TINY)
    return np.float32(_PRIOR_POWER) * np.log(shares + np.float32(_PRIOR_FLOOR))


def _log_densities(
    parts: Float32[np.ndarray, "g n"],
    intensities: Float32[np.ndarray, "c n"],
    inside: Bool[np.ndarray, "x y z"],
    around: "Surroundings",
    shrinkage: float,
) -> Float32[np.ndarray, "g n"]:
    """Of each Gaussian of a tissue, the logarithm of its share around a voxel times its density.

    Shares, means and variances are drawn towards those of the whole by as much as if `shrinkage`
    more voxels were seen everywhere.
    """
    whole = np.zeros(inside.shape, np.float32)

    def sums(values: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, "i j k"]:
        whole[inside] = values
        return around.sum(whole)

    everywhere = parts.sum(axis=1, dtype=np.float64) + _TINY
    amounts = [sums(weights) for weights in parts]
    seen = np.sum(amounts, axis=0) + shrinkage
    logarithms = np.empty_like(parts)
    for row, (weights, amount) in enumerate(zip(parts, amounts, strict=True)):
        share = (amount + shrinkage * everywhere[row] / everywhere.sum()) / seen
        logarithms[row] = np.log(np.maximum(around.interpolate(share)[inside], _LEAST_SHARE))
        for channel in intensities:
            mean, variance = _moments(weights, channel)
            centred = channel - np.float32(mean)
            first = sums(weights * centred) / (amount + shrinkage)
            second = (sums(weights * centred**2) + shrinkage * variance) / (amount + shrinkage)
            local = np.maximum(second - first**2, _LEAST_DEVIATION**2)
            centred -= around.interpolate(first)[inside]
            spread = around.interpolate(local)[inside]
            logarithms[row] -= 0.5 * (centred**2 / spread + np.log(spread))
    return logarithms


def _moments(
    weights: Float32[np.ndarray, " n"], values: Float32[np.ndarray, " n"]
) -> tuple[float, float]:
    """Weighted mean and variance."""
    total = max(float(weights.sum(dtype=np.float64)), float(_TINY))
    mean = float((weights * values).sum(dtype=np.float64)) / total
    return mean, float((weights * (values - mean) ** 2).sum(dtype=np.float64)) / total


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Sums over Gaussian surroundings of nodes, a grid of half their reach.

    Both directions are one matrix product along each axis.

    Attributes:
        weights: of each voxel (columns) at each node (rows), along each axis.
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
            weights.append(np.exp(-0.5 * apart**2).astype(np.float32))
            hats = [np.interp(voxels, nodes, row) for row in np.eye(len(nodes))]
            shares.append(np.stack(hats, axis=1).astype(np.float32))
        return cls(weights, shares)

    def sum(self, values: Float32[np.ndarray, "x y z"]) -> Float32[np.ndarray, "i j k"]:
        """At each node, the sum of all voxels' values by their weights there."""
        return _along_each(self.weights, values)

    def interpolate(self, values: Float[np.ndarray, "i j k"]) -> Float32[np.ndarray, "x y z"]:
        """At each voxel, what is between the values at the nodes around it."""
        return _along_each(self.shares, values.astype(np.float32))


def _along_each(
    matrices: Sequence[Float32[np.ndarray, "_ _"]], values: Float32[np.ndarray, "_ _ _"]
) -> Float32[np.ndarray, "_ _ _"]:
    first, second, third = matrices
    return second @ np.tensordot(first, values, axes=1) @ third.T
