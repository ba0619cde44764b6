"""Learned changes of resolution, written as matrix products.

A convolution whose kernel is as large as its stride touches every voxel once, and a transposed
convolution whose kernel is two voxels larger than its stride overlaps its neighbors by one voxel
only. Both are one matrix product and cheap rearrangements, on any platform, where XLA's general
forms are slow. With a small stride most of the product is overlap: there oneDNN is faster, with a
3x3x3 convolution that yields what each voxel becomes as channels.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Int

_CONVOLVED_STRIDE = 4
"""Up to this stride an upsampling is a convolution for oneDNN."""


def downsample(
    x: Float[Array, "n d h w c"], kernel: Float[Array, "2 2 2 c k"]
) -> Float[Array, "n d//2 h//2 w//2 k"]:
    """A 2x2x2 convolution of stride 2. D, H and W must be even."""
    n, d, h, w, c = x.shape
    blocks = x.reshape(n, d // 2, 2, h // 2, 2, w // 2, 2, c)
    rows = blocks.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, 8 * c)
    return (rows @ kernel.reshape(8 * c, -1)).reshape(n, d // 2, h // 2, w // 2, -1)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def upsample(
    x: Float[Array, "n d h w c"],
    kernel: Float[Array, "size size size group_channels k"],
    stride: int,
    onednn: bool = False,
) -> Float[Array, "n d*{stride} h*{stride} w*{stride} k"]:
    """A grouped transposed convolution by `stride`, with kernel `stride + 2` and padding 1.

    Tap `t` of the kernel adds to the output at `stride * i + t - 1`, as in PyTorch's
    `ConvTranspose3d(kernel_size=stride + 2, stride=stride, padding=1)`. The channels are split
    into `c / kernel.shape[3]` groups, as are the outputs. Differentiable once, in reverse mode.
    `onednn` is for programs that `infant_seg_jax.compilation.jit` compiles with oneDNN, and changes
    nothing but their speed.
    """
    if onednn and stride <= _CONVOLVED_STRIDE:
        return _upsample_by_convolution(x, kernel, stride)
    size, outputs = kernel.shape[0], kernel.shape[-1]
    groups = x.shape[-1] // kernel.shape[3]
    grouped = x.reshape(*x.shape[:-1], groups, -1)
    taps = kernel.reshape(size, size, size, -1, groups, outputs // groups)
    spread = jnp.einsum("ndhwgc,ijlcgo->ndihjwlgo", grouped, taps)
    for axis in (5, 3, 1):
        spread = _overlap_add(spread, axis, stride)
    return spread.reshape(*spread.shape[:-2], outputs)


def upsampling_values(stride: int, onednn: bool) -> int:
    """The most values that `upsample` holds, by voxel of its input and channel of its output."""
    taps = stride + 2
    if onednn and stride <= _CONVOLVED_STRIDE:
        return 2 * stride**3
    return taps**3 + taps**2 * stride


def _upsample_by_convolution(x: Array, kernel: Array, stride: int) -> Array:
    """A 3x3x3 convolution, whose channels are what each voxel becomes."""
    n, depth, height, width, channels = x.shape
    group_channels, outputs = kernel.shape[3:]
    taps = _taps_of_neighbors(stride)
    for axis in (0, 2, 4):
        shape = kernel.shape
        kernel = jnp.take(kernel, jnp.asarray(taps).ravel(), axis, mode="fill", fill_value=0)
        kernel = kernel.reshape(*shape[:axis], *taps.shape, *shape[axis + 1 :])
    kernel = kernel.transpose(0, 2, 4, 6, 7, 1, 3, 5).reshape(3, 3, 3, group_channels, -1)
    y = lax.conv_general_dilated(
        x,
        kernel,
        (1, 1, 1),
        "SAME",
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
        feature_group_count=channels // group_channels,
    )
    y = y.reshape(n, depth, height, width, outputs, stride, stride, stride)
    y = y.transpose(0, 1, 5, 2, 6, 3, 7, 4)
    return y.reshape(n, depth * stride, height * stride, width * stride, outputs)


def _taps_of_neighbors(stride: int) -> Int[np.ndarray, "3 {stride}"]:
    """By which tap the voxel before, the same, and the one behind add to each of `stride` outputs.

    What is no tap is one more than the last, so that it can be filled in.
    """
    taps = np.arange(stride) + 1 - stride * np.arange(-1, 2)[:, None]
    return np.where((taps >= 0) & (taps < stride + 2), taps, stride + 2)


def _forward(
    x: Array, kernel: Array, stride: int, onednn: bool
) -> tuple[Array, tuple[Array, Array]]:
    return upsample(x, kernel, stride, onednn), (x, kernel)


def _backward(
    stride: int, onednn: bool, saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    """Two products with what each voxel of the input reached, as rows.

    Groups are taken for one whose kernel has zeros: to multiply by these costs less than to
    rearrange the rows by group.
    """
    del onednn
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
    """Split blocks along `axis`, of taps along the next, with a tap of each neighbor around."""

    def neighbor(tap: int, by: int) -> Array:
        rim = lax.slice_in_dim(y, tap, tap + 1, axis=axis + 1)
        configuration = [(0, 0, 0)] * rim.ndim
        configuration[axis] = (by, -by, 0)
        return lax.pad(rim, jnp.zeros((), rim.dtype), configuration)

    return jnp.concatenate([neighbor(y.shape[axis + 1] - 1, 1), y, neighbor(0, -1)], axis=axis + 1)


def _overlap_add(spread: Array, axis: int, stride: int) -> Array:
    """Join axis `axis` (voxels) and the next (taps): the two rim taps add to the neighbors.

    Only what the rims reach is touched again; what leaves the volume is dropped.
    """
    taps, voxels = axis + 1, spread.shape[axis]

    def pick(array: Array, first: int, tap: int) -> Array:
        """A tap of all voxels but one, from the `first` on."""
        some = lax.slice_in_dim(array, first, first + voxels - 1, axis=axis)
        return lax.slice_in_dim(some, tap, tap + 1, axis=taps)

    def add(joined: Array, rim: Array, first: int, tap: int) -> Array:
        starts = [0] * joined.ndim
        starts[axis], starts[taps] = first, tap
        return lax.dynamic_update_slice(joined, pick(joined, first, tap) + rim, starts)

    joined = lax.slice_in_dim(spread, 1, stride + 1, axis=taps)
    joined = add(joined, pick(spread, 1, 0), 0, stride - 1)
    joined = add(joined, pick(spread, 0, stride + 1), 1, 0)
    return joined.reshape(*joined.shape[:axis], -1, *joined.shape[taps + 1 :])
