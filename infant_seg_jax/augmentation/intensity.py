"""How bright things are: inversion, gamma, smooth bias fields, contrast and brightness.

Images are prepared ones: over the brain of a whole scan, each channel has mean 0 and SD 1. What
these functions write outside the brain does not matter; `pipeline.apply` leaves 0 there.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Key

from infant_seg_jax.augmentation.augmentation import Augmentation, Shape, listed, of_channels
from infant_seg_jax.augmentation.splines import SmoothField, draw_field, evaluate_field
from infant_seg_jax.config import Config

BLACK = -4.0
"""The intensity taken for no signal: 4 SDs below the brain's mean.

A prepared image has lost its zero, which bias fields and Rician noise are about. In T1-weighted
scans of adults and infants it lies 3 to 7 SDs below the mean, and about a thousandth of the brain
lies below -4.
"""

BIAS_SPACING = 64.0
"""Voxels between the points of a bias field's grid: it changes over half a head, not a gyrus."""


def invert(image: Float[Array, "x y z c"]) -> Float[Array, "x y z c"]:
    """Bright for dark in all channels, about the brain's mean, so that mean and SD stay.

    The order of gray and white matter is reversed, as it is before myelination, where an adult's
    T1 scan shows white matter bright and a newborn's dark. CSF is reversed with them, as in T2.
    """
    return -image


def draw_gamma(key: Key[Array, ""], config: Config, channels: int) -> Float[Array, " {channels}"]:
    """Exponents between `1 / (1 + range)` and `1 + range`; their logarithms are uniform."""
    logarithm = jax.random.uniform(key, (channels,), minval=-1.0, maxval=1.0)
    return (1 + config.gamma_range) ** logarithm


def change_gamma(
    image: Float[Array, "x y z c"], exponent: Float[Array, " c"]
) -> Float[Array, "x y z c"]:
    """Raise the intensities, as shares of the range within the patch's brain, to a power.

    The range and the order of intensities stay, as in nnU-Net (Isensee et al., 2021); an exponent
    above 1 darkens what is between.
    """
    brain = image != 0
    low = jnp.min(image, (0, 1, 2), initial=jnp.inf, where=brain)
    high = jnp.max(image, (0, 1, 2), initial=-jnp.inf, where=brain)
    varied = high > low
    low, span = jnp.where(varied, low, 0), jnp.where(varied, high - low, 1)
    share = jnp.clip((image - low) / span, 0, 1)
    return jnp.where(varied, low + span * share**exponent, image)


def draw_bias_field(
    key: Key[Array, ""], config: Config, shape: tuple[int, int, int], channels: int
) -> SmoothField:
    """The logarithm of each channel's field."""
    return draw_field(key, shape, BIAS_SPACING, channels, config.bias_field_strength)


def bias_factor(logarithm: SmoothField, shape: tuple[int, int, int]) -> Float[Array, "x y z c"]:
    """The field itself: smooth and positive, as in SynthSeg (Billot et al., 2023)."""
    return jnp.exp(evaluate_field(logarithm, shape))


def apply_bias_field(
    image: Float[Array, "x y z c"], logarithm: SmoothField
) -> Float[Array, "x y z c"]:
    """Multiply the signal, which is what exceeds `BLACK`, by the field."""
    x, y, z, _ = image.shape
    return (image - BLACK) * bias_factor(logarithm, (x, y, z)) + BLACK


def draw_gain(key: Key[Array, ""], config: Config, channels: int) -> Float[Array, " {channels}"]:
    """What each channel is multiplied by, uniform between 1 minus and 1 plus the config's."""
    return jax.random.uniform(key, (channels,), minval=1 - config.gain, maxval=1 + config.gain)


def scale(image: Float[Array, "x y z c"], gain: Float[Array, " c"]) -> Float[Array, "x y z c"]:
    """Contrast: multiply about the brain's mean, which is 0."""
    return image * gain


def draw_offset(key: Key[Array, ""], config: Config, channels: int) -> Float[Array, " {channels}"]:
    """What is added to each channel, uniform between minus and plus the config's."""
    return jax.random.uniform(key, (channels,), minval=-config.offset, maxval=config.offset)


def shift(image: Float[Array, "x y z c"], offset: Float[Array, " c"]) -> Float[Array, "x y z c"]:
    """Brightness: add to all intensities, in SDs of the brain."""
    return image + offset


def _describe_bias(logarithm: SmoothField, shape: Shape) -> str:
    factor = np.asarray(bias_factor(logarithm, shape))
    return f"bias {factor.min():.2f} to {factor.max():.2f}"


AUGMENTATIONS = (
    Augmentation(
        "inversion",
        draw=lambda key, config, shape, channels: (),
        describe=lambda values, shape: "inverted",
        change=lambda image, values: invert(image),
    ),
    Augmentation(
        "gamma",
        draw=of_channels(draw_gamma),
        describe=lambda exponent, shape: f"gamma {listed(exponent)}",
        change=change_gamma,
    ),
    Augmentation(
        "bias_field", draw=draw_bias_field, describe=_describe_bias, change=apply_bias_field
    ),
    Augmentation(
        "gain",
        draw=of_channels(draw_gain),
        describe=lambda gain, shape: f"gain {listed(gain)}",
        change=scale,
        in_every_patch=True,
    ),
    Augmentation(
        "offset",
        draw=of_channels(draw_offset),
        describe=lambda offset, shape: f"offset {listed(offset)}",
        change=shift,
        in_every_patch=True,
    ),
)
