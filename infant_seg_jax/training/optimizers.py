"""Learning rates over a run, and the optimizers that follow them."""

import optax
from jax.typing import ArrayLike

from infant_seg_jax.config import Config


def learning_rate(optimizer: Config, steps: int) -> optax.Schedule:
    """The learning rate of each of `steps` steps, as `config.optimizer` describes it.

    Over the first `warmup` steps it rises in a line, by `1 / (warmup + 1)` of the full rate each,
    so that no step is lost to a rate of 0; step `warmup` is the first at the full rate. From there
    "cosine" and "polynomial" fall to 0 at the run's end. "steps" falls at shares of the whole run,
    wherever the warm-up ends.

    A step is a batch, whether or not gradients of several batches are accumulated.
    """
    full, warmup = optimizer.learning_rate, optimizer.warmup
    falling = max(steps - warmup, 1)
    match optimizer.schedule:
        case "cosine":
            after = optax.cosine_decay_schedule(full, falling)
        case "polynomial":
            after = optax.polynomial_schedule(full, 0.0, optimizer.power, falling)
        case "constant":
            after = optax.constant_schedule(full)
        case "steps":
            drops: dict[int, float] = {}
            for share in optimizer.drops:  # In a short run two drops may fall on one step.
                step = round(share * steps) - warmup
                drops[step] = 0.1 * drops.get(step, 1.0)
            after = optax.piecewise_constant_schedule(full, drops)
        case name:
            raise ValueError(f"there is no schedule {name!r}")
    if not warmup:
        return after
    rising = optax.linear_schedule(full / (warmup + 1), full, warmup)
    return optax.join_schedules([rising, after], [warmup])


def make_optimizer(optimizer: Config, steps: int) -> optax.GradientTransformation:
    """The optimizer of a run of `steps` steps, as `config.optimizer` describes it.

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
