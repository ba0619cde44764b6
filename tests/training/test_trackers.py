"""Trackers get the run's numbers through their libraries' own calls; stand-ins record them."""

import json
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboardX import SummaryWriter
from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

from infant_seg_jax.store.run_folder import read_metrics
from infant_seg_jax.training.metrics_log import MetricsLog
from tests.input_errors import input_error


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "adult"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"steps": 7}))
    return folder


def stand_in(name: str, calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def record(called: str) -> Any:
        def call(*arguments: Any, **named: Any) -> SimpleNamespace:
            calls.append((called, arguments, named))
            return SimpleNamespace(log=record("log"), finish=record("finish"))

        return call

    methods = {
        "wandb": ("init",),
        "mlflow": ("set_experiment", "start_run", "log_dict", "log_metrics", "end_run"),
    }[name]
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(**{m: record(m) for m in methods}))


def events_in(folder: Path) -> list[tuple[int, str, float, int]]:
    """Step, tag and value of each number in the event files, and step and status of each start."""
    found = []
    for path in folder.glob("events.out.tfevents.*"):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            assert event.wall_time > 0
            status = event.session_log.status
            found += [
                (event.step, value.tag, value.simple_value, 0) for value in event.summary.value
            ]
            found += [(event.step, "", 0.0, status)] if status else []
            at += 16 + length
    return found


def test_tensorboard_finds_what_its_own_writer_would_have_written(
    workdir: Path, tmp_path: Path
) -> None:
    with MetricsLog(workdir, 7) as log, SummaryWriter(str(tmp_path / "x"), purge_step=7) as theirs:
        for step in (8, 9):
            log.write(step, {"loss": 0.5 * step, "mean_dice": 0.25, "score": float("nan")})
            theirs.add_scalar("loss", 0.5 * step, step)
            theirs.add_scalar("mean_dice", 0.25, step)
    found = events_in(workdir / "tensorboard")
    assert found == events_in(tmp_path / "x") and len(found) == 5


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_numbers_reach_the_tracker(
    name: str, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    stand_in(name, calls, monkeypatch)
    with MetricsLog(workdir, 0, (name,)) as log:
        log.write(3, {"loss": 0.5, "mean_dice": float("nan")})
    assert [line["step"] for line in read_metrics(workdir)] == [3]
    numbers = {"loss": 0.5}  # What is no number is not a number there either.
    if name == "wandb":
        (begun, logged, finished) = calls
        assert begun[0] == "init" and begun[2]["config"] == {"steps": 7}
        assert begun[2]["name"] == "adult" and begun[2]["id"] == "runs-adult"
        assert logged == ("log", (numbers,), {"step": 3})
        assert finished[0] == "finish"
    else:
        assert [call[0] for call in calls] == [
            *("set_experiment", "start_run", "log_dict", "log_metrics", "end_run")
        ]
        assert calls[1][2] == {"run_name": "adult"}
        assert calls[2][1] == ({"steps": 7}, "config.json")
        assert calls[3][1:] == ((numbers,), {"step": 3})


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_missing_library_is_one_sentence(
    name: str, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with input_error(name, f"infant_seg_jax[{name}"):
        MetricsLog(workdir, 0, (name,))
