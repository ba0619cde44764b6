"""Learning rates over a run, and the optimiser that follows them."""

import optax

from infant_seg_jax.config import Config


def learning_rate(optimizer: Config, steps: int) -> optax.Schedule:
    """The learning rate of each of `steps` steps, as `config.optimizer` describes it."""
    if optimizer.schedule == "cosine":
        return optax.cosine_decay_schedule(optimizer.learning_rate, steps)
    drops: dict[int, float] = {}
    for share in optimizer.drops:  # In a short run two drops may fall on one step.
        step = round(share * steps)
        drops[step] = 0.1 * drops.get(step, 1.0)
    return optax.piecewise_constant_schedule(optimizer.learning_rate, drops)


def make_optimizer(optimizer: Config, steps: int) -> optax.GradientTransformation:
    """Adam with coupled L2: the weights, times `l2`, join the gradient before Adam scales it."""
    return optax.chain(
        optax.add_decayed_weights(optimizer.l2),
        optax.adam(learning_rate(optimizer, steps), optimizer.b1, optimizer.b2),
    )
