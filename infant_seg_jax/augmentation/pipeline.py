"""The augmentations in their order, drawn and applied as `config.augmentation` says.

The order is that in which a scan comes about: anatomy (mirrored, moved, deformed), contrast
(inversion, gamma), the coil's bias field, resolution (blur, thick slices), noise, the scale of the
result (gain, offset), and last whether the modality is there at all. Sampling is apart from
applying as in TorchIO (Pérez-García et al., 2021); what there is follows nnU-Net (Isensee et al.,
2021), TorchIO and SynthSeg (Billot et al., 2023).
"""

import zlib
from dataclasses import fields
from typing import Any, TypeAlias

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Key, UInt8

from infant_seg_jax.augmentation import degradation, intensity, spatial
from infant_seg_jax.config import Config, sections

_MODULES = (spatial, intensity, degradation)
_BY_NAME = {one.name: one for module in _MODULES for one in module.AUGMENTATIONS}

AUGMENTATIONS = tuple(
    _BY_NAME[entry.name] for entry in fields(sections.Augmentation) if entry.name in _BY_NAME
)
"""All augmentations, in the order in which their keys are declared."""


@flax.struct.dataclass
class Drawn:
    """What was drawn for one augmentation of one patch.

    Attributes:
        chosen: bool `()`, whether the patch gets it.
        values: what it does then, as its function takes it; drawn in any case.
    """

    chosen: Array
    values: Any


Draws: TypeAlias = dict[str, Drawn]
"""What happens to one patch, by the names of `AUGMENTATIONS`; those that are off are absent."""


def draw(key: Key[Array, ""], config: Config, channels: int, shape: tuple[int, int, int]) -> Draws:
    """Draw what happens to one patch of `shape`, as `config`, a `config.augmentation`, describes.

    The draws of an augmentation depend on the key and its own settings alone, not on which others
    there are.
    """
    draws = {}
    for one in AUGMENTATIONS:
        if not config[one.name] or (one.name == "drop_modality" and channels == 1):
            continue
        chosen, values = jax.random.split(jax.random.fold_in(key, zlib.crc32(one.name.encode())))
        chance = 1.0 if one.in_every_patch else config[one.name]
        draws[one.name] = Drawn(
            jax.random.bernoulli(chosen, chance), one.draw(values, config, shape, channels)
        )
    return draws


def apply(
    draws: Draws, image: Float[Array, "x y z c"], labels: UInt8[Array, "x y z"]
) -> tuple[Float[Array, "x y z c"], UInt8[Array, "x y z"]]:
    """Apply what was drawn to a prepared patch; what was not chosen changes no bit of it.

    Voxels outside the brain are exactly 0 in each channel, and stay so while intensities change.
    Labels move with the image; what moves in from beyond the patch is `IGNORE`.
    """
    image, labels = _apply_spatial(draws, image, labels)
    for one in AUGMENTATIONS:
        if one.change and one.name in draws:
            drawn = draws[one.name]
            changed = one.change(image, drawn.values)
            image = jnp.where(drawn.chosen & (image != 0), changed, image)
    return image, labels


def _apply_spatial(
    draws: Draws, image: Float[Array, "x y z c"], labels: UInt8[Array, "x y z"]
) -> tuple[Float[Array, "x y z c"], UInt8[Array, "x y z"]]:
    """Mirror, then move, then deform; the latter two in one resampling."""
    x, y, z, _ = image.shape

    def choose(chosen: Array, changed: tuple[Array, Array]) -> tuple[Array, Array]:
        return jnp.where(chosen, changed[0], image), jnp.where(chosen, changed[1], labels)

    if spatial.FLIP.name in draws:
        image, labels = choose(draws[spatial.FLIP.name].chosen, spatial.mirror(image, labels))
    if spatial.AFFINE.name not in draws and spatial.ELASTIC.name not in draws:
        return image, labels
    moved = jnp.zeros((), bool)
    points = spatial.voxel_points((x, y, z))
    # Points are looked up backwards: the last change to the patch is the first to its points.
    if spatial.ELASTIC.name in draws:
        drawn = draws[spatial.ELASTIC.name]
        points = jnp.where(drawn.chosen, spatial.elastic_points(drawn.values, points), points)
        moved |= drawn.chosen
    if spatial.AFFINE.name in draws:
        drawn = draws[spatial.AFFINE.name]
        origins = spatial.affine_points(drawn.values, points, (x, y, z))
        points = jnp.where(drawn.chosen, origins, points)
        moved |= drawn.chosen
    return choose(moved, spatial.resample(image, labels, points))
