"""One training step, as a pure function of state and batch that runs on each device."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from infant_seg_jax.config import Config
from infant_seg_jax.data.patches import PatchBatch
from infant_seg_jax.models.factory import Network
from infant_seg_jax.store.state import TrainState
from infant_seg_jax.training.examples import draw_examples
from infant_seg_jax.training.losses import make_loss
from infant_seg_jax.training.optimizers import learning_rate, rate_left
from infant_seg_jax.training.parallel import device_copy, device_share, device_sum
from infant_seg_jax.training.transfer import run_optimizer

Metrics = dict[str, Array]
StepFunction = Callable[[TrainState, PatchBatch], tuple[TrainState, Metrics]]


def make_train_step(model: Network, config: Config) -> StepFunction:
    """The step of one device on its share of the batch.

    `model.axis_name` names the mapped axis of devices, or is None on one device. Sums, counts,
    gradients and batch statistics are reduced over all devices, so that the step equals one
    device's step on the whole batch. Random draws come from `(seed, step, position in the whole
    batch)` and nothing else.
    """
    optimizer = run_optimizer(config)
    full_rate = learning_rate(config.optimizer, None if config.minutes else config.steps)
    loss_function = make_loss(config.loss, model.num_classes)
    deep = config.loss.deep_supervision > 0
    axis_name = model.axis_name
    frozen_statistics = bool(config.init.checkpoint) and config.init.batch_norm == "freeze"

    def reduce(value: Array) -> Array:
        return device_sum(value, axis_name)

    def step(state: TrainState, batch: PatchBatch) -> tuple[TrainState, Metrics]:
        image, labels, dropout_keys = draw_examples(batch, state.step, config)

        def objective(params: Any) -> tuple[Array, tuple[Array, Any]]:
            outputs, updates = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                image,
                train=True,
                example_keys=dropout_keys,
                mutable=["batch_stats"],
                deep=deep,
                frozen_statistics=frozen_statistics,
            )
            logits, maps = outputs if deep else (outputs, ())
            loss = loss_function(logits, labels, reduce, maps)
            # The devices' objectives add up to the loss, and so do their gradients.
            statistics = updates.get("batch_stats", state.batch_stats)
            return device_share(loss, axis_name), (loss, statistics)

        # As each device's own variable, the parameters get each device's own gradient,
        # which is then summed here and nowhere else.
        params = device_copy(state.params, axis_name)
        gradient_function = jax.value_and_grad(objective, has_aux=True)
        (_, (loss, batch_stats)), gradients = gradient_function(params)
        gradients = jax.tree.map(reduce, gradients)

        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        rate = full_rate(state.step)
        if state.clock is not None:
            used = state.clock["seconds"] / (60 * config.minutes)
            left = rate_left(config.optimizer, jnp.maximum(used, state.step / config.steps))
            rate, updates = rate * left, optax.tree.scale(left, updates)
        new_state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=state.batch_stats if frozen_statistics else batch_stats,
            opt_state=opt_state,
            clock=state.clock,
        )
        if state.average is not None:
            average = moving_average(
                state, new_state.variables, config.average_decay, config.optimizer.accumulate
            )
            new_state = replace(new_state, average=average)
        return new_state, {
            "loss": loss,
            "gradient_norm": optax.tree.norm(gradients),
            "learning_rate": jnp.asarray(rate, jnp.float32),
        }

    return step


def moving_average(state: TrainState, variables: Any, decay: float, accumulate: int = 1) -> Any:
    """The exponential moving average after one more step.

    It moves with each update, which is every `accumulate` steps. Early in a run it follows faster,
    with a decay of `(1 + updates) / (10 + updates)` if that is less, so that it forgets where the
    run started.
    """
    updates = state.step // accumulate
    decay_now = jnp.minimum(decay, (1.0 + updates) / (10.0 + updates))
    if accumulate > 1:
        decay_now = jnp.where((state.step + 1) % accumulate == 0, decay_now, 1.0)
    return jax.tree.map(
        lambda old, new: decay_now * old + (1 - decay_now) * new, state.average, variables
    )
