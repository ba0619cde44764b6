"""What scanners and their time tables lose: blur, thick slices, noise, a missing modality.

As in `intensity`, what these functions write outside the brain does not matter. What they average
they average over brain voxels alone, for 0 is not dark but the brain's mean intensity.
"""

import math

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Integer, Key

from infant_seg_jax.augmentation.augmentation import Augmentation, Shape, listed, of_channels
from infant_seg_jax.augmentation.intensity import BLACK
from infant_seg_jax.config import Config

_THINNEST_BLUR = 1e-2


@flax.struct.dataclass
class ThickSlices:
    """Slices that lie upon each other along one axis.

    Attributes:
        axis: int32 `(c,)`, along which each channel has them.
        thickness: float32 `(c,)`, voxels.
        start: float32 `(c,)`, how much of the first slice lies before the patch, as a share of it.
    """

    axis: Array
    thickness: Array
    start: Array


@flax.struct.dataclass
class Noise:
    """Noise of known strength that is made when it is applied, from a key of its own.

    Attributes:
        deviation: float32 `(c,)`, in SDs of the brain.
        key: of a random generator, `()`.
    """

    deviation: Array
    key: Array


def draw_blur(key: Key[Array, ""], config: Config, channels: int) -> Float[Array, " {channels}"]:
    """SDs of each channel's Gaussian in voxels, uniform from 0 to the config's."""
    return jax.random.uniform(key, (channels,), maxval=config.blur_deviation)


def blur(image: Float[Array, "x y z c"], deviation: Float[Array, " c"]) -> Float[Array, "x y z c"]:
    """Smooth each channel by a Gaussian over the brain's voxels."""
    width = jnp.maximum(deviation, _THINNEST_BLUR)[:, None, None]

    def weights(size: int) -> Array:
        steps = jnp.arange(size)[:, None] - jnp.arange(size)
        return jnp.exp(-((steps / width) ** 2) / 2)

    x, y, z, _ = image.shape
    return _average(image, weights(x), weights(y), weights(z))


def draw_thick_slices(key: Key[Array, ""], config: Config, channels: int) -> ThickSlices:
    """Each channel's axis is any, its slices are from 1 voxel to the config's thick."""
    axis, thickness, start = jax.random.split(key, 3)
    return ThickSlices(
        axis=jax.random.randint(axis, (channels,), 0, 3),
        thickness=jax.random.uniform(thickness, (channels,), minval=1.0, maxval=config.thickness),
        start=jax.random.uniform(start, (channels,)),
    )


def thicken_slices(image: Float[Array, "x y z c"], slices: ThickSlices) -> Float[Array, "x y z c"]:
    """Replace each voxel by the mean of the slice that it is in.

    So does a scan of thick slices look on a finer grid. A voxel across the border of two slices
    shares in both; over a patch that is brain throughout, the mean stays.
    """
    x, y, z, _ = image.shape
    return _average(
        image,
        *(
            jnp.where(
                (slices.axis == axis)[:, None, None], slice_weights(slices, size), jnp.eye(size)
            )
            for axis, size in enumerate((x, y, z))
        ),
    )


def slice_weights(slices: ThickSlices, size: int) -> Float[Array, "c {size} {size}"]:
    """How much each voxel of an axis (rows) takes of each other one. Rows and columns sum to 1."""
    thickness = slices.thickness[:, None, None]
    # One voxel is the least thickness, so that no patch has more than size + 1 slices.
    lower = (jnp.arange(size + 1)[:, None] - slices.start[:, None, None]) * thickness
    voxel = jnp.arange(size)
    overlap = jnp.minimum(lower + thickness, voxel + 1) - jnp.maximum(lower, voxel)
    overlap = jnp.maximum(overlap, 0)  # Voxels of each slice in each voxel.
    amount = jnp.sum(overlap, axis=-1, keepdims=True)
    means = overlap / jnp.where(amount > 0, amount, 1)
    return jnp.einsum("csv,csu->cvu", overlap, means, precision=lax.Precision.HIGHEST)


def draw_noise(key: Key[Array, ""], config: Config, channels: int) -> Noise:
    """Each channel's SD is uniform from 0 to the config's."""
    strength, key = jax.random.split(key)
    maximum = config.noise_deviation
    return Noise(jax.random.uniform(strength, (channels,), maxval=maximum), key)


def add_gaussian_noise(image: Float[Array, "x y z c"], noise: Noise) -> Float[Array, "x y z c"]:
    """Add independent noise to each voxel."""
    return image + noise.deviation * _normal(noise.key, image.shape)


def add_rician_noise(image: Float[Array, "x y z c"], noise: Noise) -> Float[Array, "x y z c"]:
    """Take the magnitude of the signal plus complex Gaussian noise (Gudbjartsson and Patz, 1995).

    The signal is what exceeds `BLACK`: where it is strong the noise is nearly Gaussian, where it is
    weak, in the CSF of T1-weighted scans, it also brightens.
    """
    real, imaginary = noise.deviation * _normal(noise.key, (2, *image.shape))
    signal = jnp.maximum(image - BLACK, 0)
    return jnp.sqrt((signal + real) ** 2 + imaginary**2) + BLACK


def _normal(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    return jax.random.normal(key, (math.prod(shape),)).reshape(shape)  # Compiles faster so.


def draw_channel(key: Key[Array, ""], channels: int) -> Integer[Array, ""]:
    """The one that is missing."""
    return jax.random.randint(key, (), 0, channels)


def drop_modality(
    image: Float[Array, "x y z c"], channel: Integer[Array, ""]
) -> Float[Array, "x y z c"]:
    """Make a channel 0 everywhere, as around the brain."""
    return jnp.where(jnp.arange(image.shape[-1]) == channel, 0, image)


def _average(
    image: Float[Array, "x y z c"],
    along_x: Float[Array, "c x x"],
    along_y: Float[Array, "c y y"],
    along_z: Float[Array, "c z z"],
) -> Float[Array, "x y z c"]:
    """Weighted means over brain voxels: normalized convolution (Knutsson and Westin, 1993)."""
    brain: Bool[Array, "x y z c"] = image != 0

    def total(values: Array) -> Array:
        exact = lax.Precision.HIGHEST  # Some accelerators round the factors by default.
        values = jnp.einsum("czk,xykc->xyzc", along_z, values, precision=exact)
        values = jnp.einsum("cyj,xjzc->xyzc", along_y, values, precision=exact)
        return jnp.einsum("cxi,iyzc->xyzc", along_x, values, precision=exact)

    weight = total(brain.astype(image.dtype))
    return jnp.where(brain, total(image) / jnp.where(brain, weight, 1), 0)


def _describe_slices(slices: ThickSlices, shape: Shape) -> str:
    axes = ", ".join("xyz"[int(axis)] for axis in slices.axis)
    return f"{listed(slices.thickness, 1)} voxels thick along {axes}"


AUGMENTATIONS = (
    Augmentation(
        "blur",
        draw=of_channels(draw_blur),
        describe=lambda deviation, shape: f"blurred by {listed(deviation)} voxels",
        change=blur,
    ),
    Augmentation(
        "thick_slices",
        draw=of_channels(draw_thick_slices),
        describe=_describe_slices,
        change=thicken_slices,
    ),
    Augmentation(
        "gaussian_noise",
        draw=of_channels(draw_noise),
        describe=lambda noise, shape: f"Gaussian noise {listed(noise.deviation)}",
        change=add_gaussian_noise,
    ),
    Augmentation(
        "rician_noise",
        draw=of_channels(draw_noise),
        describe=lambda noise, shape: f"Rician noise {listed(noise.deviation)}",
        change=add_rician_noise,
    ),
    Augmentation(
        "drop_modality",
        draw=lambda key, config, shape, channels: draw_channel(key, channels),
        describe=lambda channel, shape: f"without modality {int(channel) + 1}",
        change=drop_modality,
    ),
)
