"""The most memory that a run has held, in its `memory.json`.

Not in `metrics.jsonl`, which is the same for a run that was interrupted and one that was not.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import jax

from infant_seg_jax.errors import InputError
from infant_seg_jax.files import read_json, write_json

DEVICE, PROCESS = "device_bytes", "process_bytes"
_NAME = "memory.json"


def record_peak_memory(workdir: Path) -> None:
    """Note what has been held so far, if it is more than before; the first process does for all."""
    if jax.process_index() == 0:
        before = read_peak_memory(workdir)
        found = {key: max(size, before.get(key, 0)) for key, size in peak_memory().items()}
        write_json(workdir / _NAME, found)


def read_peak_memory(workdir: Path) -> Mapping[str, int]:
    """What was noted, in bytes, by `DEVICE` and `PROCESS`; empty where nothing was."""
    path = workdir / _NAME
    try:
        found = read_json(path) if path.exists() else {}
    except InputError:
        return {}
    items = found.items() if isinstance(found, dict) else ()
    return {key: size for key, size in items if key in (DEVICE, PROCESS) and isinstance(size, int)}


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
    return {PROCESS: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
