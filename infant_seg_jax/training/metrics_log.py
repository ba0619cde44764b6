"""What is measured while a run trains: a file, TensorBoard's events, experiment trackers."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
from tensorboardX import SummaryWriter

from infant_seg_jax.files import write_text
from infant_seg_jax.store.run_folder import read_metrics
from infant_seg_jax.training.trackers import start_tracker


class MetricsLog:
    """Appends measurements to `metrics.jsonl`, to TensorBoard's events and to trackers.

    Of several processes that train together the first logs for all.
    """

    def __init__(self, workdir: Path, from_step: int, trackers: Sequence[str] = ()) -> None:
        """Continue the log of a run resumed at `from_step`; what it said of later steps goes.

        Raises:
            InputError: a tracker's library is not installed.
        """
        self._writes = jax.process_index() == 0
        if not self._writes:
            return
        path = workdir / "metrics.jsonl"
        kept = [line for line in read_metrics(workdir) if line["step"] <= from_step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._trackers = [start_tracker(name, workdir) for name in trackers]
        self._file = path.open("a", encoding="utf-8")
        self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=from_step)

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Log the values of a step; numbers also to TensorBoard and the trackers."""
        if not self._writes:
            return
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        numbers = {
            name: value
            for name, value in values.items()
            if isinstance(value, int | float) and math.isfinite(value)
        }
        for name, value in numbers.items():
            self._events.add_scalar(name, value, step)
        for tracker in self._trackers:
            tracker.log(step, numbers)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._writes:
            return
        self._file.close()
        self._events.close()
        for tracker in self._trackers:
            tracker.finish()
