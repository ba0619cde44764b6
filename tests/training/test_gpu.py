"""What a GPU computes is what the CPU computes, and it trains. Run on a machine with a GPU by

    JAX_PLATFORMS=cuda,cpu python -m pytest -m gpu tests/training/test_gpu.py

and skipped elsewhere. INFANT_SEG_TEST_DEVICE=cpu tries the tests out, with a CPU for the GPU.
"""

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from infant_seg_jax.config import Config, default_config
from infant_seg_jax.data.patches import PatchBatch
from infant_seg_jax.data.prepared import open_prepared
from infant_seg_jax.models.factory import make_model
from infant_seg_jax.models.variables import init_variables
from infant_seg_jax.store import checkpoints
from infant_seg_jax.store.loading import open_predictor
from infant_seg_jax.store.run_folder import read_metrics
from infant_seg_jax.store.state import TrainState, new_state
from infant_seg_jax.training import loop
from infant_seg_jax.training.loop import train_and_evaluate
from infant_seg_jax.training.parallel import choose_devices, map_step, replicate, shard
from infant_seg_jax.training.step import make_train_step
from infant_seg_jax.training.transfer import run_optimizer
from tests.training.tiny import tiny_config

pytestmark = pytest.mark.gpu

Sides = dict[str, jax.Device]


@pytest.fixture(scope="module")
def sides() -> Sides:
    """A CPU, and the device that has to agree with it."""
    kind = os.environ.get("INFANT_SEG_TEST_DEVICE", "gpu")
    try:
        device = jax.devices(kind)[-1]
    except RuntimeError:
        pytest.skip(f"JAX finds no {kind}: on a machine with one, set JAX_PLATFORMS=cuda,cpu")
    return {"cpu": jax.devices("cpu")[0], "device": device}


def on_each(sides: Sides, function: Any, *arguments: Any) -> list[Any]:
    """What a function gives on the CPU and on the device, with products in full precision."""
    found = []
    for side in sides.values():
        with jax.default_matmul_precision("float32"):
            given = jax.device_put(arguments, side)
            found.append(jax.tree.map(np.asarray, jax.jit(function)(*given)))
    return found


def assert_alike(found: Any, expected: Any, tolerance: float) -> None:
    """Each array within the tolerance, to its largest value or to a thousandth of all arrays'."""
    expected, found = jax.tree.leaves(expected), jax.tree.leaves(found)
    floor = 1e-3 * max(float(np.abs(array).max()) for array in expected)
    for one, other in zip(found, expected, strict=True):
        scale = max(floor, float(np.abs(other).max()))
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * scale)


def deep_config() -> Config:
    """Few and narrow layers, but every change of resolution of the paper's network."""
    config = default_config()
    config.patch.shape = (32, 32, 32)
    config.patch.batch_size = 4
    config.model.growth_rate, config.model.stem_features = 4, 8
    config.model.block_layers = (1, 1, 1, 1)
    config.augmentation.flip = 0.5
    config.augmentation.gain = 0.2
    config.loss.name = "cross_entropy_dice"
    # So that a step moves the weights by the gradient.
    config.optimizer.update({"name": "sgd", "learning_rate": 1.0, "b1": 0.0, "l2": 0.0})
    return config


def random_batch(config: Config) -> PatchBatch:
    random = np.random.default_rng(0)
    shape = (config.patch.batch_size, *config.patch.shape)
    labels = random.integers(0, 4, shape).astype(np.uint8)
    image = random.normal(size=(*shape, 1)).astype(np.float32)
    return PatchBatch(image, labels, np.arange(shape[0], dtype=np.int32))


def first_state(config: Config) -> TrainState:
    return new_state(init_variables(make_model(config), 1, seed=1), run_optimizer(config))


def test_forward_pass_is_the_cpu_s(sides: Sides) -> None:
    config = deep_config()
    variables, image = first_state(config).variables, random_batch(config).image
    expected, found = on_each(sides, make_model(config).apply, variables, image)
    assert_alike(found, expected, 1e-4)


def test_a_step_and_its_gradients_are_the_cpu_s(sides: Sides) -> None:
    config = deep_config()
    state, batch = first_state(config), random_batch(config)
    step = make_train_step(make_model(config), config)
    (expected, metrics), (found, found_metrics) = on_each(sides, step, state, batch)
    for name in ("loss", "gradient_norm"):
        assert found_metrics[name] == pytest.approx(metrics[name], rel=1e-3)
    moved = [jax.tree.map(np.subtract, one.params, state.params) for one in (found, expected)]
    assert_alike(*moved, tolerance=1e-2)
    assert_alike(found.batch_stats, expected.batch_stats, 1e-4)


def test_labels_are_the_cpu_s(sides: Sides, prepared: Path) -> None:
    image = open_prepared(prepared).cases[0].image()
    labels = []
    for side in sides.values():
        with jax.default_device(side):
            labels.append(open_predictor(Path("bundled")).probabilities(image).argmax(-1))
    expected, found = labels
    assert len(np.unique(expected)) == 4
    assert np.mean(found == expected) > 0.999


def test_pmap_is_jit(sides: Sides) -> None:
    """Over all devices of the default kind: on a machine with one GPU, over one."""
    found = []
    for mode in ("jit", "pmap"):
        config = deep_config()
        devices = choose_devices(mode, config.patch.batch_size)
        step = map_step(make_train_step(make_model(config, devices.axis_name), config), devices)
        state = replicate(first_state(config), devices)
        with jax.default_matmul_precision("float32"):
            state, metrics = step(state, shard(random_batch(config), devices))
        found.append((state.params, state.batch_stats, metrics))
    assert_alike(found[1], found[0], 1e-3)


def test_it_trains_in_bfloat16_and_goes_on_after_an_interruption(
    sides: Sides, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(prepared, steps=12)
    config.model.dtype, config.minutes, config.average_decay = "bfloat16", 60.0, 0.9
    config.optimizer.schedule = "constant"  # Else it follows the clock.
    train_and_evaluate(config, tmp_path / "whole")
    losses = [line["loss"] for line in read_metrics(tmp_path / "whole") if "loss" in line]
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])

    real_save = checkpoints.save

    def save_then_stop(*arguments: Any) -> None:
        real_save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop.checkpoints, "save", save_then_stop)
        train_and_evaluate(config, tmp_path / "resumed")
    assert int(train_and_evaluate(config, tmp_path / "resumed").step) == 12
    lines = [line for line in read_metrics(tmp_path / "resumed") if "loss" in line]
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert [line["loss"] for line in lines] == pytest.approx(losses, rel=0.05)
    open_predictor(tmp_path / "resumed", "latest")
