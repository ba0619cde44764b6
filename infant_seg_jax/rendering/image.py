"""Render an image from structures and a contrast.

The generative model is that of SynthSeg (Billot et al., Medical Image Analysis 86, 2023): Gaussian
intensities for each structure, smoothed, with a smooth bias field and noise. Added to it are white
matter that matures unevenly, regions within a tissue that differ in brightness, and partial volume.
(FetalSynthSeg splits tissues into several classes for a similar purpose: Zalevskyi et al., MICCAI
2024.) Thick slices, gamma and motion are augmentations, which are applied to rendered and to real
patches alike.
"""

from dataclasses import dataclass

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float, Integer, Key, UInt8

from infant_seg_jax.augmentation.splines import SmoothField, draw_field, evaluate_field
from infant_seg_jax.rendering.contrast import Contrast, Prior, draw_contrast
from infant_seg_jax.rendering.structures import Structure

_WHITE = (Structure.WHITE, Structure.DEEP_WHITE)
_GRAY = (Structure.CORTEX, Structure.DEEP_GRAY)
_STEEPNESS = 3.0
"""The larger, the sharper the borders of regions."""
_FINEST_BLUR = 1e-2


@dataclass(frozen=True)
class Quality:
    """The quality of drawn scans. Each value without a unit of length is an upper bound.

    Attributes:
        maturation: how far the brightness of white matter deviates from its mean, over
            `maturation_mm`.
        regions: how much brighter or darker regions of gray and of white matter are.
        partial_volume: SD in voxels of the Gaussian that mixes tissues at their borders.
        bias: SD of the logarithm of the bias field.
        noise: SD of the Rician noise, in units of brightness.
        maturation_mm: about half the wavelength of the maturation.
        regions_mm: the approximate size of regions.
        bias_mm: the distance between the grid points of the bias field.
    """

    maturation: float
    regions: float
    partial_volume: float
    bias: float
    noise: float
    maturation_mm: float = 24.0
    regions_mm: float = 12.0
    bias_mm: float = 64.0


GOOD = Quality(maturation=0.05, regions=0.0, partial_volume=0.7, bias=0.15, noise=0.04)
"""A still subject in a good scanner. The quality in training is set by `config.rendering`."""


@flax.struct.dataclass
class DrawnImage:
    """All random draws of one image.

    Attributes:
        contrast: the contrast of the structures.
        maturation: added to the brightness of white matter.
        regions: the regions of gray matter, then those of white matter, for each channel.
        region_depths: float32 `(2 c,)`, the largest change of brightness in these regions.
        blur: float32 `(c,)`, SD in voxels.
        bias: the logarithm of each channel's bias field.
        noise: float32 `(c,)`, SD.
        key: for texture and noise.
    """

    contrast: Contrast
    maturation: SmoothField
    regions: SmoothField
    region_depths: Array
    blur: Array
    bias: SmoothField
    noise: Array
    key: Array


def draw(
    key: Key[Array, ""],
    prior: Prior,
    quality: Quality,
    shape: tuple[int, int, int],
    spacing: float,
    channels: int = 1,
) -> DrawnImage:
    """Draw how an image of `shape`, with voxels of `spacing` mm, looks."""
    keys = jax.random.split(key, 8)
    region_keys = jax.random.split(keys[7])
    strengths = jax.random.uniform(keys[0], (2,))

    def field(key: Array, reach_mm: float, components: int, deviation: Array) -> SmoothField:
        unit = draw_field(key, shape, reach_mm / spacing, components, 1.0)
        return SmoothField(unit.coefficients * deviation, unit.spacing)

    return DrawnImage(
        contrast=draw_contrast(keys[1], prior, channels),
        maturation=field(
            keys[2], quality.maturation_mm, channels, quality.maturation * strengths[0]
        ),
        regions=draw_field(
            region_keys[0], shape, quality.regions_mm / spacing, 2 * channels, _STEEPNESS
        ),
        region_depths=jax.random.uniform(region_keys[1], (2 * channels,), maxval=quality.regions),
        blur=jax.random.uniform(
            keys[3], (channels,), minval=0.4 * quality.partial_volume, maxval=quality.partial_volume
        ),
        bias=field(keys[4], quality.bias_mm, channels, quality.bias * strengths[1]),
        noise=jax.random.uniform(
            keys[5], (channels,), minval=0.2 * quality.noise, maxval=quality.noise
        ),
        key=keys[6],
    )


def apply(
    drawn: DrawnImage, structures: UInt8[Array, "x y z"], shown: Bool[Array, "x y z"] | None = None
) -> Float[Array, "x y z c"]:
    """The image, in units of brightness.

    It is above 0 where it is `shown`, and exactly 0 elsewhere. Without `shown`, everything but
    `OUTSIDE` is shown, and the voxels at its border are mixed with fluid, as in a stripped brain.
    With `shown`, they are mixed with the structures beyond the border.
    """
    shape = structures.shape
    x, y, z = shape
    channels = drawn.blur.shape[0]
    inside = (structures != Structure.OUTSIDE if shown is None else shown)[..., None]
    texture, real, imaginary = jax.random.split(drawn.key, 3)

    def normal(key: Array) -> Array:
        return jax.random.normal(key, (x * y * z * channels,)).reshape(*shape, channels)

    image = drawn.contrast.means[structures]
    image += drawn.contrast.deviations[structures] * normal(texture)
    gray, white = (
        jnp.isin(structures, jnp.array(tissue, jnp.uint8))[..., None] for tissue in (_GRAY, _WHITE)
    )
    regions = drawn.region_depths * jnp.tanh(evaluate_field(drawn.regions, (x, y, z)))
    image += jnp.where(gray, regions[..., :channels], 0)
    image += jnp.where(white, regions[..., channels:], 0)
    image += jnp.where(white, evaluate_field(drawn.maturation, (x, y, z)), 0)
    if shown is None:
        # The outermost voxels of a stripped brain are mixed with the fluid that was around it.
        image = jnp.where(inside, image, drawn.contrast.means[Structure.SULCAL_CSF])
    image = _blur(image, drawn.blur)
    image *= jnp.exp(evaluate_field(drawn.bias, (x, y, z)))
    image = jnp.hypot(image + drawn.noise * normal(real), drawn.noise * normal(imaginary))
    return jnp.where(inside, jnp.maximum(image, 1e-3), 0)


def statistics(
    contrast: Contrast, counts: Integer[np.ndarray, " s"] | Float[Array, " s"]
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Mean and SD over an anatomy with these voxel counts, before blurring."""
    shares = jnp.asarray(counts).at[Structure.OUTSIDE].set(0)[:, None]
    shares = shares / jnp.sum(shares)
    mean = jnp.sum(shares * contrast.means, axis=0)
    squares = jnp.sum(shares * (contrast.means**2 + contrast.deviations**2), axis=0)
    return mean, jnp.sqrt(jnp.maximum(squares - mean**2, 1e-6))


def _blur(image: Float[Array, "x y z c"], deviation: Float[Array, " c"]) -> Float[Array, "x y z c"]:
    """Blur each channel by a Gaussian of its SD in voxels, truncated at 3; edges are repeated."""
    steps = jnp.arange(-3, 4)
    width = jnp.maximum(deviation, _FINEST_BLUR)
    weights = jnp.exp(-((steps[:, None] / width) ** 2) / 2)
    weights /= jnp.sum(weights, axis=0)
    for axis in range(3):
        padding = [(3, 3) if other == axis else (0, 0) for other in range(4)]
        padded = jnp.pad(image, padding, mode="edge")
        image = sum(
            (
                weights[i] * lax.slice_in_dim(padded, i, i + image.shape[axis], axis=axis)
                for i in range(7)
            ),
            jnp.zeros(()),
        )
    return image
