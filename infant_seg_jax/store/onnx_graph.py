"""The network as a graph of ONNX's own operations, for runtimes that know nothing of JAX.

Converters of whole JAX programs meet our convolutions in the forms that suit XLA; this names them
as what they are. https://onnx.ai/onnx/operators says what each operation does. Needs the package
`onnx`, which the extra of that name brings.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from flax.traverse_util import flatten_dict

from infant_seg_jax.errors import InputError
from infant_seg_jax.models.normalization import EPSILON
from infant_seg_jax.store.model_folder import Model

if TYPE_CHECKING:
    import onnx

OPSET = 17

_TO_CHANNELS_FIRST, _TO_CHANNELS_LAST = (0, 4, 1, 2, 3), (0, 2, 3, 4, 1)


class _Graph:
    """A growing list of operations; each method adds one and returns the name of what it yields."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self.weights = weights
        self.nodes: list[Any] = []
        self.tensors: dict[str, np.ndarray] = {}

    def add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        output = f"{operation.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, list(inputs), [output], **attributes))
        return output

    def tensor(self, name: str, array: np.ndarray) -> str:
        self.tensors[name] = np.ascontiguousarray(array, np.float32)
        return name

    def norm(self, x: str, name: str) -> str:
        """Normalized with the running statistics, then rectified."""
        parts = {"scale": "params", "bias": "params", "mean": "batch_stats", "var": "batch_stats"}
        names = [
            self.tensor(f"{name}/{part}", self.weights[f"{kind}/{name}/{part}"])
            for part, kind in parts.items()
        ]
        normalized = self.add("BatchNormalization", x, *names, epsilon=EPSILON)
        return self.add("Relu", normalized)

    def conv(self, x: str, name: str) -> str:
        kernel = self.weights[f"params/{name}/kernel"]
        size = kernel.shape[0]
        inputs = [x, self.tensor(f"{name}/kernel", kernel.transpose(4, 3, 0, 1, 2))]
        if (bias := self.weights.get(f"params/{name}/bias")) is not None:
            inputs.append(self.tensor(f"{name}/bias", bias))
        # Kernels of 2 move by their own size, those of 3 stay within the volume's shape.
        strides, pads = [2 if size == 2 else 1] * 3, [1 if size == 3 else 0] * 6
        return self.add("Conv", *inputs, strides=strides, pads=pads, kernel_shape=[size] * 3)

    def upsample(self, x: str, name: str) -> str:
        kernel = self.weights[f"params/{name}/kernel"]
        size, group_channels, classes = kernel.shape[0], *kernel.shape[3:]
        groups = math.gcd(self.channels(name), classes)
        split = kernel.reshape(size, size, size, group_channels, groups, classes // groups)
        # ONNX has the group with the input channels, we have it with the outputs.
        theirs = split.transpose(4, 3, 5, 0, 1, 2).reshape(-1, classes // groups, *(size,) * 3)
        weight = self.tensor(f"{name}/kernel", theirs)
        stride, pads = [size - 2] * 3, [1] * 6
        return self.add("ConvTranspose", x, weight, strides=stride, pads=pads, group=groups)

    def channels(self, upsampling: str) -> int:
        """How many channels a block yields: the last of its layers' inputs and what it adds."""
        block = upsampling.replace("upsample", "block")
        layers = [name for name in self.weights if name.startswith(f"params/{block}/")]
        last = max(int(name.split("/")[2].removeprefix("layer")) for name in layers)
        kernels = [self.weights[f"params/{block}/layer{last}/conv{i}/kernel"] for i in (1, 2)]
        return kernels[0].shape[3] + kernels[1].shape[4]


def to_onnx(model: Model) -> "onnx.ModelProto":
    """The network with its weights, from images to probabilities, for windows of any shape.

    The input `image` is float32 `(windows, x, y, z, modalities)`, where x, y and z are multiples of
    2 to the number of blocks; the output `probabilities` is float32 `(windows, x, y, z, classes)`.

    Raises:
        InputError: the package onnx is not installed.
    """
    try:
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise InputError(
            "ONNX is not installed: pip install 'infant_seg_jax[onnx]', or export with "
            "--format=jax."
        ) from error
    leaves = flatten_dict(model.variables, sep="/")
    graph = _Graph({name: np.asarray(leaf) for name, leaf in leaves.items()})
    _connect(graph, tuple(model.config.model.block_layers))
    axes = ["windows", "x", "y", "z"]
    made = helper.make_graph(
        graph.nodes,
        "infant_seg_jax",
        [_value("image", [*axes, len(model.expects.modalities)], TensorProto.FLOAT)],
        [_value("probabilities", [*axes, len(model.expects.classes)], TensorProto.FLOAT)],
        [numpy_helper.from_array(array, name) for name, array in graph.tensors.items()],
    )
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)])
    proto.ir_version = 8  # The one that came with this opset: older runtimes refuse newer ones.
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _connect(graph: _Graph, block_layers: tuple[int, ...]) -> None:
    """What `SkipDenseNet3D` does, operation by operation."""
    x = graph.add("Transpose", "image", perm=_TO_CHANNELS_FIRST)
    for i in range(2):
        x = graph.norm(graph.conv(x, f"stem_conv{i}"), f"stem_norm{i}")
    skip = graph.conv(x, "stem_conv2")
    x = graph.conv(graph.norm(skip, "stem_norm2"), "stem_pool")
    levels = []
    for block, layers in enumerate(block_layers, start=1):
        for layer in range(1, layers + 1):
            name = f"block{block}/layer{layer}"
            y = graph.conv(graph.norm(x, f"{name}/norm1"), f"{name}/conv1")
            y = graph.conv(graph.norm(y, f"{name}/norm2"), f"{name}/conv2")
            x = graph.add("Concat", x, y, axis=1)
        levels.append(graph.upsample(x, f"upsample{block}"))
        if block < len(block_layers):
            name = f"transition{block}"
            x = graph.conv(graph.norm(x, f"{name}/norm"), f"{name}/conv")
            x = graph.conv(graph.norm(x, f"{name}/pool_norm"), f"{name}/pool")
    x = graph.norm(graph.add("Concat", *levels, skip, axis=1), "head_norm")
    x = graph.add("Softmax", graph.conv(x, "head_conv"), axis=1)
    x = graph.add("Transpose", x, perm=_TO_CHANNELS_LAST)
    graph.nodes[-1].output[0] = "probabilities"


def _value(name: str, shape: list[str | int], kind: int) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, kind, shape)
