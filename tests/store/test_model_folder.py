"""Model folders: what goes in comes out, and nothing in one is trusted."""

import copy
import json
import shutil
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from infant_seg_jax.config import Config, default_config
from infant_seg_jax.data.class_sets import DRAWEM9_CLASSES, to_record
from infant_seg_jax.data.prepared import ExpectedScans
from infant_seg_jax.data.preprocessing import Preparation
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import sha256
from infant_seg_jax.models.factory import make_model
from infant_seg_jax.models.variables import by_path, init_variables, map_with_path
from infant_seg_jax.prediction.predictor import Predictor
from infant_seg_jax.prediction.reference_statistics import ReferenceStatistics
from infant_seg_jax.store.model_folder import (
    Model,
    is_model_folder,
    read_model,
    write_model,
)
from tests.input_errors import input_error

MUTATIONS = 300
MEMORY = 2**27  # reading any JSON takes half of it, for a moment


def tiny_config() -> Config:
    config = default_config()
    config.model.growth_rate, config.model.stem_features = 4, 4
    config.model.block_layers = (1, 1)
    config.inference.window, config.inference.overlap = (16, 16, 16), 0.25
    return config


@pytest.fixture(scope="module")
def model() -> Model:
    """An untrained network with other values everywhere than the defaults."""
    config = tiny_config()
    variables = init_variables(make_model(config), 2, seed=3)
    random = np.random.default_rng(0)

    def other(path: str, values: jax.Array) -> np.ndarray:
        found = np.asarray(values + random.normal(0, 0.1, values.shape), "f4")
        return np.abs(found) if path.endswith("/var") else found

    return Model(
        config,
        map_with_path(other, variables),
        ExpectedScans(
            ("T1w", "T2w"), Preparation(5.0, 1.25, (0.5, 99.5), False, False), ("brain", "head")
        ),
        {"step": 12, "weights": "raw", "validation_dice": {"mean": 0.875}},
        ReferenceStatistics((0.1, 0.2), (0.9,), (1400.0, 1300.5)),
    )


@pytest.fixture
def folder(model: Model, tmp_path: Path) -> Path:
    write_model(tmp_path / "model", model)
    return tmp_path / "model"


def test_a_model_comes_back_as_it_was(model: Model, folder: Path) -> None:
    assert is_model_folder(folder) and not is_model_folder(folder.parent)
    assert {path.name for path in folder.iterdir()} == {"model.json", "weights.safetensors"}
    assert list(folder.parent.iterdir()) == [folder]  # nothing is left beside it
    (folder / "LICENSE").write_text("Files beside the two are left alone.")
    found = read_model(folder)
    assert found.expects == model.expects
    assert found.training == model.training
    assert found.reference == model.reference
    for section in ("model", "inference"):
        assert found.config[section].to_dict() == model.config[section].to_dict()
    expected = by_path(model.variables)
    assert by_path(found.variables).keys() == expected.keys()
    for path, array in by_path(found.variables).items():
        assert array.dtype == np.float32
        assert array.tobytes() == expected[path].tobytes()


def test_finer_classes_go_in_and_come_out(model: Model, tmp_path: Path) -> None:
    network = make_model(model.config, num_classes=len(DRAWEM9_CLASSES))
    expects = replace(model.expects, classes=DRAWEM9_CLASSES)
    finer = replace(model, variables=init_variables(network, 2, seed=3), expects=expects)
    write_model(tmp_path / "finer", finer)
    found = read_model(tmp_path / "finer")
    assert found.expects == expects and found.expects.classes.name == "drawem9"
    image = np.zeros((16, 16, 16, 2), np.float32)
    predictor = Predictor.from_config(found.config, found.variables, found.expects)
    assert predictor.probabilities(image).shape == (16, 16, 16, 9)


def test_the_description_is_for_people(folder: Path) -> None:
    content = json.loads((folder / "model.json").read_text())
    assert list(content) == [
        *("format_version", "written_by", "classes", "modalities", "preparation", "extents"),
        *("config", "weights", "familiar", "training"),
    ]
    assert content["format_version"] == 1
    assert content["written_by"].startswith("infant_seg_jax 0")
    assert content["classes"] == ["background", "CSF", "GM", "WM"]
    assert content["modalities"] == ["T1w", "T2w"]
    assert content["preparation"] == {
        "margin_mm": 5.0,
        "spacing_mm": 1.25,
        "clip_percentiles": [0.5, 99.5],
        "bias_correction": False,
        "brain_masks": False,
    }
    assert content["config"]["model"]["block_layers"] == [1, 1]
    assert content["config"]["inference"]["window"] == [16, 16, 16]
    stored = load_file(folder / "weights.safetensors")
    assert content["weights"]["values"] == sum(array.size for array in stored.values())
    assert "params/block1/layer1/conv2/kernel" in stored


def test_the_same_model_makes_the_same_bytes(model: Model, folder: Path) -> None:
    again = folder.parent / "again"
    write_model(again, read_model(folder))
    for path in folder.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()
    with input_error(again):
        write_model(again, model)


def test_half_precision_halves_the_size_and_keeps_the_labels(model: Model, folder: Path) -> None:
    half = folder.parent / "half"
    write_model(half, model, float16=True)
    sizes = [(path / "weights.safetensors").stat().st_size for path in (half, folder)]
    kernels = sum(
        2 * x.size for path, x in by_path(model.variables).items() if path.endswith("kernel")
    )
    assert sizes[1] - sizes[0] == pytest.approx(kernels, rel=0.02)
    image = np.random.default_rng(1).normal(size=(24, 20, 16, 2)).astype(np.float32)
    exact, close = (
        Predictor.from_config(m.config, m.variables, m.expects).probabilities(image)
        for m in (model, read_model(half))
    )
    assert 0 < np.abs(exact - close).max() < 0.01
    assert np.mean(exact.argmax(-1) == close.argmax(-1)) > 0.99
    # What half precision has rounded, float32 holds to the last bit.
    write_model(folder.parent / "whole", read_model(half))
    for path, array in by_path(read_model(folder.parent / "whole").variables).items():
        np.testing.assert_array_equal(array, by_path(read_model(half).variables)[path])


@pytest.mark.parametrize(
    ("value", "float16", "found"),
    [
        (1e5, True, "100000"),
        (np.nan, False, "1 NaN"),
        (np.inf, True, "1 NaN or infinite"),
    ],
)
def test_weights_that_cannot_be_kept_are_not_written(
    model: Model, tmp_path: Path, value: float, float16: bool, found: str
) -> None:
    variables = copy.deepcopy(model.variables)
    variables["params"]["head_conv"]["kernel"].flat[0] = value
    with input_error(found):
        write_model(tmp_path / "model", replace(model, variables=variables), float16=float16)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("model", "block_layers", (1,) * 9, "blocks of (1, 1, 1, 1, 1, 1, ...) layers, expected"),
        ("model", "growth_rate", 5000, "The network has the growth rate 5000"),
        ("inference", "window", (1024, 1024, 1024), "windows of 1024x1024x1024 voxels at once"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(
    model: Model, tmp_path: Path, section: str, key: str, value: Any, message: str
) -> None:
    config = model.config.copy_and_resolve_references()
    config[section][key] = value
    with pytest.raises(InputError) as caught:
        write_model(tmp_path / "model", replace(model, config=config))
    assert message in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_model_that_does_not_fit_its_config_is_not_written(model: Model, tmp_path: Path) -> None:
    with input_error("stem_conv0/kernel", "3x3x3x2x4", "3x3x3x1x4"):
        write_model(
            tmp_path / "m", replace(model, expects=replace(model.expects, modalities=("a",)))
        )


def refusal(folder: Path) -> str:
    """The one sentence with which a folder is refused, at no great cost."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as caught:
            read_model(folder)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
    check_sentence(str(caught.value), folder)
    return str(caught.value)


def check_sentence(message: str, folder: Path) -> None:
    assert str(folder) in message
    assert "\n" not in message and message.endswith(".")
    assert len(message) < 2000


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "model.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


HUGE = 10**30


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["format_version"], 2, "has the format version 2, expected 1: use the version"),
        (["format_version"], "1", "has the format version '1', expected 1"),
        (["format_version"], True, "has the format version True, expected 1"),
        (["format_version"], None, "has the format version None, expected 1"),
        (["format_version"], "x" * 10_000, "has the format version 'xxx"),
        (["classes"], ["background", "WM", "GM", "CSF"], "the classes are ['background', 'WM'"),
        (["classes"], "a\nb", r"the classes are a\nb, not ["),
        (["classes"], None, "the classes are None, not ["),
        (["classes"], to_record(DRAWEM9_CLASSES), "head_conv/bias is 4, expected 9"),
        (["classes"], {"name": "x", "classes": [{}]}, "'' has the index '', expected a whole numb"),
        (["modalities"], [], "The modalities are (), expected 1 to 32 different names"),
        (["modalities"], "T1w", "expected a list of names, not 'T1w'"),
        (["modalities"], ["T1w", 2], "expected a list of names, not ['T1w', 2]"),
        (["modalities"], ["T1w", "T\n2w"], "expected names of 1 to 100 printable characters"),
        (["modalities"], ["T1w", "T1w"], "expected 1 to 32 different names"),
        (["modalities"], ["T1w"], "stem_conv0/kernel is 3x3x3x2x4, expected 3x3x3x1x4"),
        (["modalities"], [str(i) for i in range(1000)], "expected 1 to 32 different names"),
        (["extents"], ["brian"], "The extents are ('brian',), expected brain, head or both"),
        (["extents"], None, "expected a list of names, not None"),
        (["preparation"], [], "cannot be used"),
        (["preparation", "margin_mm"], "8", "margin_mm is '8'"),
        (
            ["preparation", "margin_mm"],
            1e308,
            "The margin around the brain is 1e+308 mm, expected at most",
        ),
        (["preparation", "margin_mm"], -1.0, "The margin around the brain is -1.0 mm"),
        (["preparation", "spacing_mm"], float("nan"), "The voxel size to resample to is nan mm"),
        (["preparation", "clip_percentiles"], [1.0], "cannot be used"),
        (["preparation", "clip_percentiles"], {"a": 1}, "cannot be used"),
        (["preparation", "brain_masks"], 1, "brain_masks is 1"),
        (["preparation", "sharpen"], 1.0, "sharpen is not part of a preparation"),
        (["config"], [], "it has list, not model, inference"),
        (["config", "model"], None, "sets config.model to None, expected a value like {"),
        (["config", "data"], {"path": "/"}, "it has model, inference, data, not model, inference"),
        (["config", "model", "growth"], 4, "an unknown key, config.model.growth; the nearest key"),
        (["config", "model", "a\nb"], 4, r"an unknown key, config.model.a\nb; the nearest key"),
        (["config", "model", "growth_rate"], "4", "sets config.model.growth_rate to '4'"),
        (
            ["config", "model", "growth_rate"],
            HUGE,
            "cannot be used: The network has the growth rate 10000",
        ),
        (["config", "model", "growth_rate"], 0, "config.model.growth_rate is 0, expected at least"),
        (["config", "model", "growth_rate"], 5, "conv1/kernel is 1x1x1x4x16, expected 1x1x1x4x20"),
        (["config", "model", "stem_features"], 2**40, "1099511627776 stem features"),
        (["config", "model", "block_layers"], [], "config.model.block_layers is (), expected one"),
        (["config", "model", "block_layers"], [1] * 20_000, "expected at most 4096, 4096, and 8"),
        (
            ["config", "model", "block_layers"],
            [10**9],
            "blocks of (1000000000,) layers, expected",
        ),
        (["config", "model", "block_layers"], [64] * 4, "those of a network with 256 dense layers"),
        (["config", "model", "block_layers"], [2, 1], "block1/layer2/conv1/kernel is absent, exp"),
        (["config", "model", "dropout_rate"], float("nan"), "dropout_rate is nan, expected at"),
        (["config", "model", "dropout_rate"], 10**400, "sets config.model.dropout_rate to 1000"),
        (["config", "model", "dtype"], "float8", "config.model.dtype is 'float8', expected"),
        (
            ["config", "inference", "window"],
            [2**20] * 3,
            "uses 1 windows of 1048576x1048576x1048576",
        ),
        (["config", "inference", "window"], [HUGE] * 3, "expected at most 536870912 voxels"),
        (["config", "inference", "window"], [0, 16, 16], "expected three multiples of 4"),
        (["config", "inference", "window"], [-16, -16, 16], "expected three multiples of 4"),
        (["config", "inference", "window"], [16, 16], "expected three multiples of 4"),
        (["config", "inference", "batch_size"], 2**20, "uses 1048576 windows of 16x16x16"),
        (["config", "inference", "overlap"], 1.0, "config.inference.overlap is 1.0, expected"),
        (["config", "model", "widths"], [10**9], "the widths (1000000000,), expected"),
        (["config", "model", "widths"], [1] * 9, "expected at most 8 of at most 4096"),
        (["weights"], {}, "it has , not kernels, values, sha256"),
        (["weights", "kernels"], "int8", "the kernels are int8, not one of"),
        (["weights", "kernels"], ["float32"], "the kernels are ['float32'], not one of"),
        (["weights", "kernels"], "float16", "kernel as float32, expected float16"),
        (["weights", "sha256"], "0" * 64, "is not the file that model.json describes"),
        (["weights", "file"], "../weights", "it has kernels, values, sha256, file, not kernels"),
        (["familiar", "entropy"], [1e400], "a measurement is not finite"),
        (["familiar", "volume_ml"], [0.0], "a volume not above 0"),
        (["familiar", "mood"], [1.0], "unexpected keyword argument"),
        (["training"], "long", "training is 'long'"),
        (["pickle"], "x", "training, pickle, not format_version"),
    ],
)
def test_what_no_description_holds_is_one_sentence(
    folder: Path, keys: list[str], value: Any, message: str
) -> None:
    def change(content: dict[str, Any]) -> None:
        *parents, last = keys
        for key in parents:
            content = content[key]
        content[last] = value

    rewrite(folder, change)
    assert message in refusal(folder)


@pytest.mark.parametrize(
    "key",
    [
        *("classes", "modalities", "preparation", "extents"),
        *("config", "weights", "familiar", "training"),
    ],
)
def test_no_key_is_optional(folder: Path, key: str) -> None:
    rewrite(folder, lambda content: content.pop(key))
    assert "cannot be used (it has " in refusal(folder)


def test_settings_of_prediction_that_are_left_out_are_the_defaults(folder: Path) -> None:
    """So that models outlive settings that are added later."""
    rewrite(folder, lambda content: content["config"]["inference"].pop("overlap"))
    assert read_model(folder).config.inference.overlap == default_config().inference.overlap


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not valid JSON"),
        ("[1]", "has the format version None"),
        ("null", "has the format version None"),
        ('{"format_version": 1}', "cannot be used (it has format_version, not"),
        ("[" * 100_000, "is not valid JSON"),
        ('{"format_version": 1' + "0" * 10_000 + "}", "is not valid JSON"),
        (" " * (2**20 + 1), "is larger than 1048576 bytes"),
    ],
)
def test_descriptions_that_are_none_are_refused(folder: Path, text: str, message: str) -> None:
    (folder / "model.json").write_text(text)
    assert message in refusal(folder)


def save_weights(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the weights, and the description's digest of them."""
    path = folder / "weights.safetensors"
    arrays = dict(load_file(path))
    change(arrays)
    save_file(arrays, path)
    rewrite(folder, lambda content: content["weights"].update(sha256=sha256(path)))


KERNEL = "params/head_conv/kernel"
VARIANCE = "batch_stats/head_norm/var"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop(KERNEL), f"{KERNEL} is absent, expected 1x1x1x12x4"),
        (lambda a: a.update(more=a[KERNEL]), "more is 1x1x1x12x4, expected none"),
        (
            lambda a: a.update({KERNEL: a[KERNEL][..., :3]}),
            f"{KERNEL} is 1x1x1x12x3, expected 1x1x1x12x4",
        ),
        (lambda a: a.update({KERNEL: a[KERNEL].ravel()}), f"{KERNEL} is 48, expected"),
        (lambda a: [a.pop(path) for path in list(a)[:20]], " and 15 more."),
        (lambda a: a.clear(), "holds 0 arrays, expected those of a network with 2 dense layers"),
        (lambda a: a.update({KERNEL: a[KERNEL].astype("f8")}), f"{KERNEL} as float64, expected"),
        (lambda a: a.update({KERNEL: a[KERNEL].astype("i4")}), f"{KERNEL} as int32, expected"),
        (lambda a: a.update({KERNEL: a[KERNEL] * np.nan}), "holds 48 NaN or infinite values"),
        (lambda a: a.update({VARIANCE: -a[VARIANCE]}), f"{VARIANCE} of "),
    ],
)
def test_weights_that_are_not_the_networks_are_one_sentence(
    folder: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    save_weights(folder, change)
    assert message in refusal(folder)


def test_weights_of_another_model_are_noticed(folder: Path) -> None:
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "is not the file that model.json describes, because their SHA-256 differ" in refusal(
        folder
    )
    path.write_bytes(content[:-4])
    assert "is damaged, or not a safetensors file" in refusal(folder)
    path.write_bytes(struct.pack("<Q", 2**60) + bytes(100))
    assert f"claims a header of {2**60} bytes" in refusal(folder)
    path.unlink()
    assert "Cannot read" in refusal(folder)


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_links_are_not_followed(folder: Path, tmp_path: Path, name: str) -> None:
    shutil.move(folder / name, tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    assert f"{name} is a link, expected the file itself" in refusal(folder)


def test_a_link_to_the_whole_folder_is_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(folder)
    assert read_model(tmp_path / "latest").training["step"] == 12


JUNK = [None, True, -1, 0, 7, 2**70, 0.5, -1e300, float("nan"), "", "a\nb", [], {}, [1], {"a": 1}]


def json_mutated(content: Any, rng: np.random.Generator) -> Any:
    """Somewhere in it a value is another one, is gone, or has a neighbor."""
    parent: Any = None
    key: Any = None
    node = content
    while isinstance(node, dict | list) and node and rng.random() < 0.85:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        parent, key = node, keys[rng.integers(len(keys))]
        node = node[key]
    junk = copy.deepcopy(JUNK[rng.integers(len(JUNK))])
    kind = rng.integers(4)
    if parent is None:
        return junk if kind == 0 else content
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent["x\ny"[: rng.integers(4)]] = junk
    else:
        parent[key] = junk
    return content


def bytes_mutated(data: bytes, rng: np.random.Generator) -> bytes:
    kind = rng.integers(3)
    if kind == 0:
        return data[: rng.integers(len(data))]
    block = np.frombuffer(data, np.uint8).copy()
    where = rng.integers(0, block.size, rng.integers(1, 5))
    block[where] = rng.choice([0, 10, 34, 48, 57, 91, 123, 127, 128, 255], where.size)
    return block.tobytes()


def test_mutated_models_end_in_a_model_or_in_our_error(folder: Path) -> None:
    files = {path: path.read_bytes() for path in folder.iterdir()}
    description, weights = folder / "model.json", folder / "weights.safetensors"
    rng, outcomes = np.random.default_rng(5), {True: 0, False: 0}
    for _ in range(MUTATIONS):
        for path, data in files.items():
            path.write_bytes(data)
        kind = rng.integers(4)
        if kind == 0:
            weights.write_bytes(bytes_mutated(files[weights], rng))
            digest = sha256(weights)  # or every change would be noticed by its digest
            rewrite(folder, lambda content, d=digest: content["weights"].update(sha256=d))
        elif kind == 1:
            description.write_bytes(bytes_mutated(files[description], rng))
        else:
            content = json_mutated(json.loads(files[description]), rng)
            description.write_text(json.dumps(content))
        outcomes[survives(folder)] += 1
    assert min(outcomes.values()) > MUTATIONS / 20


def survives(folder: Path) -> bool:
    """Whether a model was read, and is one; it was refused in one sentence otherwise."""
    tracemalloc.start()
    try:
        model = read_model(folder)
    except InputError as error:
        check_sentence(str(error), folder)
        return False
    else:
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(model.variables))
        Predictor.from_config(model.config, model.variables, model.expects)
        return True
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MEMORY
