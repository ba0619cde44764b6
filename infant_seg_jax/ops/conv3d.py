"""3x3x3 convolution in the form that suits each platform.

XLA's own 3D convolution is fast on GPUs and TPUs, and slow on CPUs. There, this module walks over
the slices of the first axis: the nine in-plane taps of a slice become columns of a matrix that
stays in the cache, one product with the kernel gives that slice's share of three output slices,
and two running sums carry the unfinished ones along. The gradient to the input is the same
operation with the kernel flipped; the gradient to the kernel is the transposed product.

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
    # Rows: in-plane tap and input channel; columns: depth tap and output channel.
    matrix = kernel.transpose(1, 2, 3, 0, 4).reshape(9 * channels, 3 * features)
    # One slice of zeros behind the last lets the loop finish the last output.
    padded = jnp.pad(x, ((0, 0), (0, 1), (1, 1), (1, 1), (0, 0)))

    def step(carry: tuple[Array, Array], slice_index: Array) -> tuple[tuple[Array, Array], Array]:
        previous, current = carry
        columns = _in_plane_columns(padded, slice_index, height, width)
        shares = (columns @ matrix).reshape(n, height, width, 3, features)
        finished = previous + shares[..., 2, :]
        return (current + shares[..., 1, :], shares[..., 0, :]), finished

    zeros = jnp.zeros((n, height, width, features), x.dtype)
    _, slices = lax.scan(step, (zeros, zeros), jnp.arange(depth + 1))
    return slices[1:].swapaxes(0, 1)


def _slicewise_kernel_gradient(x: Volumes, gradient: Outputs) -> Kernel:
    depth, height, width, channels = x.shape[1:]
    features = gradient.shape[-1]
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    padded_gradient = jnp.pad(gradient, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))

    def step(total: Array, slice_index: Array) -> tuple[Array, None]:
        columns = _in_plane_columns(padded, slice_index, height, width)
        # Depth tap t carried input slice i to output slice i + 1 - t.
        window = lax.dynamic_slice_in_dim(padded_gradient, slice_index, 3, axis=1)
        shares = jnp.concatenate([window[:, 2 - t] for t in range(3)], axis=-1)
        return total + columns.T @ shares.reshape(-1, 3 * features), None

    zeros = jnp.zeros((9 * channels, 3 * features), x.dtype)
    total, _ = lax.scan(step, zeros, jnp.arange(depth))
    return total.reshape(3, 3, channels, 3, features).transpose(3, 0, 1, 2, 4)


def _plain_kernel_gradient(x: Volumes, gradient: Outputs) -> Kernel:
    shape = (3, 3, 3, x.shape[-1], gradient.shape[-1])
    transpose = jax.linear_transpose(
        lambda kernel: conv3x3x3_plain(x, kernel), jax.ShapeDtypeStruct(shape, x.dtype)
    )
    return transpose(gradient)[0]


def _in_plane_columns(padded: Array, slice_index: Array, height: int, width: int) -> Array:
    """The nine in-plane neighbours of every voxel of one slice, as a matrix `(n*h*w, 9*c)`."""
    image = lax.dynamic_index_in_dim(padded, slice_index, axis=1, keepdims=False)
    taps = [image[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.concatenate(taps, axis=-1).reshape(-1, 9 * padded.shape[-1])
