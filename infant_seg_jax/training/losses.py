"""Losses over voxels, exact over any number of devices.

Each loss sums over its own device's voxels, then has `reduce` add the sums and counts of all
devices, and divides last; so ignored voxels and uneven devices change nothing.

Truth is one-hot, because looking labels up by index has a serial scatter as its gradient on CPUs.
That of an ignored voxel is 0 for every class, so it adds 0 to every sum and needs no mask.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float, UInt8

from infant_seg_jax.config import Config
from infant_seg_jax.errors import InputError

Logits = Float[Array, "n d h w k"]
Labels = UInt8[Array, "n d h w"]
Reduce = Callable[[Array], Array]
Weights = Sequence[float]
"""Of each class, at least 0; where none are given all are 1."""
Loss = Callable[..., Float[Array, ""]]
"""Of logits, labels and `reduce`; the losses here take `weights` too, those of `make_loss` maps."""


def make_loss(loss: Config, num_classes: int) -> Loss:
    """The loss that `config.loss` describes, of so many classes.

    With deep supervision of weight w it is the logits' loss plus w times the mean of the losses
    that the upsampled `maps` have as logits of their own. Without it, maps are not looked at.

    Raises:
        InputError: there are weights of other classes, which differ, or soft Dice, which leaves
            background out, has no other weight above 0.
    """
    weights = tuple(loss.class_weights)
    if len(set(weights)) == 1:
        weights = weights[:1] * num_classes
    if len(weights) != num_classes:
        raise InputError(
            f"config.loss.class_weights is {weights}, expected one number for each of the "
            f"{num_classes} classes."
        )
    if "dice" in loss.name and not any(weights[1:]):
        raise InputError(
            f"config.loss.class_weights is {weights}, expected a weight above 0 "
            f"for at least one tissue with {loss.name!r}: soft Dice leaves out the background."
        )
    function = LOSSES[loss.name]
    options = {"gamma": loss.focal_gamma} if loss.name == "focal" else {}

    def supervised(
        logits: Logits, labels: Labels, reduce: Reduce, maps: Sequence[Logits] = ()
    ) -> Float[Array, ""]:
        def loss_of(outputs: Logits) -> Float[Array, ""]:
            return function(outputs, labels, reduce, weights, **options)

        total = loss_of(logits)
        if loss.deep_supervision > 0:
            total = total + loss.deep_supervision * sum(map(loss_of, maps)) / len(maps)
        return total

    return supervised


def cross_entropy(
    logits: Logits, labels: Labels, reduce: Reduce, weights: Weights | None = None
) -> Float[Array, ""]:
    """Mean over voxels of `-log softmax(logits)[label]`, each voxel weighted as its class.

    The mean divides by the sum of the voxels' weights, as PyTorch's does.
    """
    truth = _truth(logits, labels) * _class_weights(logits, weights)
    total = reduce(jnp.sum(optax.softmax_cross_entropy(logits, truth)))
    return _divide(total, reduce(jnp.sum(truth)))


def focal(
    logits: Logits,
    labels: Labels,
    reduce: Reduce,
    weights: Weights | None = None,
    gamma: float = 2.0,
) -> Float[Array, ""]:
    """Cross entropy with each voxel's term times `(1 - p)**gamma`, p its own class's probability.

    After Lin et al., "Focal loss for dense object detection" (ICCV 2017), whose alpha is here the
    class's weight. The mean is that of `cross_entropy`, which this is at a `gamma` of 0.
    """
    truth = _truth(logits, labels)
    log_p = jnp.sum(truth * jax.nn.log_softmax(logits), axis=-1)
    # Not quite 0, where the derivative of a power below 1 is infinite.
    doubt = jnp.maximum(-jnp.expm1(log_p), jnp.finfo(log_p.dtype).eps)
    of_voxels = jnp.sum(truth * _class_weights(logits, weights), axis=-1)
    total = reduce(jnp.sum(of_voxels * doubt**gamma * -log_p))
    return _divide(total, reduce(jnp.sum(of_voxels)))


def soft_dice(
    logits: Logits, labels: Labels, reduce: Reduce, weights: Weights | None = None
) -> Float[Array, ""]:
    """One minus the weighted mean soft Dice of the tissues (not of background), of all the batch.

    For tissue k with probabilities p and truth t, Dice is `(2 sum(p t) + 1) / (sum(p) + sum(t) +
    1)`, after Milletari, Navab and Ahmadi (V-Net, 2016) with sums in place of squared sums. The
    one voxel added keeps a tissue that a batch lacks from dividing by zero.
    """
    truth = _truth(logits, labels)
    counted = jnp.sum(truth, axis=-1, keepdims=True)
    probabilities = jax.nn.softmax(logits) * counted
    voxels = (0, 1, 2, 3)
    overlap = reduce(jnp.sum(probabilities * truth, voxels))
    sizes = reduce(jnp.sum(probabilities, voxels) + jnp.sum(truth, voxels))
    dice = (2.0 * overlap + 1.0) / (sizes + 1.0)
    tissue_weights = _class_weights(logits, weights)[1:]
    return 1.0 - jnp.sum(tissue_weights * dice[1:]) / jnp.sum(tissue_weights)


def cross_entropy_dice(
    logits: Logits, labels: Labels, reduce: Reduce, weights: Weights | None = None
) -> Float[Array, ""]:
    """Cross entropy plus soft Dice, as nnU-Net trains with."""
    dice = soft_dice(logits, labels, reduce, weights)
    return cross_entropy(logits, labels, reduce, weights) + dice


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "dice": soft_dice,
    "cross_entropy_dice": cross_entropy_dice,
    "focal": focal,
}


def _truth(logits: Logits, labels: Labels) -> Float[Array, "n d h w k"]:
    return jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)


def _class_weights(logits: Logits, weights: Weights | None) -> Float[Array, "k"]:
    if weights is None:
        return jnp.ones(logits.shape[-1], logits.dtype)
    return jnp.asarray(weights, logits.dtype)


def _divide(total: Array, weight: Array) -> Array:
    """The weighted mean; 0 of a batch in which nothing counts."""
    return total / jnp.where(weight > 0, weight, 1.0)
