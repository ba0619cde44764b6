"""The augmentations in their order, drawn and applied as `config.augmentation` says.

The order is that in which a scan comes about: anatomy (mirrored, moved, deformed), contrast
(inversion, gamma), the coil's bias field, resolution (blur, thick slices), noise, the scale of the
result (gain, offset), and last whether the modality is there at all. Sampling is apart from
applying as in TorchIO (Pérez-García et al., 2021); what there is follows nnU-Net (Isensee et al.,
2021), TorchIO and SynthSeg (Billot et al., 2023).
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Key, UInt8

from infant_seg_jax.augmentation import degradation, intensity, spatial
from infant_seg_jax.config import Config

_INTENSITIES: Mapping[str, Callable[[Array, Any], Array]] = {
    "inversion": lambda image, _: intensity.invert(image),
    "gamma": intensity.change_gamma,
    "bias_field": intensity.apply_bias_field,
    "blur": degradation.blur,
    "thick_slices": degradation.thicken_slices,
    "gaussian_noise": degradation.add_gaussian_noise,
    "rician_noise": degradation.add_rician_noise,
    "gain": intensity.scale,
    "offset": intensity.shift,
    "drop_modality": degradation.drop_modality,
}
"""What changes intensities and leaves labels, in order."""

NAMES = ("flip", "affine", "elastic", *_INTENSITIES)
"""All augmentations, in order; each is a key of `config.augmentation` that is 0 where it is off."""

RANGES = ("gain", "offset")
"""Those whose key is no chance but their reach; they befall every patch."""


@flax.struct.dataclass
class Drawn:
    """What was drawn for one augmentation of one patch.

    Attributes:
        chosen: bool `()`, whether it befalls the patch.
        values: what it does then, as its function takes it; drawn in any case.
    """

    chosen: Array
    values: Any


Augmentation: TypeAlias = dict[str, Drawn]
"""What happens to one patch, by the names of `NAMES`; what is off in the config is absent."""


def draw(
    key: Key[Array, ""], config: Config, channels: int, shape: tuple[int, int, int]
) -> Augmentation:
    """Draw what happens to one patch of `shape`, as `config`, a `config.augmentation`, describes.

    The draws of an augmentation depend on the key and its own settings alone, not on which others
    there are.
    """
    draws: dict[str, Callable[[Array], Any]] = {
        "flip": lambda key: (),
        "affine": lambda key: spatial.draw_affine(key, config),
        "elastic": lambda key: spatial.draw_elastic(key, config, shape),
        "inversion": lambda key: (),
        "gamma": lambda key: intensity.draw_gamma(key, config, channels),
        "bias_field": lambda key: intensity.draw_bias_field(key, config, shape, channels),
        "blur": lambda key: degradation.draw_blur(key, config, channels),
        "thick_slices": lambda key: degradation.draw_thick_slices(key, config, channels),
        "gaussian_noise": lambda key: degradation.draw_noise(key, config, channels),
        "rician_noise": lambda key: degradation.draw_noise(key, config, channels),
        "gain": lambda key: intensity.draw_gain(key, config, channels),
        "offset": lambda key: intensity.draw_offset(key, config, channels),
        "drop_modality": lambda key: degradation.draw_channel(key, channels),
    }
    augmentation = {}
    for name in NAMES:
        if not config[name] or (name == "drop_modality" and channels == 1):
            continue
        chosen, values = jax.random.split(jax.random.fold_in(key, zlib.crc32(name.encode())))
        chance = 1.0 if name in RANGES else config[name]
        augmentation[name] = Drawn(jax.random.bernoulli(chosen, chance), draws[name](values))
    return augmentation


def apply(
    augmentation: Augmentation, image: Float[Array, "x y z c"], labels: UInt8[Array, "x y z"]
) -> tuple[Float[Array, "x y z c"], UInt8[Array, "x y z"]]:
    """Apply what was drawn to a prepared patch; what was not chosen changes no bit of it.

    Voxels outside the brain are exactly 0 in each channel, and stay so while intensities change.
    Labels move with the image; what moves in from beyond the patch is `IGNORE`.
    """
    image, labels = _apply_spatial(augmentation, image, labels)
    for name, change in _INTENSITIES.items():
        if name in augmentation:
            drawn = augmentation[name]
            changed = change(image, drawn.values)
            image = jnp.where(drawn.chosen & (image != 0), changed, image)
    return image, labels


def _apply_spatial(
    augmentation: Augmentation, image: Float[Array, "x y z c"], labels: UInt8[Array, "x y z"]
) -> tuple[Float[Array, "x y z c"], UInt8[Array, "x y z"]]:
    """Mirror, then move, then deform; the latter two in one resampling."""
    x, y, z, _ = image.shape

    def choose(chosen: Array, changed: tuple[Array, Array]) -> tuple[Array, Array]:
        return jnp.where(chosen, changed[0], image), jnp.where(chosen, changed[1], labels)

    if "flip" in augmentation:
        image, labels = choose(augmentation["flip"].chosen, spatial.mirror(image, labels))
    if "affine" not in augmentation and "elastic" not in augmentation:
        return image, labels
    moved = jnp.zeros((), bool)
    points = spatial.voxel_points((x, y, z))
    # Points are looked up backwards: the last change to the patch is the first to its points.
    if "elastic" in augmentation:
        drawn = augmentation["elastic"]
        points = jnp.where(drawn.chosen, spatial.elastic_points(drawn.values, points), points)
        moved |= drawn.chosen
    if "affine" in augmentation:
        drawn = augmentation["affine"]
        origins = spatial.affine_points(drawn.values, points, (x, y, z))
        points = jnp.where(drawn.chosen, origins, points)
        moved |= drawn.chosen
    return choose(moved, spatial.resample(image, labels, points))
