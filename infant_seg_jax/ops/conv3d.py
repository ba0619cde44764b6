"""3x3x3 convolution in the form that suits each platform.

XLA's own 3D convolution is fast on GPUs and TPUs, and on CPUs where XLA hands it to oneDNN
(`infant_seg_jax.compilation`). Elsewhere on CPUs, and there for the gradient to the kernel, which
is not handed to it, XLA's is slow, and this module walks over the slices of the first axis: a
slice, moved by some of the taps, is written into the columns of a matrix that stays in the cache,
one product with the kernel gives that slice's share of three output slices, and two running sums
carry the unfinished ones along. The gradient to the input is the same operation with the kernel
flipped; the gradient to the kernel is the transposed product.

What a slice costs beside the product is to write its columns and to add up its shares. With the
nine in-plane taps as columns, there are 9 for each input channel and 3 for each output channel;
with the three along a line, 3 and 9, and the lines' shares are added as the slices' are. The latter
is less where there are no fewer inputs than outputs.

The matrix is one piece of memory that every slice is written into in its turn. Where a moved slice
does not reach, at the volume's rim, it is never written and stays zero: nothing is padded.

The form is chosen when the program is lowered, so one model and one checkpoint run everywhere.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

Volumes = Float[Array, "n d h w c"]
Outputs = Float[Array, "n d h w k"]
Kernel = Float[Array, "3 3 3 c k"]


def conv3x3x3(x: Volumes, kernel: Kernel, onednn: bool = False) -> Outputs:
    """Convolve with zero padding of one voxel and stride 1, so that the shape stays.

    With `onednn` it is XLA's own operation on CPUs, too: for programs that
    `infant_seg_jax.compilation.jit` compiles with oneDNN.

    The numerics are those of `lax.conv_general_dilated(x, kernel, (1, 1, 1), "SAME")` in the
    layouts NDHWC and DHWIO (a cross-correlation, as everywhere in deep learning), up to the order
    of summation. Differentiable once in both arguments, in reverse mode.
    """
    return _convolve(x, kernel, onednn)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: Volumes, kernel: Kernel, onednn: bool) -> Outputs:
    if onednn:
        return conv3x3x3_plain(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=_slicewise, default=conv3x3x3_plain)


def conv3x3x3_plain(x: Volumes, kernel: Kernel) -> Outputs:
    """The same convolution as XLA's own single operation."""
    return lax.conv_general_dilated(
        x, kernel, (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )


def _forward(x: Volumes, kernel: Kernel, onednn: bool) -> tuple[Outputs, tuple[Volumes, Kernel]]:
    return _convolve(x, kernel, onednn), (x, kernel)


def _backward(
    onednn: bool, saved: tuple[Volumes, Kernel], gradient: Outputs
) -> tuple[Volumes, Kernel]:
    x, kernel = saved
    flipped = kernel[::-1, ::-1, ::-1].swapaxes(3, 4)
    to_kernel = lax.platform_dependent(
        x, gradient, cpu=_slicewise_kernel_gradient, default=_plain_kernel_gradient
    )
    return _convolve(gradient, flipped, onednn), to_kernel


_convolve.defvjp(_forward, _backward)


@dataclass(frozen=True)
class _Taps:
    """Which taps of a slice are columns of its matrix, and which are shares of the product.

    A move is of so many voxels along the slice's lines and columns, and `rim` is how many lines the
    matrix has more than the slice. The outermost taps of the shares are those of depth.
    """

    columns: tuple[tuple[int, int], ...]
    share_lines: tuple[int, ...]
    rim: int

    @property
    def axes(self) -> tuple[int, ...]:
        """The kernel's, of which the first ones are the matrix's rows."""
        return (2, 3, 0, 1, 4) if self.rim else (1, 2, 3, 0, 4)


_ALONG_LINES = _Taps(tuple((1, 1 - tap) for tap in range(3)), (0, 1, 2), 2)
_IN_PLANE = _Taps(tuple((1 - i, 1 - j) for i in range(3) for j in range(3)), (0,), 0)


def _choose_taps(kernel_shape: tuple[int, ...]) -> _Taps:
    *_, channels, features = kernel_shape
    return _ALONG_LINES if channels >= features else _IN_PLANE


def _slicewise(x: Volumes, kernel: Kernel) -> Outputs:
    n, depth, height, width, channels = x.shape
    features = kernel.shape[-1]
    taps = _choose_taps(kernel.shape)
    matrix = kernel.transpose(taps.axes).reshape(len(taps.columns) * channels, -1)
    shares_shape = (height + taps.rim, width, 3, len(taps.share_lines), features)

    def step(index: Array, so_far: tuple[Array, ...]) -> tuple[Array, ...]:
        previous, current, columns, output = so_far
        example, z = index // (depth + 1), index % (depth + 1)
        columns = _put_moved(columns, 0, _slice(x, example, z), taps.columns)
        shares = (columns.reshape(-1, len(matrix)) @ matrix).reshape(shares_shape)

        def share(depth_tap: int) -> Array:
            lines = [shares[i : i + height, :, depth_tap, i] for i in taps.share_lines]
            return sum(lines[1:], lines[0])

        # Slice `z` finishes output `z - 1`. That of an example's first slice belongs to nothing,
        # and is written where the next one is put in its place.
        start = (example, jnp.maximum(z - 1, 0), 0, 0, 0)
        output = lax.dynamic_update_slice(output, (previous + share(2))[None, None], start)
        return current + share(1), share(0), columns, output

    zeros = jnp.zeros((height, width, features), x.dtype)
    columns = jnp.zeros((height + taps.rim, width, len(matrix)), x.dtype)
    output = jnp.zeros((n, depth, height, width, features), x.dtype)
    # A slice of zeros behind each example's last finishes its last output.
    return lax.fori_loop(0, n * (depth + 1), step, (zeros, zeros, columns, output))[-1]


def _slicewise_kernel_gradient(x: Volumes, gradient: Outputs) -> Kernel:
    n, depth, height, width, channels = x.shape
    features = gradient.shape[-1]
    kernel_shape = (3, 3, 3, channels, features)
    taps = _choose_taps(kernel_shape)
    moves = tuple((line, 0) for line in taps.share_lines)

    def step(index: Array, so_far: tuple[Array, ...]) -> tuple[Array, ...]:
        # Tap t carried input slice z to output slice z + 1 - t. Of these three slices the newest
        # takes the place of the oldest; the one before an example's first is the one behind the
        # last of the example before, and zero.
        total, columns, shares = so_far
        example, newest = index // (depth + 1), index % (depth + 1)
        columns = _put_moved(columns, 0, _slice(x, example, newest - 1), taps.columns)
        image = _slice(gradient, example, newest)
        shares = _put_moved(shares, index % 3 * (len(moves) * features), image, moves)
        product = columns.reshape(-1, len(total)).T @ shares.reshape(columns.shape[0] * width, -1)
        places = (index - jnp.arange(3)) % 3
        return total + product.reshape(total.shape)[:, places], columns, shares

    rows, share = len(taps.columns) * channels, len(moves) * features
    matrices = (jnp.zeros((height + taps.rim, width, size), x.dtype) for size in (rows, 3 * share))
    total = jnp.zeros((rows, 3, share), x.dtype)
    total, *_ = lax.fori_loop(0, n * (depth + 1), step, (total, *matrices))
    transposed = [kernel_shape[axis] for axis in taps.axes]
    return total.reshape(transposed).transpose(np.argsort(taps.axes))


def _slice(x: Volumes, example: Array, z: Array) -> Float[Array, "h w c"]:
    """Slice `z` of an example; zeros where there is none."""
    depth = x.shape[1]
    start = (example, jnp.clip(z, 0, depth - 1), 0, 0, 0)
    image = lax.dynamic_slice(x, start, (1, 1, *x.shape[2:]))[0, 0]
    return jnp.where((z >= 0) & (z < depth), image, 0)


def _put_moved(
    matrix: Float[Array, "lines w m"],
    first: int | Array,
    image: Float[Array, "h w c"],
    moves: tuple[tuple[int, int], ...],
) -> Float[Array, "lines w m"]:
    """Write an image, moved in each way, beside one another into columns from the `first` on.

    What leaves the matrix is dropped, and what the image does not reach keeps its value.
    """
    for number, move in enumerate(moves):
        column = first + number * image.shape[-1]
        starts, parts = [], []
        for by, there, here in zip(move, matrix.shape, image.shape[:2], strict=False):
            starts.append(max(by, 0))
            parts.append(slice(max(-by, 0), min(here, there - by)))
        matrix = lax.dynamic_update_slice(matrix, image[tuple(parts)], (*starts, column))
    return matrix


def _plain_kernel_gradient(x: Volumes, gradient: Outputs) -> Kernel:
    shape = (3, 3, 3, x.shape[-1], gradient.shape[-1])
    transpose = jax.linear_transpose(
        lambda kernel: conv3x3x3_plain(x, kernel), jax.ShapeDtypeStruct(shape, x.dtype)
    )
    return transpose(gradient)[0]
