"""Where a step's time goes: what the profiler saw of the device, summed by kind of operation."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measuring import Found, least

KINDS = {
    "copy": r"nchwtonhwc|nhwctonchw|memcpy|memset",
    "convolution": r"conv(?!ert)|fprop|dgrad|wgrad|implicit_gemm|winograd",
    "product": r"gemm|gemv|dot|matmul|cublas|nvjet",
    "transposition": r"transpose|copy",
    "reduction": r"reduce",
}
"""The first of these whose pattern is found in an operation's name is its kind."""
OTHER = "other"
LARGEST = 60


def kind_of(name: str) -> str:
    """The kind of an operation, by the names of it and of its kernel."""
    found = (kind for kind, pattern in KINDS.items() if re.search(pattern, name.lower()))
    return next(found, OTHER)


def run_profile(seconds: float, **settings: Any) -> Found:
    """Milliseconds of a step of ours by kind, and of its largest operations.

    Of as many steps as take about so many `seconds`, or one.
    """
    import jax
    from network import our_work

    act = our_work(**settings)
    act()
    _, once = least(act)
    steps = max(1, round(seconds / once["seconds"]))
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    operations: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            for _ in range(steps):
                act()
        for name, milliseconds in read_operations(Path(folder)):
            operations[name] = operations.get(name, 0.0) + milliseconds / steps
    kinds = dict.fromkeys([*KINDS, OTHER], 0.0)
    for name, milliseconds in operations.items():
        kinds[kind_of(name)] += milliseconds
    largest = sorted(operations, key=lambda name: -operations[name])[:LARGEST]
    return {
        "seconds": sum(kinds.values()) / 1000,
        "also": {f"{kind} ms": round(value, 2) for kind, value in kinds.items()},
        "operations": {name: round(operations[name], 3) for name in largest},
    }


def read_operations(folder: Path) -> Iterator[tuple[str, float]]:
    """Each operation that a device ran, by name, and the milliseconds that it took.

    Of a GPU these are its streams' kernels; of a CPU what XLA says of its own operations, among
    them loops and what is in them.
    """
    from jax.profiler import ProfileData

    for path in folder.rglob("*.xplane.pb"):
        for plane in ProfileData.from_file(str(path)).planes:
            on_gpu = plane.name.startswith("/device:GPU")
            if not on_gpu and plane.name != "/host:CPU":
                continue
            for line in plane.lines:
                if on_gpu and not line.name.startswith("Stream"):
                    continue
                for event in line.events:
                    operation = next((str(v) for k, v in event.stats if k == "hlo_op"), "")
                    if event.name.startswith("end: ") or not (on_gpu or operation):
                        continue
                    kernel = event.name if event.name != operation else ""
                    yield f"{operation} {kernel}".strip()[:160], event.duration_ns / 1e6
