"""What only several files tell together."""

import gzip
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.data.inspection import LABEL_MAP, SCAN, Inspection, inspect_paths
from infant_seg_jax.data.inspection.reports import as_json
from infant_seg_jax.data.phantom import INFANT, Phantom, write_cohort
from infant_seg_jax.data.schemas import TISSUE_SCHEMA
from tests.data.inspection.remarks import about, sentence_on, whole
from tests.data.volume_files import error_of, reorient, save


def test_a_clean_cohort(tmp_path: Path) -> None:
    write_cohort(tmp_path / "scans", range(2), shape=(48, 56, 48), spacing=2.4, anatomy=INFANT)
    inspection = inspect_paths([tmp_path / "scans"])
    kinds = [SCAN, LABEL_MAP]
    assert [file.kind for file in inspection.files] == kinds * 2
    assert inspection.failures == () and inspection.all_remarks() == ()
    assert len(inspection.of_kind(SCAN)) == 2


def test_a_broken_file_is_told_and_the_rest_goes_on(tmp_path: Path, phantom: Phantom) -> None:
    for name in ("a_T1w.nii", "b_T1w.nii"):
        save(tmp_path / name, whole(phantom) + (name > "b"), phantom.affine)
    broken = tmp_path / "a_seg.nii"
    broken.write_bytes((tmp_path / "a_T1w.nii").read_bytes()[:2000])
    inspection = inspect_paths([tmp_path])
    assert [failure.path for failure in inspection.failures] == [broken]
    assert str(broken) in inspection.failures[0].sentence
    assert len(inspection.files) == 2


def test_series_in_folders_are_left_out(tmp_path: Path, phantom: Phantom) -> None:
    save(tmp_path / "a_T1w.nii", whole(phantom), phantom.affine)
    bold = save(tmp_path / "a_bold.nii", np.zeros((4, 5, 6, 7), np.int16), phantom.affine)
    inspection = inspect_paths([tmp_path])
    assert (inspection.series, inspection.failures, len(inspection.files)) == ((bold,), (), 1)
    assert as_json(inspection)["series"] == [str(bold)]
    inspection = inspect_paths([tmp_path, bold])
    assert inspection.series == () and "a time series" in inspection.failures[0].sentence


def test_each_file_once_whatever_half_of_it_is_named(tmp_path: Path, phantom: Phantom) -> None:
    scan, small = whole(phantom), phantom.affine
    save(tmp_path / "one.hdr", scan, small, nib.Nifti1Pair)
    save(tmp_path / "two.nii", scan + 1, small)
    hidden = tmp_path / ".git" / "annex"
    hidden.mkdir(parents=True)
    save(hidden / "two.nii", scan, small)
    save(tmp_path / "._two.nii", scan, small)
    inspection = inspect_paths([tmp_path / "one.img", tmp_path / "two.nii", tmp_path])
    assert [file.path.name for file in inspection.files] == ["one.hdr", "two.nii"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nowhere.nii", "There is no file or folder"),
        ("text.txt", "does not have the name of a volume"),
        ("empty", "contains no volume, expected .nii, .nii.gz"),
    ],
)
def test_wrong_paths(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("text")
    message = error_of(inspect_paths, [tmp_path / name])
    assert sentence in message and str(tmp_path / name) in message


def test_the_axis_order_of_files_does_not_matter(tmp_path: Path, phantom: Phantom) -> None:
    save(tmp_path / "scan.nii", whole(phantom), phantom.affine)
    stored, affine = reorient(phantom.label_map, phantom.affine, (2, 0, 1), (True, True, False))
    save(tmp_path / "seg.nii", stored, affine)
    assert inspect_paths([tmp_path]).all_remarks() == ()


@pytest.mark.parametrize("kind", ["label map", "mask"])
def test_other_grids(tmp_path: Path, phantom: Phantom, kind: str) -> None:
    labels = phantom.label_map if kind == "label map" else (phantom.label_map > 0).view("u1")
    scan = save(tmp_path / "a.nii", whole(phantom), phantom.affine)
    seg = save(tmp_path / "a_seg.nii", labels[:, :, 1:], phantom.affine)
    remarks = [r.sentence for r in inspect_paths([tmp_path]).all_remarks() if r.about == "grid"]
    assert remarks == [
        f"The {kind} does not match its scan: {seg} has the shape 80x96x79 but {scan} has "
        "80x96x80, expected one grid for both."
    ]
    moved = phantom.affine.copy()
    moved[2, 3] += 4
    save(seg, labels, moved)
    remarks = [r.sentence for r in inspect_paths([tmp_path]).all_remarks() if r.about == "grid"]
    assert len(remarks) == 1 and f"{seg} lies up to 4 mm away from {scan}" in remarks[0]


def test_one_scan_on_the_same_grid_is_enough(tmp_path: Path, phantom: Phantom) -> None:
    save(tmp_path / "a_T1w.nii", whole(phantom)[:, 1:], phantom.affine)
    save(tmp_path / "a_T2w.nii", whole(phantom), phantom.affine)
    save(tmp_path / "a_seg.nii", phantom.label_map, phantom.affine)
    assert inspect_paths([tmp_path]).all_remarks() == ()


def test_of_several_scans_the_nearest_counts(tmp_path: Path, phantom: Phantom) -> None:
    for site, spacing in (("site1", 2.0), ("site2", 2.1)):
        affine = phantom.affine @ np.diag([spacing / 2] * 3 + [1])
        for name, array in (("scans/01", whole(phantom)), ("labels/01", phantom.label_map)):
            (tmp_path / site / name).parent.mkdir(parents=True)
            save(tmp_path / site / f"{name}.nii", array, affine)
    assert "grid" not in about(inspect_paths([tmp_path]).all_remarks())


def test_a_label_map_that_lies_elsewhere(tmp_path: Path, phantom: Phantom) -> None:
    scan = save(tmp_path / "a.nii", whole(phantom), phantom.affine)
    shifted = np.roll(phantom.label_map, 45, axis=1)
    seg = save(tmp_path / "a_seg.nii", shifted, phantom.affine)
    inside = np.count_nonzero(shifted[phantom.image > 0]) / np.count_nonzero(shifted)
    assert sentence_on("overlap", inspect_paths([tmp_path])) == (
        f"{seg} has {inside:.0%} of its label map inside the outline of {scan}, expected 70% "
        "at least: is it flipped, shifted, or from another subject?"
    )


def test_scans_without_labels_are_counted(tmp_path: Path, phantom: Phantom) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.nii", whole(phantom) + number, phantom.affine)
    remark = sentence_on("labels", _unrepeated(inspect_paths([tmp_path])))
    assert remark.startswith("No scan has a label map of the same name: that is enough")
    save(tmp_path / "0_seg.nii", phantom.label_map, phantom.affine)
    remark = sentence_on("labels", _unrepeated(inspect_paths([tmp_path])))
    assert remark.startswith("2 of 3 scans have no label map of the same name")


def test_label_maps_alone_are_fine(tmp_path: Path, phantom: Phantom) -> None:
    save(tmp_path / "a.nii", phantom.label_map, phantom.affine)
    assert inspect_paths([tmp_path], TISSUE_SCHEMA).all_remarks() == ()


def test_one_scan_under_two_names(tmp_path: Path, phantom: Phantom) -> None:
    one = save(tmp_path / "anna.nii", whole(phantom), phantom.affine)
    two = tmp_path / "berta.nii.gz"
    two.write_bytes(gzip.compress(one.read_bytes(), mtime=3))
    remarks = [r.sentence for r in inspect_paths([tmp_path]).remarks if r.about == "repeated"]
    assert remarks == [
        f"{one} and {two} have the same voxels under several names: would leak from training "
        "to test."
    ]


def test_one_head_under_two_names(tmp_path: Path, phantom: Phantom) -> None:
    one = save(tmp_path / "anna.nii", whole(phantom), phantom.affine)
    brighter = np.where(phantom.image > 0, whole(phantom) + 9, 0)
    two = save(tmp_path / "berta.nii", brighter, phantom.affine)
    remarks = [r.sentence for r in inspect_paths([tmp_path]).remarks if r.about == "repeated"]
    assert remarks == [
        f"{one} and {two} have the same outline, voxel by voxel, under several names: if they show "
        "the same head, it would leak from training to test."
    ]


def test_a_copy_of_a_copy_and_a_mask_for_all(tmp_path: Path, phantom: Phantom) -> None:
    for number in range(6):
        save(tmp_path / f"{number}.nii", whole(phantom), phantom.affine)
        mask = (phantom.label_map > 0).astype(np.uint8)
        save(tmp_path / f"{number}_mask.nii", mask, phantom.affine)
    (remarks,) = [r.sentence for r in inspect_paths([tmp_path]).remarks if r.about == "repeated"]
    assert f"{tmp_path}/3.nii and 2 more have the same voxels" in remarks


def test_one_participant_may_be_there_twice(tmp_path: Path, phantom: Phantom) -> None:
    for session in ("ses-1", "ses-2"):
        save(tmp_path / f"sub-1_{session}_T1w.nii", whole(phantom), phantom.affine)
    assert about(inspect_paths([tmp_path]).remarks) == ["labels"]


def _unrepeated(inspection: Inspection) -> Inspection:
    """Without the remarks that all show one phantom."""
    kept = tuple(remark for remark in inspection.remarks if remark.about != "repeated")
    return replace(inspection, remarks=kept)
