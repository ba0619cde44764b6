"""How much memory there is, how much a prediction takes, and how to make do with less."""

import math
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import psutil
from jax import Device

from infant_seg_jax.data.formats.grid import Shape
from infant_seg_jax.inference.slabs import cut_for_stage
from infant_seg_jax.models.skip_densenet import BOTTLENECK, SkipDenseNet3D

FLOAT = 4
"""Bytes of a float32."""

_SHARE = 0.8
"""How much of what is free is taken, since others on the machine need some, too."""

_CGROUPS = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60


def available_memory(max_memory: int | None = None, device: Device | None = None) -> int:
    """Bytes that a prediction may take beyond what the process has already.

    `max_memory` is what the process may take in all, of the device's own memory where it has any,
    else of the machine's. None: most of what is free there; in a container, of what it may have.
    """
    device = device or jax.local_devices()[0]
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        used = stats.get("bytes_in_use", 0)
        limit = stats["bytes_limit"] if max_memory is None else max_memory
        return max(0, limit - used)
    if max_memory is not None:
        return max(0, max_memory - psutil.Process().memory_info().rss)
    free = min(psutil.virtual_memory().available, *_left_in_cgroups(_CGROUPS), _UNLIMITED)
    return int(_SHARE * free)
