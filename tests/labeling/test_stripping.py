"""Masks and stripped scans, against the scans' own voxels and the masks that `predict` writes."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.labeling.inputs import find_inputs
from infant_seg_jax.labeling.labeling import Outcome
from infant_seg_jax.labeling.stripping import Stripper
from tests.data.volume_files import GEOMETRY, affine_of, load, ramp, reorient, save
from tests.input_errors import input_error
from tests.labeling.fake_network import classes_of, labeler

SHAPE = (12, 13, 14)


def scan_of(dtype: Any = np.int16) -> np.ndarray:
    """A block of tissue in background: for the fake network, multiples of 4 are background."""
    voxels = 4 * ramp(SHAPE, dtype)
    voxels[3:9, 3:9, 3:9] += 1
    return voxels


def strip(path: Path | str, output: Path, model="a", overwrite=False) -> list[Outcome]:
    like = labeler(model=model, label_ids={"brain": 1})
    stripper = Stripper(like.segment, like.models, like.settings, overwrite)
    return list(stripper.label(find_inputs([str(path)], output, ["T1w"]), output))


def voxels(path: Path) -> np.ndarray:
    return np.asarray(load(path).dataobj)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_what_is_within_stays_as_it_was_and_all_else_is_0(tmp_path, kind, dtype):
    voxels_ = scan_of(dtype if np.dtype(dtype).kind == "f" else np.int32)
    if dtype == np.uint8:
        voxels_ %= 256
    if dtype == np.int32:
        voxels_ -= 2**26  # more than float32 tells apart
    data, affine = reorient(voxels_.astype(dtype), affine_of(), (2, 0, 1), (True, False, True))
    path = tmp_path / "a.nii.gz"
    source = kind(data[..., None], affine, dtype=dtype)
    source.set_sform(affine, 4)
    nib.save(source, path)
    (outcome,) = strip(path, tmp_path / "out")
    assert outcome.what == "written" and set(outcome.volumes_ml) == {"brain"}
    mask = voxels(tmp_path / "out" / "a_desc-brain_mask.nii.gz")
    brain = load(tmp_path / "out" / "a_brain.nii.gz")
    assert type(brain) is kind and brain.get_data_dtype() == dtype
    np.testing.assert_array_equal(brain.dataobj, np.where(mask, data[..., None], 0))
    for field in GEOMETRY:
        assert brain.header[field].tobytes() == load(path).header[field].tobytes(), field
    assert {one.name for one in (tmp_path / "out").iterdir()} == {
        *("a_desc-brain_mask.nii.gz", "a_desc-brain_mask.json", "a_brain.nii.gz")
    }


def test_the_mask_is_that_of_the_label_map(tmp_path):
    path = save(tmp_path / "a.nii.gz", scan_of())
    strip(path, tmp_path / "strip")
    list(labeler().label(find_inputs([str(path)], tmp_path / "p", ["T1w"]), tmp_path / "p"))
    name = "a_desc-brain_mask.nii.gz"
    assert (tmp_path / "strip" / name).read_bytes() == (tmp_path / "p" / name).read_bytes()
    assert not (classes_of(scan_of()) > voxels(tmp_path / "p" / name)).any()


def test_scaled_and_nan_voxels_are_what_the_file_means(tmp_path):
    scaled = nib.Nifti1Image(scan_of(), affine_of())
    scaled.header.set_slope_inter(0.5, -3)
    nib.save(scaled, tmp_path / "scaled.nii")
    nan = scan_of(np.float32)
    nan[0] = np.nan
    save(tmp_path / "nan.nii", nan)
    for name in ("scaled", "nan"):
        path = tmp_path / f"{name}.nii"
        assert strip(path, tmp_path / "out")[0].what == "written"
        mask = voxels(tmp_path / "out" / f"{name}_desc-brain_mask.nii.gz")
        found = load(tmp_path / "out" / f"{name}_brain.nii.gz").get_fdata()
        expected = np.where(mask, np.nan_to_num(load(path).get_fdata()), 0)
        np.testing.assert_allclose(found, expected)


def test_a_tree_becomes_a_derivative_and_is_finished_then(tmp_path):
    tree, out = tmp_path / "raw", tmp_path / "out"
    for sub in ("1", "2"):
        (tree / f"sub-{sub}" / "anat").mkdir(parents=True)
        save(tree / f"sub-{sub}" / "anat" / f"sub-{sub}_T1w.nii.gz", scan_of())
    assert [one.what for one in strip(tree, out)] == ["written"] * 2
    anat = out / "sub-1" / "anat"
    names = {"sub-1_desc-brain_mask.nii.gz", "sub-1_desc-brain_mask.json"}
    assert {one.name for one in anat.iterdir()} == names | {
        *("sub-1_desc-brain_T1w.nii.gz", "sub-1_desc-brain_T1w.json")
    }
    content = json.loads((anat / "sub-1_desc-brain_mask.json").read_text())
    assert content["Type"] == "Brain" and content["SpatialReference"].startswith("bids:raw:sub-1/")
    assert (out / "dataset_description.json").is_file()
    assert [one.what for one in strip(tree, out)] == ["skipped"] * 2
    (anat / "sub-1_desc-brain_T1w.nii.gz").write_bytes(b"")
    save(tree / "sub-2" / "anat" / "sub-2_T1w.nii.gz", scan_of() + 4)
    assert [one.what for one in strip(tree, out)] == ["written"] * 2
    with input_error("a (aaa", "b (bbb"):
        strip(tree, out, "b")
    assert [one.what for one in strip(tree, out, "b", True)] == ["written"] * 2


def test_bad_scans_stop_no_other_and_one_file_is_too_few(tmp_path):
    (tmp_path / "in").mkdir()
    save(tmp_path / "in" / "b.nii", scan_of())
    (tmp_path / "in" / "a.nii").write_bytes(b"no scan")
    found = strip(tmp_path / "in", tmp_path / "out")
    assert [one.failed for one in found] == [True, False]
    with input_error(tmp_path / "x.nii.gz"):
        strip(tmp_path / "in" / "b.nii", tmp_path / "x.nii.gz")
