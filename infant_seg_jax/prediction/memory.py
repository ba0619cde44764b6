"""How much memory a prediction may take, on the device or on the machine, and has taken."""

import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import psutil

DEVICE, PROCESS = "device_bytes", "process_bytes"

_INEXACT = 2**20
"""Bytes that Linux' two numbers of what a process has held may differ by."""

_COUNTED = 0.9
"""How much of what is allowed may be planned with; the rest is for what is not counted."""

_SHARE = 0.8
"""How much of what the machine has free is taken, since others need some, too."""


def available_memory(max_memory: int | None = None, device: Any = None) -> int:
    """Bytes that a prediction may take beyond what the process holds already.

    Args:
        max_memory: what the process may hold in all, of the device's own memory where that has any,
            else of the machine's. None: most of what is free there.
        device: a JAX device; None: the first one.
    """
    statistics = (device or jax.local_devices()[0]).memory_stats() or {}
    if "bytes_limit" in statistics:
        limit = statistics["bytes_limit"] if max_memory is None else max_memory
        return max(0, int(_COUNTED * limit) - statistics.get("bytes_in_use", 0))
    if max_memory is not None:
        return max(0, int(_COUNTED * max_memory) - psutil.Process().memory_info().rss)
    return int(_SHARE * min([psutil.virtual_memory().available, *_left_in_groups()]))


def _left_in_groups(
    groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> Iterator[int]:
    """What is left to the process by each limit of its control groups, Linux' way of containers.

    Both of their versions are read. A group's limit holds for all groups within it, and a container
    may show its own group as the root.
    """
    try:
        lines = groups.read_text(encoding="utf-8").splitlines()
    except OSError:
        return  # Not Linux.
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, names = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            top = root / "memory"
        else:
            continue
        own = top / path.strip("/")
        for group in (own, *own.parents[: len(own.parts) - len(top.parts)]):
            try:
                limit, used = (int((group / name).read_text()) for name in names[:2])
                statistics = (group / "memory.stat").read_text().split()
            except (OSError, ValueError):
                continue  # No such group from here, or no limit: "max".
            # Files' pages that nobody has asked for lately count as used, but make room.
            cached = dict(zip(statistics[::2], statistics[1::2], strict=False)).get(names[2], "0")
            yield max(0, limit - used + int(cached))


def peak_memory() -> dict[str, int]:
    """The most memory held so far, in bytes: of one of this process's devices, or of the process.

    Devices with memory of their own, as GPUs and TPUs are, tell it; that of the one which held most
    is under the key `DEVICE`. For others, as a CPU is, it is all that the process has held, under
    `PROCESS`: that of the data, too. Empty where neither is known.
    """
    statistics = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [found["peak_bytes_in_use"] for found in statistics if "peak_bytes_in_use" in found]
    if peaks:
        return {DEVICE: max(peaks)}
    try:
        import resource  # Not on Windows.
    except ImportError:
        return {}
    unit = 1 if sys.platform == "darwin" else 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    # To Linux, what another program has held that became this one counts there, too.
    with suppress(OSError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        if own := re.search(r"VmHWM:\s*(\d+) kB", status):
            most = min(most, 1024 * int(own[1]) + _INEXACT)
    return {PROCESS: most}


def more_than_allowed(max_memory: int | None) -> str:
    """A sentence if more memory has been held than `max_memory` allows; else nothing."""
    peak = max(peak_memory().values(), default=0)
    if max_memory is None or peak <= max_memory:
        return ""
    return (
        f"Up to {peak / 1e9:.2f} GB of memory were used, more than the {max_memory / 1e9:.2f} GB "
        "of --max_memory: the largest of these scans needs that much with this network."
    )
