"""Parts of the paper's network alone: several forms of each, ours and PyTorch's.

The forward pass, or the gradients to all arguments; for `measuring.in_one_process`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from measuring import PLATFORMS, Found, timed

SIDE, TINY_SIDE = 64, 16
STRIDES = (2, 4, 8, 16)
CHANNELS = {2: 96, 4: 112, 8: 120, 16: 124}
"""Of what is upsampled by each stride."""
CLASSES = 4
CONVOLUTION, NORM, DROPOUT = "3x3x3 convolution", "batch norm and ReLU", "dropout"
OURS = {
    CONVOLUTION: ("NDHWC", "NCDHW"),
    "upsampling by 2": ("a product", "a convolution", "a transposed convolution"),
    "upsampling by 4": ("a product", "a convolution", "a transposed convolution"),
    "upsampling by 8": ("a product", "a transposed convolution"),
    "upsampling by 16": ("a product", "a transposed convolution"),
    NORM: ("one factor and offset",),
    DROPOUT: ("by example",),
    "1x1x1 convolution": ("a product",),
}
"""The pieces and their forms, the most important first."""
TORCH = tuple(OURS)[:-1]


@dataclass(frozen=True)
class Piece:
    """A function of arrays, and their shapes; the first array is as in the network, a volume."""

    function: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]


def our_pieces(batch: int, side: int) -> dict[tuple[str, str], Piece]:
    """Ours, by name and form."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    from jax import lax

    from infant_seg_jax.models.layers import dropout
    from infant_seg_jax.models.normalization import BatchNorm
    from infant_seg_jax.ops.conv3d import conv3x3x3_plain
    from infant_seg_jax.ops.resampling import upsample

    def convolve_channels_first(x: Any, kernel: Any) -> Any:
        layouts = ("NCDHW", "OIDHW", "NCDHW")
        return lax.conv_general_dilated(x, kernel, (1, 1, 1), "SAME", dimension_numbers=layouts)

    def normalize(x: Any, scale: Any, bias: Any) -> Any:
        zeros, ones = jnp.zeros(x.shape[-1]), jnp.ones(x.shape[-1])
        variables = {
            "params": {"scale": scale, "bias": bias},
            "batch_stats": {"mean": zeros, "var": ones},
        }
        layer = BatchNorm(dtype=x.dtype)
        return nn.relu(layer.apply(variables, x, False, mutable=["batch_stats"])[0])

    def drop(x: Any) -> Any:
        return dropout(x, 0.2, jax.random.split(jax.random.key(0), len(x)), 0)

    def transpose_convolution(x: Any, kernel: Any, stride: int) -> Any:
        return lax.conv_general_dilated(
            x,
            kernel[::-1, ::-1, ::-1],
            (1, 1, 1),
            [(stride, stride)] * 3,
            lhs_dilation=(stride,) * 3,
            dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
            feature_group_count=CLASSES,
        )

    volume = (batch, side, side, side)
    taps = (3, 3, 3)
    pieces = {
        (CONVOLUTION, "NDHWC"): Piece(conv3x3x3_plain, ((*volume, 64), (*taps, 64, 16))),
        (CONVOLUTION, "NCDHW"): Piece(
            convolve_channels_first, ((batch, 64, *volume[1:]), (16, 64, *taps))
        ),
        ("1x1x1 convolution", "a product"): Piece(
            lambda x, kernel: (x.reshape(-1, 96) @ kernel).reshape(*x.shape[:-1], 64),
            ((*volume, 96), (96, 64)),
        ),
        (NORM, "one factor and offset"): Piece(normalize, ((*volume, 64), (64,), (64,))),
        (DROPOUT, "by example"): Piece(drop, ((*volume, 16),)),
    }
    for stride in STRIDES:
        small = (batch, *[max(1, side // stride)] * 3, CHANNELS[stride])
        kernel = (*[stride + 2] * 3, CHANNELS[stride] // CLASSES, CLASSES)
        forms = {
            "a product": partial(upsample, stride=stride),
            "a transposed convolution": partial(transpose_convolution, stride=stride),
            "a convolution": partial(upsample, stride=stride, onednn=True),
        }
        name = f"upsampling by {stride}"
        pieces |= {(name, form): Piece(forms[form], (small, kernel)) for form in OURS[name]}
    return pieces


def torch_pieces(batch: int, side: int) -> dict[str, Piece]:
    """PyTorch's, by name; volumes are channels first in shape, whatever their layout."""
    import torch
    from torch.nn import functional

    def normalize(x: Any, scale: Any, bias: Any) -> Any:
        return functional.batch_norm(x, None, None, scale, bias, training=True).relu()

    def up(x: Any, kernel: Any, stride: int) -> Any:
        return functional.conv_transpose3d(x, kernel, None, stride, 1, 0, CLASSES)

    volume = (side, side, side)
    pieces = {
        CONVOLUTION: Piece(
            partial(functional.conv3d, padding=1), ((batch, 64, *volume), (16, 64, 3, 3, 3))
        ),
        NORM: Piece(normalize, ((batch, 64, *volume), (64,), (64,))),
        DROPOUT: Piece(torch.nn.Dropout(0.2), ((batch, 16, *volume),)),
    }
    for stride in STRIDES:
        small = (batch, CHANNELS[stride], *[max(1, side // stride)] * 3)
        kernel = (CHANNELS[stride], 1, *[stride + 2] * 3)
        pieces[f"upsampling by {stride}"] = Piece(partial(up, stride=stride), (small, kernel))
    return pieces


def run_ours(
    piece: str, form: str, gradients: bool, batch: int, tiny: bool, seconds: float
) -> Found:
    """Time a piece of ours in bfloat16."""
    import jax
    import jax.numpy as jnp

    from infant_seg_jax.compilation import has_onednn, jit

    found = our_pieces(batch, TINY_SIDE if tiny else SIDE)[piece, form]
    arrays = [jnp.asarray(values, jnp.bfloat16) for values in random_arrays(found.shapes)]

    def loss(*given: Any) -> Any:
        return jnp.sum(found.function(*given).astype(jnp.float32) ** 2)

    function = jax.grad(loss, argnums=tuple(range(len(arrays)))) if gradients else found.function
    compiled = jit(function, onednn=has_onednn())
    return timed(lambda: jax.block_until_ready(compiled(*arrays)), seconds)


def run_torch(
    piece: str,
    gradients: bool,
    batch: int,
    device: str,
    tiny: bool,
    seconds: float,
    channels_last: bool,
) -> Found:
    """Time a piece of PyTorch's in bfloat16, eager."""
    import torch

    kind = PLATFORMS[device]
    torch.backends.cudnn.benchmark = True
    found = torch_pieces(batch, TINY_SIDE if tiny else SIDE)[piece]
    tensors = [
        torch.from_numpy(values).to(kind, torch.bfloat16) for values in random_arrays(found.shapes)
    ]
    if channels_last:
        layout = torch.channels_last_3d
        tensors = [t.contiguous(memory_format=layout) if t.ndim == 5 else t for t in tensors]
    for tensor in tensors:
        tensor.requires_grad_(gradients)

    def act() -> None:
        result = found.function(*tensors)
        if gradients:
            torch.autograd.grad(result.float().square().sum(), tensors)
        if kind == "cuda":
            torch.cuda.synchronize()

    return timed(act, seconds)


def random_arrays(shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    """A volume, then kernels so small that what comes out is about as large as what goes in."""
    import numpy as np

    random = np.random.default_rng(0)
    return [
        random.normal(size=shape).astype(np.float32)
        / (math.sqrt(math.prod(shape[:-1])) if i else 1)
        for i, shape in enumerate(shapes)
    ]
