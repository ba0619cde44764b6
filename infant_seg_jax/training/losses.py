"""Losses over voxels, exact over any number of devices.

Each loss sums over its own device's voxels, then has `reduce` add the sums and counts of all
devices, and divides last; so ignored voxels and uneven devices change nothing.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float, UInt8

from infant_seg_jax.data.labels import IGNORE

Logits = Float[Array, "n d h w k"]
Labels = UInt8[Array, "n d h w"]
Reduce = Callable[[Array], Array]
Loss = Callable[[Logits, Labels, Reduce], Float[Array, ""]]


def cross_entropy(logits: Logits, labels: Labels, reduce: Reduce) -> Float[Array, ""]:
    """Mean over voxels of `-log softmax(logits)[label]`; voxels labelled `IGNORE` are left out."""
    counted = labels != IGNORE
    # One-hot, because looking labels up by index has a serial scatter as its gradient on CPUs.
    losses = optax.softmax_cross_entropy(logits, jax.nn.one_hot(labels, logits.shape[-1]))
    total = reduce(jnp.sum(jnp.where(counted, losses, 0.0)))
    return total / jnp.maximum(reduce(jnp.sum(counted, dtype=jnp.float32)), 1.0)


def soft_dice(logits: Logits, labels: Labels, reduce: Reduce) -> Float[Array, ""]:
    """One minus the mean soft Dice of the tissues (not of background) over the whole batch.

    For tissue k with probabilities p and truth t, Dice is `(2 sum(p t) + 1) / (sum(p) + sum(t) +
    1)`, after Milletari, Navab and Ahmadi (V-Net, 2016) with sums in place of squared sums. The
    one voxel added keeps a tissue that a batch lacks from dividing by zero.
    """
    counted = (labels != IGNORE)[..., None]
    probabilities = jnp.where(counted, jax.nn.softmax(logits), 0.0)
    truth = jax.nn.one_hot(labels, logits.shape[-1])
    voxels = (0, 1, 2, 3)
    overlap = reduce(jnp.sum(probabilities * truth, voxels))
    sizes = reduce(jnp.sum(probabilities, voxels) + jnp.sum(truth, voxels))
    return 1.0 - jnp.mean(((2.0 * overlap + 1.0) / (sizes + 1.0))[1:])


def cross_entropy_dice(logits: Logits, labels: Labels, reduce: Reduce) -> Float[Array, ""]:
    """Cross entropy plus soft Dice, as nnU-Net trains with."""
    return cross_entropy(logits, labels, reduce) + soft_dice(logits, labels, reduce)


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "cross_entropy_dice": cross_entropy_dice,
}
