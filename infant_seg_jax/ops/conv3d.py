"""3x3x3 convolution in the form that suits each platform.

XLA's own 3D convolution is fast on GPUs and TPUs, and slow on CPUs. There, this module walks over
the slices of the first axis: some taps of a slice become columns of a matrix that stays in the
cache, one product with the kernel gives that slice's share of three output slices, and two running
sums carry the unfinished ones along. The gradient to the input is the same operation with the
kernel flipped; the gradient to the kernel is the transposed product.

What a slice costs beside the product is to write its columns and to add up its shares. With the
nine in-plane taps as columns, there are 9 for each input channel and 3 for each output channel;
with the three along a line, 3 and 9, and the lines' shares are added as the slices' are. The latter
is less where there are no fewer inputs than outputs.

The form is chosen when the program is lowered, so one model and one checkpoint run everywhere.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

Volumes = Float[Array, "n d h w c"]
Outputs = Float[Array, "n d h w k"]
Kernel = Float[Array, "3 3 3 c k"]


@jax.custom_vjp
def conv3x3x3(x: Volumes, kernel: Kernel) -> Outputs:
    """Convolve with zero padding of one voxel and stride 1, so that the shape stays.

    The numerics are those of `lax.conv_general_dilated(x, kernel, (1, 1, 1), "SAME")` in the
    layouts NDHWC and DHWIO (a cross-correlation, as everywhere in deep learning), up to the order
    of summation. Differentiable once in both arguments, in reverse mode.
    """
    return lax.platform_dependent(x, kernel, cpu=_slicewise, default=conv3x3x3_plain)


def conv3x3x3_plain(x: Volumes, kernel: Kernel) -> Outputs:
    """The same convolution as XLA's own single operation."""
    return lax.conv_general_dilated(
        x, kernel, (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )


def _forward(x: Volumes, kernel: Kernel) -> tuple[Outputs, tuple[Volumes, Kernel]]:
    return conv3x3x3(x, kernel), (x, kernel)


def _backward(saved: tuple[Volumes, Kernel], gradient: Outputs) -> tuple[Volumes, Kernel]:
    x, kernel = saved
    flipped = kernel[::-1, ::-1, ::-1].swapaxes(3, 4)
    to_kernel = lax.platform_dependent(
        x, gradient, cpu=_slicewise_kernel_gradient, default=_plain_kernel_gradient
    )
    return conv3x3x3(gradient, flipped), to_kernel


conv3x3x3.defvjp(_forward, _backward)


def _slicewise(x: Volumes, kernel: Kernel) -> Outputs:
    n, depth, height, width, channels = x.shape
    features = kernel.shape[-1]
    lines = channels >= features
    if lines:
        # Rows: tap along a line and input channel; columns: the other taps and output channel.
        matrix = kernel.transpose(2, 3, 0, 1, 4).reshape(3 * channels, 9 * features)
    else:
        # Rows: in-plane tap and input channel; columns: depth tap and output channel.
        matrix = kernel.transpose(1, 2, 3, 0, 4).reshape(9 * channels, 3 * features)
    # One slice of zeros behind the last lets the loop finish the last output.
    padded = jnp.pad(x, ((0, 0), (0, 1), (1, 1), (1, 1), (0, 0)))

    def share(shares: Array, depth_tap: int) -> Array:
        if not lines:
            return _columns_of(shares, depth_tap, features)
        return sum(
            (
                _columns_of(shares, 3 * depth_tap + tap, features)[:, tap : tap + height]
                for tap in range(3)
            ),
            jnp.zeros((), x.dtype),
        )

    def step(carry: tuple[Array, Array], slice_index: Array) -> tuple[tuple[Array, Array], Array]:
        previous, current = carry
        columns = _line_columns(padded, slice_index) if lines else _columns(padded, slice_index)
        shares = (columns @ matrix).reshape(n, -1, width, matrix.shape[-1])
        finished = previous + share(shares, 2)
        return (current + share(shares, 1), share(shares, 0)), finished

    zeros = jnp.zeros((n, height, width, features), x.dtype)
    _, slices = lax.scan(step, (zeros, zeros), jnp.arange(depth + 1))
    return slices[1:].swapaxes(0, 1)


def _slicewise_kernel_gradient(x: Volumes, gradient: Outputs) -> Kernel:
    depth, height, width, channels = x.shape[1:]
    features = gradient.shape[-1]
    lines = channels >= features
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    rim = 2 if lines else 0
    padded_gradient = jnp.pad(gradient, ((0, 0), (1, 1), (rim, rim), (0, 0), (0, 0)))

    def step(total: Array, slice_index: Array) -> tuple[Array, None]:
        # Tap t carried input slice i to output slice i + 1 - t, and so for lines.
        window = lax.dynamic_slice_in_dim(padded_gradient, slice_index, 3, axis=1)
        slices = [window[:, 2 - t] for t in range(3)]
        if lines:
            columns = _line_columns(padded, slice_index)
            slices = [s[:, 2 - t : 4 - t + height] for s in slices for t in range(3)]
        else:
            columns = _columns(padded, slice_index)
        shares = jnp.concatenate(slices, axis=-1)
        return total + columns.T @ shares.reshape(len(columns), -1), None

    taps = (3, 9) if lines else (9, 3)
    zeros = jnp.zeros((taps[0] * channels, taps[1] * features), x.dtype)
    total, _ = lax.scan(step, zeros, jnp.arange(depth))
    if lines:
        return total.reshape(3, channels, 3, 3, features).transpose(2, 3, 0, 1, 4)
    return total.reshape(3, 3, channels, 3, features).transpose(3, 0, 1, 2, 4)


def _plain_kernel_gradient(x: Volumes, gradient: Outputs) -> Kernel:
    shape = (3, 3, 3, x.shape[-1], gradient.shape[-1])
    transpose = jax.linear_transpose(
        lambda kernel: conv3x3x3_plain(x, kernel), jax.ShapeDtypeStruct(shape, x.dtype)
    )
    return transpose(gradient)[0]


def _columns(padded: Array, slice_index: Array) -> Array:
    """The nine in-plane neighbours of every voxel of one slice, as a matrix `(n*h*w, 9*c)`."""
    image = lax.dynamic_index_in_dim(padded, slice_index, axis=1, keepdims=False)
    height, width = image.shape[1] - 2, image.shape[2] - 2
    taps = [image[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.concatenate(taps, axis=-1).reshape(-1, 9 * padded.shape[-1])


def _line_columns(padded: Array, slice_index: Array) -> Array:
    """The three neighbours along its line of every voxel of one slice: `(n*(h+2)*w, 3*c)`."""
    image = lax.dynamic_index_in_dim(padded, slice_index, axis=1, keepdims=False)
    width = image.shape[2] - 2
    taps = [image[:, :, j : j + width] for j in range(3)]
    return jnp.concatenate(taps, axis=-1).reshape(-1, 3 * padded.shape[-1])


def _columns_of(shares: Array, index: int, features: int) -> Array:
    return shares[..., index * features : (index + 1) * features]
