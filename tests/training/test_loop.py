"""Runs on tiny phantoms: they learn, resume exactly, fine-tune, and refuse nonsense."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from infant_seg_jax.config import Config, default_config, load_config
from infant_seg_jax.errors import InputError
from infant_seg_jax.evaluation.runs import evaluate_run
from infant_seg_jax.models.factory import make_model
from infant_seg_jax.store import checkpoints
from infant_seg_jax.store.loading import open_predictor
from infant_seg_jax.store.run_folder import read_metrics, read_run
from infant_seg_jax.store.state import TrainState
from infant_seg_jax.training import loop
from infant_seg_jax.training.loop import train_and_evaluate
from infant_seg_jax.training.peak_memory import PROCESS, read_peak_memory
from tests.input_errors import input_error
from tests.training.tiny import tiny_config


def same(a: TrainState, b: TrainState) -> bool:
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(bool((np.asarray(x) == np.asarray(y)).all()) for x, y in leaves)


@pytest.fixture(scope="module")
def run(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainState]:
    workdir = tmp_path_factory.mktemp("runs") / "adult"
    return workdir, train_and_evaluate(tiny_config(prepared, steps=8), workdir)


def test_a_run_learns_and_explains_itself(run: tuple[Path, TrainState], prepared: Path) -> None:
    workdir, state = run
    assert int(state.step) == 8
    lines = read_metrics(workdir)
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 8
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert [line["step"] for line in lines if "mean_dice" in line] == [4, 8]
    assert load_config(workdir / "config.json").to_dict() == tiny_config(prepared, 8).to_dict()
    record = json.loads((workdir / "run.json").read_text())
    assert record["versions"]["jax"] == jax.__version__
    assert len(record["subjects"]["train"]) == 3
    assert list((workdir / "tensorboard").glob("events*"))
    assert read_peak_memory(workdir)[PROCESS] > 2**26


def test_validation_is_what_evaluate_measures(run: tuple[Path, TrainState], prepared: Path) -> None:
    workdir, _ = run
    last = [line for line in read_metrics(workdir) if "mean_dice" in line][-1]
    dice = evaluate_run(workdir, prepared, "validation", which="latest").summary["dice"]
    assert dice["mean"].mean == pytest.approx(last["mean_dice"], abs=1e-6)
    assert dice["WM"].mean == pytest.approx(last["dice_WM"], abs=1e-6)


def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    run: tuple[Path, TrainState], prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = run
    config = tiny_config(prepared, steps=8)

    class Interrupted(Exception):
        pass

    real_save = checkpoints.save

    def save_then_stop(*arguments: object) -> None:
        real_save(*arguments)  # type: ignore[arg-type]
        raise Interrupted

    monkeypatch.setattr(loop.checkpoints, "save", save_then_stop)
    with pytest.raises(Interrupted):
        train_and_evaluate(config, tmp_path / "run")
    monkeypatch.undo()
    resumed = train_and_evaluate(config, tmp_path / "run")
    assert same(resumed, whole)
    steps = [line["step"] for line in read_metrics(tmp_path / "run") if "loss" in line]
    assert steps == list(range(1, 9))


@pytest.mark.slow
def test_a_run_on_four_devices_is_the_run_on_one(prepared: Path, tmp_path: Path) -> None:
    assert jax.local_device_count() == 4
    lines = {}
    for mode in ("jit", "pmap"):
        config = tiny_config(prepared, steps=2)
        config.patch.batch_size = 4
        config.parallel = mode
        train_and_evaluate(config, tmp_path / mode)
        lines[mode] = read_metrics(tmp_path / mode)
    for one, four in zip(lines["jit"], lines["pmap"], strict=True):
        assert one.keys() == four.keys()
        # Adam's first steps magnify rounding in gradients near zero.
        assert list(four.values()) == pytest.approx(list(one.values()), rel=0.02)


def test_a_run_folder_of_another_config_is_refused(run: tuple[Path, TrainState]) -> None:
    workdir, _ = run
    config = load_config(workdir / "config.json")
    config.optimizer.learning_rate = 0.5
    with input_error(workdir, "optimizer.learning_rate", "0.01", "0.5"):
        train_and_evaluate(config, workdir)


def fine_tuning(prepared: Path, start: Path) -> Config:
    """One step that leaves the weights where they were, since its learning rate is next to 0."""
    config = tiny_config(prepared, steps=1)
    config.init.checkpoint = str(start)
    config.model.dropout_rate = 0.1
    config.optimizer.learning_rate = 1e-12
    config.optimizer.l2 = 0.0
    return config


def test_fine_tuning_starts_from_the_best_weights_with_a_fresh_optimizer(
    run: tuple[Path, TrainState], prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adult, _ = run
    scores = {s["step"]: s["mean_dice"] for s in read_metrics(adult) if "mean_dice" in s}
    best = max(scores, key=lambda step: (scores[step], step))
    config = fine_tuning(prepared, adult)
    state = train_and_evaluate(config, tmp_path / "infant")
    loaded = checkpoints.load_variables(adult, make_model(config), 1)
    assert loaded.step == best
    for a, b in zip(
        jax.tree.leaves(state.params), jax.tree.leaves(loaded.variables["params"]), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-9)
    counts = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.dtype == np.int32]
    assert counts and all(int(count) == 1 for count in counts)
    printed = capsys.readouterr().err
    assert f"Starting from {adult}, step {best}" in printed
    assert "batch statistics" in printed


def test_a_checkpoint_of_another_network_is_refused(
    run: tuple[Path, TrainState], prepared: Path, tmp_path: Path
) -> None:
    adult, _ = run
    config = tiny_config(prepared, steps=1)
    config.model.growth_rate = 6
    config.init.checkpoint = str(adult)
    config.init.architecture = "config"
    with pytest.raises(InputError) as error:
        train_and_evaluate(config, tmp_path / "run")
    assert str(adult) in str(error.value) and len(str(error.value)) < 600
    assert not (tmp_path / "run").exists()


def test_a_run_takes_the_network_of_its_start_and_keeps_it_when_resumed(
    run: tuple[Path, TrainState], prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adult, _ = run
    config = fine_tuning(prepared, adult)
    expected = config.model.to_dict()
    assert expected["dropout_rate"] != default_config().model.dropout_rate
    config.model.growth_rate, config.model.block_layers = 6, (2, 1)
    workdir = tmp_path / "infant"
    train_and_evaluate(config, workdir)
    assert "config.model.growth_rate 4, config.model.block_layers (1, 1)" in capsys.readouterr().err
    assert config.model.growth_rate == 6
    # Dropout is no part of the architecture.
    assert load_config(workdir / "config.json").model.to_dict() == expected
    # The same command goes on, even if what it started from is gone.
    shutil.move(adult, tmp_path / "moved")
    try:
        assert int(train_and_evaluate(config, workdir).step) == 1
    finally:
        shutil.move(tmp_path / "moved", adult)


def test_parts_that_start_anew_have_the_config_s_network(
    run: tuple[Path, TrainState], prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adult, _ = run
    config = tiny_config(prepared, steps=1)
    config.model.growth_rate = 6
    config.init.checkpoint = str(adult)
    config.init.reinitialise = ("block", "transition", "upsample", "head_")
    # The run begins, and takes no step.
    monkeypatch.setattr(loop._Run, "train", lambda self, state: state)
    monkeypatch.setattr(loop, "calibrate", lambda *_: None)
    state = train_and_evaluate(config, tmp_path / "run")
    assert load_config(tmp_path / "run" / "config.json").model.growth_rate == 6
    loaded = checkpoints.load_variables(adult, make_model(tiny_config(prepared, steps=1)), 1)
    np.testing.assert_array_equal(
        state.params["stem_conv0"]["kernel"], loaded.variables["params"]["stem_conv0"]["kernel"]
    )


def test_a_mistyped_start_is_told_the_nearest(
    run: tuple[Path, TrainState], prepared: Path, tmp_path: Path
) -> None:
    adult, _ = run
    config = tiny_config(prepared, steps=1)
    for wrong, right in (("bundeld", "bundled"), (str(adult)[:-1], str(adult))):
        config.init.checkpoint = wrong
        with pytest.raises(InputError) as caught:
            train_and_evaluate(config, tmp_path / "run")
        assert wrong in str(caught.value) and str(caught.value).endswith(f"{right}?")


def test_damaged_and_missing_checkpoints_are_refused(
    run: tuple[Path, TrainState], tmp_path: Path
) -> None:
    adult, _ = run
    with input_error(tmp_path):
        open_predictor(tmp_path)
    damaged = tmp_path / "damaged"
    shutil.copytree(adult, damaged)
    for file in (damaged / "checkpoints").rglob("*"):
        if file.is_file() and "params" in file.parts and file.stat().st_size > 1000:
            file.write_bytes(file.read_bytes()[:500])
    with input_error(damaged / "checkpoints"):
        open_predictor(damaged)
    shutil.rmtree(damaged / "checkpoints")
    with input_error(damaged):
        open_predictor(damaged)


def test_a_config_of_others_runs_no_code(run: tuple[Path, TrainState], tmp_path: Path) -> None:
    adult, _ = run
    copy = tmp_path / "run"
    shutil.copytree(adult, copy)
    text = (copy / "config.json").read_text()
    (copy / "config.json").write_text(text.replace('"growth_rate"', '"growthrate"'))
    with input_error(copy / "config.json", "config.model.growth_rate"):
        read_run(copy)


def test_a_patch_larger_than_a_volume_is_refused(prepared: Path, tmp_path: Path) -> None:
    config = tiny_config(prepared, steps=1)
    config.patch.shape = (64, 64, 64)
    with input_error("64x64x64"):
        train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_the_run(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, real = tiny_config(prepared, steps=8), loop.map_step

    def map_step(*arguments: Any) -> Any:
        step = real(*arguments)

        def step_without_loss(state: TrainState, batch: Any) -> Any:
            state, metrics = step(state, batch)
            return state, {**metrics, "loss": np.nan * metrics["loss"]}

        return step_without_loss

    monkeypatch.setattr(loop, "map_step", map_step)
    with input_error("nan", "step 1", tmp_path / "run"):
        train_and_evaluate(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("mode", "minutes"),
    [
        ("jit", 0.0),
        ("pmap", 0.0),
        ("jit", 60.0),
        pytest.param("pmap", 60.0, marks=pytest.mark.slow),
        pytest.param("shard_map", 60.0, marks=pytest.mark.slow),
    ],
)
def test_a_run_compiles_its_step_once(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, minutes: float
) -> None:
    traced = []
    real = loop.make_train_step

    def counting(model: object, settings: object) -> object:
        step = real(model, settings)  # type: ignore[arg-type]

        def traced_step(state: TrainState, batch: object) -> object:
            traced.append(None)
            return step(state, batch)  # type: ignore[arg-type]

        return traced_step

    monkeypatch.setattr(loop, "make_train_step", counting)
    config = tiny_config(prepared, steps=2)
    config.patch.batch_size = 4
    config.parallel, config.minutes = mode, minutes
    config.average_decay = 0.9
    train_and_evaluate(config, tmp_path / "run")
    assert len(traced) == 1
    open_predictor(tmp_path / "run")  # On one device, whatever it was trained on.
