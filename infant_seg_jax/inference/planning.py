"""How to cut a prediction so that it fits into memory, at the least cost.

What a stage of the network takes is counted from its arrays; the factors are how many of them XLA
keeps at once, on CPUs, rounded up.
"""

import math

import jax.numpy as jnp

from infant_seg_jax.data.formats.grid import Shape
from infant_seg_jax.inference.slabs import cut_for_stage
from infant_seg_jax.models.skip_densenet import BOTTLENECK, SkipDenseNet3D

_FLOAT = 4
"""Bytes of a float32."""


def padded_shape(model: SkipDenseNet3D, shape: Shape) -> Shape:
    """The smallest shape around `shape` that the network can take."""
    x, y, z = (-(-extent // model.downsampling) * model.downsampling for extent in shape)
    return x, y, z


def whole_cores(model: SkipDenseNet3D, shape: Shape) -> tuple[int, ...]:
    """Cores with which every stage sees a volume of this shape at once."""
    return tuple(shape[0] // 2**level for level in range(len(model.block_layers) + 1))


def plan_cores(
    model: SkipDenseNet3D, shape: Shape, channels: int, budget: int
) -> tuple[int, ...] | None:
    """The cores with which a volume takes the least work, of those that fit into `budget` bytes.

    None if there are none. `shape` is a padded one.
    """
    found = []
    for level, extent in enumerate(whole_cores(model, shape)):
        cores = [*range(2, extent, 2), extent]
        fitting = [
            core for core in cores if stage_bytes(model, shape, channels, level, core) <= budget
        ]
        if not fitting:
            return None

        def work(core: int, level: int = level, extent: int = extent) -> int:
            slabs = cut_for_stage(model, level, extent, core)
            return slabs.count * slabs.length

        found.append(min(reversed(fitting), key=work))
    return tuple(found)


def slabs_bytes(
    model: SkipDenseNet3D, shape: Shape, channels: int, cores: tuple[int, ...], count: int = 1
) -> int:
    """The most memory that `predict_slabs` takes for `count` volumes of a padded shape."""
    stages = [stage_bytes(model, shape, channels, level, core) for level, core in enumerate(cores)]
    return count * max(stages)


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
    taken, made, handed_on = _widths(model, channels)[level]

    # Arrays of a whole volume. The image is here and on the device; the logits are changed in place.
    whole = (2 * channels + classes) * _FLOAT * voxels
    whole += (taken * voxels // 8**level + handed_on * voxels // 8 ** (level + 1)) * item

    # Of a slab. A 3x3x3 convolution spreads one slice at a time into a matrix.
    bottleneck, growth = BOTTLENECK * model.growth_rate, model.growth_rate
    if level == 0:
        trunk, slice_columns, share = 4 * made, 9 * made + 3 * made, 0
    else:
        trunk, slice_columns = 2 * made + 3 * bottleneck, 9 * bottleneck + 3 * growth
        # An upsampling's taps, `(stride + 2) ** 3` for `stride ** 3` voxels, added up axis by axis.
        share = classes * (2 * (2**level + 2) ** 3 + 5 * 8**level)
    between = max(trunk * slab, made * slab + share * seen) + slice_columns * plane
    return whole + between * item


def _widths(model: SkipDenseNet3D, channels: int) -> list[tuple[int, int, int]]:
    """Channels that each stage is given, works up to, and hands on."""
    widths = [(channels, model.stem_features, model.stem_features)]
    for layers in model.block_layers:
        taken = widths[-1][2]
        made = taken + layers * model.growth_rate
        widths.append((taken, made, made // 2))
    widths[-1] = (*widths[-1][:2], 0)
    return widths
