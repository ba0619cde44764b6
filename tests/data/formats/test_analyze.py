import math

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.data.formats import MAX_VOXELS, read_layout
from infant_seg_jax.data.volumes import read_image, read_label_map, write_label_map
from tests.data.volume_files import affine_of, both, error_of, load, notice_of, put, ramp

# Byte offsets in the header, dbh.h of Analyze 7.5 with SPM's uses of unused fields.
DIM, DATATYPE, PIXDIM, VOX_OFFSET, SLOPE, CAL_MAX, GL_MAX = 40, 70, 76, 108, 112, 124, 140
ORIENT, ORIGIN = 252, 253
SPACING = (0.9, 1.5, 1.1)


def pair(path, *edits, array=None, order="<"):
    """A plain Analyze pair, which knows no affine, its header's bytes edited."""
    array = ramp() if array is None else array
    header = nib.AnalyzeHeader(endianness=order)
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header.set_zooms((*SPACING, 1)[: array.ndim])
    block = bytearray(header.binaryblock)
    both(*edits)(block)
    path.with_suffix(".hdr").write_bytes(block)
    voxels = array.astype(array.dtype.newbyteorder(order)).tobytes(order="F")
    path.with_suffix(".img").write_bytes(voxels)
    return path


@pytest.mark.parametrize("ending", [".hdr", ".img"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8"])
def test_stored_types_mean_what_nibabel_reads(tmp_path, ending, order, dtype):
    array = ramp(dtype=dtype) - np.array(0 if dtype == "u1" else 20, dtype)
    path = pair(tmp_path / f"scan{ending}", array=array, order=order)
    expected = nib.as_closest_canonical(load(path))
    volume = read_image(path)
    np.testing.assert_array_equal(volume.data[..., 0], expected.get_fdata())
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-6)
    labels = read_label_map(path).data
    assert labels.dtype.isnative
    np.testing.assert_array_equal(labels, expected.get_fdata())
    assert read_layout(path).dtype == np.dtype(dtype).newbyteorder(order)


@pytest.mark.parametrize(
    "code, dtype",
    [(130, "i1"), (132, "u2"), (136, "u4"), (256, "i1"), (512, "u2"), (768, "u4")],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_types_that_others_added_are_read(tmp_path, code, dtype, order):
    array = ramp(dtype=dtype) + np.array(np.iinfo(dtype).max - 60, dtype)
    signed = array.view(f"i{array.itemsize}") if array.itemsize > 1 else array.view("u1")
    edit = put(DATATYPE, "h", code, order=order)
    path = pair(tmp_path / "scan.hdr", edit, array=signed, order=order)
    np.testing.assert_array_equal(read_label_map(path).data, array[::-1])


def test_left_is_assumed_and_said(tmp_path):
    """iSeg's layout: `subject-N-label.hdr` with a trailing axis of length 1."""
    ids = np.array([0, 10, 150, 250], np.uint8)[ramp() % 4][..., None]
    path = pair(tmp_path / "subject-1-label.hdr", array=ids)
    for read in (read_image, read_label_map):
        volume = read(path)
        # The first axis grows to the left, so RAS+ order has it reversed.
        np.testing.assert_array_equal(volume.data.reshape(3, 4, 5), ids[::-1, ..., 0])
        notice = notice_of(path, volume.notices)
        assert "does not store left and right" in notice
        assert "assumed to point to left, anterior, superior (LAS)" in notice

    write_label_map(tmp_path / "out.nii.gz", read_label_map(path).data, volume.native)
    written = load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(written.get_fdata(), ids[..., 0])
    np.testing.assert_array_equal(written.affine, load(path).affine)


@pytest.mark.parametrize(
    "orient, codes, to_ras",
    [
        (0, "LAS", lambda stored: stored[::-1]),
        (1, "LSA", lambda stored: stored[::-1].transpose(0, 2, 1)),
        (2, "ASL", lambda stored: stored[:, :, ::-1].transpose(2, 0, 1)),
    ],
)
@pytest.mark.parametrize("origin", [(0, 0, 0), (2, 4, 1)])
def test_slice_orientation_is_honored(tmp_path, orient, codes, to_ras, origin):
    edits = put(ORIENT, "b", orient), put(ORIGIN, "3h", *origin)
    volume = read_image(pair(tmp_path / "scan.hdr", *edits))
    np.testing.assert_array_equal(volume.data[..., 0], to_ras(ramp()))
    assert "".join(nib.aff2axcodes(volume.native.affine)) == codes
    assert codes in volume.notices[0]
    np.testing.assert_allclose(
        np.linalg.norm(volume.native.affine[:3, :3], axis=0), SPACING, rtol=1e-6
    )
    # The origin counts voxels from 1; the center of the volume is meant where there is none.
    at = np.subtract(origin, 1) if any(origin) else np.array([1, 1.5, 2])
    np.testing.assert_allclose(volume.native.affine @ [*at, 1], [0, 0, 0, 1], atol=1e-6)
    if orient == 0:
        np.testing.assert_allclose(
            volume.native.affine, load(tmp_path / "scan.hdr").affine, atol=1e-6
        )


@pytest.mark.parametrize(
    "edits, scaled",
    [
        ([put(SLOPE, "f", 0.5)], True),
        ([put(SLOPE, "ff", 0.5, -3)], True),
        ([put(SLOPE, "ff", 0.5, math.nan)], True),
        ([put(SLOPE, "f", math.inf)], False),
        ([put(CAL_MAX, "ff", 1, 0.2), put(GL_MAX, "ii", 110, 10)], True),
        ([put(CAL_MAX, "ff", 1, 0.2)], False),
        ([put(GL_MAX, "ii", 60, 1)], False),
    ],
)
def test_scale_is_what_nibabel_reads(tmp_path, edits, scaled):
    path = pair(tmp_path / "scan.hdr", *edits)
    volume = read_image(path)
    expected = nib.as_closest_canonical(load(path)).get_fdata()
    np.testing.assert_allclose(volume.data[..., 0], expected, rtol=1e-6)
    assert scaled == (not np.array_equal(expected, ramp()[::-1]))
    assert len(volume.notices) == 1 + scaled
    assert not scaled or "multiplied by" in volume.notices[1]


@pytest.mark.parametrize("kind", [nib.Spm99AnalyzeImage, nib.Spm2AnalyzeImage])
def test_orientation_that_spm_keeps_elsewhere_is_not_passed_over(tmp_path, kind):
    path = tmp_path / "scan.hdr"
    nib.save(kind(ramp(), affine_of((1, 2, 3), degrees=(10, -20, 170))), path)
    assert f"{path} has its orientation in SPM's scan.mat beside it" in error_of(read_image, path)


@pytest.mark.parametrize(
    "edit, shown",
    [
        (put(0, "i", 1), "neither an Analyze nor a NIfTI header"),
        (lambda block: block.__delitem__(slice(300, None)), "neither an Analyze nor"),
        (put(DIM, "h", 0), "no axes"),
        (put(DIM, "5h", 4, 3, 4, 5, 2), "3x4x5x2, a time series"),
        (put(DIM + 2, "h", -3), "[-3, 4, 5]"),
        (put(DIM + 2, "3h", 32767, 32767, 32767), f"at most {MAX_VOXELS}"),
        (put(DIM + 2, "3h", 600, 600, 600), "cannot hold"),
        (put(DATATYPE, "h", 1), "type 1, expected Analyze's"),
        (put(DATATYPE, "h", 32), "type 32, expected Analyze's"),
        (put(VOX_OFFSET, "f", math.nan), "byte nan"),
        (put(VOX_OFFSET, "f", -352), "byte -352"),
        (put(VOX_OFFSET, "f", 1e30), "byte 1e+30"),
        (put(VOX_OFFSET, "f", 1), "cannot hold"),
        (put(PIXDIM + 4, "f", 0), "0x1.5x1.1 mm"),
        (put(PIXDIM + 4, "f", -1), "-1x1.5x1.1 mm"),
        (put(PIXDIM + 8, "f", math.inf), "0.9xinfx1.1 mm"),
        (put(ORIENT, "b", 3), "Analyze orientation 3, expected 0"),
        (put(ORIENT, "c", b"0"), "Analyze orientation 48, expected 0"),
        (
            both(put(CAL_MAX, "ff", 3e38, -3e38), put(GL_MAX, "ii", 1, 0)),
            "slope and intercept are inf",
        ),
    ],
)
def test_unusable_header_is_one_sentence(tmp_path, edit, shown):
    path = pair(tmp_path / "scan.hdr", edit)
    for read in (read_image, read_label_map):
        message = error_of(read, path)
        assert str(tmp_path / "scan.") in message and shown in message
