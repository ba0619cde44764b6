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
from infant_seg_jax.models.normalization import BatchNorm

Logits = Float[Array, "n d h w k"]

STEM_CONVS = 3
"""3x3x3 convolutions of the stem."""

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
        self, x: Float[Array, "n d h w c"], running: bool, keys: Key[Array, " n"] | None
    ) -> Float[Array, "n d h w c2"]:
        y = nn.relu(self.norm(name="norm1")(x, running))
        y = self.conv(BOTTLENECK * self.growth_rate, 1, name="conv1")(y)
        y = nn.relu(self.norm(name="norm2")(y, running))
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
        self, x: Float[Array, "n d h w c"], running: bool, keys: Key[Array, " n"] | None
    ) -> Float[Array, "n d h w c2"]:
        for i in range(self.layers):
            x = DenseLayer(
                self.growth_rate,
                self.dropout_rate,
                self.norm,
                self.conv,
                self.first_number + i,
                name=f"layer{i + 1}",
            )(x, running, keys)
        return x


class Transition(nn.Module):
    """Norm, 1x1x1 to half the channels, norm, 2x2x2 of stride 2 with bias."""

    norm: Callable[..., nn.Module]
    conv: Callable[..., nn.Module]

    @nn.compact
    def __call__(
        self, x: Float[Array, "n d h w c"], running: bool
    ) -> Float[Array, "n d//2 h//2 w//2 c//2"]:
        features = x.shape[-1] // 2
        x = self.conv(features, 1, name="conv")(nn.relu(self.norm(name="norm")(x, running)))
        x = nn.relu(self.norm(name="pool_norm")(x, running))
        return self.conv(features, 2, use_bias=True, name="pool")(x)


class SkipDenseNet3D(nn.Module):
    """Computes logits of `num_classes` classes for every voxel of a patch, with any modalities.

    The network has stages: the stem (0), then one per dense block (from 1 on). Each stage has a
    trunk at its own resolution, a pool to the resolution of the next stage, and a map at full
    resolution, which is part of the input of the head. The same stages are called when a volume is
    computed piece by piece.

    Attributes:
        num_classes: K, the number of classes, including background.
        growth_rate: channels that each dense layer adds.
        stem_features: channels of the full-resolution stem.
        block_layers: number of dense layers of each block.
        dropout_rate: fraction of each dense layer's new values dropped in training.
        axis_name: the mapped device axis over which batch statistics are averaged, if any.
        dtype: data type of the computation; parameters, batch statistics and logits are float32.
        remat: recompute the dense blocks' activations in the backward pass instead of storing them.
        onednn: for programs that are compiled with oneDNN; changes only their speed.
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
        """D, H and W must be multiples of this: 16 with four blocks."""
        return 2 ** len(self.block_layers)

    def setup(self) -> None:
        norm = partial(BatchNorm, axis_name=self.axis_name, dtype=self.dtype)
        conv = partial(Conv, dtype=self.dtype, onednn=self.onednn)
        self.stem_convs = [
            conv(self.stem_features, 3, name=f"stem_conv{i}") for i in range(STEM_CONVS)
        ]
        self.stem_norms = [norm(name=f"stem_norm{i}") for i in range(STEM_CONVS)]
        self.stem_pool = conv(self.stem_features, 2)
        Block = nn.remat(DenseBlock, static_argnums=2) if self.remat else DenseBlock
        self.blocks = [
            Block(
                layers,
                self.growth_rate,
                self.dropout_rate,
                norm,
                conv,
                sum(self.block_layers[:i]),
                name=f"block{i + 1}",
            )
            for i, layers in enumerate(self.block_layers)
        ]
        levels = range(1, len(self.block_layers) + 1)
        self.upsamples = [
            Upsample(self.num_classes, 2**level, self.dtype, self.onednn, name=f"upsample{level}")
            for level in levels
        ]
        self.transitions = [
            Transition(norm, conv, name=f"transition{level}") for level in levels[:-1]
        ]
        self.head_norm = norm()
        # What it yields is float32, so it is not computed in less.
        self.head_conv = PointwiseOfParts(
            self.num_classes, jnp.promote_types(self.dtype, jnp.float32)
        )

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

        In training, normalization uses the batch's statistics and updates the running ones
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

        running = frozen_statistics or not train
        maps = []
        for stage in range(len(self.block_layers) + 1):
            x = self.trunk(stage, x, running, keys)
            maps.append(self.full_resolution(stage, x))
            if stage < len(self.block_layers):
                x = self.pool(stage, x, running)
        skip, *upsampled = maps
        parts = self.head_norm.normalize_parts((*upsampled, skip), running)
        logits = self.head_conv([nn.relu(part) for part in parts])
        # A fence: XLA's YNNPACK computes nonsense where it fuses these products, of bfloat16, with
        # the softmax that follows (jaxlib 0.12.0).
        logits = lax.optimization_barrier(logits.astype(jnp.float32))
        if deep:
            return logits, tuple(level.astype(jnp.float32) for level in upsampled)
        return logits

    def receptive_radius(self, stage: int) -> int:
        """How many voxels to either side a stage's trunk and map depend on, at its resolution."""
        return self.block_layers[stage - 1] + 1 if stage else STEM_CONVS

    def trunk(
        self,
        stage: int,
        x: Float[Array, "n d h w c"],
        running: bool = True,
        keys: Key[Array, " n"] | None = None,
    ) -> Float[Array, "n d h w k"]:
        """The stem or a block, of its input."""
        if stage:
            return self.blocks[stage - 1](x, running, keys)
        x = self.stem_convs[0](x)
        for norm, conv in zip(self.stem_norms, self.stem_convs[1:], strict=False):
            x = conv(nn.relu(norm(x, running)))
        return x

    def pool(
        self, stage: int, x: Float[Array, "n d h w c"], running: bool = True
    ) -> Float[Array, "n d//2 h//2 w//2 k"]:
        """The next stage's input, of a trunk; the last stage has none."""
        if stage:
            return self.transitions[stage - 1](x, running)
        return self.stem_pool(nn.relu(self.stem_norms[-1](x, running)))

    def full_resolution(
        self, stage: int, x: Float[Array, "n d h w c"]
    ) -> Float[Array, "n d2 h2 w2 k"]:
        """A stage's part of what the head sees, of a trunk."""
        return self.upsamples[stage - 1](x) if stage else x

    def partial_logits(
        self, stage: int, x: Float[Array, "n d h w c"]
    ) -> Float[Array, "n d2 h2 w2 k"]:
        """What a stage adds to the logits, of a trunk; in evaluation, the bias apart.

        The head's convolution is of single voxels, so that each part has a share of its own.
        """
        first = self.num_classes * ((stage or len(self.block_layers) + 1) - 1)
        part = nn.relu(self.head_norm.normalize_part(first, self.full_resolution(stage, x)))
        return self.head_conv.product_of_part(first, part)
