"""Learning rates over a run, and the optimizers that follow them."""

import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from infant_seg_jax.config import Config

_PARTS = 10_000
"""Of a run with a time limit: as if it had so many steps, all of the same length."""


def learning_rate(optimizer: Config, steps: int | None) -> optax.Schedule:
    """The learning rate of each of `steps` steps, as `config.optimizer` describes it.

    Over the first `warmup` steps it rises in a line, by `1 / (warmup + 1)` of the full rate each,
    so that no step is lost to a rate of 0; step `warmup` is the first at the full rate. From there
    "cosine" and "polynomial" fall to 0 at the run's end. "steps" falls at shares of the whole run,
    wherever the warm-up ends.

    A step is a batch, whether or not gradients of several batches are accumulated.

    Where `steps` is None, for a run with a time limit, the rate stays at its highest: `rate_left`
    says what it is to be multiplied by.
    """
    full, warmup = optimizer.learning_rate, optimizer.warmup
    after = optax.constant_schedule(full) if steps is None else _falling(optimizer, steps, warmup)
    if not warmup:
        return after
    rising = optax.linear_schedule(full / (warmup + 1), full, warmup)
    return optax.join_schedules([rising, after], [warmup])


def rate_left(optimizer: Config, share: ArrayLike) -> Array:
    """What is left of the highest rate after a share of a run with a time limit, from 1 to 0."""
    rate = _falling(optimizer, _PARTS, 0)(_PARTS * share)
    return jnp.asarray(rate / optimizer.learning_rate)


def _falling(optimizer: Config, steps: int, warmup: int) -> optax.Schedule:
    """The rate of each step from `warmup` on."""
    full, falling = optimizer.learning_rate, max(steps - warmup, 1)
    match optimizer.schedule:
        case "cosine":
            return optax.cosine_decay_schedule(full, falling)
        case "polynomial":
            return optax.polynomial_schedule(full, 0.0, optimizer.power, falling)
        case "constant":
            return optax.constant_schedule(full)
        case "steps":
            drops: dict[int, float] = {}
            for share in optimizer.drops:  # In a short run two drops may fall on one step.
                step = round(share * steps) - warmup
                drops[step] = 0.1 * drops.get(step, 1.0)
            return optax.piecewise_constant_schedule(full, drops)
        case name:
            raise ValueError(f"there is no schedule {name!r}")


def make_optimizer(optimizer: Config, steps: int | None) -> optax.GradientTransformation:
    """The optimizer of a run of `steps` steps, as `config.optimizer` describes it.

    None: of a run with a time limit, whose updates are to be multiplied by `rate_left`.

    In this order, as PyTorch's users write it: the gradients of `accumulate` batches are averaged;
    their mean, as it is, is scaled down to the norm `clip_norm`; the weights, times `l2`, join it
    ("adam", "sgd"); the optimizer makes an update of it; "adamw" takes the weights, times `l2` and
    the learning rate, off by themselves instead.

    An accumulated update has the learning rate of its last batch; before it, updates are 0. Batches
    after the last whole `accumulate` of a run change nothing.
    """
    every = optimizer.accumulate
    rate = learning_rate(optimizer, steps)

    def rate_of_update(update: ArrayLike) -> ArrayLike:
        return rate(every * (update + 1) - 1)

    b1, b2, l2 = optimizer.b1, optimizer.b2, optimizer.l2
    match optimizer.name:
        case "adam":
            parts = [optax.add_decayed_weights(l2), optax.adam(rate_of_update, b1, b2)]
        case "adamw":
            parts = [optax.adamw(rate_of_update, b1, b2, weight_decay=l2)]
        case "sgd":
            sgd = optax.sgd(rate_of_update, momentum=b1, nesterov=True)
            parts = [optax.add_decayed_weights(l2), sgd]
        case name:
            raise ValueError(f"there is no optimizer {name!r}")
    if optimizer.clip_norm:
        parts = [optax.clip_by_global_norm(optimizer.clip_norm), *parts]
    transformation = optax.chain(*parts)
    if every == 1:
        return transformation
    return optax.MultiSteps(transformation, every).gradient_transformation()
