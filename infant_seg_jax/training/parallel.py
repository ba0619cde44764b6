"""How the per-device step is mapped over devices: `jit` on one, `pmap` over several.

Nothing else in training knows how many devices there are; steps and losses only ask for
`device_sum` and mark what is each device's own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from jax import Array, lax

from infant_seg_jax.data.patches import PatchBatch
from infant_seg_jax.errors import InputError

AXIS = "devices"


@dataclass(frozen=True)
class Devices:
    """The devices that share a batch, and the name of the axis they are mapped over, if any."""

    count: int
    axis_name: str | None


def choose_devices(mode: str, batch_size: int) -> Devices:
    """`"jit"`: one device; `"pmap"`: all local ones; `"auto"`: pmap if there are several.

    Raises:
        InputError: the batch does not divide by the number of devices.
    """
    count = 1 if mode == "jit" else jax.local_device_count()
    if batch_size % count:
        raise InputError(
            f"config.patch.batch_size is {batch_size}, expected a multiple of the {count} "
            "devices; change it, or train on one device with --config.parallel=jit."
        )
    return Devices(count, AXIS if mode == "pmap" or count > 1 else None)


def map_step(step: Callable[..., Any], devices: Devices) -> Callable[..., Any]:
    """Compile `step(state, batch)` for the devices: state replicated, batch as `shard` lays it."""
    if devices.axis_name is None:
        return jax.jit(step, donate_argnums=0)
    return jax.pmap(
        step,
        devices.axis_name,
        in_axes=(None, 0),
        out_axes=None,
        devices=jax.local_devices()[: devices.count],
    )


def shard(batch: PatchBatch, devices: Devices) -> PatchBatch:
    """Give the batch a leading axis of devices where the step is mapped over one."""
    if devices.axis_name is None:
        return batch
    return jax.tree.map(lambda x: x.reshape(devices.count, -1, *x.shape[1:]), batch)


def device_sum(value: Any, axis_name: str | None) -> Any:
    """The sum over all devices, known to each of them; the value itself on one device."""
    return value if axis_name is None else lax.psum(value, axis_name)


def device_share(value: Array, axis_name: str | None) -> Array:
    """One device's equal share of a value that all devices know: the shares add up to it."""
    if axis_name is None:
        return value
    return lax.pcast(value, axis_name, to="varying") / lax.axis_size(axis_name)


def device_copy(tree: Any, axis_name: str | None) -> Any:
    """Replicated values as each device's own.

    Without this, JAX sums their gradients over the devices on the way back, and a sum of our own
    would count every device's gradient once per device.
    """
    if axis_name is None:
        return tree
    return jax.tree.map(lambda x: lax.pcast(x, axis_name, to="varying"), tree)
