"""The network over a whole volume at once, slab by slab, so that it fits into memory.

One pass over a volume does the work once, where overlapping windows do it many times, but its
activations at full resolution take a kilobyte a voxel. Here the network runs in stages, the stem
and then block after block, each over slabs of the volume along its first axis. Between stages only
little is kept: the next block's input, at half the resolution, and the sum of what the stages so
far add to the logits. (The last convolution is of single voxels, so each stage has a share of the
logits of its own.)

Slabs overlap by as far as a stage sees, and what is computed twice counts once. So the
probabilities are those of one pass over the whole volume, up to rounding, however thick the slabs
are: memory decides how long it takes, not what comes out.
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
    """How an axis is cut into slabs of one length, each for the sake of its core.

    Slabs at the ends reach no further than the axis, since there convolutions are to meet the zeros
    that they meet in the whole volume; they reach further inwards instead.

    Attributes:
        extent: voxels of the axis.
        core: voxels that count, of each slab.
        rim: voxels on either side of a core that it depends on.
    """

    extent: int
    core: int
    rim: int

    @property
    def length(self) -> int:
        """Voxels of a slab."""
        return self.core + 2 * self.rim

    @property
    def count(self) -> int:
        """Slabs; the core of the last one may overlap with that of the one before."""
        return -(-self.extent // self.core)


def cut(extent: int, core: int, rim: int) -> Slabs:
    """Slabs with these cores, or one that is the whole axis where that is no longer."""
    if core + 2 * rim >= extent:
        return Slabs(extent, extent, 0)
    return Slabs(extent, core, rim)


def cut_for_stage(model: SkipDenseNet3D, level: int, extent: int, core: int) -> Slabs:
    """How the input of a stage is cut, in voxels of its own resolution.

    A stage sees a voxel to either side by each of its 3x3x3 convolutions, and by its upsampling.
    The rim is even, as cores are, so that a slab pools together what the whole volume does.
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
        cores: for the stem and each block, how many voxels of its input along x it works on at
            once, rims aside; even.
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
    """The next stage's input (nothing, after the last), and the logits with this one's share."""

    def apply(method: str, x: Features) -> Features:
        return cast(Array, model.apply(variables, level, x, method=method))

    last = level == len(model.block_layers)
    slabs = cut_for_stage(model, level, features.shape[1], core)
    seen = cut(slabs.length, slabs.core, 1 if level else 0)  # What `share` is to be given.
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
        # The last core adds nothing where it overlaps with the one before.
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


# The stages are programs of their own, since XLA takes more memory for them in one. The model is
# static and hashable, so predictors with the same model share their compilations.
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
