"""Cores as devices: where there is no accelerator, each core takes its share of a batch.

XLA without oneDNN runs much of a training step on one core, so that two devices with a patch each
are faster than one with both. A step equals the whole batch's on any number of devices.
"""

import contextlib
import os

import jax

from infant_seg_jax.compilation import may_have_onednn
from infant_seg_jax.cores import count_cores

_FLAG = "xla_force_host_platform_device_count"


def use_cores_as_devices(batch_size: int) -> None:
    """Have JAX see as many CPU devices as there are cores and a batch divides by, without oneDNN.

    To be called before JAX computes anything; later, or where a person has said how many there are
    to be, nothing changes. Accelerators are what they were.
    """
    number = jax.config.values.get("jax_num_cpu_devices", -1)
    if may_have_onednn():
        return
    chosen = _FLAG in os.environ.get("XLA_FLAGS", "") or number > 0
    if chosen or jax.distributed.is_initialized():
        return
    with contextlib.suppress(RuntimeError):  # JAX has its devices already.
        jax.config.update("jax_num_cpu_devices", count_devices(batch_size, count_cores()))


def count_devices(batch_size: int, cores: int) -> int:
    """The most devices, no more than cores, that get the same number of patches each."""
    return max(n for n in range(1, min(batch_size, cores) + 1) if batch_size % n == 0)
