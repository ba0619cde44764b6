"""Random changes to patches, made on the device, each example by its own key.

Every augmentation is split into drawing its parameters and applying them, so that a batch equals
its examples one by one, on any number of devices.
"""

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Key, UInt8

from infant_seg_jax.config import Config


@flax.struct.dataclass
class Augmentation:
    """What happens to one example; vmapped, to each of a batch.

    Attributes:
        flip: bool `()`, whether left and right are exchanged.
        gain: float32 `(c,)`, what each channel is multiplied by.
        offset: float32 `(c,)`, what is then added.
    """

    flip: Array
    gain: Array
    offset: Array


def draw(key: Key[Array, ""], config: Config, channels: int) -> Augmentation:
    """Draw one example's parameters as `config.augmentation` describes."""
    flip, gain, offset = jax.random.split(key, 3)
    return Augmentation(
        flip=jax.random.bernoulli(flip, config.flip),
        gain=jax.random.uniform(gain, (channels,), minval=1 - config.gain, maxval=1 + config.gain),
        offset=jax.random.uniform(offset, (channels,), minval=-config.offset, maxval=config.offset),
    )


def apply(
    augmentation: Augmentation, image: Float[Array, "x y z c"], labels: UInt8[Array, "x y z"]
) -> tuple[Float[Array, "x y z c"], UInt8[Array, "x y z"]]:
    """Mirror left and right (axis 0 of RAS), then scale and shift the brain's intensities.

    Voxels outside the brain are exactly 0 in a prepared image, and stay so.
    """
    image = jnp.where(augmentation.flip, image[::-1], image)
    labels = jnp.where(augmentation.flip, labels[::-1], labels)
    changed = image * augmentation.gain + augmentation.offset
    return jnp.where(image == 0, image, changed), labels
