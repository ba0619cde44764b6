"""The residual U-Net: against PyTorch, by its properties, and from a run to label maps."""

import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infant_seg_jax.compilation import has_onednn, jit
from infant_seg_jax.config import RESIDUAL_UNET, Config, check_config
from infant_seg_jax.data.phantom import write_cohort
from infant_seg_jax.data.prepared import open_prepared
from infant_seg_jax.data.preparing import prepare
from infant_seg_jax.data.sources.phantom import PHANTOM
from infant_seg_jax.errors import InputError
from infant_seg_jax.models.layers import DepthToSpace
from infant_seg_jax.models.residual_unet import ResidualUNet
from infant_seg_jax.models.variables import abstract_variables, init_variables
from infant_seg_jax.prediction.execution import execute
from infant_seg_jax.prediction.planning import (
    OnePassPlan,
    WindowPlan,
    make_plan,
    pass_bytes,
    smaller,
)
from infant_seg_jax.store.loading import open_model, open_predictor
from infant_seg_jax.store.model_folder import write_model
from infant_seg_jax.store.program import ONNX, write_program
from infant_seg_jax.training.loop import train_and_evaluate
from tests.training.tiny import tiny_config

SMALL = ResidualUNet(widths=(4, 6, 8))
WINDOWS = WindowPlan((32, 32, 32), 0.5, 2)


@pytest.fixture(scope="module")
def variables() -> dict[str, Any]:
    """Random ones, for biases and gains that start alike would hide exchanged ones."""
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: np.asarray(leaf) + rng.normal(0, 0.1, leaf.shape).astype(np.float32),
        init_variables(SMALL, 2, seed=0),
    )


def image(*shape: int, channels: int = 2) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(1, *shape, channels)).astype(np.float32)


def test_equals_a_network_of_torchs_operations(variables: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    params = jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf)), variables["params"])

    def conv(x: Any, layer: Any, stride: int = 1) -> Any:
        kernel = layer["kernel"].permute(4, 3, 0, 1, 2)
        padding = 1 if kernel.shape[-1] == 3 else 0
        return functional.conv3d(x, kernel, layer["bias"], stride=stride, padding=padding)

    def spread(x: Any, layer: Any) -> Any:
        kernel = layer["kernel"].permute(3, 4, 0, 1, 2)
        return functional.conv_transpose3d(x, kernel, layer["bias"], stride=2)

    def activate(x: Any, layer: Any) -> Any:
        last = x.movedim(1, -1)
        size = last.shape[-1:]
        normalized = functional.layer_norm(last, size, layer["scale"], layer["bias"], eps=1e-3)
        return functional.leaky_relu(normalized, 0.01).movedim(-1, 1)

    def block(x: Any, part: Any) -> Any:
        y = conv(activate(x, part["norm1"]), part["conv1"])
        return x + part["gain"] * conv(activate(y, part["norm2"]), part["conv2"])

    given = image(8, 12, 16)
    x = block(conv(torch.tensor(given).movedim(-1, 1), params["stem"]), params["down0"])
    skips = []
    for level in (1, 2):
        skips.append(x)
        x = conv(activate(x, params[f"pool_norm{level}"]), params[f"pool{level}"], stride=2)
        x = block(x, params[f"down{level}"])
    for level in (1, 0):
        y = activate(x, params[f"spread_norm{level}"])
        x = skips[level] + spread(y, params[f"spread{level}"])
        x = x + conv(activate(x, params[f"up_norm{level}"]), params[f"up{level}"])
    expected = conv(activate(x, params["head_norm"]), params["head_conv"]).movedim(1, -1)

    found = jax.jit(SMALL.apply)(variables, given)
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-5)


def test_both_ways_of_compiling_label_alike(variables: dict[str, Any]) -> None:
    if not has_onednn():
        pytest.skip("this JAX has no oneDNN")
    given = image(16, 16, 16)
    plain = jax.jit(SMALL.apply)(variables, given)
    fast = jit(SMALL.clone(onednn=True).apply, onednn=True)(variables, given)
    np.testing.assert_allclose(fast, plain, atol=1e-4)


def test_depth_to_space_has_each_voxel_reach_its_eight() -> None:
    layer = DepthToSpace(3)
    x = jnp.zeros((1, 2, 2, 2, 4)).at[0, 1, 0, 1, 2].set(1.0)
    variables = layer.init(jax.random.key(0), x)
    found = np.asarray(layer.apply(variables, x))
    np.testing.assert_allclose(
        found[0, 2:, :2, 2:], np.asarray(variables["params"]["kernel"])[:, :, :, 2]
    )
    assert np.count_nonzero(np.any(found != 0, axis=-1)) == 8


def test_a_volume_is_answered_as_patches_of_it(variables: dict[str, Any]) -> None:
    """Far from the border, whatever lies elsewhere: nothing is normalized over the volume."""
    given = image(48, 16, 16)
    other = given.copy()
    other[:, 40:] *= 100
    apply = jax.jit(SMALL.apply)
    near = apply(variables, given)[:, :12]
    np.testing.assert_allclose(near, apply(variables, other)[:, :12], atol=1e-5)


def test_extents_have_to_halve() -> None:
    assert ResidualUNet().downsampling == 16 and SMALL.downsampling == 4
    with pytest.raises(ValueError):
        jax.eval_shape(SMALL.init, jax.random.key(0), jnp.zeros((1, 6, 8, 8, 1)))


@pytest.mark.parametrize("channels", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_one_pass_takes_no_more_than_is_counted(channels: int) -> None:
    model, shape = ResidualUNet(), (96, 80, 64)
    given = jax.ShapeDtypeStruct((1, *shape, channels), jnp.float32)
    stats = (
        jax.jit(lambda variables, x: jax.nn.softmax(jnp.asarray(model.apply(variables, x))))
        .lower(abstract_variables(model, channels), given)
        .compile()
        .memory_analysis()
    )
    assert stats is not None
    taken = stats.temp_size_in_bytes + stats.output_size_in_bytes
    taken += 2 * 4 * channels * np.prod(shape)  # The image, here and on the device.
    assert 1.0 < pass_bytes(model, shape, channels) / taken < 1.35


def test_with_little_memory_it_is_given_windows(variables: dict[str, Any]) -> None:
    shape = (40, 36, 44)
    assert make_plan(SMALL, shape, 2, 2**40, WINDOWS) == OnePassPlan()
    least = WindowPlan((4, 4, 4), 0.5, 1)
    assert make_plan(SMALL, shape, 2, 0, WINDOWS) == least
    assert smaller(SMALL, OnePassPlan(), WINDOWS) == WINDOWS
    given = image(*shape)[0]
    whole = execute(SMALL, variables, given, OnePassPlan())
    windows = execute(SMALL, variables, given, WindowPlan((40, 36, 44), 0.5, 1))
    np.testing.assert_allclose(windows, whole, atol=1e-5)
    np.testing.assert_allclose(whole.sum(axis=-1), 1, atol=1e-5)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("unet")
    write_cohort(folder / "scans", range(3), shape=(32, 32, 32))
    prepare(PHANTOM.open(folder / "scans"), folder / "prepared")
    config = tiny_config(folder / "prepared", steps=4)
    config.model.name = RESIDUAL_UNET
    config.model.widths = (4, 6)
    config.average_decay = 0.9
    return config


def test_a_run_goes_on_as_if_not_interrupted_and_becomes_a_model(
    config: Config, tmp_path: Path
) -> None:
    config = config.copy_and_resolve_references()
    config.validate_every = 2
    whole = train_and_evaluate(config, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    for last in (tmp_path / "parts" / "checkpoints").glob("4*"):
        last.rename(tmp_path / "put_away")
    resumed = train_and_evaluate(config, tmp_path / "parts")
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)

    write_model(tmp_path / "model", open_model(tmp_path / "whole", "latest"))
    case = open_prepared(Path(config.data.path)).split("train")[0]
    of_run, of_model = (
        open_predictor(tmp_path / name, "latest").probabilities(case.image())
        for name in ("whole", "model")
    )
    np.testing.assert_array_equal(of_run, of_model)

    further = config.copy_and_resolve_references()
    further.init.checkpoint, further.steps = str(tmp_path / "model"), 1
    train_and_evaluate(further, tmp_path / "further")
    with pytest.raises(InputError):
        write_program(tmp_path / "onnx", open_model(tmp_path / "whole"), ONNX)


@pytest.mark.parametrize(
    ("key", "value"), [("model.widths", ()), ("patch.shape", (15, 16, 16)), ("model.name", "unet")]
)
def test_what_cannot_work_is_refused(config: Config, key: str, value: Any) -> None:
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(InputError):
        check_config(config)


def test_deep_supervision_is_refused(config: Config) -> None:
    config = config.copy_and_resolve_references()
    config.loss.deep_supervision = 0.5
    with pytest.raises(InputError):
        check_config(config)
