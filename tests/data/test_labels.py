import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infant_seg_jax.data.labels import (
    BACKGROUND,
    CSF,
    GM,
    IGNORE,
    TISSUE_CLASSES,
    TISSUES,
    WM,
    LabelSchema,
    class_of_name,
    count_classes,
)
from infant_seg_jax.data.schemas import IBSR_SCHEMA
from infant_seg_jax.errors import InputError
from tests.input_errors import input_error

ODD = LabelSchema("odd", {0: BACKGROUND, 10: CSF, 150: GM, 250: WM, 41: WM, 6: IGNORE, -2: CSF})


def test_classes_are_those_that_the_file_formats_and_metrics_know():
    assert (BACKGROUND, CSF, GM, WM, IGNORE) == (0, 1, 2, 3, 255)
    assert [TISSUE_CLASSES.names[i] for i in (CSF, GM, WM)] == list(TISSUES) == ["CSF", "GM", "WM"]
    assert [TISSUE_CLASSES.name_of(i) for i in (0, 1, 2, 3, 255)] == [
        *TISSUE_CLASSES.names,
        "ignore",
    ]


@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.float32])
def test_ids_become_classes_voxel_by_voxel(dtype):
    rng = np.random.default_rng(0)
    ids = rng.choice(list(ODD.table), (5, 6, 7)).astype(dtype)
    classes = ODD.to_classes(ids, "labels.nii")
    assert classes.dtype == np.uint8 and classes.shape == ids.shape
    for index in np.ndindex(ids.shape):
        assert classes[index] == ODD.table[int(ids[index])]


def test_unknown_values_are_listed_with_counts_and_the_table():
    ids = np.zeros((4, 4, 4), np.int32)
    ids[0, 0] = 128
    ids[1, 1, 1] = -7
    with pytest.raises(InputError) as caught:
        IBSR_SCHEMA.to_classes(ids, "/data/IBSR_01_seg.nii.gz")
    message = str(caught.value)
    for part in (
        *("/data/IBSR_01_seg.nii.gz", "'ibsr'", "128 (4 voxels)", "-7 (1 voxels)"),
        "0 background, 1 CSF, 2 GM, 3 WM",
    ):
        assert part in message
    assert "0 (" not in message  # what is known is not complained about
    with input_error("1.5 (1 voxels)"):
        IBSR_SCHEMA.to_classes(np.array([[[0, 1.5]]]), "x")
    with input_error(" 40000000 (1 voxels)"):
        IBSR_SCHEMA.to_classes(np.array([[[0, 40_000_000]]]), "x")
    with input_error("nan (1 voxels)"):
        IBSR_SCHEMA.to_classes(np.array([[[0, np.nan]]]), "x")


def test_a_scan_given_as_labels_does_not_flood_the_screen():
    with pytest.raises(InputError) as caught:
        IBSR_SCHEMA.to_classes(np.arange(3000).reshape(10, 10, 30), "scan.nii")
    assert "13 (1 voxels) and 2986 more" in str(caught.value) and len(str(caught.value)) < 500


def test_ignored_ids_are_described_and_counted_as_nothing():
    assert ODD.describe() == ("0 background, 10 CSF, 150 GM, 250 WM, 41 WM, 6 ignore, -2 CSF")
    classes = ODD.to_classes(np.array([[[0, 6, 10, 150, 250, 41]]]), "x")
    assert count_classes(classes) == {"background": 1, "CSF": 1, "GM": 1, "WM": 2}


def test_long_tables_are_described_in_part():
    long = LabelSchema("long", dict.fromkeys(range(41), GM))
    assert long.describe().startswith("0 GM, 1 GM, ") and long.describe().endswith(
        "39 GM and 1 more"
    )
    assert LabelSchema("short", dict.fromkeys(range(40), GM)).describe().endswith("39 GM")


@settings(deadline=None)
@given(
    ids=st.lists(
        st.one_of(st.integers(-5, 300), st.integers(-(2**31), 2**31 - 1)),
        min_size=5,
        max_size=5,
        unique=True,
    ),
    seed=st.integers(0, 99),
)
def test_ids_come_back(ids, seed):
    schema = LabelSchema("any", dict(zip(ids, (BACKGROUND, CSF, GM, WM, IGNORE), strict=True)))
    label_map = np.random.default_rng(seed).choice(ids, (3, 4, 2))
    written = schema.to_ids(schema.to_classes(label_map, "x"))
    np.testing.assert_array_equal(written, label_map)
    assert written.dtype in (np.uint8, np.int16, np.int32)


@pytest.mark.parametrize(
    "first, dtype",
    [(10, np.uint8), (255, np.uint8), (256, np.int16), (-1, np.int16), (40_000, np.int32)],
)
def test_ids_are_written_in_the_smallest_type_that_holds_them(first, dtype):
    schema = LabelSchema("any", {0: BACKGROUND, first: CSF, 2: GM, 100_000: WM, 3: CSF})
    classes = np.array([[0, 1], [2, 0]], np.uint8)
    written = schema.to_ids(classes)
    assert written.dtype == dtype
    np.testing.assert_array_equal(written, [[0, first], [2, 0]])  # of CSF's two, the table's first


def test_class_that_the_source_has_no_id_for_is_one_sentence():
    classes = np.array([[[0, 255, 2, 7]]], np.uint8)
    with pytest.raises(InputError) as caught:
        LabelSchema("few", {0: BACKGROUND, 4: CSF}).to_ids(classes)
    assert str(caught.value) == (
        "The schema 'few' has no id for GM, 7, ignore, expected one for each class to write: "
        "0 background, 4 CSF."
    )


def test_changed_schema_says_so():
    changed = ODD.changed({6: GM, 250: IGNORE, 77: WM})
    assert changed.table == {**ODD.table, 6: GM, 250: IGNORE, 77: WM}
    assert changed.name == "odd with 6:GM,250:ignore,77:WM"
    assert ODD.table[6] == IGNORE and ODD.changed({}) is ODD


@pytest.mark.parametrize(
    "expected, names",
    [
        (BACKGROUND, ("background", "Background", "BG", "outside")),
        (CSF, ("CSF", "csf", "Cerebrospinal_Fluid", "ventricles", " Sulcal-CSF ")),
        (GM, ("GM", "gray matter", "Grey-Matter", "CGM", "deep_grey_matter", "Cortical GM")),
        (WM, ("WM", "White Matter", "cerebral-white-matter")),
        (IGNORE, ("ignore", "IGNORE")),
        (None, ("", "brainstem", "tumour", "1", "gray-white")),
    ],
)
def test_names_that_people_give_labels(expected, names):
    assert [class_of_name(name) for name in names] == [expected] * len(names)
