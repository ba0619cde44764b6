"""Scans are found by the names of those whose label maps were measured."""

from pathlib import Path

from infant_seg_jax.evaluation.label_maps import find_scans
from tests.input_errors import input_error


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def test_scans_are_paired_by_name_and_label_maps_are_none(tmp_path: Path) -> None:
    folder = touch(
        tmp_path / "scans",
        *("sub-1/anat/sub-1_T1w.nii.gz", "sub-1/anat/sub-1_T2w.nii.gz"),
        *("sub-1/anat/sub-1_dseg.nii.gz", "sub-1/anat/sub-1_desc-brain_mask.nii.gz"),
        *("sub-2_ses-3_T2w.nii", "sub-4_aseg.mgz", "sub-5_T1w.nii.gz"),
    )
    assert find_scans(folder, ["sub-1", "sub-2_ses-3", "sub-4", "sub-6"]) == {
        "sub-1": folder / "sub-1/anat/sub-1_T1w.nii.gz",
        "sub-2_ses-3": folder / "sub-2_ses-3_T2w.nii",
    }


def test_runs_have_their_own_scans(tmp_path: Path) -> None:
    names = ("sub-1_run-1_T1w.nii", "sub-1_run-2_T1w.nii", "sub-1_run-2_T2w.nii", "sub-2_T1w.nii")
    folder = touch(tmp_path / "scans", *names)
    assert find_scans(folder, ["sub-1_run-1", "sub-1_run-2", "sub-1_run-3", "sub-2_run-1"]) == {
        "sub-1_run-1": folder / "sub-1_run-1_T1w.nii",
        "sub-1_run-2": folder / "sub-1_run-2_T1w.nii",
        "sub-2_run-1": folder / "sub-2_T1w.nii",
    }


def test_a_name_that_says_of_nobody_is_its_first_word(tmp_path: Path) -> None:
    folder = touch(tmp_path / "scans", "scan_T1.nii.gz")
    assert find_scans(folder, ["scan"]) == {"scan": folder / "scan_T1.nii.gz"}


def test_a_file_is_that_of_the_only_subject(tmp_path: Path) -> None:
    path = touch(tmp_path, "some.nii.gz") / "some.nii.gz"
    assert find_scans(path, ["sub-1"]) == {"sub-1": path}
    with input_error(path, 2):
        find_scans(path, ["sub-1", "sub-2"])


def test_a_folder_of_nobodys_scan_is_refused(tmp_path: Path) -> None:
    folder = touch(tmp_path / "scans", "sub-1_dseg.nii.gz", "sub-2_T1w.nii.gz")
    with input_error(folder, "sub-1"):
        find_scans(folder, ["sub-1"])
    with input_error(tmp_path / "nowhere"):
        find_scans(tmp_path / "nowhere", ["sub-1"])
