"""One training step, as a pure function of state and batch that runs on each device."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from jax import Array

from infant_seg_jax.config import Config
from infant_seg_jax.data import augmentation
from infant_seg_jax.data.patches import PatchBatch
from infant_seg_jax.models.skip_densenet import SkipDenseNet3D
from infant_seg_jax.training.losses import LOSSES
from infant_seg_jax.training.parallel import device_copy, device_share, device_sum
from infant_seg_jax.training.schedules import make_optimizer
from infant_seg_jax.training.state import TrainState

Metrics = dict[str, Array]
StepFunction = Callable[[TrainState, PatchBatch], tuple[TrainState, Metrics]]


def make_train_step(model: SkipDenseNet3D, config: Config) -> StepFunction:
    """The step of one device on its share of the batch.

    `model.axis_name` names the mapped axis of devices, or is None on one device. Sums, counts,
    gradients and batch statistics are reduced over all devices, so that the step equals one
    device's step on the whole batch. Random draws come from `(seed, step, position in the whole
    batch)` and nothing else.
    """
    optimizer = make_optimizer(config.optimizer, config.steps)
    loss_function = LOSSES[config.loss.name]
    axis_name = model.axis_name

    def reduce(value: Array) -> Array:
        return device_sum(value, axis_name)

    def step(state: TrainState, batch: PatchBatch) -> tuple[TrainState, Metrics]:
        step_key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        keys = jax.vmap(lambda position: jax.random.fold_in(step_key, position))(batch.position)
        augment_keys, dropout_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
        draws = jax.vmap(
            lambda key: augmentation.draw(key, config.augmentation, batch.image.shape[-1])
        )(augment_keys)
        image, labels = jax.vmap(augmentation.apply)(draws, batch.image, batch.labels)

        def objective(params: Any) -> tuple[Array, tuple[Array, Any]]:
            logits, updates = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                image,
                train=True,
                example_keys=dropout_keys,
                mutable=["batch_stats"],
            )
            loss = loss_function(logits, labels, reduce)
            # The devices' objectives add up to the loss, and so do their gradients.
            return device_share(loss, axis_name), (loss, updates["batch_stats"])

        # As each device's own variable, the parameters get each device's own gradient,
        # which is then summed here and nowhere else.
        params = device_copy(state.params, axis_name)
        gradient_function = jax.value_and_grad(objective, has_aux=True)
        (_, (loss, batch_stats)), gradients = gradient_function(params)
        gradients = jax.tree.map(reduce, gradients)

        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        new_state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        return new_state, {"loss": loss, "gradient_norm": optax.tree.norm(gradients)}

    return step
