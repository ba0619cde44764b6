"""The layers that the network is made of: convolutions, upsampling and dropout."""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Key

from infant_seg_jax.ops.conv3d import conv3x3x3
from infant_seg_jax.ops.resampling import downsample, upsample


class Conv(nn.Module):
    """A 3D convolution, channels last: 1x1x1, 2x2x2 with stride 2, or 3x3x3 with padding 1.

    The kernel `(size, size, size, in, out)` starts He-normal with its fan-in; the bias, if there
    is one, at zero. `onednn` is that of `conv3x3x3`.
    """

    features: int
    size: int
    use_bias: bool = False
    dtype: Any = jnp.float32
    onednn: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "n d h w c"]) -> Float[Array, "n d2 h2 w2 k"]:
        shape = (self.size,) * 3 + (x.shape[-1], self.features)
        kernel = self.param("kernel", he_normal, shape, self.size**3 * x.shape[-1])
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        match self.size:
            case 1:
                y = (x.reshape(-1, x.shape[-1]) @ kernel[0, 0, 0]).reshape(*x.shape[:-1], -1)
            case 2:
                y = downsample(x, kernel)
            case 3:
                y = conv3x3x3(x, kernel, self.onednn)
            case _:
                raise ValueError(f"Conv has kernels of size 1, 2 and 3, not {self.size}")
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return y


class PointwiseOfParts(nn.Module):
    """A 1x1x1 convolution with bias of volumes as if they were joined along their channels.

    Its parameters are those of a `Conv` of size 1 that sees the joined volume. Each part has its
    product with the rows that are its own, so that nothing is joined.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, parts: Sequence[Float[Array, "n d h w _"]]) -> Float[Array, "n d h w k"]:
        channels = sum(part.shape[-1] for part in parts)
        kernel = self.param("kernel", he_normal, (1, 1, 1, channels, self.features), channels)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        ends = np.cumsum([part.shape[-1] for part in parts])
        rows = jnp.split(kernel[0, 0, 0], ends[:-1])
        products = map(self._product, parts, rows)
        return sum(products, bias.astype(self.dtype))

    def product_of_part(
        self, first: int, part: Float[Array, "n d h w p"]
    ) -> Float[Array, "n d h w k"]:
        """What a part adds, whose channels are those from the `first` on; the bias is apart."""
        kernel = self.get_variable("params", "kernel")
        return self._product(part, kernel[0, 0, 0, first : first + part.shape[-1]])

    def _product(
        self, part: Float[Array, "n d h w p"], rows: Float[Array | np.ndarray, "p k"]
    ) -> Float[Array, "n d h w k"]:
        flat = part.reshape(-1, part.shape[-1]).astype(self.dtype)
        return (flat @ rows.astype(self.dtype)).reshape(*part.shape[:-1], self.features)


class Upsample(nn.Module):
    """A transposed convolution by `stride`, kernel `stride + 2`, in as many groups as classes.

    Each class reads its own share of the channels. Where the channels do not divide by the number
    of classes there are `gcd(channels, classes)` groups, at worst one, in which every class reads
    every channel.

    The kernel `(size, size, size, channels / groups, classes)` starts He-normal; its fan-in is
    what PyTorch takes it to be for transposed convolutions, `size**3 * classes / groups`.
    `onednn` is that of `upsample`.
    """

    classes: int
    stride: int
    dtype: Any = jnp.float32
    onednn: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "n d h w c"]) -> Float[Array, "n d2 h2 w2 k"]:
        size = self.stride + 2
        groups = math.gcd(x.shape[-1], self.classes)
        fan_in = size**3 * self.classes // groups
        shape = (size, size, size, x.shape[-1] // groups, self.classes)
        kernel = self.param("kernel", he_normal, shape, fan_in)
        return upsample(x.astype(self.dtype), kernel.astype(self.dtype), self.stride, self.onednn)


class DepthToSpace(nn.Module):
    """A transposed convolution, kernel 2 and stride 2, with bias: a product whose values move.

    The kernel `(2, 2, 2, in, out)` starts He-normal with `in` as its fan-in; the bias at zero.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n d h w c"]) -> Float[Array, "n d*2 h*2 w*2 k"]:
        n, d, h, w, channels = x.shape
        shape = (2, 2, 2, channels, self.features)
        kernel = self.param("kernel", he_normal, shape, channels).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        matrix = kernel.transpose(3, 0, 1, 2, 4).reshape(channels, -1)
        spread = (x.astype(self.dtype).reshape(-1, channels) @ matrix).reshape(
            n, d, h, w, 2, 2, 2, self.features
        )
        spread = spread.transpose(0, 1, 4, 2, 5, 3, 6, 7)
        return spread.reshape(n, 2 * d, 2 * h, 2 * w, self.features) + bias


def he_normal(key: Key[Array, ""], shape: tuple[int, ...], fan_in: int) -> Float[Array, "..."]:
    """Normal values of variance `2 / fan_in`, float32 (He et al., ICCV 2015).

    Drawn flat, because XLA takes several times as long to compile a draw of five axes.
    """
    return math.sqrt(2 / fan_in) * jax.random.normal(key, (math.prod(shape),)).reshape(shape)


def dropout(
    x: Float[Array, "n d h w c"], rate: float, example_keys: Key[Array, " n"], layer: int
) -> Float[Array, "n d h w c"]:
    """Drop values with probability `rate`, each example by its own key and the layer's number.

    Draws depend on nothing else, so an example meets the same dropout on any number of devices.
    """

    def mask(key: Key[Array, ""]) -> Array:
        flat = (math.prod(x.shape[1:]),)  # As in `he_normal`.
        kept = jax.random.bernoulli(jax.random.fold_in(key, layer), 1 - rate, flat)
        return kept.reshape(x.shape[1:])

    keep = jax.vmap(mask)(example_keys)
    return jnp.where(keep, x / (1 - rate), jnp.zeros((), x.dtype))
