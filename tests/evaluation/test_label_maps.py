"""Which label maps belong together, and what becomes of many pairs."""

from pathlib import Path

import numpy as np
import pytest

from infant_seg_jax.data.labels import CSF, GM, WM
from infant_seg_jax.data.schemas import ISEG_SCHEMA
from infant_seg_jax.evaluation.label_maps import find_pairs, measure_label_maps
from infant_seg_jax.metrics.measures import measure
from tests.data.volume_files import affine_of, save
from tests.input_errors import input_error

SPACING = (0.9, 1.5, 1.1)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def label_map(seed: int) -> np.ndarray:
    """A cube of each tissue, elsewhere for every seed."""
    found = np.zeros((16, 14, 12), np.uint8)
    for index, tissue in enumerate((CSF, GM, WM)):
        at = 1 + seed % 2 + 4 * index
        found[at : at + 4, 4:9, 3:8] = tissue
    return found


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three subjects, predicted and true."""
    for index in range(3):
        for folder, name, seed in (
            ("predicted", f"case_{index}_dseg.nii.gz", index),
            ("true", f"sub/case_{index}_seg.nii", 0),
        ):
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            save(path, label_map(seed))
    return tmp_path / "predicted", tmp_path / "true"


@pytest.mark.parametrize(
    ("predicted", "true"),
    [
        ("scan_dseg.nii.gz", "scan.nii.gz"),
        ("IBSR_01_ana_strip_dseg.nii.gz", "IBSR_01/IBSR_01_seg.nii.gz"),
        (
            "sub-A/ses-1/anat/sub-A_ses-1_desc-infantseg_dseg.nii.gz",
            "derivatives/drawem/sub-A/ses-1/anat/sub-A_ses-1_space-T2w_desc-drawem9_dseg.nii",
        ),
        ("BABY_07.nii.gz", "labelsTr/BABY_07.nii.gz"),
        ("subject-1-T1_dseg.nii", "subject-1-label.hdr"),
    ],
)
def test_pairs_names_that_say_one_subject(tmp_path: Path, predicted: str, true: str) -> None:
    prediction, truth = touch(tmp_path / "p", predicted), touch(tmp_path / "t", true)
    (pair,) = find_pairs(prediction, truth).pairs.values()
    assert pair == (prediction / predicted, truth / true)


def test_scans_masks_and_probabilities_may_lie_beside_them(tmp_path: Path) -> None:
    prediction = touch(
        tmp_path / "p",
        *("sub-1_dseg.nii.gz", "sub-1_label-GM_probseg.nii.gz", "sub-1_label-WM_probseg.nii.gz"),
    )
    names = ("sub-1_T1w.nii.gz", "sub-1_T2w.nii.gz", "sub-1_desc-brain_mask.nii.gz")
    truth = touch(tmp_path / "t", *names, "sub-1_desc-drawem9_dseg.nii.gz")
    assert find_pairs(prediction, truth).pairs == {
        "sub-1": (prediction / "sub-1_dseg.nii.gz", truth / "sub-1_desc-drawem9_dseg.nii.gz")
    }


def test_two_files_are_a_pair_whatever_their_names(tmp_path: Path) -> None:
    folder = touch(tmp_path, "this.nii", "that.nii")
    found = find_pairs(folder / "this.nii", folder / "that.nii")
    assert found.pairs == {"that": (folder / "this.nii", folder / "that.nii")}


def test_says_who_is_in_one_folder_only(tmp_path: Path) -> None:
    prediction = touch(tmp_path / "p", "a.nii", "b.nii", "c.nii")
    truth = touch(tmp_path / "t", "b_seg.nii", "d_seg.nii")
    found = find_pairs(prediction, truth)
    assert list(found.pairs) == ["b"]
    assert found.only_predicted == {"a": prediction / "a.nii", "c": prediction / "c.nii"}
    assert found.only_true == {"d": truth / "d_seg.nii"}


def test_runs_of_a_session_are_paired_by_their_names(tmp_path: Path) -> None:
    ours, theirs = "sub-{}_desc-infantseg_dseg.nii.gz", "sub-{}_dseg.nii"
    prediction = touch(
        tmp_path / "p",
        *(ours.format(name) for name in ("1_run-1", "1_run-2", "1_run-3", "2_acq-a", "3_run-1")),
        *(ours.format(name) for name in ("4_acq-a_run-1", "4_acq-a_run-2", "5_run-1", "5_run-2")),
        *(ours.format(name) for name in ("6_acq-a", "7")),
    )
    truth = touch(
        tmp_path / "t",
        *(theirs.format(name) for name in ("1_run-01", "1_run-02", "1_run-04", "2", "3_run-2")),
        *(theirs.format(name) for name in ("4_run-1", "4_run-2", "5", "6_acq-b", "6_acq-a_rec-x")),
        *(theirs.format(name) for name in ("7",)),
    )
    found = find_pairs(prediction, truth)
    assert {
        name: tuple(path.name.split("_d")[0] for path in pair) for name, pair in found.pairs.items()
    } == {
        "sub-1_run-1": ("sub-1_run-1", "sub-1_run-01"),
        "sub-1_run-2": ("sub-1_run-2", "sub-1_run-02"),
        "sub-2": ("sub-2_acq-a", "sub-2"),
        "sub-4_run-1": ("sub-4_acq-a_run-1", "sub-4_run-1"),
        "sub-4_run-2": ("sub-4_acq-a_run-2", "sub-4_run-2"),
        "sub-6_acq-a_rec-x": ("sub-6_acq-a", "sub-6_acq-a_rec-x"),
        "sub-7": ("sub-7", "sub-7"),
    }
    assert list(found.only_predicted) == ["sub-1_run-3", "sub-3"]
    assert list(found.only_true) == ["sub-1_run-4", "sub-3", "sub-6_acq-b"]
    (sentence,) = found.unclear.values()
    assert list(found.unclear) == ["sub-5"] and "sub-5_run-1_d" in sentence


def test_one_subject_that_is_unclear_fails_alone(folders: tuple[Path, Path], capsys) -> None:
    prediction, truth = folders
    save(prediction / "case_1_seg.nii.gz", label_map(1))
    found = measure_label_maps(prediction, truth)
    assert list(found.scores.subjects) == ["case_0", "case_2"]
    assert list(found.failures) == ["case_1"]
    assert found.failures["case_1"] in capsys.readouterr().err


def test_what_cannot_be_paired_is_an_error(tmp_path: Path) -> None:
    one = touch(tmp_path / "one", "a_dseg.nii")
    with input_error(tmp_path / "nowhere"):
        find_pairs(tmp_path / "nowhere", one)
    with input_error(one, tmp_path / "other", "a_dseg.nii", "b.nii"):
        find_pairs(one, touch(tmp_path / "other", "b.nii"))
    with input_error("x/a_seg.nii", "y/a_dseg.nii", " a,"):
        find_pairs(touch(tmp_path / "two", "x/a_seg.nii", "y/a_dseg.nii", "a.nii"), one)
    with input_error("a_T1w.nii", "a_T2w.nii", " a,"):
        find_pairs(one, touch(tmp_path / "scans", "a_T1w.nii", "a_T2w.nii"))
    with input_error(tmp_path / "masks"):
        find_pairs(one, touch(tmp_path / "masks", "a_mask.nii"))


def test_measures_every_pair_with_the_voxels_of_its_file(folders: tuple[Path, Path]) -> None:
    found = measure_label_maps(*folders, tolerance=1.2)
    assert list(found.scores.subjects) == ["case_0", "case_1", "case_2"]
    assert found.scores.tolerance == 1.2 and not found.failures and not found.unpredicted
    for index, values in enumerate(found.scores.subjects.values()):
        expected = measure(label_map(index), label_map(0), SPACING, 1.2)
        for tissue, known in expected.items():
            assert values[tissue] == pytest.approx(known, rel=1e-6)


def test_other_orientations_and_ids_change_nothing(folders: tuple[Path, Path]) -> None:
    expected = measure_label_maps(*folders).scores.subjects["case_1"]
    prediction, truth = folders
    ids = ISEG_SCHEMA.to_ids(label_map(1))
    affine = affine_of()
    affine[:3, 3] += affine[:3, 0] * (ids.shape[0] - 1)
    affine[:3, 0] *= -1
    save(prediction / "case_1_dseg.nii.gz", ids[::-1].astype(np.int16), affine)
    for index in (0, 2):
        (prediction / f"case_{index}_dseg.nii.gz").unlink()
    found = measure_label_maps(prediction, truth, prediction_schema=ISEG_SCHEMA)
    assert found.unpredicted == ("case_0", "case_2")
    for tissue, values in expected.items():
        assert found.scores.subjects["case_1"][tissue] == pytest.approx(values, rel=1e-6)


def test_bad_pairs_do_not_stop_the_others(folders: tuple[Path, Path], capsys) -> None:
    prediction, truth = folders
    broken = prediction / "case_0_dseg.nii.gz"
    broken.write_bytes(broken.read_bytes()[:40])
    save(prediction / "case_1_dseg.nii.gz", label_map(1) * 50)
    save(prediction / "case_3_dseg.nii.gz", label_map(1))
    save(prediction / "case_4_dseg.nii.gz", label_map(1))
    save(truth / "case_4.nii.gz", label_map(1)[1:])
    found = measure_label_maps(prediction, truth)
    assert list(found.scores.subjects) == ["case_2"]
    assert list(found.failures) == ["case_0", "case_1", "case_4", "case_3"]
    assert str(broken) in found.failures["case_0"]
    assert "has label values outside the schema 'tissues'" in found.failures["case_1"]
    assert "expected one grid for both" in found.failures["case_4"]
    assert f"{truth} has no label map of case_3" in found.failures["case_3"]
    printed = capsys.readouterr().err
    assert all(sentence in printed for sentence in found.failures.values())
