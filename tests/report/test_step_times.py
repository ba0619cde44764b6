"""The time of a step, by TensorBoard's own files."""

from pathlib import Path

import pytest
from tensorboardX import SummaryWriter

from infant_seg_jax.report.pages.step_times import seconds_per_step


def write(run: Path, times: dict[int, float], start: float = 1000.0) -> Path:
    """The events of a run whose losses were logged at these times."""
    with SummaryWriter(str(run / "tensorboard"), filename_suffix=f".{start:.0f}") as writer:
        for step, seconds in times.items():
            writer.add_scalar("learning_rate", 0.1, step, walltime=0.0)
            writer.add_scalar("loss", 1.0, step, walltime=start + seconds)
    (path,) = (run / "tensorboard").glob(f"*.{start:.0f}")
    return path


def test_time_is_the_median_between_two_logged_losses(tmp_path: Path) -> None:
    write(tmp_path, {10: 0.0, 20: 5.0, 30: 10.0, 40: 115.0, 50: 120.0})  # A validation at 30.
    assert seconds_per_step(tmp_path) == pytest.approx(0.5)


def test_the_time_between_two_starts_of_a_run_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, {1: 0.0, 2: 2.0})
    write(tmp_path, {3: 0.0, 4: 2.0}, start=90000.0)
    assert seconds_per_step(tmp_path) == pytest.approx(2.0)


def test_a_file_that_was_cut_short_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = write(tmp_path, {1: 0.0, 2: 2.0, 3: 4.0, 4: 60.0})
    path.write_bytes(path.read_bytes()[:-10])
    assert seconds_per_step(tmp_path) == pytest.approx(2.0)


def test_a_run_without_times_has_none(tmp_path: Path) -> None:
    assert seconds_per_step(tmp_path) is None
    path = write(tmp_path, {1: 0.0})
    assert seconds_per_step(tmp_path) is None
    path.write_bytes(b"\xff" * 1000)
    assert seconds_per_step(tmp_path) is None
