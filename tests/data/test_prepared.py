import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from infant_seg_jax.data.prepared import open_prepared
from infant_seg_jax.errors import InputError
from tests.data.toys import make_cases, prepare_toys
from tests.input_errors import input_error


@pytest.fixture
def folder(tmp_path):
    prepare_toys(make_cases(tmp_path / "input"), tmp_path / "set")
    return tmp_path / "set"


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_splits_keep_the_sessions_of_a_baby_together(folder):
    prepared = open_prepared(folder)
    groups = {name: [c.case_id for c in prepared.split(name)] for name in ("train", "validation")}
    assert sorted(groups.values()) == [["a_1", "a_2"], ["b_1"]]
    with input_error("'valid'", "fold 0", "train, validation"):
        prepared.split("valid")
    with input_error("'train'", "fold 1", "0 to 0"):
        prepared.split("train", fold=1)


def test_edited_splits_are_followed(folder):
    folds = [
        {"train": ["a_1"], "validation": ["b_1"], "test": []},
        {"train": ["b_1"], "validation": ["a_2", "a_1"], "test": ["c_1"]},
    ]
    (folder / "splits.json").write_text(json.dumps(folds))
    prepared = open_prepared(folder)
    assert [case.case_id for case in prepared.split("validation", fold=1)] == ["a_1", "a_2"]
    assert [case.case_id for case in prepared.split("test", fold=0)] == []


def test_sets_in_single_precision_are_read_as_well(folder):
    case = open_prepared(folder).cases[0]
    image = case.image()
    np.save(case.image_path, image)
    again = open_prepared(folder).cases[0]
    assert again.stored_image().dtype == np.float32
    np.testing.assert_array_equal(again.image(), image)
    np.save(case.image_path, image.astype(np.float64))
    with input_error(case.image_path, "float64", "float16"):
        open_prepared(folder)


def test_prepared_set_may_be_moved(folder, tmp_path):
    image = np.array(open_prepared(folder).cases[0].image())
    folder.rename(tmp_path / "elsewhere")
    np.testing.assert_array_equal(open_prepared(tmp_path / "elsewhere").cases[0].image(), image)


def test_folder_that_is_no_prepared_set(tmp_path):
    with input_error(tmp_path, "manifest.json"):
        open_prepared(tmp_path)


def set_in(*keys, value):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    "change, values",
    [
        (set_in("format", value=1), ("format 1", "expected 2")),
        (lambda m: m.pop("format"), ("format None", "expected 2")),
        (lambda m: m.pop("schema"), ("(KeyError: 'schema')",)),
        (lambda m: m["cases"][1].pop("box"), ("(KeyError: 'box')",)),
        (set_in("cases", value=7), ("(TypeError",)),
        (set_in("cases", 0, value="a"), ("(TypeError",)),
        (set_in("cases", 0, "shape", value=[3, 4]), ("(ValueError",)),
        (set_in("cases", 0, "affine", value=[[1, 0]]), ("4 x 4",)),
        (set_in("cases", 0, "affine", value=[[float("nan")] * 4] * 4), ("4 x 4",)),
        (set_in("cases", 0, "sources", value=["x"]), ("(AttributeError",)),
        (set_in("preparation", value={"color": 1}), ("(KeyError: ",)),
        (set_in("preparation", "color", value=1), ("(TypeError: ", "color")),
        (
            set_in("preparation", "margin_mm", value="1"),
            ("(TypeError: margin_mm", "'1'"),
        ),
        (set_in("preparation", "margin_mm", value=-1.0), ("-1.0 mm",)),
        (set_in("cases", 0, "age", value={"value": 3, "unit": "moons"}), ("'moons'",)),
        (set_in("cases", 0, "image", value="../x.npy"), ("../x.npy",)),
        (set_in("cases", 0, "image", value="/etc/passwd"), ("/etc/passwd",)),
        (set_in("cases", 0, "labels", value="a_1/../../x"), ("a_1/../../x",)),
        (set_in("cases", 0, "shape", value=[1, 2, 3]), ("image.npy", "float16", "(1, 2, 3")),
        (set_in("modalities", value=["T1w"]), ("image.npy", "float16")),
        (set_in("cases", 0, "labels", value="a_1/image.npy"), ("image.npy", "float16", "uint8")),
        (set_in("cases", 0, "image", value="manifest.json"), ("manifest.json",)),
        (set_in("cases", 0, "image", value="gone.npy"), ("gone.npy", os.strerror(errno.ENOENT))),
    ],
)
def test_damaged_manifest_is_one_sentence(folder, change, values):
    edit_json(folder / "manifest.json", change)
    with input_error(folder, *values):
        open_prepared(folder)


def test_manifest_that_is_not_even_json(folder):
    (folder / "manifest.json").write_text("[")
    with input_error(folder / "manifest.json"):
        open_prepared(folder)
    (folder / "manifest.json").write_text("[]")
    with input_error(folder, None, 2):
        open_prepared(folder)


def test_leak_or_unknown_case_is_refused_on_opening(folder):
    fold = {"train": ["a_1"], "validation": ["a_2"], "test": []}
    (folder / "splits.json").write_text(json.dumps([fold]))
    with input_error("a_2", "'validation'", "participant a "):
        open_prepared(folder)
    fold = {"train": ["a_1"], "validation": ["c_1"], "test": []}
    (folder / "splits.json").write_text(json.dumps([fold]))
    with input_error("c_1", "'validation'"):
        open_prepared(folder)
    (folder / "splits.json").unlink()
    with input_error(folder / "splits.json"):
        open_prepared(folder)


@pytest.mark.parametrize("cut", [5, 40, 127, 200])
def test_truncated_array_is_named(folder, cut):
    path = folder / "b_1" / "labels.npy"
    path.write_bytes(path.read_bytes()[:cut])
    with input_error(path):
        open_prepared(folder)


def test_pickled_array_is_never_loaded(folder, tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    path = folder / "b_1" / "labels.npy"
    np.save(path, np.array([Trap()], object), allow_pickle=True)
    with input_error(path):
        open_prepared(folder)
    assert not (tmp_path / "sprung").exists()


def test_mutated_array_headers_end_in_our_error_or_in_an_array(folder):
    path = folder / "b_1" / "labels.npy"
    good = path.read_bytes()
    case = open_prepared(folder).cases[2]
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        block = bytearray(good)
        for at in rng.integers(0, 128, rng.integers(1, 4)):
            block[at] = rng.integers(256)
        path.write_bytes(block)
        try:
            assert case.labels().shape == case.shape
        except InputError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 30
