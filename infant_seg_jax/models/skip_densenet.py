"""The skip-connected 3D DenseNet of Bui, Shin and Moon.

T. D. Bui, J. Shin, T. Moon, "Skip-connected 3D DenseNet for volumetric infant brain MRI
segmentation", Biomedical Signal Processing and Control 54, 2019, 101613.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Key

from infant_seg_jax.models.layers import Conv, PointwiseOfParts, Upsample, dropout
from infant_seg_jax.models.normalisation import BatchNorm

Logits = Float[Array, "n d h w k"]

BOTTLENECK = 4
"""A dense layer's 1x1x1 convolution yields this many times the growth rate."""


class DenseLayer(nn.Module):
    """Norm, 1x1x1, norm, 3x3x3 to `growth_rate`, dropout, concatenated to the input."""

    growth_rate: int
    dropout_rate: float
    norm: Callable[..., nn.Module]
    conv: Callable[..., nn.Module]
    number: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "n d h w c"], keys: Key[Array, " n"] | None
    ) -> Float[Array, "n d h w c2"]:
        y = nn.relu(self.norm(name="norm1")(x))
        y = self.conv(BOTTLENECK * self.growth_rate, 1, name="conv1")(y)
        y = nn.relu(self.norm(name="norm2")(y))
        y = self.conv(self.growth_rate, 3, name="conv2")(y)
        if keys is not None:
            y = dropout(y, self.dropout_rate, keys, self.number)
        return jnp.concatenate([x, y], axis=-1)


class DenseBlock(nn.Module):
    """Dense layers in a row."""

    layers: int
    growth_rate: int
    dropout_rate: float
    norm: Callable[..., nn.Module]
    conv: Callable[..., nn.Module]
    first_number: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "n d h w c"], keys: Key[Array, " n"] | None
    ) -> Float[Array, "n d h w c2"]:
        for i in range(self.layers):
            x = DenseLayer(
                self.growth_rate,
                self.dropout_rate,
                self.norm,
                self.conv,
                self.first_number + i,
                name=f"layer{i + 1}",
            )(x, keys)
        return x


class Transition(nn.Module):
    """Norm, 1x1x1 to half the channels, norm, 2x2x2 of stride 2 with bias."""

    norm: Callable[..., nn.Module]
    conv: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: Float[Array, "n d h w c"]) -> Float[Array, "n d//2 h//2 w//2 c//2"]:
        features = x.shape[-1] // 2
        x = self.conv(features, 1, name="conv")(nn.relu(self.norm(name="norm")(x)))
        x = nn.relu(self.norm(name="pool_norm")(x))
        return self.conv(features, 2, use_bias=True, name="pool")(x)


class SkipDenseNet3D(nn.Module):
    """Logits of `num_classes` classes for every voxel of a patch of any number of modalities.

    Attributes:
        num_classes: K, the classes; background is one of them.
        growth_rate: channels that each dense layer adds.
        stem_features: channels of the full-resolution stem.
        block_layers: dense layers of each block.
        dropout_rate: share of each dense layer's new values dropped in training.
        axis_name: the mapped device axis over which batch statistics are averaged, if any.
        dtype: of the computation; parameters, batch statistics and logits are float32.
        remat: compute the dense blocks' activations again on the way back, not keep them.
        onednn: for programs that are compiled with oneDNN; changes nothing but their speed.
    """

    num_classes: int = 4
    growth_rate: int = 16
    stem_features: int = 32
    block_layers: tuple[int, ...] = (4, 4, 4, 4)
    dropout_rate: float = 0.2
    axis_name: str | None = None
    dtype: Any = jnp.float32
    remat: bool = False
    onednn: bool = False

    @property
    def downsampling(self) -> int:
        """D, H and W are multiples of this: 16 with four blocks."""
        return 2 ** len(self.block_layers)

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "n d h w c"],
        *,
        train: bool = False,
        example_keys: Key[Array, " n"] | None = None,
        deep: bool = False,
        frozen_statistics: bool = False,
    ) -> Logits | tuple[Logits, tuple[Logits, ...]]:
        """Compute the logits, and with `deep` the upsampled maps of the blocks as well.

        Each upsampling yields a channel per class, which reads its own share of the block's
        channels. So its map can be taken for logits as it is, without parameters of its own, and
        `deep` changes neither the logits nor the variables.

        In training, normalisation uses the batch's statistics and updates the running ones
        (apply with `mutable=["batch_stats"]`), unless these are to stay and be used, as
        `frozen_statistics`; and dropout draws from `example_keys`.

        Raises:
            ValueError: D, H or W is not a multiple of `downsampling`, or `example_keys` are
                missing in training with dropout.
        """
        if any(extent % self.downsampling for extent in x.shape[1:4]):
            raise ValueError(
                f"the spatial shape {x.shape[1:4]} must be multiples of {self.downsampling}"
            )
        keys = example_keys if train and self.dropout_rate > 0 else None
        if train and self.dropout_rate > 0 and keys is None:
            raise ValueError("training with dropout needs example_keys, one for each example")

        norm = partial(
            BatchNorm,
            use_running_average=frozen_statistics or not train,
            axis_name=self.axis_name,
            dtype=self.dtype,
        )
        conv = partial(Conv, dtype=self.dtype, onednn=self.onednn)

        for i in range(2):
            x = conv(self.stem_features, 3, name=f"stem_conv{i}")(x)
            x = nn.relu(norm(name=f"stem_norm{i}")(x))
        skip = conv(self.stem_features, 3, name="stem_conv2")(x)
        x = conv(self.stem_features, 2, name="stem_pool")(nn.relu(norm(name="stem_norm2")(skip)))

        Block = nn.remat(DenseBlock) if self.remat else DenseBlock
        upsampled = []
        for i, layers in enumerate(self.block_layers, start=1):
            x = Block(
                layers,
                self.growth_rate,
                self.dropout_rate,
                norm,
                conv,
                sum(self.block_layers[: i - 1]),
                name=f"block{i}",
            )(x, keys)
            up = Upsample(self.num_classes, 2**i, self.dtype, self.onednn, name=f"upsample{i}")
            upsampled.append(up(x))
            if i < len(self.block_layers):
                x = Transition(norm, conv, name=f"transition{i}")(x)

        parts = map(nn.relu, norm(name="head_norm").normalise_parts(*upsampled, skip))
        # What it yields is float32, so it is not computed in less.
        dtype = jnp.promote_types(self.dtype, jnp.float32)
        logits = PointwiseOfParts(self.num_classes, dtype, name="head_conv")(*parts)
        # A fence: XLA's YNNPACK computes nonsense where it fuses these products, of bfloat16, with
        # the softmax that follows (jaxlib 0.12.0).
        logits = lax.optimization_barrier(logits.astype(jnp.float32))
        if deep:
            return logits, tuple(level.astype(jnp.float32) for level in upsampled)
        return logits
