"""Runs with a time limit: they keep it, their rate ends with it, and interruptions take none."""

from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from infant_seg_jax.config import Config
from infant_seg_jax.store import checkpoints
from infant_seg_jax.store.loading import open_predictor
from infant_seg_jax.store.run_folder import read_metrics
from infant_seg_jax.training import clock
from infant_seg_jax.training.interruption import Stopped, StopSignal
from infant_seg_jax.training.loop import train_and_evaluate
from tests.training.tiny import tiny_config

LIMIT = 60.0


@pytest.fixture(autouse=True)
def passing(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time, which passes by `each` seconds with every look at it."""
    state = SimpleNamespace(now=1000.0, each=4.0)

    def look() -> float:
        state.now += state.each
        return state.now

    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=look))
    return state


def timed_config(prepared: Path, schedule: str = "cosine") -> Config:
    config = tiny_config(prepared, steps=10**6)
    config.minutes = LIMIT / 60
    config.optimizer.schedule = schedule
    config.validate_every = 10**6
    return config


def rates(workdir: Path) -> np.ndarray:
    return np.array([line["learning_rate"] for line in read_metrics(workdir) if "loss" in line])


def test_a_run_ends_with_its_minutes_and_so_does_its_rate(prepared: Path, tmp_path: Path) -> None:
    config = timed_config(prepared)
    state = train_and_evaluate(config, tmp_path / "run")
    # The first step starts the clock, and each further one is followed by a look at it.
    began = np.array([0.0, *np.arange(0.0, LIMIT, 4.0)])
    assert int(state.step) == len(began)
    expected = 1e-2 * (1 + np.cos(np.pi * began / LIMIT)) / 2
    np.testing.assert_allclose(rates(tmp_path / "run"), expected, rtol=1e-4)
    assert rates(tmp_path / "run")[-1] < 0.02 * config.optimizer.learning_rate
    # It is validated and saved.
    assert read_metrics(tmp_path / "run")[-1]["step"] == len(began)
    assert "mean_dice" in read_metrics(tmp_path / "run")[-1]
    open_predictor(tmp_path / "run", "latest")
    # The same command again has nothing to do.
    again = train_and_evaluate(config, tmp_path / "run")
    assert int(again.step) == len(began) and len(rates(tmp_path / "run")) == len(began)


def test_an_interruption_takes_no_time(
    prepared: Path, tmp_path: Path, passing: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = timed_config(prepared)
    with monkeypatch.context() as patch:
        patch.setattr(StopSignal, "received", lambda _, step: step == 5)
        with pytest.raises(Stopped):
            train_and_evaluate(config, tmp_path / "run")
    assert len(rates(tmp_path / "run")) == 5
    passing.now += 10 * LIMIT
    train_and_evaluate(config, tmp_path / "run")
    found = rates(tmp_path / "run")
    used = np.arccos(2 * found / config.optimizer.learning_rate - 1) / np.pi * LIMIT
    # The fifth step ended at 16 s and was saved at 20 s; the sixth is compiled, which is free.
    np.testing.assert_allclose(used[:8], [0, 0, 4, 8, 12, 20, 20, 24], atol=0.01)
    assert used[-1] < LIMIT <= used[-1] + 8


def test_steps_may_end_a_run_before_its_minutes(
    prepared: Path, tmp_path: Path, passing: SimpleNamespace
) -> None:
    config = timed_config(prepared, "polynomial")
    config.steps, passing.each, config.save_every = 4, 0.01, 1
    # So that a step moves the weights by the rate times the gradient, and nothing else.
    config.optimizer.update({"name": "sgd", "b1": 0.0, "l2": 0.0, "power": 1.0, "warmup": 1})
    assert int(train_and_evaluate(config, tmp_path / "run").step) == 4
    expected = [0.01 / 2, 0.01 * 3 / 4, 0.01 / 2, 0.01 / 4]
    np.testing.assert_allclose(rates(tmp_path / "run"), expected, rtol=1e-3)

    before, after = (
        checkpoints.read_variables(tmp_path / "run", step).variables["params"] for step in "34"
    )
    squares = jax.tree.map(lambda a, b: np.sum((a - b) ** 2), before, after)
    moved = np.sqrt(sum(jax.tree.leaves(squares)))
    (last,) = [line for line in read_metrics(tmp_path / "run") if line.get("loss")][3:]
    assert moved == pytest.approx(last["learning_rate"] * last["gradient_norm"], rel=1e-3)
