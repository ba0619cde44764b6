from pathlib import Path

import pytest

from infant_seg_jax.data.labels import LabelSchema
from infant_seg_jax.data.schemas import IBSR_SCHEMA
from infant_seg_jax.data.sources import SOURCES, Query
from tests.data.sources.trees import classes_in, error_of, save_image, save_labels, touch

IBSR = SOURCES["ibsr"]


@pytest.fixture
def sets(tmp_path):
    """The layout with three sets."""
    for name, numbers in (
        ("Training_Set", (3, 1)),
        ("Validation_Set", (11,)),
        ("Test_Set", (2, 10)),
    ):
        for number in numbers:
            case = f"{name}/IBSR_{number:02}/IBSR_{number:02}"
            touch(tmp_path, f"{case}.nii.gz")
            if name != "Test_Set":
                touch(tmp_path, f"{case}_seg.nii.gz")
    touch(tmp_path, "description.json", "Training_Set/IBSR_01/IBSR_01_mask.nii.gz", "IBSR_99.txt")
    return tmp_path


def test_the_dataset_says_what_it_is(sets):
    dataset = IBSR.open(sets)
    assert dataset.source == "ibsr" and dataset.folder == sets and dataset.notices == ()
    assert dataset.modalities == ("T1w",) and dataset.schema is IBSR_SCHEMA
    schema = LabelSchema("mine", {0: 0})
    assert IBSR.open(sets, Query(schema=schema)).schema is schema


def test_volumes_read_and_labels_mean_csf_gm_and_wm(tmp_path):
    case = tmp_path / "IBSR_01" / "IBSR_01"
    save_image(case.with_name("IBSR_01_ana_strip.nii.gz"))
    save_labels(case.with_name("IBSR_01_segTRI_ana.nii.gz"), (0, 1, 2, 3))
    assert classes_in(IBSR.open(tmp_path)) == {"IBSR_01": [0, 1, 2, 3]}


def test_three_sets_give_the_splits(sets):
    cases = IBSR.open(sets).cases
    assert [(case.case_id, case.split) for case in cases] == [
        ("IBSR_01", "train"),
        ("IBSR_02", "test"),
        ("IBSR_03", "train"),
        ("IBSR_10", "test"),
        ("IBSR_11", "validation"),
    ]
    first, second = cases[:2]
    folder = sets / "Training_Set" / "IBSR_01"
    assert first.participant == "IBSR_01"
    assert first.images == (folder / "IBSR_01.nii.gz",)
    assert first.labels == folder / "IBSR_01_seg.nii.gz"
    assert second.labels is None


def test_labels_of_the_test_set_are_used_if_they_are_there(sets):
    touch(sets, "Test_Set/IBSR_02/IBSR_02_seg.nii.gz")
    assert IBSR.open(sets).cases[1].labels == sets / "Test_Set/IBSR_02/IBSR_02_seg.nii.gz"


@pytest.mark.parametrize("inside", [".", "..", "IBSR_01", "../Training_Set", "IBSR_01/.."])
def test_one_set_or_subject_may_be_given_however_it_is_named(sets, monkeypatch, inside):
    monkeypatch.chdir(sets / "Training_Set")
    found = {case.case_id: case.split for case in IBSR.open(Path(inside)).cases}
    assert found["IBSR_01"] == "train"
    assert len(found) == {"..": 5, "IBSR_01": 1}.get(inside, 2)


@pytest.mark.parametrize("below", [".", "IBSR_V2.0_nifti_stripped/IBSR_nifti_stripped"])
@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_original_release_at_any_depth(tmp_path, below, ending):
    for case in ("IBSR_02", "IBSR_01"):
        folder = f"{below}/{case}/{case}"
        touch(tmp_path, f"{folder}_ana{ending}", f"{folder}_ana_strip{ending}")
        touch(tmp_path, f"{folder}_seg_ana{ending}", f"{folder}_segTRI_ana{ending}")
        touch(tmp_path, f"{folder}_segTRI_fill_ana{ending}")
    cases = IBSR.open(tmp_path).cases
    assert [case.case_id for case in cases] == ["IBSR_01", "IBSR_02"]
    folder = tmp_path / below / "IBSR_01"
    assert cases[0].images == (folder / f"IBSR_01_ana_strip{ending}",)
    assert cases[0].labels == folder / f"IBSR_01_segTRI_ana{ending}"
    assert cases[0].split is None


@pytest.mark.parametrize(
    "scan, expected",
    [
        ("Training_Set/IBSR_05/IBSR_05.nii.gz", "Training_Set/IBSR_05/IBSR_05_seg.nii.gz"),
        ("Validation_Set/IBSR_05/IBSR_05.nii.gz", "Validation_Set/IBSR_05/IBSR_05_seg.nii.gz"),
        ("IBSR_05/IBSR_05_ana_strip.nii.gz", "IBSR_05/IBSR_05_segTRI_ana.nii.gz"),
    ],
)
def test_missing_label_map_is_named(tmp_path, scan, expected):
    touch(tmp_path, scan)
    assert error_of(IBSR, tmp_path) == (
        f"{tmp_path / scan} has no label map, expected {tmp_path / expected}."
    )


def test_subject_that_is_there_twice_is_refused(sets):
    again = "Validation_Set/IBSR_01/IBSR_01"
    touch(sets, f"{again}.nii.gz", f"{again}_seg.nii.gz")
    assert error_of(IBSR, sets) == (
        f"IBSR_01 exists twice, as {sets / 'Training_Set/IBSR_01/IBSR_01.nii.gz'} and as "
        f"{sets / again}.nii.gz, expected one scan per subject: give the folder of one of them."
    )


def test_nothing_found_says_what_was_looked_for(tmp_path):
    touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz")
    assert error_of(IBSR, tmp_path) == (
        f"{tmp_path} contains no IBSR subject, expected IBSR_NN/IBSR_NN_ana_strip.nii.gz (the "
        "original release) or Training_Set/IBSR_NN/IBSR_NN.nii.gz somewhere below it."
    )


def test_real_release(real_data):
    cases = IBSR.open(real_data / "ibsr18").cases
    splits = [case.split for case in cases]
    assert [splits.count(name) for name in ("train", "validation", "test")] == [10, 5, 3]
    assert [case.case_id for case in cases] == [f"IBSR_{number:02}" for number in range(1, 19)]
    assert all((case.labels is None) == (case.split == "test") for case in cases)
