"""How to cut a prediction so that it fits into memory, at the least cost.

What a network takes is counted from the shapes of its own arrays, which tracing tells; the factors
are how many of them XLA keeps at once, on CPUs, rounded up.
"""

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, cast

import jax
import jax.numpy as jnp

from infant_seg_jax.data.formats.grid import Shape, times
from infant_seg_jax.models.factory import Network
from infant_seg_jax.models.layers import Conv
from infant_seg_jax.models.skip_densenet import SkipDenseNet3D
from infant_seg_jax.ops.resampling import upsampling_values
from infant_seg_jax.prediction.slabs import cut_for_stage

_ARRAYS = 7
"""Of each resolution of a network without stages, so many are kept at once."""

_FLOAT = 4
"""Bytes of a float32."""


@dataclass(frozen=True)
class WholePlan:
    """The whole volume at once, in slabs: `cores` is how thick, for each stage."""

    cores: tuple[int, ...]

    def __str__(self) -> str:
        thinnest = min(core * 2**level for level, core in enumerate(self.cores))
        return f"slabs of {thinnest} voxels"


@dataclass(frozen=True)
class WindowPlan:
    """Overlapping windows, `batch_size` at once."""

    window: Shape
    overlap: float
    batch_size: int

    def __str__(self) -> str:
        return f"overlapping windows of {times(self.window)} voxels"


@dataclass(frozen=True)
class OnePassPlan:
    """The whole volume at once, by a network that has no stages."""

    def __str__(self) -> str:
        return "one pass"


Plan = WholePlan | OnePassPlan | WindowPlan


def make_plan(
    model: Network,
    shape: Shape,
    channels: int,
    budget: int,
    windows: WindowPlan,
    *,
    only: bool = False,
) -> Plan:
    """How to predict a volume within `budget` bytes: whole if that fits, else by windows.

    Windows alone, if `only`. They take half the memory of the thinnest slabs. They are as `windows`
    says, or smaller and fewer at once if they must be; the least are taken even if they are too
    much.
    """
    if not only and isinstance(model, SkipDenseNet3D):
        if cores := plan_cores(model, shape, channels, budget):
            return WholePlan(cores)
    elif not only and plan_bytes(model, shape, channels, OnePassPlan()) <= budget:
        return OnePassPlan()
    plan = windows
    while plan_bytes(model, shape, channels, plan) > budget and (less := _fewer(model, plan)):
        plan = less
    return plan


def smaller(model: Network, plan: Plan, windows: WindowPlan) -> Plan | None:
    """The next plan to try where `plan` took more than there was; None after the least."""
    if isinstance(plan, WindowPlan):
        return _fewer(model, plan)
    if isinstance(plan, OnePassPlan):
        return windows
    if max(plan.cores) <= 2:
        return windows
    return WholePlan(tuple(max(2, core // 4 * 2) for core in plan.cores))


def _fewer(model: Network, plan: WindowPlan) -> WindowPlan | None:
    if plan.batch_size > 1:
        return replace(plan, batch_size=plan.batch_size // 2)
    unit = model.downsampling
    x, y, z = (max(unit, extent // 2 // unit * unit) for extent in plan.window)
    return None if (x, y, z) == plan.window else replace(plan, window=(x, y, z))


def plan_bytes(model: Network, shape: Shape, channels: int, plan: Plan) -> int:
    """The most memory that predicting a volume of `shape` takes."""
    if isinstance(plan, WholePlan):
        assert isinstance(model, SkipDenseNet3D)
        padded = padded_shape(model, shape)
        return max(
            stage_bytes(model, padded, channels, level, core)
            for level, core in enumerate(plan.cores)
        )
    if isinstance(plan, OnePassPlan):
        return pass_bytes(model, padded_shape(model, shape), channels)
    own = whole_plan(model, plan.window)
    windows = plan.batch_size * plan_bytes(model, plan.window, channels, own)
    weights = _FLOAT * math.prod(shape)
    return windows + map_bytes(model, shape) + weights


def whole_plan(model: Network, shape: Shape) -> WholePlan | OnePassPlan:
    """How a network sees a volume of a padded shape at once."""
    if isinstance(model, SkipDenseNet3D):
        return WholePlan(whole_cores(model, shape))
    return OnePassPlan()


def pass_bytes(model: Network, shape: Shape, channels: int) -> int:
    """The most memory that one pass of a network without stages takes.

    Args:
        model: the network.
        shape: of the volume, padded.
        channels: of the image.
    """
    item = jnp.dtype(model.dtype).itemsize
    _, convolved = _trace(cast(Any, model), _smallest(model, channels))
    widest: dict[int, int] = {}
    for *_, extent, width in (one.shape for one in convolved):
        widest[extent] = max(width, widest.get(extent, 0))
    levels = sum(width * (at / model.downsampling) ** 3 for at, width in widest.items())
    values = _ARRAYS * levels * item + (2 * channels + 2 * model.num_classes) * _FLOAT
    return int(values * math.prod(shape))


def map_bytes(model: Network, shape: Shape) -> int:
    """The memory that the probabilities of all classes take."""
    return model.num_classes * _FLOAT * math.prod(shape)


def plan_cores(
    model: SkipDenseNet3D, shape: Shape, channels: int, budget: int
) -> tuple[int, ...] | None:
    """The cores with which a volume takes the least work, of those that fit; None if none do."""
    padded, cores = padded_shape(model, shape), []
    for level, extent in enumerate(whole_cores(model, padded)):

        def work(core: int, level: int = level, extent: int = extent) -> int:
            slabs = cut_for_stage(model, level, extent, core)
            return slabs.count * slabs.length

        fitting = [
            core
            for core in (extent, *reversed(range(2, extent, 2)))
            if stage_bytes(model, padded, channels, level, core) <= budget
        ]
        if not fitting:
            return None
        cores.append(min(fitting, key=work))
    return tuple(cores)


def padded_shape(model: Network, shape: Shape) -> Shape:
    """The smallest shape around `shape` that the network can take."""
    x, y, z = (-(-extent // model.downsampling) * model.downsampling for extent in shape)
    return x, y, z


def whole_cores(model: SkipDenseNet3D, shape: Shape) -> tuple[int, ...]:
    """Cores with which every stage sees a volume of a padded shape at once."""
    return tuple(shape[0] // 2**level for level in range(len(model.block_layers) + 1))


def stage_bytes(model: SkipDenseNet3D, shape: Shape, channels: int, level: int, core: int) -> int:
    """The most memory that a stage takes: its input, output, logits, image and what lies between.

    Args:
        model: the network.
        shape: of the volume, padded.
        channels: of the image.
        level: 0 for the stem, else the block's.
        core: what the stage works on at once.
    """
    item, classes = jnp.dtype(model.dtype).itemsize, model.num_classes
    voxels, plane = math.prod(shape), shape[1] * shape[2] // 4**level
    slabs = cut_for_stage(model, level, shape[0] // 2**level, core)
    slab, seen = slabs.length * plane, min(slabs.length, slabs.core + 2) * plane
    stage = _stages(cast(Any, model), channels)[level]
    taken, made, handed_on = stage.taken, stage.made, stage.handed_on

    # Of the whole volume. The image is here and on the device; the logits are changed in place.
    whole = (2 * channels + classes) * _FLOAT * voxels
    whole += (taken * voxels // 8**level + handed_on * voxels // 8 ** (level + 1)) * item

    # Of a slab. Without oneDNN, a 3x3x3 convolution spreads one slice at a time into a matrix.
    trunk = made + 2 * stage.widest
    slice_columns = 0
    if not model.onednn:
        trunk += made if level == 0 else 0
        slice_columns = 9 * stage.widest + 3 * stage.narrowest
    share = classes * upsampling_values(2**level, model.onednn) if level else 0
    between = max(trunk * slab, made * slab + share * seen) + slice_columns * plane
    return whole + between * item


@dataclass(frozen=True)
class _Stage:
    """Channels of a stage: given to it, of its trunk, and of what the next one is given.

    `widest` and `narrowest` are those of its convolutions' outputs.
    """

    taken: int
    made: int
    handed_on: int
    widest: int
    narrowest: int


@cache
def _stages(model: Any, channels: int) -> tuple[_Stage, ...]:
    x, last, stages = _smallest(model, channels), len(model.block_layers), []
    for level in range(last + 1):
        trunk, convolved = _trace(model, x, level, method="trunk")
        pooled = x if level == last else _trace(model, trunk, level, method="pool")[0]
        stages.append(
            _Stage(
                taken=x.shape[-1],
                made=trunk.shape[-1],
                handed_on=0 if level == last else pooled.shape[-1],
                widest=max(one.shape[-1] for one in convolved),
                narrowest=min(one.shape[-1] for one in convolved),
            )
        )
        x = pooled
    return tuple(stages)


def _smallest(model: Network, channels: int) -> jax.ShapeDtypeStruct:
    """The shape of the smallest image that the network can take."""
    return jax.ShapeDtypeStruct((1, *(model.downsampling,) * 3, channels), jnp.float32)


@cache
def _trace(model: Any, x: Any, *stage: int, method: str = "__call__") -> tuple[Any, list[Any]]:
    """What a method makes of an array, and what its convolutions do: shapes, nothing computed."""

    def call(key: Any, x: Any) -> Any:
        return model.init_with_output(
            key,
            *stage,
            x,
            method=method,
            mutable=True,
            capture_intermediates=lambda module, _: isinstance(module, Conv),
        )

    made, variables = jax.eval_shape(call, jax.random.key(0), x)
    return made, jax.tree.leaves(variables.get("intermediates", {}))
