"""How the per-device step is mapped over devices: `jit` on one, `pmap` or `shard_map` over all.

Nothing else in training knows how many devices or processes there are; steps and losses only ask
for `device_sum` and mark what is each device's own, and the data path asks for `local_positions`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from infant_seg_jax.compilation import has_onednn, jit
from infant_seg_jax.data.patches import PatchBatch
from infant_seg_jax.errors import InputError

AXIS = "devices"


@dataclass(frozen=True)
class Devices:
    """The devices, of all processes, that share a batch.

    Attributes:
        mode: `"jit"`, `"pmap"` or `"shard_map"`.
        count: how many there are.
        local_count: how many of them are this process's.
        process: this process's number.
        onednn: whether their programs are compiled with oneDNN.
    """

    mode: str
    count: int
    local_count: int
    process: int
    onednn: bool

    @property
    def axis_name(self) -> str | None:
        """The axis that steps are mapped over; None on one device."""
        return None if self.mode == "jit" else AXIS

    @property
    def mesh(self) -> Mesh:
        """All devices in a row."""
        return Mesh(np.array(jax.devices()[: self.count]), (AXIS,))


def choose_devices(mode: str, batch_size: int) -> Devices:
    """`"jit"`: one device; `"pmap"`, `"shard_map"`: all; `"auto"`: pmap if there are several.

    Raises:
        InputError: the batch does not divide by the number of devices, or one device is asked for
            in several processes.
    """
    if mode == "auto":
        mode = "jit" if jax.device_count() == 1 else "pmap"
    if mode == "jit":
        if jax.process_count() > 1:
            raise InputError(
                f"config.parallel is jit, one device, but {jax.process_count()} processes train "
                "together: choose pmap or shard_map."
            )
        return Devices(mode, 1, 1, 0, has_onednn())
    count = jax.device_count()
    if batch_size % count:
        raise InputError(
            f"config.patch.batch_size is {batch_size}, expected a multiple of the {count} "
            "devices; change it, or train on one device with --config.parallel=jit."
        )
    # `pmap` takes no options of the compiler.
    onednn = mode != "pmap" and has_onednn()
    return Devices(mode, count, jax.local_device_count(), jax.process_index(), onednn)


def local_positions(devices: Devices, batch_size: int) -> range:
    """Which patches of the whole batch this process makes; the processes' ranges make up all."""
    per_process = batch_size // devices.count * devices.local_count
    return range(devices.process * per_process, (devices.process + 1) * per_process)


def map_step(step: Callable[..., Any], devices: Devices) -> Callable[..., Any]:
    """Compile `step(state, batch)` for the devices: state replicated, batch as `shard` lays it.

    The state that goes in is used up: its memory is what comes out is written to.
    """
    if devices.mode == "jit":
        return jit(step, onednn=devices.onednn, donate_argnums=0)
    if devices.mode == "shard_map":
        specs = PartitionSpec(), PartitionSpec(AXIS)
        # Unchecked, as in pmap: the scans in our convolutions start from constants, which are the
        # same on all devices, and go on with values that are not.
        mapped = jax.shard_map(
            step,
            mesh=devices.mesh,
            in_specs=specs,
            out_specs=PartitionSpec(),
            check_vma=False,
        )
        return jit(mapped, onednn=devices.onednn, donate_argnums=0)
    return jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=None)


def shard(batch: PatchBatch, devices: Devices) -> PatchBatch:
    """Lay this process's part of a batch out for its devices.

    To one device it is sent already, by the thread that made it: the step need not wait for that.
    """
    if devices.mode == "jit":
        return jax.device_put(batch)
    if devices.mode == "shard_map":
        sharding = NamedSharding(devices.mesh, PartitionSpec(AXIS))
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)
    return jax.tree.map(lambda x: x.reshape(devices.local_count, -1, *x.shape[1:]), batch)


def replicate(tree: Any, devices: Devices) -> Any:
    """Place values that every process has alike where the mapped step leaves its state.

    Placed elsewhere, the first step would be compiled for it, and the second one once more.
    """
    one_process = jax.process_count() == 1
    if devices.mode == "jit" or (devices.mode == "pmap" and not one_process):
        return tree
    return _on_all(tree, devices.mesh)


def as_global(tree: Any) -> Any:
    """A replicated state as arrays that all processes own together, as Orbax saves them.

    In several processes what `pmap` returns belongs to one process alone.
    """
    if jax.process_count() == 1:
        return tree
    return _on_all(tree, Mesh(np.array(jax.devices()), (AXIS,)))


def _on_all(tree: Any, mesh: Mesh) -> Any:
    """Values that every process has alike, replicated over the devices of a mesh."""
    sharding = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, local_value(x)), tree
    )


def local_value(value: Any) -> np.ndarray:
    """A replicated array, of however many devices and processes, as this process holds it."""
    if isinstance(value, jax.Array):
        return np.asarray(value.addressable_data(0))
    return np.asarray(value)


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
