"""The wheel, installed alone, from an empty folder: what a stranger gets."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infant_seg_jax.data.phantom import write_cohort

REPOSITORY = Path(__file__).parents[1]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def infant_seg(tmp_path: Path) -> Run:
    """Runs the wheel's command in the folder `empty`."""
    pytest.importorskip("hatchling")
    build = ["hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run([sys.executable, "-m", *build], cwd=REPOSITORY, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    install = ["pip", "install", "--quiet", "--no-deps", "--no-index", f"--target={site}"]
    subprocess.run([sys.executable, "-m", *install, str(wheel)], check=True)
    (tmp_path / "empty").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(site)}
    del environment["XLA_FLAGS"]  # the tests' four devices

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "infant_seg_jax", *arguments],
            cwd=tmp_path / "empty",
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.slow
def test_the_wheel_labels_prepares_trains_resumes_and_evaluates(
    infant_seg: Run, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"

    def done(*arguments: str) -> subprocess.CompletedProcess[str]:
        result = infant_seg(*arguments)
        assert result.returncode == 0, result.stderr
        return result

    write_cohort(empty / "scans", range(5), shape=(48, 48, 48))
    scan = "scans/sub-000/sub-000_T1w.nii.gz"
    assert (empty / done("predict", f"--input={scan}", "--output=labels").stdout.strip()).is_file()

    # What it says to do next is what works next.
    printed = done("prepare", "--source=phantom", "--input=scans", "--output=prepared").stdout
    (command,) = re.findall(r"^Next: infant-seg (.*)$", printed, re.MULTILINE)
    train = [
        *(*shlex.split(command), "--config.steps=3", "--config.validate_every=2"),
        *("--config.patch.shape=(16, 16, 16)", "--config.patch.batch_size=1"),
    ]
    printed = done(*train).stdout
    run = empty / "runs" / "prepared"
    assert (run / "checkpoints" / "3").is_dir()
    assert "Resuming runs/prepared at step 3 of 3" in done(*train).stderr
    (command,) = re.findall(r"^Next: infant-seg (.*) --input", printed, re.MULTILINE)
    assert empty / done(*shlex.split(command), f"--input={scan}", "--output=tuned").stdout.strip()
    done("evaluate", f"--checkpoint={run}", "--data=prepared", "--output=scores")
    assert (empty / "scores" / "metrics.csv").is_file()

    wrong = infant_seg("train", "--config=ibsr-cpu", "--workdir=w")
    assert wrong.returncode == 2 and "these names: ibsr_cpu, " in wrong.stderr
