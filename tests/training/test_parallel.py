"""A step over several devices equals one device's step on the whole batch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infant_seg_jax.config import Config, default_config
from infant_seg_jax.data.labels import IGNORE
from infant_seg_jax.data.patches import PatchBatch
from infant_seg_jax.models.factory import make_model
from infant_seg_jax.models.variables import init_variables
from infant_seg_jax.store.state import TrainState, new_state
from infant_seg_jax.training.optimizers import make_optimizer
from infant_seg_jax.training.parallel import choose_devices, map_step, replicate, shard
from infant_seg_jax.training.step import make_train_step
from tests.input_errors import input_error


def small_config(loss: str) -> Config:
    config = default_config()
    config.patch.shape = (16, 16, 16)
    config.patch.batch_size = 4
    config.model.growth_rate = 4
    config.model.stem_features = 4
    config.model.block_layers = (1, 1)
    config.model.dropout_rate = 0.2
    config.augmentation.flip = 0.5
    config.augmentation.gain = 0.2
    config.augmentation.offset = 0.2
    config.loss.name = loss
    config.steps = 10
    return config


def random_batch(config: Config, seed: int) -> PatchBatch:
    random = np.random.default_rng(seed)
    shape = (config.patch.batch_size, *config.patch.shape)
    labels = random.integers(0, 4, shape).astype(np.uint8)
    # Ignored voxels fall unevenly on the examples, so means of means would be wrong.
    labels[0, :12] = IGNORE
    labels[3, :2] = IGNORE
    image = random.normal(size=(*shape, 1)).astype(np.float32)
    return PatchBatch(image, labels, np.arange(shape[0], dtype=np.int32))


def run(config: Config, mode: str, steps: int) -> tuple[TrainState, list[float], list[float]]:
    config = config.copy_and_resolve_references()
    config.parallel = mode
    devices = choose_devices(mode, config.patch.batch_size)
    model = make_model(config, devices.axis_name, devices.onednn)
    optimizer = make_optimizer(config.optimizer, config.steps)
    state = new_state(init_variables(make_model(config), 1, seed=1), optimizer)
    step = map_step(make_train_step(model, config), devices)
    state = replicate(state, devices)
    losses, norms = [], []
    for i in range(steps):
        state, metrics = step(state, shard(random_batch(config, i), devices))
        losses.append(float(metrics["loss"]))
        norms.append(float(metrics["gradient_norm"]))
    return state, losses, norms


def first_moment(state: TrainState) -> Any:
    """Adam's running mean of the gradients."""
    (adam,) = [
        part
        for part in jax.tree.leaves(state.opt_state, is_leaf=lambda x: hasattr(x, "mu"))
        if hasattr(part, "mu")
    ]
    return adam.mu


@pytest.mark.parametrize(
    ("loss", "mode"),
    [
        pytest.param("cross_entropy", "pmap", marks=pytest.mark.slow),
        ("cross_entropy_dice", "pmap"),
        ("cross_entropy_dice", "shard_map"),
    ],
)
def test_step_on_four_devices_equals_one_device_on_the_whole_batch(loss: str, mode: str) -> None:
    assert jax.local_device_count() == 4
    config = small_config(loss)
    one, one_losses, one_norms = run(config, "jit", steps=2)
    four, four_losses, four_norms = run(config, mode, steps=2)
    np.testing.assert_allclose(four_losses, one_losses, rtol=1e-5)
    # Adam's first steps hardly depend on the gradient's scale; its norm does.
    np.testing.assert_allclose(four_norms, one_norms, rtol=1e-4)
    for a, b in zip(
        jax.tree.leaves(four.batch_stats), jax.tree.leaves(one.batch_stats), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    # Adam's first moment is linear in the gradients: comparing it compares them leaf by leaf.
    for a, b in zip(
        jax.tree.leaves(first_moment(four)), jax.tree.leaves(first_moment(one)), strict=True
    ):
        scale = float(jnp.abs(b).max())
        np.testing.assert_allclose(a, b, atol=2e-4 * scale + 1e-7)
    for a, b in zip(jax.tree.leaves(four.params), jax.tree.leaves(one.params), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_a_batch_that_does_not_divide_by_the_devices_is_refused() -> None:
    with input_error("config.patch.batch_size is 3", "4 devices"):
        choose_devices("pmap", 3)
    assert choose_devices("jit", 3).count == 1
