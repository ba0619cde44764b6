"""A residual U-Net whose normalization is of single voxels.

Blocks of two convolutions with a shortcut, as in the residual encoder of nnU-Net (Isensee et al.,
MICCAI 2024), one convolution on the way up. Layer normalization over the channels of each voxel (Ba
et al., 2016; as in ConvNeXt, Liu et al., CVPR 2022) has no statistics of a batch, which suit no
scan where contrast changes from example to example, and none of a whole patch, so that a whole
volume is answered as patches were.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Key

from infant_seg_jax.models.layers import Conv, DepthToSpace

Logits = Float[Array, "n d h w k"]

_FIRST_GAIN = 0.2


def _activate(x: Float[Array, "n d h w c"], dtype: Any, name: str) -> Float[Array, "n d h w c"]:
    normalized = nn.LayerNorm(epsilon=1e-3, dtype=dtype, name=name)(x)
    return nn.leaky_relu(normalized, 0.01)


class ResidualBlock(nn.Module):
    """Norm, 3x3x3, norm, 3x3x3, times a gain that is learned, added to the input."""

    features: int
    dtype: Any
    onednn: bool

    @nn.compact
    def __call__(self, x: Float[Array, "n d h w c"]) -> Float[Array, "n d h w k"]:
        conv = partial(Conv, self.features, use_bias=True, dtype=self.dtype, onednn=self.onednn)
        y = conv(3, name="conv1")(_activate(x, self.dtype, "norm1"))
        y = conv(3, name="conv2")(_activate(y, self.dtype, "norm2"))
        # As in LayerScale (Touvron et al., ICCV 2021): a deep network begins near the identity.
        gain = self.param("gain", nn.initializers.constant(_FIRST_GAIN), ())
        return x + gain.astype(self.dtype) * y


class ResidualUNet(nn.Module):
    """Logits of `num_classes` classes for every voxel of a patch of any number of modalities.

    Attributes:
        num_classes: K, the classes; background is one of them.
        widths: channels at full resolution, at half of it, and so on.
        axis_name: the mapped device axis, if any; nothing is averaged over it here.
        dtype: of the computation; parameters and logits are float32.
        onednn: for programs that are compiled with oneDNN; changes nothing but their speed.
    """

    num_classes: int = 4
    widths: tuple[int, ...] = (16, 32, 64, 96, 128)
    axis_name: str | None = None
    dtype: Any = jnp.float32
    onednn: bool = False

    @property
    def downsampling(self) -> int:
        """D, H and W are multiples of this: 16 with five widths."""
        return 2 ** (len(self.widths) - 1)

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "n d h w c"],
        *,
        train: bool = False,
        example_keys: Key[Array, " n"] | None = None,
        deep: bool = False,
        frozen_statistics: bool = False,
    ) -> Logits:
        """Compute the logits. It has no dropout and no statistics, and is the same in training.

        Raises:
            ValueError: D, H or W is not a multiple of `downsampling`, or `deep` is asked for: there
                are no maps of the levels.
        """
        if any(extent % self.downsampling for extent in x.shape[1:4]):
            raise ValueError(
                f"the spatial shape {x.shape[1:4]} must be multiples of {self.downsampling}"
            )
        if deep:
            raise ValueError("a residual U-Net has no maps for deep supervision")
        conv = partial(Conv, use_bias=True, dtype=self.dtype, onednn=self.onednn)
        first, *deeper = self.widths
        x = conv(first, 3, name="stem")(x)
        x = ResidualBlock(first, self.dtype, self.onednn, name="down0")(x)
        skips = []
        for level, width in enumerate(deeper, start=1):
            skips.append(x)
            x = conv(width, 2, name=f"pool{level}")(_activate(x, self.dtype, f"pool_norm{level}"))
            x = ResidualBlock(width, self.dtype, self.onednn, name=f"down{level}")(x)
        for level in reversed(range(len(deeper))):
            width = self.widths[level]
            y = _activate(x, self.dtype, f"spread_norm{level}")
            x = skips[level] + DepthToSpace(width, dtype=self.dtype, name=f"spread{level}")(y)
            x = x + conv(width, 3, name=f"up{level}")(_activate(x, self.dtype, f"up_norm{level}"))
        x = _activate(x, self.dtype, "head_norm")
        dtype = jnp.promote_types(self.dtype, jnp.float32)
        return Conv(self.num_classes, 1, True, dtype, name="head_conv")(x).astype(jnp.float32)
