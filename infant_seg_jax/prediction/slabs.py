"""Run the network over a whole volume in slabs, so that it fits into memory.

One pass over the volume does the work once; overlapping windows repeat much of it. But the
activations of one pass at full resolution take about a kilobyte per voxel. So the network runs in
stages: first the stem, then each block, each over slabs along the volume's first axis. Little is
kept between stages: the next block's input, at half the resolution, and the sum of the logits so
far. (The last convolution has a 1x1x1 kernel, so the logits are a sum over the stages.)

Slabs overlap by a stage's receptive field, and overlapping voxels are counted once. The
probabilities therefore equal those of one pass over the whole volume, up to rounding, for any slab
thickness. Less memory only makes the prediction slower.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from infant_seg_jax.compilation import jit
from infant_seg_jax.models.skip_densenet import SkipDenseNet3D

Variables = dict[str, Any]
Features = Float[Array, "n _ _ _ _"]
"""Channels last, at any resolution."""
Logits = Float[Array, "n x y z k"]


@dataclass(frozen=True)
class Slabs:
    """How an axis is cut into slabs of equal length.

    Slabs at the ends stop where the axis stops, because convolutions must be padded with zeros
    there, as in the whole volume. They extend further inwards instead.

    Attributes:
        extent: voxels along the axis.
        core: voxels of each slab whose result is used.
        rim: voxels on either side of a core that its result depends on.
    """

    extent: int
    core: int
    rim: int

    @property
    def length(self) -> int:
        """Voxels per slab."""
        return self.core + 2 * self.rim

    @property
    def count(self) -> int:
        """Number of slabs; the last core may overlap with the one before."""
        return -(-self.extent // self.core)


def cut(extent: int, core: int, rim: int) -> Slabs:
    """Slabs with these cores, or one slab if the whole axis is no longer than a slab."""
    if core + 2 * rim >= extent:
        return Slabs(extent, extent, 0)
    return Slabs(extent, core, rim)


def cut_for_stage(model: SkipDenseNet3D, level: int, extent: int, core: int) -> Slabs:
    """How the input of a stage is cut, in voxels of its own resolution.

    Each 3x3x3 convolution of a stage, and its upsampling, depends on one more voxel on either side.
    The rim is even, like the cores, so that a slab pools the same pairs of voxels as the volume.
    """
    rim = model.receptive_radius(level)
    return cut(extent, core, rim + rim % 2)


def predict_slabs(
    model: SkipDenseNet3D,
    variables: Variables,
    images: Float[Array | np.ndarray, "n x y z c"],
    cores: Sequence[int],
) -> Float[Array, "n x y z k"]:
    """Class probabilities of every voxel, float32.

    Args:
        model: the network.
        variables: its parameters and batch statistics.
        images: prepared scans or windows of them; each side is a multiple of `model.downsampling`.
        cores: for the stem and each block, the number of voxels of its input along x that are
            processed at once, without rims; even.
    """
    features = jnp.asarray(images)
    bias = variables["params"]["head_conv"]["bias"]
    logits = jnp.broadcast_to(bias, (*images.shape[:4], model.num_classes))
    for level, core in enumerate(cores):
        features, logits = _PROGRAMS[model.onednn](model, level, core, variables, features, logits)
    return _softmax(logits)


def run_stage(
    model: SkipDenseNet3D,
    level: int,
    core: int,
    variables: Variables,
    features: Features,
    logits: Logits,
) -> tuple[Features, Logits]:
    """The next stage's input (empty after the last stage), and the logits including this stage."""

    def apply(method: str, x: Features) -> Features:
        return cast(Array, model.apply(variables, level, x, method=method))

    last = level == len(model.block_layers)
    slabs = cut_for_stage(model, level, features.shape[1], core)
    seen = cut(slabs.length, slabs.core, 1 if level else 0)  # What `partial_logits` needs.
    scale = 2**level

    def step(index: Array, so_far: tuple[Features, Logits]) -> tuple[Features, Logits]:
        pooled, logits = so_far
        core = jnp.minimum(index * slabs.core, slabs.extent - slabs.core)
        start = jnp.clip(core - slabs.rim, 0, slabs.extent - slabs.length)
        x = apply("trunk", _slice(features, start, slabs.length))
        if not last:
            part = apply("pool", _slice(x, core - start, slabs.core))
            pooled = _put(pooled, part, core // 2)

        near = jnp.clip(core - start - seen.rim, 0, seen.extent - seen.length)
        share = apply("partial_logits", _slice(x, near, seen.length))
        share = _slice(share, (core - start - near) * scale, slabs.core * scale)
        # Voxels of the last core that overlap with the one before are not added again.
        places = core * scale + jnp.arange(share.shape[1])
        fresh = (places >= index * slabs.core * scale)[:, None, None, None]
        added = _slice(logits, core * scale, share.shape[1]) + jnp.where(fresh, share, 0)
        return pooled, _put(logits, added, core * scale)

    pooled = jnp.zeros((len(features), 0, 0, 0, 0), model.dtype)
    if not last:
        params = variables["params"]
        pool = params[f"transition{level}"]["pool"] if level else params["stem_pool"]
        halves = (extent // 2 for extent in features.shape[1:4])
        pooled = jnp.zeros((len(features), *halves, pool["kernel"].shape[-1]), model.dtype)
    return lax.fori_loop(0, slabs.count, step, (pooled, logits))


# Each stage is its own program, because XLA needs more memory for all of them in one. The model is
# static and hashable, so predictors with the same model share their compiled programs.
_PROGRAMS = {
    onednn: jit(run_stage, onednn=onednn, static_argnums=(0, 1, 2), donate_argnums=5)
    for onednn in (False, True)
}


@partial(jax.jit, donate_argnums=0)
def _softmax(logits: Logits) -> Logits:
    return jax.nn.softmax(logits)


def _slice(x: Array, start: Array, length: int) -> Array:
    return lax.dynamic_slice_in_dim(x, start, length, axis=1)


def _put(x: Array, part: Array, start: Array) -> Array:
    return lax.dynamic_update_slice_in_dim(x, part, start, axis=1)
