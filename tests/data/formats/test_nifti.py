import itertools
import math

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.data.formats import MAX_VOXELS, read_layout
from infant_seg_jax.data.formats.nifti import write_nifti
from infant_seg_jax.data.volumes import read_image, read_label_map, write_label_map
from tests.data.volume_files import (
    BITPIX,
    DATATYPE,
    DIM,
    MAGIC,
    PIXDIM,
    QFORM_CODE,
    QUATERN,
    SLOPE,
    SROW,
    UNITS,
    VOX_OFFSET,
    affine_of,
    both,
    error_of,
    load,
    no_sform,
    notice_of,
    put,
    ramp,
    save,
    save_raw,
)

SINGLE = (nib.Nifti1Image, nib.Nifti2Image)
PAIR = (nib.Nifti1Pair, nib.Nifti2Pair)


@pytest.mark.parametrize(
    "name, kind",
    [
        *itertools.product(("scan.nii", "scan.nii.gz"), SINGLE),
        *itertools.product(("scan.hdr", "scan.hdr.gz", "scan.img"), PAIR),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_stored_types_mean_what_nibabel_reads(tmp_path, name, kind, order, dtype):
    dtype = np.dtype(dtype).newbyteorder(order)
    header = kind.header_class(endianness=order)
    header.set_data_dtype(dtype)
    array = ramp() - (0 if dtype.kind == "u" else 20)
    path = tmp_path / name
    nib.save(kind(array.astype(dtype), affine_of(degrees=(3, 30, -8)), header), path)

    expected = nib.as_closest_canonical(load(path))
    volume = read_image(path)
    np.testing.assert_array_equal(volume.data[..., 0], expected.get_fdata())
    np.testing.assert_array_equal(volume.affine, expected.affine)
    assert volume.notices == () and volume.path == path
    labels = read_label_map(path).data
    assert labels.dtype.isnative
    np.testing.assert_array_equal(labels, expected.get_fdata())
    assert read_layout(path).dtype == dtype


def test_slope_and_intercept_are_applied(tmp_path):
    image = nib.Nifti1Image(ramp(), affine_of())
    image.header.set_slope_inter(0.25, -3)
    nib.save(image, tmp_path / "scan.nii.gz")
    raw = np.asarray(load(tmp_path / "scan.nii.gz").dataobj.get_unscaled(), np.float64)
    stored = load(tmp_path / "scan.nii.gz").dataobj
    expected = raw * stored.slope + stored.inter
    assert stored.slope != 1
    np.testing.assert_allclose(read_image(tmp_path / "scan.nii.gz").data[..., 0], expected, 1e-6)


@pytest.mark.parametrize("kind", PAIR)
def test_a_pair_is_written_back_as_one_file(tmp_path, kind):
    path = save(tmp_path / "scan.hdr", ramp().reshape(3, 4, 5, 1), affine_of((-1, 2, 3)), kind)
    volume = read_image(path)
    write_label_map(tmp_path / "labels.nii.gz", ramp(dtype=np.uint8), volume.native)
    written = load(tmp_path / "labels.nii.gz")
    assert type(load(tmp_path / "labels.nii.gz")) is dict(zip(PAIR, SINGLE, strict=True))[kind]
    assert written.shape == (3, 4, 5, 1)
    assert written.affine.tobytes() == load(path).affine.tobytes()


@pytest.mark.parametrize("name, kind", [("a.nii", nib.Nifti1Image), ("a.mgz", nib.MGHImage)])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "u8", "f4", "f8"])
def test_arrays_are_written_in_their_own_type(tmp_path, name, kind, dtype):
    grid = read_layout(save(tmp_path / name, ramp(), kind=kind)).grid
    write_nifti(tmp_path / "out.nii.gz", ramp(dtype=dtype), grid)
    written = load(tmp_path / "out.nii.gz")
    assert written.get_data_dtype() == np.dtype(dtype)
    np.testing.assert_array_equal(np.asarray(written.dataobj), ramp())


def test_a_shape_beyond_nifti_1_is_written_as_nifti_2(tmp_path):
    save(tmp_path / "scan.mgh", np.ones((40_000, 2, 1), np.uint8), kind=nib.MGHImage)
    grid = read_layout(tmp_path / "scan.mgh").grid
    write_nifti(tmp_path / "out.nii", np.ones(grid.shape, np.uint8), grid)
    assert isinstance(load(tmp_path / "out.nii"), nib.Nifti2Image)
    assert load(tmp_path / "out.nii").shape == (40_000, 2, 1)


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize(
    "edit, shown",
    [
        (put(MAGIC, "4s", b"oops"), "not a NIfTI file"),
        (put(MAGIC, "4s", b"ni1\0"), "rename it to .hdr"),
        (put(DIM, "h", 0), "no axes"),
        (put(DIM, "h", 9), "or too many"),
        (put(DIM, "h", 2), "axes of the sizes [3, 4]"),
        (put(DIM + 4, "h", -4), "[3, -4, 5]"),
        (put(DIM, "8h", 4, 3, 4, 5, 7, 1, 1, 1), "3x4x5x7"),
        (put(DIM, "8h", 5, 3, 4, 5, 1, 3, 1, 1), "3x4x5x1x3"),
        (put(DIM + 2, "3h", 32767, 32767, 32767), f"at most {MAX_VOXELS}"),
        (put(DIM + 2, "3h", 600, 600, 600), "cannot hold"),
        (put(DATATYPE, "h", 9999), "unusable header"),
        (put(DATATYPE, "h", 32), "complex64"),
        (put(DATATYPE, "h", 128), "real numbers"),
        (put(VOX_OFFSET, "f", math.nan), "unusable header"),
        (put(VOX_OFFSET, "f", math.inf), "unusable header"),
        (put(VOX_OFFSET, "f", 1e30), "cannot hold"),
        (put(VOX_OFFSET, "f", -5), "byte -5"),
        (put(VOX_OFFSET, "f", 100), "byte 100"),
        (put(SLOPE, "ff", 1, math.inf), "unusable header"),
        (put(PIXDIM + 4, "f", 0), "0x1.5x1.1 mm"),
        (put(PIXDIM + 8, "f", -1.5), "0.9x-1.5x1.1 mm"),
        (put(PIXDIM + 12, "f", math.nan), "0.9x1.5xnan mm"),
        (put(QFORM_CODE, "hh", 1, 182), "codes 1 and 182, expected 0 to 5"),
        (put(QFORM_CODE, "hh", -1, 1), "codes -1 and 1, expected 0 to 5"),
        (put(SROW, "f", math.inf), "independent axes"),
        (put(SROW + 12, "f", math.nan), "independent axes"),
        (put(SROW, "12f", *[1, 2, 3, 0] * 3), "independent axes"),
        (put(SROW, "12f", *[0] * 12), "independent axes"),
        (put(SROW + 12, "f", 1e9), "no number beyond 1e+06"),
        (put(SROW, "f", 1e-6), "1e-06x1.5x1.1 mm, expected sizes from 0.0001 to 1000"),
        (both(no_sform, put(QUATERN, "3f", 1, 1, 1)), "unusable affine"),
    ],
)
def test_unusable_header_is_one_sentence(tmp_path, name, edit, shown):
    path = save_raw(tmp_path / name, edit)
    for read in (read_image, read_label_map):
        message = error_of(read, path)
        assert str(path) in message and shown in message


@pytest.mark.parametrize("mark", [b"n+1\0", b"n+2\0"])
def test_a_single_file_under_the_name_of_a_pair_is_refused(tmp_path, mark):
    kind = nib.Nifti1Image if mark == b"n+1\0" else nib.Nifti2Image
    single = save(tmp_path / "scan.nii", ramp(), kind=kind)
    single.rename(tmp_path / "scan.hdr")
    (tmp_path / "scan.img").write_bytes(bytes(120))
    message = error_of(read_image, tmp_path / "scan.hdr")
    assert str(tmp_path / "scan.hdr") in message and "rename it to .nii" in message


@pytest.mark.parametrize("offset, fits", [(0, True), (16, True), (17, False), (-1, False)])
def test_voxels_of_a_pair_begin_where_the_header_says(tmp_path, offset, fits):
    path = save(tmp_path / "scan.hdr", ramp(), kind=nib.Nifti1Pair)
    block = bytearray(path.read_bytes())
    put(VOX_OFFSET, "f", offset)(block)
    path.write_bytes(block)
    voxels = (tmp_path / "scan.img").read_bytes()
    (tmp_path / "scan.img").write_bytes(bytes(16) + voxels)
    if fits:
        expected = np.frombuffer(bytes(16) + voxels, "<i2", 60, offset).reshape(5, 4, 3).T
        np.testing.assert_array_equal(read_label_map(path).data, expected)
    else:
        shown = "byte -1" if offset < 0 else str(tmp_path / "scan.img")
        assert shown in error_of(read_image, path)


def test_qfac_of_zero_is_one(tmp_path):
    path = save_raw(tmp_path / "scan.nii", both(no_sform, put(PIXDIM, "f", 0)))
    np.testing.assert_allclose(read_image(path).affine, affine_of(), atol=1e-4)


@pytest.mark.parametrize("kind", SINGLE)
def test_absent_forms_are_assumed_and_said(tmp_path, kind):
    path = save(tmp_path / "scan.nii", ramp(), kind=kind)
    image = kind(ramp(), None, load(path).header)
    image.header["qform_code"] = image.header["sform_code"] = 0
    nib.save(image, path)
    for read in (read_image, read_label_map):
        volume = read(path)
        np.testing.assert_array_equal(volume.native.affine, load(path).affine)
        notice = notice_of(path, volume.notices)
        assert "left, anterior, superior (LAS)" in notice and "neither a qform nor" in notice


@pytest.mark.parametrize(
    "degrees, origin, shown",
    [
        ((0, 0, 0), (0, 0, 0), None),
        ((0, 0, 1), (0.3, 0, 0), None),  # within a voxel
        ((0, 0, 0), (0, 0, 1.09), None),
        ((0, 0, 0), (0, 0, 1.11), "up to 1.11 mm apart: the sform is used"),
        ((0, 0, 180), (0, 0, 0), "mm apart: the sform is used"),
    ],
)
def test_forms_that_disagree_are_said(tmp_path, degrees, origin, shown):
    image = nib.Nifti1Image(ramp(), affine_of(origin=(0, 0, 0)))
    image.header.set_qform(affine_of(origin=origin, degrees=degrees), code=1)
    nib.save(image, tmp_path / "scan.nii")
    volume = read_image(tmp_path / "scan.nii")
    np.testing.assert_array_equal(volume.native.affine, load(tmp_path / "scan.nii").affine)
    np.testing.assert_allclose(volume.affine, affine_of(origin=(0, 0, 0)), atol=1e-6)
    if shown is None:
        assert volume.notices == ()
    else:
        assert shown in notice_of(tmp_path / "scan.nii", volume.notices)


@pytest.mark.parametrize("quaternion", [(1, 1, 1), (math.nan, 0, 0), (math.inf, 0, 0)])
def test_a_broken_qform_beside_a_sform_is_said(tmp_path, quaternion):
    edit = both(put(QFORM_CODE, "hh", 1, 1), put(QUATERN, "3f", *quaternion))
    path = save_raw(tmp_path / "scan.nii", edit)
    volume = read_image(path)
    np.testing.assert_allclose(volume.affine, affine_of(), atol=1e-6)
    assert "a qform that cannot be used: the sform is used" in notice_of(path, volume.notices)


@pytest.mark.parametrize(
    "unit, shown", [(0, None), (2, None), (2 + 8, None), (1, "meters"), (3 + 8, "micrometers")]
)
def test_units_other_than_mm_are_said(tmp_path, unit, shown):
    path = save_raw(tmp_path / "scan.nii", put(UNITS, "B", unit))
    volume = read_image(path)
    np.testing.assert_allclose(volume.spacing, (0.9, 1.5, 1.1), rtol=1e-6)
    if shown is None:
        assert volume.notices == ()
    else:
        notice = notice_of(path, volume.notices)
        assert f"unit is {shown}" in notice and "read as millimeters" in notice


def test_bits_per_voxel_are_not_believed(tmp_path):
    path = save_raw(tmp_path / "scan.nii", put(BITPIX, "h", 8))
    np.testing.assert_array_equal(read_label_map(path).data, ramp())
