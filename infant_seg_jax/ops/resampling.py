"""Learned changes of resolution, written as matrix products.

A convolution whose kernel is as large as its stride touches every voxel once, and a transposed
convolution whose kernel is two voxels larger than its stride overlaps its neighbours by one voxel
only. Both are one matrix product and cheap rearrangements, on any platform, where XLA's general
forms are slow.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float


def downsample(
    x: Float[Array, "n d h w c"], kernel: Float[Array, "2 2 2 c k"]
) -> Float[Array, "n d//2 h//2 w//2 k"]:
    """A 2x2x2 convolution of stride 2. D, H and W must be even."""
    n, d, h, w, c = x.shape
    blocks = x.reshape(n, d // 2, 2, h // 2, 2, w // 2, 2, c)
    rows = blocks.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, 8 * c)
    return (rows @ kernel.reshape(8 * c, -1)).reshape(n, d // 2, h // 2, w // 2, -1)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def upsample(
    x: Float[Array, "n d h w c"],
    kernel: Float[Array, "size size size group_channels k"],
    stride: int,
) -> Float[Array, "n d*{stride} h*{stride} w*{stride} k"]:
    """A grouped transposed convolution by `stride`, with kernel `stride + 2` and padding 1.

    Tap `t` of the kernel adds to the output at `stride * i + t - 1`, as in PyTorch's
    `ConvTranspose3d(kernel_size=stride + 2, stride=stride, padding=1)`. The channels are split
    into `c / kernel.shape[3]` groups, as are the outputs. Differentiable once, in reverse mode.
    """
    size, outputs = kernel.shape[0], kernel.shape[-1]
    groups = x.shape[-1] // kernel.shape[3]
    grouped = x.reshape(*x.shape[:-1], groups, -1)
    taps = kernel.reshape(size, size, size, -1, groups, outputs // groups)
    spread = jnp.einsum("ndhwgc,ijlcgo->ndihjwlgo", grouped, taps)
    for axis in (5, 3, 1):
        spread = _overlap_add(spread, axis, stride)
    return spread.reshape(*spread.shape[:-2], outputs)


def _forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return upsample(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    """Two products with what each voxel of the input reached, as rows.

    Groups are taken for one whose kernel has zeros: to multiply by these costs less than to
    rearrange the rows by group.
    """
    x, kernel = saved
    channels = x.shape[-1]
    rows = _reached(gradient, stride)
    to_x = rows @ _ungrouped(kernel, channels).T
    to_ungrouped = x.reshape(-1, channels).T @ rows
    to_kernel = jax.linear_transpose(lambda kernel: _ungrouped(kernel, channels), kernel)
    return to_x.reshape(x.shape), to_kernel(to_ungrouped)[0]


upsample.defvjp(_forward, _backward)


def _ungrouped(kernel: Array, channels: int) -> Array:
    """The kernel as a matrix `(channels, taps * k)`, zero between groups."""
    group_channels, outputs = kernel.shape[3:]
    groups = channels // group_channels
    group_of_output = np.arange(outputs) // (outputs // groups)
    same = np.arange(channels)[:, None] // group_channels == group_of_output
    repeated = jnp.tile(kernel.reshape(-1, group_channels, outputs), (1, groups, 1))
    return jnp.where(same, repeated, 0).swapaxes(0, 1).reshape(channels, -1)


def _reached(y: Array, stride: int) -> Array:
    """The outputs that each voxel of the input reaches, as rows `(n*d*h*w, taps * k)`.

    The last axis first: what is copied is then contiguous, and the longer the larger the array is.
    """
    n, depth, height, width, outputs = y.shape
    taps = stride + 2
    y = y.reshape(n, depth, height, width // stride, stride, outputs)
    y = _with_rims(y, 3).reshape(n, depth, height // stride, stride, -1, taps * outputs)
    y = _with_rims(y, 2).swapaxes(3, 4)
    y = y.reshape(n, depth // stride, stride, -1, taps**2 * outputs)
    return _with_rims(y, 1).swapaxes(2, 3).reshape(-1, taps**3 * outputs)


def _with_rims(y: Array, axis: int) -> Array:
    """Split blocks along `axis`, of taps along the next, with a tap of each neighbour around."""

    def neighbour(tap: int, by: int) -> Array:
        rim = lax.slice_in_dim(y, tap, tap + 1, axis=axis + 1)
        configuration = [(0, 0, 0)] * rim.ndim
        configuration[axis] = (by, -by, 0)
        return lax.pad(rim, jnp.zeros((), rim.dtype), configuration)

    return jnp.concatenate(
        [neighbour(y.shape[axis + 1] - 1, 1), y, neighbour(0, -1)], axis=axis + 1
    )


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
