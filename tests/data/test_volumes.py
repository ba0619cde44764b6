import gzip
import itertools
import math
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation

from infant_seg_jax.data.nifti import MAX_VOXELS
from infant_seg_jax.data.volumes import (
    check_same_grid,
    read_image,
    read_images,
    read_label_map,
    write_label_map,
    write_volume,
)
from infant_seg_jax.errors import InputError

SHAPE = (3, 4, 5)
ORIENTATIONS = [
    (permutation, flips)
    for permutation in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]
GEOMETRY = (
    *("pixdim", "qform_code", "sform_code", "xyzt_units", "srow_x", "srow_y", "srow_z"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
)


def affine_of(spacing=(0.9, 1.5, 1.1), origin=(-40.0, -31.0, 17.0), degrees=(0, 0, 0)):
    affine = np.eye(4)
    rotation = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    affine[:3, :3] = rotation @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


def load(path) -> Any:
    return nib.load(path)


def ramp(shape=SHAPE, dtype: Any = np.int16):
    """Every voxel differs from every other, so no two axes or directions are alike."""
    return np.arange(1, math.prod(shape) + 1).reshape(shape).astype(dtype)


def save(path, array, affine=None, kind=nib.Nifti1Image):
    image = kind(array, affine_of() if affine is None else affine)
    nib.save(image, path)
    return path


def save_raw(path, edit, array=None, kind=nib.Nifti1Image):
    """Save, then edit the header's bytes, which nibabel would refuse to write."""
    save(path.with_name("good.nii"), ramp() if array is None else array, kind=kind)
    block = bytearray(path.with_name("good.nii").read_bytes())
    edit(block)
    path.write_bytes(gzip.compress(block) if path.suffix == ".gz" else block)
    return path


def put(offset, form, *values):
    return lambda block: struct.pack_into("<" + form, block, offset, *values)


def error_of(function, *args):
    with pytest.raises(InputError) as caught:
        function(*args)
    message = str(caught.value)
    assert message.endswith((".", "?")) and "\n" not in message
    return message


def reorient(array, affine, permutation, flips):
    """The same scan stored in another axis order: new axis n is old axis permutation[n]."""
    to_old = np.zeros((4, 4))
    to_old[3, 3] = 1
    for new, (old, flip) in enumerate(zip(permutation, flips, strict=True)):
        to_old[old, new] = -1 if flip else 1
        to_old[old, 3] = array.shape[old] - 1 if flip else 0
    stored = array.transpose(permutation)
    stored = stored[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    return stored, affine @ to_old


@pytest.mark.parametrize("permutation, flips", ORIENTATIONS)
def test_left_stays_left_in_every_axis_order(tmp_path, permutation, flips):
    ras_affine = affine_of(degrees=(12, -9, 20))
    stored, affine = reorient(ramp(), ras_affine, permutation, flips)
    path = save(tmp_path / "scan.nii", stored, affine)

    volume = read_image(path)
    np.testing.assert_array_equal(volume.data[..., 0], ramp())
    np.testing.assert_allclose(volume.affine, ras_affine, atol=1e-4)
    np.testing.assert_allclose(volume.spacing, (0.9, 1.5, 1.1), atol=1e-5)
    assert volume.native.shape == stored.shape

    # A label map drawn in RAS returns to the voxels it was drawn on.
    write_label_map(tmp_path / "labels.nii.gz", ramp(dtype=np.uint8), volume.native)
    written, source = load(tmp_path / "labels.nii.gz"), load(path)
    np.testing.assert_array_equal(np.asarray(written.dataobj), stored)
    assert written.affine.tobytes() == source.affine.tobytes()
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(read_label_map(tmp_path / "labels.nii.gz").data, ramp())


@st.composite
def affines(draw):
    """Any rotation or reflection, anisotropic spacing, a little shear, any origin."""
    angles = draw(st.tuples(*[st.floats(-180, 180)] * 3))
    spacing = np.array(draw(st.tuples(*[st.floats(0.2, 5)] * 3)))
    spacing *= draw(st.tuples(*[st.sampled_from((-1, 1))] * 3))
    affine = affine_of(spacing, draw(st.tuples(*[st.floats(-500, 500)] * 3)), angles)
    affine[:3, 1] += draw(st.floats(-0.2, 0.2)) * affine[:3, 0]
    return affine


@settings(deadline=None, max_examples=60)
@given(
    affine=affines(),
    shape=st.tuples(*[st.integers(1, 6)] * 3).filter(lambda shape: math.prod(shape) > 1),
    kind=st.sampled_from((nib.Nifti1Image, nib.Nifti2Image)),
)
def test_each_value_keeps_its_place_in_the_world(tmp_path_factory, affine, shape, kind):
    folder = tmp_path_factory.mktemp("world")
    path = save(folder / "scan.nii", ramp(shape), affine, kind)
    volume = read_image(path)
    stored = load(path)

    # Where the file says that each value is, the volume must have it too.
    indices = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), -1)
    in_file = apply_affine(np.linalg.inv(stored.affine) @ volume.affine, indices)
    np.testing.assert_allclose(in_file, in_file.round(), atol=1e-3)
    expected = np.asarray(stored.dataobj)[tuple(np.moveaxis(in_file.round().astype(int), -1, 0))]
    np.testing.assert_array_equal(volume.data[..., 0], expected)
    # Each axis grows mostly to the right, to anterior, to superior: no other signed permutation
    # of the axes is closer to RAS+ (Frobenius norm, in units of one voxel).
    directions = volume.affine[:3, :3] / volume.spacing
    left, _, right = np.linalg.svd(directions)
    rotation = left @ right
    scores = {
        (permutation, signs): sum(
            s * rotation[r, c] for r, (c, s) in enumerate(zip(permutation, signs, strict=True))
        )
        for permutation in itertools.permutations(range(3))
        for signs in itertools.product((-1, 1), repeat=3)
    }
    assert scores[(0, 1, 2), (1, 1, 1)] > 0.9 * max(scores.values())

    write_volume(folder / "again.nii", volume.data[..., 0], volume.native)
    again = load(folder / "again.nii")
    assert type(again) is kind
    np.testing.assert_array_equal(np.asarray(again.dataobj), np.asarray(stored.dataobj))
    assert again.affine.tobytes() == stored.affine.tobytes()


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("endianness", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_stored_types_mean_what_nibabel_reads(tmp_path, name, kind, endianness, dtype):
    dtype = np.dtype(dtype).newbyteorder(endianness)
    header = kind.header_class(endianness=endianness)
    header.set_data_dtype(dtype)
    array = ramp() - (0 if dtype.kind == "u" else 20)
    image = kind(array.astype(dtype), affine_of(), header)
    nib.save(image, tmp_path / name)
    expected = load(tmp_path / name).get_fdata()
    np.testing.assert_array_equal(read_image(tmp_path / name).data[..., 0], expected)
    labels = read_label_map(tmp_path / name).data
    assert labels.dtype.isnative
    np.testing.assert_array_equal(labels, expected)


def test_slope_and_intercept_are_applied(tmp_path):
    image = nib.Nifti1Image(ramp(), affine_of())
    image.header.set_slope_inter(0.25, -3)
    nib.save(image, tmp_path / "scan.nii.gz")
    raw = np.asarray(load(tmp_path / "scan.nii.gz").dataobj.get_unscaled(), np.float64)
    stored = load(tmp_path / "scan.nii.gz").dataobj
    expected = raw * stored.slope + stored.inter
    assert stored.slope != 1
    np.testing.assert_allclose(read_image(tmp_path / "scan.nii.gz").data[..., 0], expected, 1e-6)


def test_label_map_with_a_slope_is_whole_numbers_again(tmp_path):
    def edit(block):
        put(112, "f", 1 / 255)(block)  # scl_slope, which float32 cannot hold exactly
        put(116, "f", 0)(block)

    array = ((ramp() % 4) * 255).astype(np.int16)
    path = save_raw(tmp_path / "labels.nii", edit, array)
    assert not np.array_equal(load(path).get_fdata(), ramp() % 4)
    np.testing.assert_array_equal(read_label_map(path).data, ramp() % 4)


@pytest.mark.parametrize("trailing", [0, 1, 2, 4])
def test_trailing_axes_of_length_one_come_and_go(tmp_path, trailing):
    path = save(tmp_path / "scan.nii.gz", ramp().reshape(SHAPE + (1,) * trailing))
    volume = read_image(path)
    assert volume.data.shape == (*SHAPE, 1)
    write_label_map(tmp_path / "labels.nii.gz", np.ones(SHAPE, np.uint8), volume.native)
    assert load(tmp_path / "labels.nii.gz").shape == load(path).shape
    write_volume(tmp_path / "p.nii.gz", np.ones((*SHAPE, 4), np.float32) / 4, volume.native)
    assert load(tmp_path / "p.nii.gz").shape == (*SHAPE, 4)
    assert load(tmp_path / "p.nii.gz").get_data_dtype() == np.float32


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 2), (3, 4), (2, 1)])
def test_form_codes_and_geometry_survive_bit_for_bit(tmp_path, codes):
    image = nib.Nifti1Image(ramp().reshape(*SHAPE, 1), None)
    header = image.header
    header.set_zooms((0.9, 1.5, 1.1, 0))
    header.set_qform(affine_of(degrees=(10, 3, 170)), code=codes[0])
    header.set_sform(affine_of(degrees=(-80, 5, 4), origin=(3, 2, 1)), code=codes[1])
    header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "scan.nii")
    source = load(tmp_path / "scan.nii")
    volume = read_image(tmp_path / "scan.nii")
    write_label_map(tmp_path / "labels.nii", ramp(volume.shape, np.uint8), volume.native)
    written = load(tmp_path / "labels.nii")
    for field in GEOMETRY:
        assert written.header[field].tobytes() == source.header[field].tobytes(), field
    assert written.affine.tobytes() == source.affine.tobytes()
    np.testing.assert_array_equal(volume.native.affine, source.affine)


def test_written_file_is_whole_or_absent(tmp_path, monkeypatch):
    volume = read_image(save(tmp_path / "scan.nii.gz", ramp()))

    def fail(image, path):
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(nib, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        write_label_map(tmp_path / "out" / "labels.nii.gz", ramp(dtype=np.uint8), volume.native)
    assert list((tmp_path / "out").iterdir()) == []


def test_array_that_does_not_fit_is_not_written(tmp_path):
    volume = read_image(save(tmp_path / "scan.nii.gz", ramp()))
    with pytest.raises(ValueError, match="does not fit"):
        write_label_map(tmp_path / "labels.nii.gz", ramp((4, 4, 5), np.uint8), volume.native)
    assert not (tmp_path / "labels.nii.gz").exists()
    assert "labels.png" in error_of(
        write_label_map, tmp_path / "labels.png", ramp(dtype=np.uint8), volume.native
    )


def test_modalities_become_channels_in_order(tmp_path):
    t1 = save(tmp_path / "t1.nii", ramp())
    # The same grid, stored in another order.
    t2 = save(tmp_path / "t2.nii", *reorient(ramp() * 3, affine_of(), (2, 0, 1), (1, 0, 1)))
    volume = read_images([t1, t2])
    np.testing.assert_array_equal(volume.data, np.stack([ramp(), ramp() * 3], -1))
    assert volume.path == t1 and volume.native.shape == SHAPE

    moved = save(tmp_path / "moved.nii", ramp(), affine_of(origin=(-40, -31, 18)))
    message = error_of(read_images, [t1, moved])
    assert str(moved) in message and str(t1) in message and "1 mm" in message


def test_label_ids_are_as_found(tmp_path):
    ids = np.zeros(SHAPE, np.float32)
    ids[0, 0, :3] = 2035, 41, 250
    label_map = read_label_map(save(tmp_path / "aseg.nii.gz", ids))
    assert np.issubdtype(label_map.data.dtype, np.integer)
    np.testing.assert_array_equal(label_map.data, ids)
    assert label_map.shape == SHAPE
    np.testing.assert_allclose(label_map.spacing, (0.9, 1.5, 1.1), rtol=1e-6)
    # No tissue at all is a legal label map: a poor prediction is one.
    assert not read_label_map(save(tmp_path / "none.nii", ids * 0)).data.any()


@pytest.mark.parametrize("value, shown", [(1.5, "1.5 in 2 voxels"), (1e12, "1e+12 in 2 voxels")])
def test_label_map_of_other_numbers_is_refused(tmp_path, value, shown):
    ids = np.zeros(SHAPE, np.float32)
    ids[1, 1, 1:3] = value
    message = error_of(read_label_map, save(tmp_path / "labels.nii", ids))
    assert str(tmp_path / "labels.nii") in message and shown in message and "whole" in message


def test_same_grid_compares_places_and_not_axis_orders(tmp_path):
    scan = read_image(save(tmp_path / "scan.nii", ramp()))
    other = save(tmp_path / "flipped.nii", *reorient(ramp(), affine_of(), (1, 2, 0), (1, 1, 0)))
    check_same_grid(read_label_map(other), scan)
    close = save(tmp_path / "close.nii", ramp(), affine_of(origin=(-40.0002, -31, 17)))
    check_same_grid(read_label_map(close), scan)

    smaller = save(tmp_path / "smaller.nii", ramp((3, 4, 4)))
    message = error_of(check_same_grid, read_label_map(smaller), scan)
    for part in (str(smaller), str(scan.path), "3x4x4", "3x4x5"):
        assert part in message
    # The shapes of the files agree, but not the shapes in space.
    turned = save(
        tmp_path / "turned.nii", *reorient(ramp((4, 3, 5)), affine_of(), (1, 0, 2), (0,) * 3)
    )
    message = error_of(check_same_grid, read_label_map(turned), scan)
    assert "4x3x5" in message and "3x4x5" in message
    # The first voxel agrees, but the far corner does not: 4 voxels of 0.01 mm.
    stretched = save(tmp_path / "stretched.nii", ramp(), affine_of((0.9, 1.5, 1.11)))
    message = error_of(check_same_grid, read_label_map(stretched), scan)
    assert "0.04 mm" in message and str(stretched) in message and str(scan.path) in message


# Byte offsets in the NIfTI-1 header: https://nifti.nimh.nih.gov/nifti-1/documentation/nifti1fields
DIM, DATATYPE, BITPIX, PIXDIM, VOX_OFFSET, SLOPE = 40, 70, 72, 76, 108, 112
QFORM_CODE, QUATERN, SROW, MAGIC = 252, 256, 280, 344


def no_sform(block):
    put(QFORM_CODE, "hh", 1, 0)(block)


def both(*edits):
    return lambda block: [edit(block) for edit in edits]


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize(
    "edit, shown",
    [
        (put(MAGIC, "4s", b"ni1\0"), "not a NIfTI file"),
        (put(DIM, "h", 0), "0 axes"),
        (put(DIM, "h", 2), "2 axes"),
        (put(DIM + 4, "h", -4), "[3, -4, 5]"),
        (put(DIM, "8h", 4, 3, 4, 5, 7, 1, 1, 1), "3x4x5x7"),
        (put(DIM, "8h", 5, 3, 4, 5, 1, 3, 1, 1), "3x4x5x1x3"),
        (put(DIM + 2, "3h", 30000, 30000, 30000), f"at most {MAX_VOXELS}"),
        (put(DIM + 2, "3h", 600, 600, 600), "cannot hold"),
        (put(DATATYPE, "h", 9999), "header that cannot be used"),
        (put(DATATYPE, "h", 32), "complex64"),
        (put(DATATYPE, "h", 128), "real numbers"),
        (put(VOX_OFFSET, "f", math.nan), "header that cannot be used"),
        (put(VOX_OFFSET, "f", 1e30), "cannot hold"),
        (put(VOX_OFFSET, "f", -5), "byte -5"),
        (put(VOX_OFFSET, "f", 100), "byte 100"),
        (put(SLOPE, "ff", 1, math.inf), "header that cannot be used"),
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
        (both(no_sform, put(QUATERN, "3f", 1, 1, 1)), "affine that cannot be used"),
    ],
)
def test_unusable_header_is_one_sentence(tmp_path, name, edit, shown):
    path = save_raw(tmp_path / name, edit)
    for read in (read_image, read_label_map):
        message = error_of(read, path)
        assert str(path) in message and shown in message


def test_qfac_of_zero_is_one(tmp_path):
    path = save_raw(tmp_path / "scan.nii", both(no_sform, put(PIXDIM, "f", 0)))
    np.testing.assert_allclose(read_image(path).affine, affine_of(), atol=1e-4)


def test_absurd_claim_allocates_nothing(tmp_path):
    sizes = [2**20, 2**20, 2]  # 2 TiB of uint8 ... as NIfTI-2
    path = save_raw(tmp_path / "huge.nii.gz", put(24, "3q", *sizes), kind=nib.Nifti2Image)
    tracemalloc.start()
    message = error_of(read_image, path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "1048576x1048576x2" in message and peak < 2**24


@pytest.mark.parametrize(
    "spoil, shown",
    [
        (lambda data: data[:-40], "ended before the end-of-stream"),
        (lambda data: data[:-8] + b"\0" * 8, "CRC check failed"),
        (lambda data: data[:60] + b"\xff" * 40 + data[100:], "cannot be read"),
        (lambda data: b"\x1f\x8b" + b"\0" * 60, "cannot be read"),
        (lambda data: gzip.compress(gzip.decompress(data)[:400]), "ends after 48 of 15000 bytes"),
        (lambda data: gzip.compress(b"hello"), "not a NIfTI file"),
        (lambda data: gzip.decompress(data), "Not a gzipped file"),
        (lambda data: b"", "not a NIfTI file"),
    ],
)
def test_damaged_gzip_is_one_sentence(tmp_path, spoil, shown):
    noise = np.random.default_rng(0).integers(0, 255, (20, 15, 50), np.uint8)
    path = save(tmp_path / "scan.nii.gz", noise)
    path.write_bytes(spoil(path.read_bytes()))
    message = error_of(read_image, path)
    assert str(path) in message and shown in message


def test_truncated_plain_file_is_one_sentence(tmp_path):
    path = save(tmp_path / "scan.nii", ramp())
    path.write_bytes(path.read_bytes()[:-1])
    message = error_of(read_image, path)
    assert str(path) in message and "472 bytes" in message and "471 bytes" in message


def test_missing_or_other_file_is_one_sentence(tmp_path):
    assert f"no file {tmp_path / 'scan.nii'}" in error_of(read_image, tmp_path / "scan.nii")
    (tmp_path / "folder.nii").mkdir()
    assert "no file" in error_of(read_image, tmp_path / "folder.nii")
    (tmp_path / "scan.txt").write_text("hello")
    assert "expected .nii or .nii.gz" in error_of(read_image, tmp_path / "scan.txt")
    (tmp_path / "text.nii").write_text("hello " * 100)
    assert "not a NIfTI file" in error_of(read_image, tmp_path / "text.nii")


@pytest.mark.parametrize(
    "values, shown",
    [
        ({(0, 0, 0): np.nan, (2, 3, 4): np.nan}, "2 voxels that are NaN or infinite"),
        ({(1, 1, 1): -np.inf}, "1 voxels that are NaN or infinite"),
        ({(1, 1, 1): 1e300}, "1 voxels that are NaN or infinite"),
    ],
)
def test_voxels_that_are_no_numbers_are_counted(tmp_path, values, shown):
    data = ramp(dtype=np.float64)
    for index, value in values.items():
        data[index] = value
    message = error_of(read_image, save(tmp_path / "scan.nii", data))
    assert str(tmp_path / "scan.nii") in message and shown in message
    if not np.isfinite(data).all():
        assert shown in error_of(read_label_map, tmp_path / "scan.nii")


@pytest.mark.parametrize("value, shown", [(0, "is empty: every voxel is 0"), (7, "voxel is 7")])
def test_volume_without_contrast_is_refused(tmp_path, value, shown):
    path = save(tmp_path / "scan.nii", np.full(SHAPE, value, np.int16))
    message = error_of(read_image, path)
    assert str(path) in message and shown in message


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("compressed", [False, True])
def test_mutated_files_end_in_a_volume_or_in_our_error(tmp_path, kind, compressed):
    rng = np.random.default_rng(5)
    good = save(tmp_path / "good.nii", ramp(), kind=kind).read_bytes()
    header_size = kind.header_class.sizeof_hdr
    path = tmp_path / ("scan.nii.gz" if compressed else "scan.nii")
    refused = 0
    for _ in range(150):
        block = np.frombuffer(good, np.uint8).copy()
        at = rng.integers(0, header_size, rng.integers(1, 12))
        block[at] = rng.choice([0, 1, 127, 128, 255, 66], at.size)
        data = block.tobytes()
        if compressed:
            data = gzip.compress(data, 1)
            if rng.random() < 0.3:
                data = data[: rng.integers(len(data))]
        path.write_bytes(data)
        try:
            volume = read_image(path)
        except InputError as error:
            refused += str(path) in str(error)
        else:
            assert np.isfinite(volume.data).all() and np.isfinite(volume.affine).all()
    assert refused > 30


def test_real_scans_keep_their_grid(real_data, tmp_path):
    scans = [
        "ibsr18/Training_Set/IBSR_16/IBSR_16.nii.gz",  # a trailing axis, sform only
        "infant_bids/sub-0009/ses-V01/anat/sub-0009_ses-V01_T2w.nii.gz",  # LPS, qform only
    ]
    for scan in scans:
        source = load(real_data / scan)
        volume = read_image(real_data / scan)
        assert nib.aff2axcodes(volume.affine) == ("R", "A", "S")
        write_volume(tmp_path / "again.nii.gz", volume.data[..., 0], volume.native)
        again = load(tmp_path / "again.nii.gz")
        np.testing.assert_array_equal(again.get_fdata(), np.squeeze(source.get_fdata()))
        positive = (volume.data[..., 0] > 0).astype(np.uint8)
        write_label_map(tmp_path / "labels.nii.gz", positive, volume.native)
        labels = load(tmp_path / "labels.nii.gz")
        assert labels.shape == source.shape
        assert labels.affine.tobytes() == source.affine.tobytes()
        np.testing.assert_array_equal(labels.get_fdata(), source.get_fdata() > 0)
        for field in GEOMETRY:
            used = slice(4) if field == "pixdim" else ...  # what follows the axes means nothing
            assert labels.header[field][used].tobytes() == source.header[field][used].tobytes()
