"""Sets of classes: what they must be, what a file or a record may say, and conversions."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infant_seg_jax.data.class_sets import (
    CLASS_SETS,
    DRAWEM9_CLASSES,
    classes_in,
    classes_record,
    find_classes,
    from_record,
    to_record,
)
from infant_seg_jax.data.labels import (
    CSF,
    GM,
    IGNORE,
    TISSUE_CLASSES,
    WM,
    ClassSet,
    LabelSchema,
    class_of_name,
    count_classes,
)
from infant_seg_jax.data.schemas import SCHEMAS, TISSUE_SCHEMA, find_schema, parse_changes
from infant_seg_jax.errors import InputError
from tests.input_errors import input_error

HEADER = "index\tname\tabbreviation\tcolor\tmapping\ttissue\n"
BACKGROUND_ROW = "0\tBackground\tBG\t#000000\t0\tbackground\n"


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_named_sets_are_found_by_name():
    assert list(CLASS_SETS) == ["tissues", "drawem9", "brain"]
    for name, classes in CLASS_SETS.items():
        assert find_classes(name) is classes and classes.name == name
    assert len(DRAWEM9_CLASSES) == 9 == len(set(DRAWEM9_CLASSES.colors.values())) + 1
    with input_error("'nine'", "tissues", "drawem9"):
        find_classes("nine")


def test_drawem9_classes_belong_to_the_tissues_that_its_schema_says():
    """Of each DrawEM value: the class, and that class's tissue, by Makropoulos et al. (2018)."""
    names = {1: "CSF", 2: "CGM", 3: "WM", 5: "VENT", 6: "CBM", 7: "SGM", 8: "BS", 9: "HA"}
    tissues = {1: CSF, 2: GM, 3: WM, 5: CSF, 6: IGNORE, 7: GM, 8: IGNORE, 9: GM}
    by_class, by_tissue = find_schema("drawem9", DRAWEM9_CLASSES), SCHEMAS["drawem9"]
    assert by_class.table[0] == by_class.table[4] == by_tissue.table[0] == by_tissue.table[4] == 0
    for value, name in names.items():
        assert DRAWEM9_CLASSES.name_of(by_class.table[value]) == name
        assert by_tissue.table[value] == tissues[value]
        assert DRAWEM9_CLASSES.tissues[by_class.table[value]] == tissues[value]
    # BIDS: 1 gray matter, 2 white matter, 3 CSF, 8 cortical and 9 subcortical gray matter,
    # 10 brainstem, 11 cerebellum.
    mapping = {one.name: one.mapping for one in DRAWEM9_CLASSES.classes[1:]}
    assert mapping == {
        **{"CSF": 3, "CGM": 8, "WM": 2, "VENT": 3, "CBM": 11, "SGM": 9, "BS": 10, "HA": 1},
    }


def test_regions_of_drawem87_are_classes_by_the_same_tissue():
    finer = find_schema("drawem87", DRAWEM9_CLASSES)
    assert finer.of_tissues() == SCHEMAS["drawem87"]
    assert finer.table[19] == DRAWEM9_CLASSES.foreground["BS"]
    assert finer.table[50] == DRAWEM9_CLASSES.foreground["VENT"]


@pytest.mark.parametrize("classes", CLASS_SETS.values())
def test_records_come_back(classes):
    record = json.loads(json.dumps(to_record(classes)))
    assert from_record(record) == classes
    assert classes_record(classes) == ({} if classes is TISSUE_CLASSES else {"classes": record})


def test_the_record_of_tissues_is_that_of_version_0_1():
    assert to_record(TISSUE_CLASSES) == ["background", "CSF", "GM", "WM"]
    assert classes_in({}) is TISSUE_CLASSES


def rows(**changes):
    record = to_record(DRAWEM9_CLASSES)
    assert isinstance(record, dict)
    record["classes"][2] |= changes
    return record


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (None, "None"),
        ("drawem9", "drawem9"),
        (["background", "GM"], "['background', 'GM']"),
        ({"name": "x"}, "2 to 255"),
        ({"name": "x", "classes": []}, "2 to 255"),
        ({"name": "x", "classes": [1]}, "class 0"),
        ({"name": "x\ny", "classes": rows()["classes"]}, repr("x\ny")),
        ({"name": "x", "classes": rows()["classes"] * 40}, "2 to 255"),
        ({"name": "x", "classes": rows()["classes"][1:]}, "background"),
        ({"name": "x", "classes": rows()["classes"][:1]}, " 1 "),
        (rows(abbreviation="CSF"), " csf"),
        (rows(abbreviation="mean"), "'mean'"),
        (rows(abbreviation="../x"), "'../x'"),
        (rows(index=1), " 1"),
        (rows(index=255), " 255"),
        (rows(index=-1), "'-1'"),
        (rows(index=10**9 * 3), "3000000000"),
        (rows(tissue="bone"), "'bone'"),
        (rows(tissue=None, name="Fat", abbreviation="x"), "'Fat'"),
        (rows(color="red"), "'red'"),
        (rows(name="a\x00b"), repr("a\x00b")),
        (rows(further=1), "class 2"),
    ],
)
def test_what_is_no_record_is_refused(record, found):
    with pytest.raises(ValueError) as caught:
        from_record(record)
    assert found in str(caught.value)


def test_a_table_may_leave_out_what_is_known(tmp_path):
    """As a dseg.tsv, whose columns it has: colors, numbers and known tissues may be missing."""
    path = write(
        tmp_path / "mine.tsv",
        "index\tname\ttissue\n0\tBackground\t\n7\tGray Matter\t\n3\tLeft thalamus\tGM\n",
    )
    found = find_classes(path)
    assert found.name == "mine" and found.names == ("background", "GrayMatter", "Leftthalamus")
    assert found.tissues == (0, GM, GM) and [one.value for one in found.classes] == [0, 7, 3]
    assert [one.mapping for one in found.classes] == [None, None, None]
    assert len(set(found.colors.values())) == 2
    record = to_record(found)
    assert isinstance(record, dict)
    for content in (record, record["classes"]):
        assert find_classes(write(tmp_path / "mine.json", json.dumps(content))) == found


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.tsv", "index\tother\n", "has no column 'name'"),
        ("a.tsv", HEADER + BACKGROUND_ROW, "there are 1 classes, expected 2 to 255"),
        ("a.tsv", HEADER + BACKGROUND_ROW + "1\tx\ty\t\t\t\n", "'x' has the tissue ''"),
        (
            "a.tsv",
            HEADER + BACKGROUND_ROW + "1\tx\ty\t\tz\tGM\n",
            "the mapping 'z', expected a whol",
        ),
        ("a.json", "{}", "expected a list of 2 to 255 classes"),
        ("a.json", "[", "is not valid JSON"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path, name, text, sentence):
    with pytest.raises(InputError) as caught:
        find_classes(write(tmp_path / name, text))
    message = str(caught.value)
    assert sentence in message and str(tmp_path / name) in message and "\n" not in message


def test_labels_become_tissues_and_nothing_else():
    labels = np.arange(9, dtype=np.uint8).reshape(3, 3)
    labels[0, 0] = IGNORE
    found = DRAWEM9_CLASSES.convert(labels, TISSUE_CLASSES)
    assert found.dtype == np.uint8
    assert found.ravel().tolist() == [IGNORE, CSF, GM, WM, CSF, IGNORE, GM, IGNORE, GM]
    assert TISSUE_CLASSES.convert(labels, TISSUE_CLASSES) is labels
    with pytest.raises(ValueError, match="'tissues'.*'drawem9'"):
        TISSUE_CLASSES.convert(labels, DRAWEM9_CLASSES)


def test_sets_of_the_same_classes_are_the_same_whatever_their_names():
    other = replace(DRAWEM9_CLASSES, name="mine")
    assert other == DRAWEM9_CLASSES and hash(other) == hash(DRAWEM9_CLASSES)
    assert ClassSet("mine", DRAWEM9_CLASSES.classes[:4]) != DRAWEM9_CLASSES


def test_schemas_tell_their_classes_apart_and_no_others(tmp_path):
    own = LabelSchema.of(DRAWEM9_CLASSES)
    labels = np.arange(9, dtype=np.uint8)
    ids = own.to_ids(labels)
    assert ids.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert find_schema("drawem9", DRAWEM9_CLASSES).to_classes(ids, "x").tolist() == labels.tolist()
    assert TISSUE_SCHEMA == LabelSchema.of(TISSUE_CLASSES)
    with input_error("'iseg'", "tissues", "background, CSF, CGM"):
        find_schema("iseg", DRAWEM9_CLASSES)
    path = write(tmp_path / "mine.yaml", "{0: background, 41: Brainstem, 17: HA, 5: ignore}")
    found = find_schema(path, DRAWEM9_CLASSES)
    assert found.table == {0: 0, 41: 7, 17: 8, 5: IGNORE} and found.classes == DRAWEM9_CLASSES
    with input_error(path, 41, "'Brainstem'", "background, CSF, GM, WM"):
        find_schema(path)
    assert parse_changes("3:SGM", DRAWEM9_CLASSES) == {3: 6}
    assert own.changed({4: 0}).name == "drawem9 with 4:background"


def test_names_mean_what_they_mean_to_the_set():
    assert class_of_name("cortex") == GM and class_of_name("cortex", DRAWEM9_CLASSES) is None
    for index, one in enumerate(DRAWEM9_CLASSES.classes):
        for name in (one.name, one.full_name, one.full_name.upper().replace(" ", "_")):
            assert class_of_name(name, DRAWEM9_CLASSES) == index
    assert class_of_name("Ignore", DRAWEM9_CLASSES) == IGNORE


def test_voxels_are_counted_for_every_class():
    found = count_classes(np.array([0, 8, 8, 255, 5], np.uint8), DRAWEM9_CLASSES)
    assert tuple(found) == DRAWEM9_CLASSES.names
    assert {name: n for name, n in found.items() if n} == {"background": 1, "HA": 2, "CBM": 1}
