"""What is measured while a run trains: a file, TensorBoard's events, experiment trackers."""

import json
import math
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
from tensorboardX.proto.event_pb2 import (
    Event,  # pyright: ignore[reportAttributeAccessIssue]
    SessionLog,  # pyright: ignore[reportAttributeAccessIssue]
)
from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.record_writer import RecordWriter

from infant_seg_jax.files import errors_of_writing, write_text
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
        self._workdir = workdir
        self._trackers = [start_tracker(name, workdir) for name in trackers]
        with errors_of_writing(workdir):
            self._file = path.open("a", encoding="utf-8")
            self._events = _EventFile(workdir / "tensorboard", from_step)

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Log the values of a step; numbers also to TensorBoard and the trackers.

        Raises:
            InputError: the disk is full.
        """
        if not self._writes:
            return
        numbers = {
            name: value
            for name, value in values.items()
            if isinstance(value, int | float) and math.isfinite(value)
        }
        with errors_of_writing(self._workdir):
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()
            self._events.write(step, numbers)
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
        for file in (self._file, self._events):
            with suppress(OSError):  # What could not be written is known by now.
                file.close()
        for tracker in self._trackers:
            tracker.finish()


class _EventFile:
    """TensorBoard's events, written at once: `SummaryWriter` has a thread, whose errors are lost.

    What earlier files say of steps from `from_step` on TensorBoard hides.
    """

    def __init__(self, folder: Path, from_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}"
        self._records = RecordWriter(str(folder / name))
        self._write(file_version="brain.Event:2")
        self._write(step=from_step, session_log=SessionLog(status=SessionLog.START))

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        scalars = [Summary.Value(tag=name, simple_value=x) for name, x in numbers.items()]
        self._write(step=step, summary=Summary(value=scalars))

    def close(self) -> None:
        self._records.close()

    def _write(self, **content: Any) -> None:
        event = Event(wall_time=time.time(), **content)
        self._records.write(event.SerializeToString())
        self._records.flush()
