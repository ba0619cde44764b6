import math
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.data.formats import MAX_VOXELS, read_layout
from infant_seg_jax.data.volumes import read_image, read_label_map, write_label_map
from tests.data.volume_files import (
    ORIENTATIONS,
    affine_of,
    error_of,
    load,
    notice_of,
    put,
    ramp,
    reorient,
    save,
    save_raw,
)
from tests.input_errors import input_error

# Byte offsets in the header: https://surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/MghFormat
VERSION, DIMS, TYPE, GOOD_RAS, DELTA, COSINES, CENTER = 0, 4, 20, 28, 30, 42, 78


def put_big(offset, form, *values):
    return put(offset, form, *values, order=">")


@pytest.mark.parametrize("name", ["scan.mgh", "scan.mgz"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4"])
def test_stored_types_mean_what_nibabel_reads(tmp_path, name, dtype):
    array: Any = ramp(dtype=dtype) - (0 if dtype == "u1" else 20)
    path = tmp_path / name
    nib.save(nib.MGHImage(array.astype(dtype), affine_of(degrees=(100, 30, -8))), path)

    expected = nib.as_closest_canonical(load(path))
    volume = read_image(path)
    np.testing.assert_array_equal(volume.data[..., 0], expected.get_fdata())
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-5)
    assert volume.notices == () and volume.native.header is None
    labels = read_label_map(path).data
    assert labels.dtype.isnative
    np.testing.assert_array_equal(labels, expected.get_fdata())
    assert read_layout(path).dtype == np.dtype(dtype).newbyteorder(">")


def test_uint16_is_read(tmp_path):
    """FreeSurfer 8 has it, nibabel since lately."""
    array = ramp(dtype=np.int32) + 40_000  # beyond int16
    path = save_raw(tmp_path / "scan.mgh", put_big(TYPE, "i", 10), kind=nib.MGHImage)
    block = path.read_bytes()
    path.write_bytes(block[:284] + array.astype(">u2").tobytes(order="F"))
    np.testing.assert_array_equal(read_label_map(path).data, array)


def test_geometry_is_what_the_format_says(tmp_path):
    """Closed form, as FreeSurfer places voxels: the center is that of index size / 2."""
    cosines = np.array([[0.8, 0, 0.6], [0, -1, 0], [0.6, 0, -0.8]])
    spacing, center = np.array([0.9, 1.5, 1.1]), np.array([4.0, -5.0, 6.0])
    path = save(tmp_path / "scan.mgh", ramp(), kind=nib.MGHImage)
    block = bytearray(path.read_bytes())
    for offset, values in ((DELTA, spacing), (COSINES, cosines.T.ravel()), (CENTER, center)):
        put_big(offset, f"{values.size}f", *values)(block)
    path.write_bytes(block)
    affine = read_image(path).native.affine
    np.testing.assert_allclose(affine[:3, :3], cosines * spacing, atol=1e-6)
    np.testing.assert_allclose(affine @ [3 / 2, 4 / 2, 5 / 2, 1], [*center, 1], atol=1e-5)


@pytest.mark.parametrize("flag", [0, -1])
def test_geometry_that_is_flagged_invalid_is_assumed_and_said(tmp_path, flag):
    """FreeSurfer's default is coronal, LIA; nibabel 5 has the transpose of it, LSP."""
    path = save_raw(tmp_path / "scan.mgz", put_big(GOOD_RAS, "h", flag), kind=nib.MGHImage)
    for read in (read_image, read_label_map):
        volume = read(path)
        expected = [[-1, 0, 0, 1.5], [0, 0, 1, -2.5], [0, -1, 0, 2], [0, 0, 0, 1]]
        np.testing.assert_array_equal(volume.native.affine, expected)
        np.testing.assert_array_equal(
            np.squeeze(volume.data), ramp()[::-1, ::-1].transpose(0, 2, 1)
        )
        notice = notice_of(path, volume.notices)
        assert "left, inferior, anterior (LIA)" in notice and "1 mm" in notice


def test_an_intent_beside_the_version_is_no_obstacle(tmp_path):
    path = save_raw(tmp_path / "aseg.mgz", put_big(VERSION, "i", 0x101), kind=nib.MGHImage)
    np.testing.assert_array_equal(read_label_map(path).data, ramp())


def test_results_are_nifti_on_the_same_grid(tmp_path):
    affine = affine_of((-1, 1, 1), degrees=(80, 10, 0))
    path = save(tmp_path / "scan.mgz", ramp(), affine, nib.MGHImage)
    volume = read_image(path)
    ids = volume.data[..., 0].astype(np.uint8)
    write_label_map(tmp_path / "labels.nii.gz", ids, volume.native)
    written = load(tmp_path / "labels.nii.gz")
    assert isinstance(load(tmp_path / "labels.nii.gz"), nib.Nifti1Image)
    np.testing.assert_array_equal(written.get_fdata(), load(path).get_fdata())
    np.testing.assert_array_equal(written.affine, volume.native.affine.astype(np.float32))
    np.testing.assert_allclose(written.affine, affine, atol=1e-5)


@pytest.mark.parametrize("name", ["scan.mgh", "scan.mgz"])
@pytest.mark.parametrize(
    "edit, shown",
    [
        (put_big(VERSION, "i", 2), "not an MGH file"),
        (put_big(VERSION, "i", 2**24), "expected version 1"),  # little-endian
        (lambda block: block.__delitem__(slice(200, None)), "not an MGH file"),
        (put_big(DIMS, "4i", 3, 4, 5, 2), "3x4x5x2, a time series"),
        (put_big(DIMS, "4i", 3, 4, 5, 0), "[3, 4, 5, 0]"),
        (put_big(DIMS, "4i", 3, -4, 5, 1), "[3, -4, 5]"),
        (put_big(DIMS, "3i", 2**31 - 1, 2**31 - 1, 2**31 - 1), f"at most {MAX_VOXELS}"),
        (put_big(DIMS, "3i", 700, 700, 700), "cannot hold"),
        (put_big(TYPE, "i", 2), "voxels of the type 2, expected MGH's"),
        (put_big(DELTA, "f", 0), "0x1.5x1.1 mm"),
        (put_big(DELTA + 4, "f", math.nan), "0.9xnanx1.1 mm"),
        (put_big(COSINES, "9f", *[0] * 9), "independent axes"),
        (put_big(COSINES, "f", math.inf), "independent axes"),
        (put_big(CENTER, "f", -math.inf), "independent axes"),
        (put_big(CENTER, "f", 1e9), "no number beyond 1e+06"),
    ],
)
def test_unusable_header_is_one_sentence(tmp_path, name, edit, shown):
    path = save_raw(tmp_path / name, edit, kind=nib.MGHImage)
    for read in (read_image, read_label_map):
        message = error_of(read, path)
        assert str(path) in message and shown in message


@pytest.mark.parametrize("name", ["labels.mgz", "labels.mgh"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32])
def test_label_maps_are_written_on_the_scans_own_grid(tmp_path, name, dtype):
    """Every orientation, oblique, and trailing axes dropped, read back by nibabel."""
    for number, (permutation, flips) in enumerate(ORIENTATIONS):
        stored, affine = reorient(ramp(), affine_of(degrees=(12, -9, 20)), permutation, flips)
        scan = read_image(save(tmp_path / f"{number}.nii", stored[..., None], affine))
        labels = scan.data[..., 0].astype(dtype)
        write_label_map(tmp_path / name, labels, scan.native)
        written = load(tmp_path / name)
        np.testing.assert_array_equal(written.dataobj, stored)
        np.testing.assert_allclose(written.affine, affine, atol=1e-4)
        assert written.get_data_dtype().newbyteorder("=") == dtype
        np.testing.assert_array_equal(read_label_map(tmp_path / name).data, labels)
    native = read_image(tmp_path / "0.nii").native
    with input_error("int64", "uint8", "int16", "int32"):
        write_label_map(tmp_path / name, np.zeros(native.shape, np.int64), native)
