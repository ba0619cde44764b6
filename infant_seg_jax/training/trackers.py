"""Experiment trackers beside our own log: Weights & Biases and MLflow, extras both, off by default.

Neither is imported unless `config.trackers` names it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from infant_seg_jax.errors import InputError
from infant_seg_jax.files import read_json

PROJECT = "infant_seg_jax"


@dataclass(frozen=True)
class Tracker:
    """Where numbers go: `log(step, numbers)`, and `finish()` once."""

    log: Callable[[int, Mapping[str, float]], None]
    finish: Callable[[], None]


def start_tracker(name: str, workdir: Path) -> Tracker:
    """Begin, or go on with, the tracking of a run folder by `"wandb"` or `"mlflow"`.

    The run is named after its folder, and its config.json is recorded with it. Where it goes is up
    to the library's own environment variables (WANDB_MODE, MLFLOW_TRACKING_URI).

    Raises:
        InputError: the library is not installed.
    """
    try:
        library = import_module(name)
    except ImportError as error:
        raise InputError(
            f"config.trackers names {name}, which is not installed: run `pip install "
            f"'infant_seg_jax[{name}]'`, or leave it out."
        ) from error
    config = read_json(workdir / "config.json")
    return _STARTS[name](library, workdir, config)


def _start_wandb(wandb: Any, workdir: Path, config: Mapping[str, Any]) -> Tracker:
    run = wandb.init(
        project=PROJECT,
        name=workdir.name,
        id=_identifier(workdir),
        resume="allow",
        dir=workdir,
        config=config,
    )
    return Tracker(lambda step, numbers: run.log(dict(numbers), step=step), run.finish)


def _start_mlflow(mlflow: Any, workdir: Path, config: Mapping[str, Any]) -> Tracker:
    mlflow.set_experiment(PROJECT)
    mlflow.start_run(run_name=workdir.name)
    mlflow.log_dict(config, "config.json")
    return Tracker(
        lambda step, numbers: mlflow.log_metrics(dict(numbers), step=step), mlflow.end_run
    )


def _identifier(workdir: Path) -> str:
    """A name for the run by which it is found again when it is resumed."""
    return "-".join(workdir.absolute().parts[-2:]).replace("/", "")


_STARTS = {"wandb": _start_wandb, "mlflow": _start_mlflow}
