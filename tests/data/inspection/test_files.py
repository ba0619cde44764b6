"""One file's report against what the file was made of, and every warning provoked."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.data.ages import Age
from infant_seg_jax.data.inspection import LABEL_MAP, MASK, SCAN, inspect_file
from infant_seg_jax.data.phantom import Phantom
from tests.data.inspection.remarks import sentence_on, whole
from tests.data.volume_files import affine_of, error_of, no_sform, put, reorient, save, save_raw

QFORM_CODE = 252


def test_a_scan(tmp_path: Path, phantom: Phantom) -> None:
    stored, affine = reorient(whole(phantom), phantom.affine, (1, 0, 2), (True, False, True))
    path = save(tmp_path / "scan.nii.gz", stored, affine)
    report = inspect_file(path)
    brain_ml = np.count_nonzero(phantom.label_map) * 8 / 1000
    assert report == replace(
        report,
        path=path,
        kind=SCAN,
        shape=(96, 80, 80),
        spacing=(2.0, 2.0, 2.0),
        axes="PRI",
        dtype="int16",
        scale=None,
        low=0.0,
        high=float(whole(phantom).max()),
        extent="brain",
        labels=(),
        schema="",
        schema_assumed=False,
        age=None,
        remarks=(),
    )
    assert report.outline_ml == pytest.approx(brain_ml, rel=0.01)


def test_a_label_map(tmp_path: Path, phantom: Phantom) -> None:
    path = save(tmp_path / "labels.mgz", phantom.label_map, phantom.affine, nib.MGHImage)
    report = inspect_file(path)
    voxels = [np.count_nonzero(phantom.label_map == value) for value in range(4)]
    assert report.kind == LABEL_MAP and report.remarks == ()
    assert (report.schema, report.schema_assumed) == ("tissues", True)
    assert [label.value for label in report.labels] == [0, 1, 2, 3]
    assert [label.name for label in report.labels] == ["background", "CSF", "GM", "WM"]
    assert [label.voxels for label in report.labels] == voxels
    assert [label.ml for label in report.labels] == pytest.approx(np.multiply(voxels, 0.008))
    assert report.outline_ml == pytest.approx(sum(voxels[1:]) * 0.008)


def test_a_mask_and_a_big_endian_type(tmp_path: Path, phantom: Phantom) -> None:
    mask = (phantom.label_map > 0).astype(">i2")
    report = inspect_file(save(tmp_path / "mask.nii", mask, phantom.affine))
    assert (report.kind, report.dtype, report.schema) == (MASK, "int16", "")
    assert [label.value for label in report.labels] == [0, 1]
    assert report.remarks == ()


def test_a_scaled_scan(tmp_path: Path, phantom: Phantom) -> None:
    image: Any = nib.Nifti1Image(whole(phantom), phantom.affine)
    image.header.set_slope_inter(0.5, 3)
    nib.save(image, tmp_path / "scan.nii")
    report = inspect_file(tmp_path / "scan.nii")
    assert (report.dtype, report.scale) == ("int16", (0.5, 3.0))
    assert (report.low, report.high) == (3, 0.5 * whole(phantom).max() + 3)


def test_a_head(tmp_path: Path, phantom: Phantom) -> None:
    noise = np.random.default_rng(0).rayleigh(3, phantom.image.shape)
    report = inspect_file(
        save(tmp_path / "head.nii", whole(phantom) + noise.astype(np.int16), phantom.affine)
    )
    assert (report.kind, report.extent, report.remarks) == (SCAN, "head", ())


def test_neither_size_nor_recompression_hides_the_same_voxels(
    tmp_path: Path, phantom: Phantom
) -> None:
    padded = np.pad(whole(phantom), 4)
    one = inspect_file(save(tmp_path / "one.nii.gz", whole(phantom), phantom.affine))
    two = inspect_file(save(tmp_path / "two.nii", padded, phantom.affine))
    other = inspect_file(save(tmp_path / "other.nii", whole(phantom) // 2, phantom.affine))
    assert one.voxels_sha256 == two.voxels_sha256 != other.voxels_sha256


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "empty.nii", np.zeros((4, 4, 4), np.uint8))
    assert "is empty" in error_of(inspect_file, path)


@pytest.mark.parametrize("sizes", [(1, 1, 3), (0.5, 0.5, 1.3), (0.1, 0.1, 0.1)])
def test_odd_spacing(tmp_path: Path, phantom: Phantom, sizes: tuple[float, float, float]) -> None:
    mask = (phantom.label_map > 0).astype(np.uint8)
    path = save(tmp_path / "mask.nii", mask, np.diag([*sizes, 1]))
    remark = sentence_on("spacing", inspect_file(path))
    size = "x".join(f"{size:g}" for size in map(float, sizes))
    assert remark == (
        f"{path} has voxels of {size} mm, expected 0.25 to 2.5 mm and no side more than 2.5 "
        "times another: is that right?"
    )


def test_the_largest_voxels_that_are_not_odd(tmp_path: Path, phantom: Phantom) -> None:
    mask = (phantom.label_map > 0).astype(np.uint8)
    path = save(tmp_path / "mask.nii", mask, affine_of((2.5, 1.0, 2.5), degrees=(7, 11, 31)))
    assert inspect_file(path).remarks == ()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({(0, 1): 0.2}, "has axes 84 degrees apart, expected right angles"),
        ({(0, 3): 500.0}, "mm from the origin of its coordinates, expected at most 300"),
    ],
)
def test_suspicious_affines(
    tmp_path: Path,
    phantom: Phantom,
    change: Mapping[tuple[int, int], float],
    sentence: str,
) -> None:
    mask = (phantom.label_map > 0).astype(np.uint8)
    affine = phantom.affine.copy()
    for place, value in change.items():
        affine[place] = value
    save(tmp_path / "mask.nii", mask, affine)
    if (0, 1) in change:  # a qform has right angles
        image: Any = nib.Nifti1Image(mask, None)
        image.header.set_sform(affine, 1)
        nib.save(image, tmp_path / "mask.nii")
    assert sentence in sentence_on("affine", inspect_file(tmp_path / "mask.nii"))


def test_the_identity_is_suspicious(tmp_path: Path, phantom: Phantom) -> None:
    mask = (phantom.label_map > 0).astype(np.uint8)
    path = save(tmp_path / "mask.nii", mask, np.eye(4))
    remark = sentence_on("affine", inspect_file(path))
    assert remark.startswith(f"{path} has the identity as its affine")


def test_what_the_header_leaves_open(tmp_path: Path) -> None:
    mask = np.zeros((9, 9, 9), np.int16)
    mask[3:6, 3:6, 3:6] = 1
    path = save_raw(tmp_path / "mask.nii", put(QFORM_CODE, "hh", 0, 0), mask)
    report = inspect_file(path)
    remarks = [remark.sentence for remark in report.remarks if remark.about == "header"]
    assert len(remarks) == 1 and "neither a qform nor a sform" in remarks[0]
    assert not inspect_file(save_raw(tmp_path / "q.nii", no_sform, mask)).remarks


def test_wrapped_voxels(tmp_path: Path, phantom: Phantom) -> None:
    scan = whole(phantom).astype(np.uint16)
    scan[40, 48, 40] = scan[41, 48, 40] = 65_500
    path = save(tmp_path / "scan.nii", scan, phantom.affine)
    remark = sentence_on("intensities", inspect_file(path))
    assert remark.startswith(f"{path} has 2 voxels ")


def test_a_brain_too_small_for_its_age(tmp_path: Path, phantom: Phantom) -> None:
    path = save(tmp_path / "scan.nii", whole(phantom), np.diag([1, 1, 1, 1.0]) + _shift())
    assert inspect_file(path, age=Age(28.0, "weeks postmenstrual")).remarks == ()
    remark = sentence_on("volumes", inspect_file(path, age=Age(6.0, "years")))
    assert remark.startswith(f"{path} is implausible at 6 years: brain 1")
    assert "ml (expected 800 to 1950); check its voxel size, its age" in remark


def test_implausible_tissues(tmp_path: Path, phantom: Phantom) -> None:
    csf_last = np.array([0, 3, 1, 2], np.uint8)[phantom.label_map]  # GM, WM, CSF: 1, 2, 3
    path = save(tmp_path / "labels.nii", csf_last, phantom.affine)
    remark = sentence_on("volumes", inspect_file(path, age=Age(20.0, "years")))
    assert remark.startswith(f"{path} is implausible at 20 years: CSF 683 ml (expected 0")
    assert remark.endswith("whether its values are those of the schema 'tissues'.")


def _shift() -> np.ndarray:
    shift = np.zeros((4, 4))
    shift[:3, 3] = -40
    return shift
