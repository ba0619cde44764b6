"""The config: its refusals, its way through JSON, and the configs that ship."""

import importlib.util
import json
from pathlib import Path

import pytest

from infant_seg_jax.config import Config, check_config, default_config, flatten, load_config
from infant_seg_jax.config.reference import reference
from infant_seg_jax.errors import InputError
from infant_seg_jax.training.losses import LOSSES
from tests.input_errors import input_error

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))

REFUSED = [
    ("patch.shape", (64, 64, 60), "three multiples of 16"),
    ("patch.shape", (64, 64), "three multiples of 16"),
    ("patch.shape", (64, 64, 64, 64), "three multiples of 16"),
    ("patch.shape", (0, 16, 16), "three multiples of 16"),
    ("patch.shape", (16, -16, 16), "three multiples of 16"),
    ("inference.window", (8, 16, 16), "three multiples of 16"),
    ("inference.window", (), "three multiples of 16"),
    ("patch.batch_size", 0, "at least 1"),
    ("inference.batch_size", -2, "at least 1"),
    ("inference.overlap", 1.0, "at least 0 and below 1"),
    ("inference.overlap", -0.1, "at least 0 and below 1"),
    ("augmentation.flip", 1.1, "a chance from 0 to 1"),
    ("augmentation.flip", -0.5, "a chance from 0 to 1"),
    ("augmentation.flip", float("nan"), "a chance from 0 to 1"),
    ("augmentation.gain", 1.0, "at least 0 and below 1"),
    ("augmentation.gain", -0.1, "at least 0 and below 1"),
    ("augmentation.offset", -0.1, "at least 0"),
    ("model.growth_rate", 0, "at least 1"),
    ("model.stem_features", 0, "at least 1"),
    ("model.dropout_rate", 1.0, "at least 0 and below 1"),
    ("model.dropout_rate", -0.2, "at least 0 and below 1"),
    ("loss.name", "mse", "'cross_entropy' or 'dice' or 'cross_entropy_dice' or 'focal'"),
    ("loss.class_weights", (1.0,), "two or more numbers of at least 0, not all of them 0"),
    (
        "loss.class_weights",
        (1.0, 1.0, 1.0, -1.0),
        "two or more numbers of at least 0, not all of them 0",
    ),
    ("loss.class_weights", (0.0,) * 4, "two or more numbers of at least 0, not all of them 0"),
    ("optimizer.schedule", "linear", "'steps' or 'cosine' or 'polynomial' or 'constant'"),
    ("optimizer.name", "lion", "'adam' or 'adamw' or 'sgd'"),
    ("init.which", "last", '"best", "latest" or the number of a step'),
    ("trackers", ("clearml",), 'of "wandb" and "mlflow"'),
    ("optimizer.learning_rate", 0.0, "above 0"),
    ("optimizer.learning_rate", float("nan"), "above 0"),
    ("optimizer.l2", -1e-4, "at least 0"),
    ("steps", 0, "at least 1"),
    ("log_every", 0, "at least 1"),
    ("validate_every", -1, "at least 1"),
    ("parallel", "tpu", "'auto' or 'jit' or 'pmap' or 'shard_map'"),
]

ACCEPTED = [
    ("patch.shape", (16, 32, 48)),
    ("patch.batch_size", 1),
    ("inference.overlap", 0.0),
    ("augmentation.flip", 1.0),
    ("augmentation.gain", 0.99),
    ("model.dropout_rate", 0.0),
    ("optimizer.schedule", "cosine"),
    ("optimizer.l2", 0.0),
    ("steps", 1),
    ("parallel", "jit"),
    ("init.which", "300"),
    ("trackers", ("mlflow",)),
    *(("loss.name", name) for name in LOSSES),
]


def default_with(key: str, value) -> Config:
    config = default_config()
    config.update_from_flattened_dict({key: value})
    return config


def config_in(path: Path) -> Config:
    spec = importlib.util.spec_from_file_location(f"configs_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def written(folder: Path, content) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_config(path)
    return str(caught.value)


@pytest.mark.parametrize(("key", "value", "expected"), REFUSED)
def test_refusal_names_key_value_and_what_was_expected(key, value, expected):
    with pytest.raises(InputError) as caught:
        check_config(default_with(key, value))
    assert str(caught.value) == f"config.{key} is {value!r}, expected {expected}."


@pytest.mark.parametrize(("key", "value"), ACCEPTED)
def test_values_at_the_edge_are_accepted(key, value):
    check_config(default_with(key, value))


def test_sizes_are_multiples_of_what_the_network_halves():
    config = default_with("patch.shape", (8, 8, 8))
    config.model.block_layers = (2, 2, 2)
    check_config(config)
    config.model.block_layers = (2, 2, 2, 2, 2)
    with input_error("config.patch.shape", (8, 8, 8), 32):
        check_config(config)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_that_ship_are_sound_and_survive_json(path, tmp_path):
    config = config_in(path)
    check_config(config)
    loaded = load_config(written(tmp_path, config.to_dict()))
    assert loaded.to_dict() == config.to_dict()
    for tuples in (loaded.patch.shape, loaded.inference.window, loaded.model.block_layers):
        assert type(tuples) is tuple


def test_configs_that_ship_are_found():
    assert {"default", "ibsr_cpu"} <= {path.stem for path in CONFIGS}
    assert config_in(CONFIGS[0].with_name("default.py")) == default_config()


def test_recipe_of_the_paper():
    config = default_config()
    assert config.patch.shape == (64, 64, 64) and config.patch.batch_size == 4
    assert config.model.growth_rate == 16 and config.model.stem_features == 32
    assert config.model.block_layers == (4, 4, 4, 4) and config.model.dropout_rate == 0.2
    adam = config.optimizer
    assert (adam.learning_rate, adam.b1, adam.b2, adam.l2) == (2e-4, 0.97, 0.999, 6e-4)
    assert adam.schedule == "steps" and config.loss.name == "cross_entropy"


def test_missing_keys_keep_their_defaults(tmp_path):
    loaded = load_config(written(tmp_path, {"steps": 7, "patch": {"batch_size": 2}}))
    expected = default_with("steps", 7)
    expected.patch.batch_size = 2
    assert loaded == expected


def test_whole_number_is_taken_for_a_real_one(tmp_path):
    rate = load_config(written(tmp_path, {"optimizer": {"learning_rate": 1}})).optimizer
    assert rate.learning_rate == 1.0


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            {"optimizer": {"learning_rte": 1.0}},
            "has an unknown key, config.optimizer.learning_rte; "
            "the nearest key is config.optimizer.learning_rate.",
        ),
        (
            {"step": 5},
            "has an unknown key, config.step; the nearest key is config.steps.",
        ),
        ({"zzz": 5}, "has an unknown key, config.zzz; the nearest key is config.seed."),
        ({"steps": 2.5}, "sets config.steps to 2.5, expected a value like 20000."),
        ({"steps": "many"}, "sets config.steps to 'many', expected a value like 20000."),
        (
            {"patch": {"shape": 64}},
            "sets config.patch.shape to 64, expected a value like (64, 64, 64).",
        ),
        (
            {"loss": {"name": ["a", "b"]}},
            "sets config.loss.name to ['a', 'b'], expected a value like 'cross_entropy'.",
        ),
        ({"seed": {"a": 1}}, "sets config.seed to {'a': 1}, expected a value like 0."),
        ([1, 2], "contains list, expected a config's JSON object."),
        ("text", "contains str, expected a config's JSON object."),
    ],
)
def test_unusable_file_is_one_sentence(tmp_path, content, sentence):
    path = written(tmp_path, content)
    assert refusal(path) == f"{path} {sentence}"


def test_section_that_is_no_section_is_refused(tmp_path):
    path = written(tmp_path, {"data": 5})
    assert refusal(path).startswith(f"{path} sets config.data to 5, expected a value like ")


def test_value_out_of_range_is_refused_on_loading(tmp_path):
    path = written(tmp_path, {"inference": {"overlap": 1.5}})
    assert "config.inference.overlap is 1.5, expected at least 0 and below 1." in refusal(path)


def test_file_that_is_missing_or_no_json(tmp_path):
    path = tmp_path / "config.json"
    assert refusal(path).startswith(f"Cannot read {path}")
    path.write_text("{")
    assert refusal(path).startswith(f"{path} is not valid JSON")


@pytest.mark.parametrize(
    "content",
    [
        {"steps": None},
        {"patch": {"shape": ["a", "b", "c"]}},
        {"patch": {"shape": [[16], 16, 16]}},
        {"data": None},
        {"data": {"path": None}},
        {"patch": {"shape": [16, 16, 16.0]}},
        {"model": {"block_layers": []}},
        {"model": {"block_layers": [4, "x"]}},
        {"optimizer": {"drops": ["a"]}},
        {"steps": True},
        {"init": {"freeze": [1]}},
        {"loss": "cross_entropy"},
        {"seed": -1},
        {"data": {"train_subjects": -1}},
        {"optimizer": {"b1": 1.5}},
        {"optimizer": {"learning_rate": float("inf")}},
    ],
)
def test_nonsense_in_a_file_is_refused_by_the_file_name(tmp_path, content):
    path = written(tmp_path, content)
    assert str(path) in refusal(path)


def test_the_reference_is_what_is_declared() -> None:
    page = Path(__file__).parents[1] / "docs" / "config.md"
    assert page.read_text(encoding="utf-8") == reference()
    assert all(f"| `{key.split('.')[-1]}` |" in reference() for key in flatten(default_config()))
