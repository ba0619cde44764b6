"""Batch normalization, written so that a training step keeps little of it.

Ioffe and Szegedy, "Batch Normalization", ICML 2015. What is differentiated is one product and one
sum a value, so that its gradient reads what went in and nothing else: no difference to the mean is
kept for the way back.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

Parts = tuple[Float[Array, "n d h w _"], ...]

Channels = Float[Array | np.ndarray, " c"]

EPSILON = 1e-5
"""Added to the variance."""


class BatchNorm(nn.Module):
    """Batch normalization with a learned scale and bias, by the names that Flax's has.

    Attributes:
        momentum: share of the running statistics that stays with each batch.
        axis_name: the mapped device axis over which statistics are averaged, if any.
        dtype: of what comes out; statistics are float32.
    """

    momentum: float = 0.9
    axis_name: str | None = None
    dtype: Any = jnp.float32

    def __call__(
        self, x: Float[Array, "n d h w c"], running: bool = True
    ) -> Float[Array, "n d h w c"]:
        """Normalize each channel by the running statistics, which then stay, or by the batch's."""
        return self.normalize_parts((x,), running)[0]

    @nn.compact
    def normalize_parts(self, parts: Parts, running: bool = True) -> Parts:
        """Normalize volumes as if they were joined along their channels, which is slow."""
        ends = [sum(part.shape[-1] for part in parts[: i + 1]) for i in range(len(parts))]
        shape = (ends[-1],)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_variance = self.variable("batch_stats", "var", jnp.ones, shape)
        mean, variance = running_mean.value, running_variance.value
        if not running:
            mean, variance = self._statistics(parts)
            if not self.is_initializing():
                keep = self.momentum
                running_mean.value = keep * running_mean.value + (1 - keep) * mean
                running_variance.value = keep * running_variance.value + (1 - keep) * variance
        factor, offset = _factor_and_offset(scale, bias, mean, variance)
        factors, offsets = jnp.split(factor, ends[:-1]), jnp.split(offset, ends[:-1])
        return tuple(
            (part * factor + offset).astype(self.dtype)
            for part, factor, offset in zip(parts, factors, offsets, strict=True)
        )

    def normalize_part(
        self, first: int, part: Float[Array, "n d h w p"]
    ) -> Float[Array, "n d h w p"]:
        """One of the parts, whose channels are those from the `first` on, by running statistics."""
        own = slice(first, first + part.shape[-1])
        names = (
            ("params", "scale"),
            ("params", "bias"),
            ("batch_stats", "mean"),
            ("batch_stats", "var"),
        )
        factor, offset = _factor_and_offset(*(self.get_variable(*name)[own] for name in names))
        return (part * factor + offset).astype(self.dtype)

    def _statistics(
        self, parts: Sequence[Float[Array, "n d h w _"]]
    ) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
        """Mean and variance of each channel of the whole batch."""
        moments = jnp.stack(
            [
                jnp.concatenate([(_wide(part) ** power).mean(range(4)) for part in parts])
                for power in (1, 2)
            ]
        )
        if self.axis_name is not None and not self.is_initializing():
            moments = lax.pmean(moments, self.axis_name)
        mean, square = moments
        return mean, jnp.maximum(square - mean**2, 0)


def _factor_and_offset(
    scale: Channels, bias: Channels, mean: Channels, variance: Channels
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    factor = jnp.asarray(scale) * lax.rsqrt(variance + EPSILON)
    return factor, jnp.asarray(bias) - mean * factor


def _wide(x: Array) -> Array:
    """In float32 at least: sums of half precision are of no use."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
