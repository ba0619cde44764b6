"""The Flax network against its PyTorch twin: same weights, same outputs, gradients and averages."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infant_seg_jax.errors import InputError
from infant_seg_jax.models import SkipDenseNet3D, load_torch_state_dict

pytest.importorskip("torch")
import torch  # noqa: E402

from tests.input_errors import input_error
from tests.torch_twin import TorchSkipDenseNet3D  # noqa: E402

PAPER: dict[str, Any] = {}
NARROW: dict[str, Any] = {"growth_rate": 4, "stem_features": 8, "dropout_rate": 0.0}
SHALLOW: dict[str, Any] = NARROW | {"block_layers": (1, 2, 1, 1)}


def random_twin(seed: int, in_channels: int, **architecture: Any) -> TorchSkipDenseNet3D:
    """A twin none of whose tensors has a value that another place could hold as well."""
    torch.manual_seed(seed)
    twin = TorchSkipDenseNet3D(in_channels, **architecture)
    for name, tensor in twin.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif name.endswith(("running_mean", "bias")):
            tensor.normal_(0, 0.3)
        elif name.endswith("weight") and tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5)
        elif name.startswith("upsampling_blocks"):
            # As large as the other paths, so that no upsampling hides in the rounding.
            channels_per_class = tensor.shape[0] * tensor.shape[1] / twin.conv_class.out_channels
            tensor.normal_(0, channels_per_class**-0.5)
    return twin


def random_patches(seed: int, shape: tuple[int, ...], in_channels: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(*shape, in_channels)).astype(np.float32)


def to_torch(patches: np.ndarray) -> Any:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(patches, -1, 1)))


def to_numpy(outputs: Any) -> np.ndarray:
    return np.moveaxis(outputs.detach().numpy(), 1, -1)


def copies(tensors: Any) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors}


def leaves(tree: Any) -> dict[str, np.ndarray]:
    paths, _ = jax.tree.flatten_with_path(jax.device_get(tree))
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in paths}


def check_outputs(seed: int, shape: tuple[int, ...], in_channels: int, **architecture: Any) -> None:
    twin = random_twin(seed, in_channels, **architecture).eval()
    model = SkipDenseNet3D(**architecture)
    variables = load_torch_state_dict(twin.state_dict(), num_classes=model.num_classes)
    patches = random_patches(seed, shape, in_channels)
    with torch.no_grad():
        expected = to_numpy(twin(to_torch(patches)))
    logits = jax.jit(model.apply)(variables, patches)
    assert expected.std() > 0.3
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "in_channels", "architecture"),
    [
        pytest.param((1, 32, 16, 48), 2, PAPER, marks=pytest.mark.slow),
        pytest.param((2, 16, 16, 16), 1, PAPER, marks=pytest.mark.slow),
        pytest.param((3, 16, 32, 16), 1, NARROW, marks=pytest.mark.slow),
        ((1, 16, 16, 48), 3, NARROW | {"growth_rate": 6, "block_layers": (1, 3, 2)}),
    ],
)
def test_outputs_agree(shape, in_channels, architecture):
    check_outputs(1, shape, in_channels, **architecture)


@pytest.mark.parametrize(
    ("num_classes", "groups"),
    # Channels before upsampling are 12, 10, 9 and 8.
    [
        (6, [6, 2, 3, 2]),
        pytest.param(3, [3, 1, 3, 1], marks=pytest.mark.slow),
        pytest.param(5, [1, 5, 1, 1], marks=pytest.mark.slow),
    ],
)
def test_classes_that_do_not_divide_the_channels_share_them(num_classes, groups):
    architecture: dict[str, Any] = NARROW | {
        "num_classes": num_classes,
        "block_layers": (1, 1, 1, 1),
    }
    twin = random_twin(0, 1, **architecture)
    assert [block.groups for block in twin.upsampling_blocks] == groups
    check_outputs(3, (1, 16, 16, 16), 1, **architecture)


@pytest.mark.slow
def test_training_outputs_agree_in_single_precision():
    shape = (2, 32, 32, 48)
    twin = random_twin(7, 2, **SHALLOW).train()
    model = SkipDenseNet3D(**SHALLOW)
    variables = load_torch_state_dict(twin.state_dict())
    patches = random_patches(7, shape, 2)
    logits, _ = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"]))(
        variables, patches
    )
    expected = to_numpy(twin(to_torch(patches)))
    assert expected.std() > 0.3
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)


class Step(NamedTuple):
    """One training step's results in both frameworks, all in the Flax layout."""

    shape: tuple[int, ...]
    logits: np.ndarray
    expected_logits: np.ndarray
    loss: float
    expected_loss: float
    gradients: dict[str, np.ndarray]
    expected_gradients: dict[str, np.ndarray]
    old_averages: dict[str, np.ndarray]
    averages: dict[str, np.ndarray]
    expected_averages: dict[str, np.ndarray]


def train_step(shape: tuple[int, ...], in_channels: int, architecture: dict[str, Any]) -> Step:
    """A step in double precision.

    In single precision rounding flips some ReLUs of the deepest block, where so few voxels are
    left that one of them changes every gradient by percents, in PyTorch as in JAX.
    """
    twin = random_twin(4, in_channels, **architecture).train()
    variables = load_torch_state_dict(twin.state_dict())
    patches = random_patches(4, shape, in_channels)
    labels = np.random.default_rng(5).integers(0, 4, shape)

    with jax.enable_x64(True):
        model = SkipDenseNet3D(dtype=jnp.float64, **architecture)

        @jax.jit
        @partial(jax.value_and_grad, has_aux=True)
        def gradient_function(params: Any, batch_stats: Any, patches: Any) -> Any:
            logits, updates = model.apply(
                {"params": params, "batch_stats": batch_stats},
                patches,
                train=True,
                mutable=["batch_stats"],
            )
            likelihoods = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1)
            return -likelihoods.mean(), (logits, updates["batch_stats"])

        (loss, (logits, averages)), gradients = gradient_function(
            *jax.tree.map(np.float64, (variables["params"], variables["batch_stats"], patches))
        )

    twin.double()
    outputs = twin(to_torch(patches).double())
    expected_loss = torch.nn.functional.cross_entropy(outputs, torch.from_numpy(labels))
    expected_loss.backward()
    torch_gradients = {name: weight.grad for name, weight in twin.named_parameters()}
    return Step(
        shape,
        np.asarray(logits),
        to_numpy(outputs),
        float(loss),
        float(expected_loss.detach()),
        leaves(gradients),
        leaves(load_torch_state_dict(copies(twin.named_buffers()) | torch_gradients)["params"]),
        leaves(variables["batch_stats"]),
        leaves(averages),
        leaves(load_torch_state_dict(twin.state_dict())["batch_stats"]),
    )


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(((2, 32, 32, 48), 2, SHALLOW), id="narrow", marks=pytest.mark.slow),
        pytest.param(
            ((2, 32, 32, 48), 1, PAPER | {"dropout_rate": 0.0}),
            id="paper",
            marks=pytest.mark.slow,
        ),
    ],
)
def step(request) -> Step:
    return train_step(*request.param)


def test_training_outputs_agree(step):
    assert step.expected_logits.std() > 0.3
    np.testing.assert_allclose(step.logits, step.expected_logits, rtol=0, atol=1e-6)
    assert step.loss == pytest.approx(step.expected_loss, abs=1e-6)


def test_gradients_agree(step):
    assert step.gradients.keys() == step.expected_gradients.keys()
    for name, expected in step.expected_gradients.items():
        error = np.linalg.norm(step.gradients[name] - expected) / np.linalg.norm(expected)
        assert error < 1e-5, name


def test_running_averages_agree(step):
    assert step.averages.keys() == step.expected_averages.keys()
    for name, torch_average in step.expected_averages.items():
        old, new = step.old_averages[name], step.averages[name]
        expected = torch_average
        if name.endswith("/var"):
            # PyTorch averages the unbiased variance, Flax the one that normalization uses.
            module = name.split("/")[0]
            level = int(module[-1]) if module.startswith(("block", "transition")) else 0
            voxels = np.prod(step.shape) / 8**level
            expected = 0.9 * old + (torch_average - 0.9 * old) * (voxels - 1) / voxels
        np.testing.assert_allclose(new, expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_mapping_fills_exactly_the_networks_variables():
    twin = TorchSkipDenseNet3D(1)
    initial = jax.eval_shape(
        SkipDenseNet3D().init, jax.random.key(0), jnp.zeros((1, 16, 16, 16, 1))
    )
    imported = load_torch_state_dict(twin.state_dict())
    assert {name: leaf.shape for name, leaf in leaves(imported).items()} == {
        name: leaf.shape for name, leaf in leaves(initial).items()
    }
    assert all(leaf.dtype == np.float32 for leaf in leaves(imported).values())
    # Nothing of the state dict is left over or used twice.
    values = sum(
        tensor.numel() for name, tensor in twin.state_dict().items() if "num_b" not in name
    )
    assert sum(leaf.size for leaf in leaves(imported).values()) == values


@pytest.mark.parametrize(("in_channels", "count"), [(2, 1_552_256), (1, 1_551_392)])
def test_parameter_count_of_the_twin(in_channels, count):
    twin = TorchSkipDenseNet3D(in_channels)
    assert sum(weight.numel() for weight in twin.parameters()) == count


@pytest.fixture(scope="module")
def small() -> dict[str, np.ndarray]:
    """A state dict as plain arrays."""
    return copies(random_twin(6, 1, **NARROW).state_dict().items())


def same(first: Any, second: Any) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, first, second))


def test_arrays_tensors_and_prefixed_names_give_the_same(small):
    expected = load_torch_state_dict(small)
    tensors = {name: torch.tensor(array) for name, array in small.items()}
    assert same(load_torch_state_dict(tensors), expected)
    on_the_tape = {
        name: tensor.requires_grad_(tensor.is_floating_point()) for name, tensor in tensors.items()
    }
    assert same(load_torch_state_dict(on_the_tape), expected)
    prefixed = {f"module.{name}": array for name, array in small.items()}
    assert same(load_torch_state_dict(prefixed), expected)
    uncounted = {name: array for name, array in small.items() if "num_batches" not in name}
    assert len(uncounted) < len(small)
    assert same(load_torch_state_dict(uncounted), expected)
    shuffled = dict(reversed(small.items()))
    assert same(load_torch_state_dict(shuffled), expected)


def test_half_precision_tensors_are_widened(small):
    tensors = {name: torch.from_numpy(array).bfloat16() for name, array in small.items()}
    imported = leaves(load_torch_state_dict(tensors))
    for name, expected in leaves(load_torch_state_dict(small)).items():
        assert imported[name].dtype == np.float32
        np.testing.assert_allclose(imported[name], expected, rtol=2**-8)


def test_imported_arrays_do_not_follow_the_source(small):
    source = {name: array.copy() for name, array in small.items()}
    imported = load_torch_state_dict(source)
    for array in source.values():
        array += 1
    assert same(imported, load_torch_state_dict(small))


def test_torch_is_not_needed(small, tmp_path: Path):
    np.savez(tmp_path / "weights.npz", **small)
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np\n"
        "from infant_seg_jax.models import load_torch_state_dict\n"
        "variables = load_torch_state_dict(dict(np.load(sys.argv[1])))\n"
        "print(sorted(variables))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "weights.npz")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "['batch_stats', 'params']\n"


LAYER = "dense_blocks.1.denselayer2"


@pytest.mark.parametrize(
    ("change", "fragments"),
    [
        ({"conv_class.bias": None}, ["1 missing (conv_class.bias)", "4, 4, 4, 4 layers"]),
        ({"classifier.weight": np.ones(3)}, ["1 unexpected (classifier.weight)"]),
        (
            {"bn_class.running_var": None, "bn_class.var": np.ones(24)},
            ["1 missing (bn_class.running_var) and 1 unexpected (bn_class.var)"],
        ),
        # One name with the prefix is a stray, not a DataParallel state dict.
        (
            {"conv_class.bias": None, "module.conv_class.bias": np.ones(4)},
            ["1 missing (conv_class.bias)", "1 unexpected (module.conv_class.bias)"],
        ),
        (
            {f"{LAYER}.{name}": None for name in ("norm1.weight", "conv1.weight")},
            [f"2 missing ({LAYER}.norm1.weight, {LAYER}.conv1.weight)"],
        ),
        (
            {"dense_blocks.3.denselayer5.conv1.weight": np.ones((16, 31, 1, 1, 1))},
            ["missing", "dense_blocks.3.denselayer5.norm1.weight", "4, 4, 4, 5 layers"],
        ),
        (
            {"dense_blocks.0.denselayer999999999.conv1.weight": np.ones(1)},
            ["1 unexpected (dense_blocks.0.denselayer999999999.conv1.weight)"],
        ),
        (
            {f"{LAYER}.conv1.weight": np.ones((8, 16, 1, 1, 1)), "bn_class.bias": np.ones(7)},
            [
                "the shapes of 2 of its",
                f"'{LAYER}.conv1.weight' is (8, 16, 1, 1, 1) and should be (16, 16, 1, 1, 1)",
                "'bn_class.bias' is (7,) and should be (24,)",
            ],
        ),
        (
            {"features.conv0.weight": np.ones((8, 1, 3, 3))},
            ["'features.conv0.weight' has the shape (8, 1, 3, 3)", "(out, in, D, H, W)"],
        ),
        (
            {"conv_class.weight": np.ones((3, 24, 1, 1, 1))},
            ["'conv_class.weight' has 3 classes, expected 4", "num_classes=3"],
        ),
        (
            {"bn_class.bias": np.array([1.0, np.nan, np.inf])},
            ["'bn_class.bias' holds 2 NaN or infinite values of 3"],
        ),
        (
            {"bn_class.bias": np.array([1.0, 1e300])},
            ["'bn_class.bias' holds 1 NaN or infinite values of 2"],
        ),
        ({"bn_class.bias": {"a": 1}}, ["'bn_class.bias' is a dict without numbers"]),
    ],
)
def test_what_does_not_fit_is_one_sentence(small, change, fragments):
    mapping = {k: v for k, v in (small | change).items() if v is not None}
    with pytest.raises(InputError) as caught:
        load_torch_state_dict(mapping)
    message = str(caught.value)
    assert all(fragment in message for fragment in fragments), message
    assert message.startswith("The PyTorch state dict") and message.endswith(".")
    assert "\n" not in message and ". " not in message


@pytest.mark.parametrize("name", ["", "model_state_dict"])
def test_a_mapping_of_something_else_lists_what_is_missing(small, name):
    with input_error("219 missing", "features.conv0.weight", 209):
        load_torch_state_dict({name: small} if name else {})


def test_no_tensor_is_optional(small):
    names = [name for name in small if not name.endswith("num_batches_tracked")]
    for name in names[::11]:
        with input_error(f"({name})"):
            load_torch_state_dict({k: v for k, v in small.items() if k != name})
