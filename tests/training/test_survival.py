"""Runs that are killed, stopped, crowded, short of room or fed damaged checkpoints."""

import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from infant_seg_jax.config import Config
from infant_seg_jax.data.prepared import open_prepared
from infant_seg_jax.errors import InputError
from infant_seg_jax.store import checkpoints
from infant_seg_jax.store.loading import open_predictor
from infant_seg_jax.store.run_folder import read_metrics
from infant_seg_jax.store.state import TrainState
from infant_seg_jax.training import loop
from infant_seg_jax.training.interruption import exclusive_lock
from infant_seg_jax.training.loop import train_and_evaluate
from infant_seg_jax.training.metrics_log import MetricsLog
from infant_seg_jax.training.validation import Scores
from tests.input_errors import input_error, is_one_sentence
from tests.training.tiny import tiny_config, tiny_flags

STEPS = 10


def surviving_config(prepared: Path) -> Config:
    config = tiny_config(prepared, STEPS)
    config.validate_every = 4
    config.save_every = 1
    config.average_decay = 0.9
    config.augmentation.gain = 0.2
    config.optimizer.accumulate = 2  # Half an update must survive, too.
    return config


@pytest.fixture(scope="module")
def whole(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainState]:
    """A run that nothing interrupted."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    return workdir, train_and_evaluate(surviving_config(prepared), workdir)


def assert_same_end(workdir: Path, whole: tuple[Path, TrainState]) -> None:
    """Parameters, statistics, optimizer, average and log are those of the run that was whole."""
    expected_folder, expected = whole
    with checkpoints.open_checkpoints(workdir, read_only=True) as manager:
        assert manager.latest_step() == STEPS
        found = checkpoints.restore_latest(manager, jax.tree.map(np.asarray, expected))
    a, b = jax.tree.leaves(found), jax.tree.leaves(expected)
    assert len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert read_metrics(workdir) == read_metrics(expected_folder)


def start(config: Config, workdir: Path, before: str = "true") -> subprocess.Popen[str]:
    """Start a run as a command line does, in a shell that does something `before`."""
    command = [sys.executable, "-m", "infant_seg_jax", "train", *tiny_flags(config)]
    return subprocess.Popen(
        ["bash", "-c", f'{before}; exec "$@"', "run", *command, f"--workdir={workdir}"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        # With as many devices as here, for the last bit depends on that, and a cache of compiled
        # programs that may be left broken.
        env={**os.environ, "XDG_CACHE_HOME": str(workdir.parent / "caches")},
    )


def steps_logged(workdir: Path) -> int:
    return max((line["step"] for line in read_metrics(workdir)), default=0)


def wait_for_step(process: subprocess.Popen[str], workdir: Path, step: int) -> None:
    while steps_logged(workdir) < step and process.poll() is None:
        time.sleep(0.01)


@pytest.mark.slow
def test_killed_at_random_points_it_ends_as_if_never(
    prepared: Path, whole: tuple[Path, TrainState], tmp_path: Path
) -> None:
    config, workdir = surviving_config(prepared), tmp_path / "run"
    draw = random.Random(0)
    for _ in range(3):
        process = start(config, workdir)
        wait_for_step(process, workdir, steps_logged(workdir) + draw.randint(1, 2))
        time.sleep(draw.random() * 0.3)  # In the middle of a step, a validation or a save.
        before = [p.name for p in (workdir / "checkpoints").glob("*") if p.name.isdecimal()]
        process.kill()
        process.communicate()
        left = [p.name for p in (workdir / "checkpoints").glob("*") if p.name.isdecimal()]
        assert not before or left  # Never all of what was finished.
    process = start(config, workdir)
    _, printed = process.communicate()
    assert process.returncode == 0, printed
    assert re.search(rf"{workdir} .*step \d+ of {STEPS}", printed)  # where it goes on
    assert_same_end(workdir, whole)


@pytest.mark.slow
def test_sigterm_saves_says_so_and_the_same_command_goes_on(
    prepared: Path, whole: tuple[Path, TrainState], tmp_path: Path
) -> None:
    config, workdir = surviving_config(prepared), tmp_path / "run"
    config.save_every = 0  # So that only the signal saves, before the first validation.
    process = start(config, workdir)
    wait_for_step(process, workdir, 1)
    process.send_signal(signal.SIGTERM)
    _, printed = process.communicate()
    assert process.returncode == 0, printed
    (sentence,) = [line for line in printed.splitlines() if "SIGTERM" in line]
    (step,) = [path.name for path in (workdir / "checkpoints").iterdir() if path.name.isdecimal()]
    assert f"step {step} of {STEPS}" in sentence and is_one_sentence(sentence)
    train_and_evaluate(config, workdir)
    assert_same_end(workdir, whole)


def test_second_process_in_a_run_folder_is_refused(prepared: Path, tmp_path: Path) -> None:
    with exclusive_lock(tmp_path / "run"):
        with input_error(tmp_path / "run"):
            train_and_evaluate(surviving_config(prepared), tmp_path / "run")
    with exclusive_lock(tmp_path / "run"):
        pass  # Free again.
    (tmp_path / "file").write_text("")
    with input_error(tmp_path / "file" / "run"):
        train_and_evaluate(surviving_config(prepared), tmp_path / "file" / "run")


def damage(checkpoint: Path) -> None:
    for file in checkpoint.rglob("*"):
        if file.is_file() and file.stat().st_size > 200:
            file.write_bytes(file.read_bytes()[:100])


def test_damaged_checkpoint_gives_way_to_the_one_before(
    prepared: Path,
    whole: tuple[Path, TrainState],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(whole[0], workdir)
    damage(workdir / "checkpoints" / str(STEPS))
    train_and_evaluate(surviving_config(prepared), workdir)
    printed = capsys.readouterr().err
    assert str(workdir / "checkpoints" / str(STEPS)) in printed
    assert f"step {STEPS - 1}" in printed
    assert_same_end(workdir, whole)
    for step in (path for path in (workdir / "checkpoints").glob("*") if path.name.isdecimal()):
        damage(step)
    with input_error(workdir / "checkpoints" / str(STEPS)):
        train_and_evaluate(surviving_config(prepared), workdir)


@pytest.mark.slow
def test_full_disk_is_one_sentence_and_earlier_checkpoints_stay(
    prepared: Path, whole: tuple[Path, TrainState], tmp_path: Path
) -> None:
    """Files may not grow beyond a few kB, which fails as a full disk does: in the middle."""
    workdir = tmp_path / "run"
    config = surviving_config(prepared)

    process = start(config, workdir, "trap '' XFSZ; ulimit -f 9")
    _, printed = process.communicate()
    assert process.returncode == 1, printed
    # Orbax's threads may complain as well, but there is a sentence.
    assert any("--workdir" in line and is_one_sentence(line) for line in printed.splitlines())
    assert not checkpoints.exist(workdir)
    train_and_evaluate(config, workdir)
    assert_same_end(workdir, whole)


def test_a_disk_without_room_for_a_checkpoint_is_one_sentence(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = SimpleNamespace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: full)
    with input_error(os.strerror(errno.ENOSPC), "--workdir"):
        train_and_evaluate(surviving_config(prepared), tmp_path / "run")
    assert not [path for path in (tmp_path / "run" / "checkpoints").iterdir() if path.is_dir()]


def test_a_log_on_a_full_disk_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with input_error(tmp_path, os.strerror(errno.ENOSPC)):
        with MetricsLog(tmp_path, 0) as log:
            log.write(1, {"loss": 0.5})
            monkeypatch.setattr(os, "fsync", no_space)  # as TensorBoard's events are
            log.write(2, {"loss": 0.5})


def no_space(file: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_loss_that_is_not_finite_names_step_subjects_and_checkpoint(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = surviving_config(prepared)
    config.validate_every, config.log_every = 5, 4
    real = loop.map_step

    def fail_at_three(step: object, devices: object) -> object:
        function = real(step, devices)  # type: ignore[arg-type]

        def stepped(state: TrainState, batch: object) -> object:
            now = int(state.step)
            state, metrics = function(state, batch)
            return state, metrics | ({"loss": np.float32("nan")} if now == 2 else {})

        return stepped

    monkeypatch.setattr(loop, "map_step", fail_at_three)
    with pytest.raises(InputError) as caught:
        train_and_evaluate(config, tmp_path / "run")
    message = str(caught.value)
    assert f"nan at step 3 of {tmp_path / 'run'}" in message
    assert all(part in message for part in ("sub-", "step 2"))
    # The step after it is not saved either.
    assert not (tmp_path / "run" / "checkpoints" / "3").exists()


def test_run_stops_when_validations_no_longer_improve(
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = surviving_config(prepared)
    config.validate_every, config.patience, config.save_every = 1, 2, 0
    scores = iter([0.1, 0.3, 0.2, 0.25, 0.9])
    tissues = {"dice_CSF": 0.0, "dice_GM": 0.0, "dice_WM": 0.0}

    def scripted(*_: object) -> Scores:
        score = next(scores)
        return Scores(tissues | {"mean_dice": score, "score": score})

    monkeypatch.setattr(loop, "validate", scripted)
    state = train_and_evaluate(config, tmp_path / "run")
    assert int(state.step) == 4
    assert "step 4" in capsys.readouterr().err
    # Run again, it has nothing to do.
    assert int(train_and_evaluate(config, tmp_path / "run").step) == 4
    # The best checkpoint is kept beside the two latest.
    with checkpoints.open_checkpoints(tmp_path / "run", read_only=True) as manager:
        assert {2, 3, 4} == set(manager.all_steps())


def test_average_is_kept_evaluated_and_chosen(
    prepared: Path, whole: tuple[Path, TrainState]
) -> None:
    workdir, state = whole
    lines = [line for line in read_metrics(workdir) if "mean_dice" in line]
    assert all(line["score"] == line["averaged_mean_dice"] for line in lines)
    averaged = open_predictor(workdir, "latest")
    raw = open_predictor(workdir, "latest", "raw")
    average = state.average
    assert average is not None
    for predictor, variables in ((averaged, average), (raw, state.variables)):
        for a, b in zip(
            jax.tree.leaves(predictor.variables["params"]),
            jax.tree.leaves(variables["params"]),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)


def test_run_folder_says_what_made_it(prepared: Path, whole: tuple[Path, TrainState]) -> None:
    record = json.loads((whole[0] / "run.json").read_text())
    data = record["data"]
    assert (data["path"], data["source"], data["schema"]) == (str(prepared), "phantom", "tissues")
    assert all(len(data[f"{which}_sha256"]) == 64 for which in ("manifest", "splits"))
    voxels = [case.spacing for case in open_prepared(prepared).split("train")]
    np.testing.assert_allclose(data["smallest_voxel_mm"], np.min(voxels, axis=0), atol=1e-4)
    np.testing.assert_allclose(data["largest_voxel_mm"], np.max(voxels, axis=0), atol=1e-4)
    assert record["git_commit"] is None or len(record["git_commit"].rstrip("+")) == 40
    assert record["processes"] == 1 and record["devices"]
