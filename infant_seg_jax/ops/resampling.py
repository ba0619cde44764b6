"""Learned changes of resolution, written as matrix products.

A convolution whose kernel is as large as its stride touches every voxel once, and a transposed
convolution whose kernel is two voxels larger than its stride overlaps its neighbours by one voxel
only. Both are one matrix product and cheap rearrangements, on any platform, where XLA's general
forms are slow.
"""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float


def downsample(
    x: Float[Array, "n d h w c"], kernel: Float[Array, "2 2 2 c k"]
) -> Float[Array, "n d//2 h//2 w//2 k"]:
    """A 2x2x2 convolution of stride 2. D, H and W must be even."""
    n, d, h, w, c = x.shape
    blocks = x.reshape(n, d // 2, 2, h // 2, 2, w // 2, 2, c)
    blocks = blocks.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(n, d // 2, h // 2, w // 2, 8 * c)
    return blocks @ kernel.reshape(8 * c, -1)


def upsample(
    x: Float[Array, "n d h w c"],
    kernel: Float[Array, "size size size group_channels k"],
    stride: int,
) -> Float[Array, "n d*{stride} h*{stride} w*{stride} k"]:
    """A grouped transposed convolution by `stride`, with kernel `stride + 2` and padding 1.

    Tap `t` of the kernel adds to the output at `stride * i + t - 1`, as in PyTorch's
    `ConvTranspose3d(kernel_size=stride + 2, stride=stride, padding=1)`. The channels are split
    into `c / kernel.shape[3]` groups, as are the outputs.
    """
    size, outputs = kernel.shape[0], kernel.shape[-1]
    groups = x.shape[-1] // kernel.shape[3]
    grouped = x.reshape(*x.shape[:-1], groups, -1)
    taps = kernel.reshape(size, size, size, -1, groups, outputs // groups)
    spread = jnp.einsum("ndhwgc,ijlcgo->ndihjwlgo", grouped, taps)
    for axis in (5, 3, 1):
        spread = _overlap_add(spread, axis, stride)
    return spread.reshape(*spread.shape[:-2], outputs)


def _overlap_add(spread: Array, axis: int, stride: int) -> Array:
    """Join axis `axis` (voxels) and the next (taps): the two rim taps add to the neighbours."""
    taps = axis + 1
    before = lax.slice_in_dim(spread, 0, 1, axis=taps)
    core = lax.slice_in_dim(spread, 1, stride + 1, axis=taps)
    after = lax.slice_in_dim(spread, stride + 1, stride + 2, axis=taps)
    joined = core + _shift(before, axis, -1, stride) + _shift(after, axis, 1, stride)
    return joined.reshape(*joined.shape[:axis], -1, *joined.shape[taps + 1 :])


def _shift(rim: Array, axis: int, by: int, stride: int) -> Array:
    """Move a rim to the neighbouring block, and to that block's far (-1) or near (+1) end."""
    configuration = [(0, 0, 0)] * rim.ndim
    configuration[axis] = (by, -by, 0)  # A negative padding drops what leaves the volume.
    configuration[axis + 1] = (0, stride - 1, 0) if by > 0 else (stride - 1, 0, 0)
    return lax.pad(rim, jnp.zeros((), rim.dtype), configuration)
