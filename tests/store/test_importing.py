"""Weights from PyTorch become a model like any other, and predict what they did in PyTorch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infant_seg_jax.__main__ import main
from infant_seg_jax.config import default_config
from infant_seg_jax.data.preprocessing import Preparation
from infant_seg_jax.models.variables import by_path
from infant_seg_jax.store.importing import import_state_dict
from infant_seg_jax.store.loading import open_model, open_predictor, read_start
from infant_seg_jax.store.model_folder import write_model

pytest.importorskip("torch")
import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from tests.input_errors import input_error
from tests.torch_twin import TorchSkipDenseNet3D  # noqa: E402

NARROW: dict[str, Any] = {"growth_rate": 4, "stem_features": 8, "block_layers": (2, 1)}


def twin(in_channels: int = 2, num_classes: int = 4, **sizes: Any) -> TorchSkipDenseNet3D:
    """A network whose statistics and biases are not those of a fresh one."""
    torch.manual_seed(3)
    network = TorchSkipDenseNet3D(in_channels, num_classes, **(NARROW | sizes)).eval()
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif name.endswith(("running_mean", "bias")):
            tensor.normal_(0, 0.3)
    return network


def save(path: Path, network: TorchSkipDenseNet3D) -> Path:
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    if path.suffix == ".npz":
        arrays: Any = {name: tensor.numpy() for name, tensor in state.items()}
        np.savez(path, **arrays)
    else:
        save_file(state, path)
    return path


def import_weights(*arguments: str | Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["import-weights", *map(str, arguments)])
    assert not stop.value.code


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_an_imported_network_predicts_what_it_did_in_pytorch(tmp_path: Path, suffix: str) -> None:
    network = twin()
    source = save(tmp_path / f"theirs{suffix}", network)
    import_weights(source, tmp_path / "model")
    predictor = open_predictor(tmp_path / "model")
    image = np.random.default_rng(0).normal(size=(64, 64, 64, 2)).astype(np.float32)
    with torch.no_grad():
        patch = torch.from_numpy(np.moveaxis(image, -1, 0)[None].copy())
        expected = torch.softmax(network(patch), dim=1)[0].numpy()
    assert expected.std() > 0.05
    np.testing.assert_allclose(
        predictor.probabilities(image), np.moveaxis(expected, 0, -1), rtol=0, atol=1e-4
    )


def test_sizes_are_read_off_the_weights_and_the_rest_are_documented_defaults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save(tmp_path / "theirs.safetensors", twin(1, dropout_rate=0.0))
    import_weights(source, tmp_path / "model")
    model = open_model(tmp_path / "model")
    sizes = model.config.model
    assert (sizes.growth_rate, sizes.stem_features, sizes.block_layers) == (4, 8, (2, 1))
    assert model.expects.modalities == ("T1w",)
    assert model.expects.preparation == Preparation()
    assert model.expects.extents == ("brain",)
    assert model.config.inference.to_dict() == default_config().inference.to_dict()
    assert model.training["imported_from"]["file"] == "theirs.safetensors"
    assert str(tmp_path) not in (tmp_path / "model" / "model.json").read_text()
    main(["import-weights", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for default in ("in mm (default: 8)", "(default: 0,100)", "is set to 0 (default: yes)"):
        assert default in printed
    assert Preparation() == Preparation(8.0, 0.0, (0.0, 100.0), False, True)


def test_what_is_said_goes_before_like_and_like_before_the_defaults(tmp_path: Path) -> None:
    source = save(tmp_path / "theirs.safetensors", twin())
    import_weights(
        *(source, tmp_path / "first", "--modalities=T2w,FLAIR", "--extents=brain,head"),
        *("--margin_mm=4", "--spacing_mm=1", "--clip_percentiles=1,99", "--nobrain_masks"),
        *("--config=configs/default.py", "--config.model.growth_rate=4"),
        *("--config.model.stem_features=8", "--config.model.block_layers=(2, 1)"),
        *("--config.inference.window=(32, 32, 32)",),
    )
    first = open_model(tmp_path / "first")
    assert first.expects.modalities == ("T2w", "FLAIR")
    assert first.expects.extents == ("brain", "head")
    assert first.expects.preparation == Preparation(4.0, 1.0, (1.0, 99.0), False, False)
    assert first.config.inference.window == (32, 32, 32)

    other = save(tmp_path / "other.safetensors", twin(growth_rate=6))
    like = f"--like={tmp_path / 'first'}"
    import_weights(like, "--margin_mm=2", "--brain_masks", "--float16", other, tmp_path / "second")
    second = open_model(tmp_path / "second")
    assert second.expects.modalities == ("T2w", "FLAIR")
    assert second.expects.preparation == Preparation(2.0, 1.0, (1.0, 99.0), False, True)
    assert second.config.inference.window == (32, 32, 32)
    assert second.config.model.growth_rate == 6
    content = json.loads((tmp_path / "second" / "model.json").read_text())
    assert content["weights"]["kernels"] == "float16"


def test_fine_tuning_starts_from_imported_weights(tmp_path: Path) -> None:
    source = save(tmp_path / "theirs.safetensors", twin())
    model = import_state_dict(source)
    write_model(tmp_path / "model", model)
    config = default_config()
    config.init.checkpoint = str(tmp_path / "model")
    variables, kind = read_start(config.init)
    assert kind == "a model folder"
    for path, array in by_path(variables).items():
        np.testing.assert_array_equal(array, by_path(model.variables)[path])
    config.init.which = "100"
    with input_error("best", "latest", 100):
        read_start(config.init)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--modalities=T1w"], "a network with 2 input channels, expected a modality"),
        (["--modalities=T1w,T1w"], "The modalities are ('T1w', 'T1w'), expected 1 to 32 different"),
        (["--extents=hed"], "The extents are ('hed',), expected brain, head or both."),
        (["--margin_mm=-1"], "The margin around the brain is -1.0 mm, expected >= 0."),
        (["--clip_percentiles=1"], "--clip_percentiles is 1, expected two numbers as in 0.1,99.9."),
        (["--like=nowhere"], "There is no run folder, model folder or installed model nowhere"),
        (
            ["--config=configs/default.py", "--config.model.block_layers=(2, 1)"],
            "does not fit the described network: params/block1/layer1/conv1/kernel is",
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    source = save(tmp_path / "theirs.safetensors", twin())
    assert sentence in refused([*arguments, str(source), str(tmp_path / "out")], capsys)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (twin(3), "with 3 input channels, expected a modality for each instead of no"),
        (twin(num_classes=3), "cannot be imported: The PyTorch state dict's 'conv_class.weight' h"),
        (torch.nn.Conv3d(1, 2, 3), "cannot be imported: The PyTorch state dict does not name the"),
    ],
)
def test_other_networks_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], network: Any, sentence: str
) -> None:
    source = save(tmp_path / "theirs.npz", network)
    printed = refused([str(source), str(tmp_path / "out")], capsys)
    assert sentence in printed and str(source) in printed


def test_pickles_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "theirs.pth"
    torch.save(twin().state_dict(), source)
    printed = refused([str(source), str(tmp_path / "out")], capsys)
    assert "theirs.pth has the name of a pickle" in printed and "save_file(" in printed


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["import-weights", *arguments])
    printed = capsys.readouterr().err.strip()
    assert stop.value.code == 1, printed
    assert len(printed.splitlines()) == 1
    return printed
