"""When each step was logged, by TensorBoard's event files, of which every event has a time.

A file is a sequence of records: eight bytes of length, four of checksum, the event as a protocol
buffer, and four of checksum (https://www.tensorflow.org/tutorials/load_data/tfrecord). Checksums
are not compared: a file that was cut short is read as far as it goes.
"""

import statistics
import struct
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

_MAX_BYTES = 2**26
_LENGTH = struct.Struct("<Q")


def seconds_per_step(run: Path) -> float | None:
    """The median over a run's logged losses; None if fewer than two were logged.

    What lies between two losses may include a validation; the median is without, if validations
    are rarer than losses.
    """
    rates = []
    for path in sorted((run / "tensorboard").glob("events.out.tfevents.*")):
        times = dict(_loss_times(path))  # Each start of a run writes a file of its own.
        steps = sorted(times)
        rates += [
            (times[after] - times[before]) / (after - before)
            for before, after in zip(steps, steps[1:], strict=False)
        ]
    return statistics.median(rates) if rates else None


def _loss_times(path: Path) -> Iterator[tuple[int, float]]:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES)
    except OSError:
        return
    at = 0
    while at + 12 <= len(content):
        (length,) = _LENGTH.unpack_from(content, at)
        record = content[at + 12 : at + 12 + length]
        at += 16 + length
        if len(record) < length:
            return
        try:
            event = Event.FromString(record)
        except DecodeError:
            return
        if any(value.tag == "loss" for value in event.summary.value):
            yield event.step, event.wall_time
