"""The most memory that a run has held, in its `memory.json`.

Not in `metrics.jsonl`, which is the same for a run that was interrupted and one that was not.
"""

from collections.abc import Mapping
from pathlib import Path

import jax

from infant_seg_jax.errors import InputError
from infant_seg_jax.files import read_json, write_json
from infant_seg_jax.prediction.memory import DEVICE, PROCESS, peak_memory

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
