import numpy as np
import pytest

from infant_seg_jax.data.labels import (
    BACKGROUND,
    CLASS_NAMES,
    CSF,
    GM,
    IBSR_SCHEMA,
    IGNORE,
    SCHEMAS,
    TISSUE_SCHEMA,
    TISSUES,
    WM,
    LabelSchema,
    count_classes,
)
from infant_seg_jax.errors import InputError

ODD = LabelSchema("odd", {0: BACKGROUND, 10: CSF, 150: GM, 250: WM, 41: WM, 6: IGNORE, -2: CSF})


def test_classes_are_those_that_the_file_formats_and_metrics_know():
    assert (BACKGROUND, CSF, GM, WM, IGNORE) == (0, 1, 2, 3, 255)
    assert [CLASS_NAMES[i] for i in (CSF, GM, WM)] == list(TISSUES) == ["CSF", "GM", "WM"]
    assert all(SCHEMAS[name].name == name for name in SCHEMAS)


@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.float32])
def test_ids_become_classes_voxel_by_voxel(dtype):
    rng = np.random.default_rng(0)
    ids = rng.choice(list(ODD.table), (5, 6, 7)).astype(dtype)
    classes = ODD.to_classes(ids, "labels.nii")
    assert classes.dtype == np.uint8 and classes.shape == ids.shape
    for index in np.ndindex(ids.shape):
        assert classes[index] == ODD.table[int(ids[index])]


@pytest.mark.parametrize("schema", [TISSUE_SCHEMA, IBSR_SCHEMA])
def test_own_ids_stay(schema):
    ids = np.arange(4, dtype=np.uint8).reshape(2, 1, 2)
    np.testing.assert_array_equal(schema.to_classes(ids, "x"), ids)


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
    with pytest.raises(InputError, match=r"1\.5 \(1 voxels\)"):
        IBSR_SCHEMA.to_classes(np.array([[[0, 1.5]]]), "x")
    with pytest.raises(InputError, match=r"nan \(1 voxels\)"):
        IBSR_SCHEMA.to_classes(np.array([[[0, np.nan]]]), "x")


def test_a_scan_given_as_labels_does_not_flood_the_screen():
    with pytest.raises(InputError) as caught:
        IBSR_SCHEMA.to_classes(np.arange(3000).reshape(10, 10, 30), "scan.nii")
    assert "13 (1 voxels), ..." in str(caught.value) and len(str(caught.value)) < 500


def test_ignored_ids_are_described_and_counted_as_nothing():
    assert "6 ignore" in ODD.describe()
    classes = ODD.to_classes(np.array([[[0, 6, 10, 150, 250, 41]]]), "x")
    assert count_classes(classes) == {"background": 1, "CSF": 1, "GM": 1, "WM": 2}
