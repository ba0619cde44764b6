"""PyTorch weights of the network, as variables of `SkipDenseNet3D`.

NumPy only: a state dict is any mapping of names to arrays, and torch is never imported. The names
are those of the authors' network (Bui, Shin and Moon, Biomedical Signal Processing and Control 54,
2019, 101613).
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from infant_seg_jax.errors import InputError, some_of

_DATA_PARALLEL = "module."
_COUNTER = ".num_batches_tracked"
# Two digits are more than any network needs, and no stray name asks for a million layers.
_DENSE_LAYER = re.compile(r"dense_blocks\.(\d{1,2})\.denselayer(\d{1,2})\.", re.ASCII)
_PAPER_LAYERS = (4, 4, 4, 4)


@dataclass(frozen=True)
class _Sizes:
    """What a state dict says about its network."""

    in_channels: int
    num_classes: int
    growth_rate: int
    stem_features: int
    block_layers: tuple[int, ...]


@dataclass(frozen=True)
class _Tensor:
    """One tensor of the state dict and its place in the Flax variables."""

    name: str
    shape: tuple[int, ...]
    path: tuple[str, ...]
    convert: Callable[[np.ndarray], np.ndarray] = np.asarray


def load_torch_state_dict(mapping: Mapping[str, Any], num_classes: int = 4) -> dict[str, Any]:
    """Variables of `SkipDenseNet3D` from a PyTorch state dict of the authors' network.

    Input channels, growth rate, stem width and layers per block are read off the mapping, whose
    every tensor is used exactly once. The prefix "module." that `torch.nn.DataParallel` gives to
    all names is taken off, and `.num_batches_tracked` is ignored.

    Args:
        mapping: names to tensors: NumPy arrays, anything `np.asarray` reads, or torch tensors on
            any device. Convolutions (out, in, D, H, W), transposed ones (in, out / groups, D, H, W)
            with `groups = gcd(in, num_classes)`.
        num_classes: the classes K that the network is expected to have.

    Returns:
        {"params": ..., "batch_stats": ...}, nested dicts of float32 NumPy arrays. Convolutions
        are (D, H, W, in, out), transposed ones (D, H, W, in / groups, K).

    Raises:
        InputError: tensors are missing, unexpected, of another shape or not finite numbers, or the
            network has another number of classes; the sentence lists them.
    """
    tensors = _named_tensors(mapping)
    block_layers = _block_layers(tensors)
    _check_names(tensors, block_layers)
    arrays = {name: _to_numpy(name, tensor) for name, tensor in tensors.items()}
    table = list(_expected_tensors(_read_sizes(arrays, block_layers, num_classes)))
    _check_shapes(arrays, table)

    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for tensor in table:
        *folders, leaf = tensor.path
        node = variables
        for folder in folders:
            node = node.setdefault(folder, {})
        node[leaf] = np.array(tensor.convert(arrays[tensor.name]), order="C")
    return variables


# The network's tensors, in the order of the forward pass.


def _expected_tensors(sizes: _Sizes) -> Iterator[_Tensor]:
    stem, classes, blocks = sizes.stem_features, sizes.num_classes, len(sizes.block_layers)
    yield from _conv("features.conv0", "stem_conv0", sizes.in_channels, stem, 3)
    yield from _norm("features.norm0", "stem_norm0", stem)
    yield from _conv("features.conv1", "stem_conv1", stem, stem, 3)
    yield from _norm("features.norm1", "stem_norm1", stem)
    yield from _conv("features.conv2", "stem_conv2", stem, stem, 3)
    yield from _norm("features_bn.norm2", "stem_norm2", stem)
    yield from _conv("conv_pool_first", "stem_pool", stem, stem, 2)

    channels, growth = stem, sizes.growth_rate
    for index, layers in enumerate(sizes.block_layers):
        for layer in range(1, layers + 1):
            torch_name = f"dense_blocks.{index}.denselayer{layer}"
            flax_name = f"block{index + 1}/layer{layer}"
            yield from _norm(f"{torch_name}.norm1", f"{flax_name}/norm1", channels)
            yield from _conv(f"{torch_name}.conv1", f"{flax_name}/conv1", channels, 4 * growth, 1)
            yield from _norm(f"{torch_name}.norm2", f"{flax_name}/norm2", 4 * growth)
            yield from _conv(f"{torch_name}.conv2", f"{flax_name}/conv2", 4 * growth, growth, 3)
            channels += growth
        yield _transposed_conv(
            f"upsampling_blocks.{index}",
            f"upsample{index + 1}",
            channels,
            classes,
            kernel=2 ** (index + 1) + 2,
        )
        if index + 1 < blocks:
            torch_name, flax_name = f"transit_blocks.{index}", f"transition{index + 1}"
            half = channels // 2
            yield from _norm(f"{torch_name}.norm", f"{flax_name}/norm", channels)
            yield from _conv(f"{torch_name}.conv", f"{flax_name}/conv", channels, half, 1)
            yield from _norm(f"{torch_name}.pool_norm", f"{flax_name}/pool_norm", half)
            yield from _conv(f"{torch_name}.pool", f"{flax_name}/pool", half, half, 2, bias=True)
            channels = half

    joined = classes * blocks + stem
    yield from _norm("bn_class", "head_norm", joined)
    yield from _conv("conv_class", "head_conv", joined, classes, 1, bias=True)


def _path(collection: str, flax_name: str, leaf: str) -> tuple[str, ...]:
    return (collection, *flax_name.split("/"), leaf)


def _norm(torch_name: str, flax_name: str, channels: int) -> Iterator[_Tensor]:
    for torch_leaf, collection, leaf in (
        ("weight", "params", "scale"),
        ("bias", "params", "bias"),
        ("running_mean", "batch_stats", "mean"),
        ("running_var", "batch_stats", "var"),
    ):
        name = f"{torch_name}.{torch_leaf}"
        yield _Tensor(name, (channels,), _path(collection, flax_name, leaf))


def _conv(
    torch_name: str,
    flax_name: str,
    channels: int,
    features: int,
    kernel: int,
    bias: bool = False,
) -> Iterator[_Tensor]:
    def convert(weight: np.ndarray) -> np.ndarray:
        return weight.transpose(2, 3, 4, 1, 0)

    shape = (features, channels, kernel, kernel, kernel)
    yield _Tensor(f"{torch_name}.weight", shape, _path("params", flax_name, "kernel"), convert)
    if bias:
        yield _Tensor(f"{torch_name}.bias", (features,), _path("params", flax_name, "bias"))


def _transposed_conv(
    torch_name: str, flax_name: str, channels: int, classes: int, kernel: int
) -> _Tensor:
    groups = math.gcd(channels, classes)

    def convert(weight: np.ndarray) -> np.ndarray:
        # PyTorch lays the groups along the input channels. Here they lie along the classes, and
        # a class keeps only the channels that it reads. No flip: both put tap t of input i at
        # output stride * i + t - 1.
        grouped = weight.reshape(groups, channels // groups, classes // groups, *weight.shape[2:])
        taps_first = grouped.transpose(3, 4, 5, 1, 0, 2)
        return taps_first.reshape(*weight.shape[2:], channels // groups, classes)

    shape = (channels, classes // groups, kernel, kernel, kernel)
    return _Tensor(f"{torch_name}.weight", shape, _path("params", flax_name, "kernel"), convert)


# Reading the mapping, and what can be wrong with it.


def _named_tensors(mapping: Mapping[str, Any]) -> dict[str, Any]:
    prefixed = all(name.startswith(_DATA_PARALLEL) for name in mapping)
    return {
        name.removeprefix(_DATA_PARALLEL) if prefixed else name: tensor
        for name, tensor in mapping.items()
        if not name.endswith(_COUNTER)
    }


def _block_layers(tensors: Mapping[str, Any]) -> tuple[int, ...]:
    """Layers of each block by the highest layer that is named, so that gaps show as missing."""
    layers: dict[int, int] = {}
    for name in tensors:
        if found := _DENSE_LAYER.match(name):
            block, layer = map(int, found.groups())
            layers[block] = max(layers.get(block, 1), layer)
    if not layers:
        return _PAPER_LAYERS
    return tuple(layers.get(block, 1) for block in range(max(layers) + 1))


def _check_names(tensors: Mapping[str, Any], block_layers: tuple[int, ...]) -> None:
    # Names depend on the layers alone, so any widths will do.
    expected = [tensor.name for tensor in _expected_tensors(_Sizes(1, 1, 1, 1, block_layers))]
    missing = [name for name in expected if name not in tensors]
    unexpected = sorted(set(tensors) - set(expected))
    problems = [
        f"{len(names)} {what} ({some_of(names, 10)})"
        for what, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]
    if problems:
        raise InputError(
            f"The PyTorch state dict does not name the tensors of SkipDenseNet3D: "
            f"{' and '.join(problems)}, expected exactly the {len(expected)} of a network with "
            f"{_layers_in_words(block_layers)}; check that it is the authors' network's own "
            "state_dict()."
        )


def _to_numpy(name: str, tensor: Any) -> Float[np.ndarray, "..."]:
    if hasattr(tensor, "detach"):
        # A torch tensor, which NumPy reads only from the CPU and not in bfloat16.
        tensor = tensor.detach().cpu().float().numpy()
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
            array = np.asarray(tensor, np.float32)
    except (TypeError, ValueError):
        raise InputError(
            f"The PyTorch state dict's '{name}' is a {type(tensor).__name__} without numbers, "
            "expected an array; pass the network's own state_dict()."
        ) from None
    unusable = int(np.size(array) - np.sum(np.isfinite(array)))
    if unusable:
        raise InputError(
            f"The PyTorch state dict's '{name}' holds {unusable} NaN or infinite values of "
            f"{array.size}, expected finite numbers; take the weights from a run that did not "
            "diverge."
        )
    return array


def _read_sizes(
    arrays: Mapping[str, Shaped[np.ndarray, "..."]],
    block_layers: tuple[int, ...],
    num_classes: int,
) -> _Sizes:
    def leading_axes(name: str) -> tuple[int, int]:
        shape = arrays[name].shape
        if len(shape) != 5:
            raise InputError(
                f"The PyTorch state dict's '{name}' has the shape {shape}, expected the five axes "
                "(out, in, D, H, W) of a 3D convolution; check that it is the authors' 3D network."
            )
        return shape[0], shape[1]

    stem_features, in_channels = leading_axes("features.conv0.weight")
    growth_rate, _ = leading_axes("dense_blocks.0.denselayer1.conv2.weight")
    classes, _ = leading_axes("conv_class.weight")
    if classes != num_classes:
        raise InputError(
            f"The PyTorch state dict's 'conv_class.weight' has {classes} classes, expected "
            f"{num_classes}; pass num_classes={classes} or weights of a network with "
            f"{num_classes} classes."
        )
    return _Sizes(in_channels, classes, growth_rate, stem_features, block_layers)


def _check_shapes(arrays: Mapping[str, Shaped[np.ndarray, "..."]], table: list[_Tensor]) -> None:
    wrong = [
        f"'{tensor.name}' is {arrays[tensor.name].shape} and should be {tensor.shape}"
        for tensor in table
        if arrays[tensor.name].shape != tensor.shape
    ]
    if wrong:
        raise InputError(
            f"The PyTorch state dict differs from SkipDenseNet3D in the shapes of {len(wrong)} "
            f"of its {len(table)} tensors ({some_of(wrong, 10)}); check that it is the authors' "
            "network (a bottleneck of 4 times the growth rate, transitions to half the channels)."
        )


def _layers_in_words(block_layers: tuple[int, ...]) -> str:
    return f"{len(block_layers)} dense blocks of {', '.join(map(str, block_layers))} layers"
