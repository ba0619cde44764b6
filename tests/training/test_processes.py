"""Two processes of two devices each, joined over loopback, train what one device trains."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from infant_seg_jax.config import Config
from infant_seg_jax.store.loading import open_predictor
from infant_seg_jax.store.run_folder import read_metrics
from infant_seg_jax.training.loop import train_and_evaluate
from infant_seg_jax.training.processes import join_processes
from tests.input_errors import input_error
from tests.training.tiny import tiny_config, tiny_flags

LAUNCH = Path(__file__).parents[2] / "launch"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def launch(config: Config, workdir: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PROCESSES": "2",
        "PORT": str(free_port()),
        "INFANT_SEG": str(Path(sys.executable).with_name("infant-seg")),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    return subprocess.run(
        [str(LAUNCH / "processes.sh"), *tiny_flags(config), f"--workdir={workdir}"],
        env=environment,
        cwd=LAUNCH.parent,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["pmap", "shard_map"])
def test_two_processes_train_what_one_device_trains(
    prepared: Path, tmp_path: Path, mode: str
) -> None:
    config = tiny_config(prepared, steps=3)
    config.patch.batch_size = 4
    config.validate_every = 2
    config.optimizer.name = "sgd"  # Adam's first steps magnify rounding in gradients near zero.
    config.average_decay = 0.9
    config.minutes = 60.0 if mode == "pmap" else 0.0  # Which steps are over long before.
    one = train_and_evaluate(config, tmp_path / "one")
    config.parallel = mode
    result = launch(config, tmp_path / "two")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count(": loss ") == 3  # One of the two says it.

    expected, found = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    assert [line.keys() for line in found] == [line.keys() for line in expected]
    for line, other in zip(expected, found, strict=True):
        assert list(other.values()) == pytest.approx(list(line.values()), rel=1e-3, abs=2e-3)
    two = open_predictor(tmp_path / "two", "latest")
    average = one.average
    assert average is not None
    for name in ("params", "batch_stats"):
        for a, b in zip(
            jax.tree.leaves(average[name]), jax.tree.leaves(two.variables[name]), strict=True
        ):
            np.testing.assert_allclose(b, a, atol=1e-4, rtol=1e-3)

    # One process goes on from the checkpoint of two.
    config.steps = 3
    config.parallel = "jit"
    assert int(train_and_evaluate(config, tmp_path / "two").step) == 3


@pytest.mark.parametrize(
    "given", [("localhost:1", None, None), (None, 2, 0), ("localhost:1", 2, None)]
)
def test_half_an_address_is_refused(given: tuple[str | None, int | None, int | None]) -> None:
    with input_error("--coordinator", "--processes", "--process"):
        join_processes(*given)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("script", sorted(LAUNCH.glob("*.sh")), ids=lambda path: path.name)
def test_launch_scripts_are_sound(script: Path) -> None:
    result = subprocess.run(
        ["shellcheck", str(script)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout
    assert os.access(script, os.X_OK)
