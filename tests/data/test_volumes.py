import itertools
import math
import re
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine

from infant_seg_jax.data.volumes import (
    check_same_grid,
    read_image,
    read_images,
    read_label_map,
    read_mask,
    voxel_ml,
    write_label_map,
    write_volume,
)
from tests.data.volume_files import (
    GEOMETRY,
    ORIENTATIONS,
    SHAPE,
    affine_of,
    error_of,
    load,
    put,
    ramp,
    reorient,
    save,
    save_raw,
)

KINDS = {
    "scan.nii": nib.Nifti1Image,
    "scan.nii.gz": nib.Nifti2Image,
    "scan.hdr": nib.Nifti1Pair,
    "scan.mgz": nib.MGHImage,
}


@pytest.mark.parametrize("name", ["scan.nii", "scan.mgz"])
@pytest.mark.parametrize("permutation, flips", ORIENTATIONS)
def test_left_stays_left_in_every_axis_order(tmp_path, permutation, flips, name):
    ras_affine = affine_of(degrees=(12, -9, 20))
    stored, affine = reorient(ramp(), ras_affine, permutation, flips)
    path = save(tmp_path / name, stored, affine, KINDS[name])

    volume = read_image(path)
    np.testing.assert_array_equal(volume.data[..., 0], ramp())
    np.testing.assert_allclose(volume.affine, ras_affine, atol=1e-4)
    np.testing.assert_allclose(volume.spacing, (0.9, 1.5, 1.1), atol=1e-5)
    assert volume.native.shape == stored.shape

    # A label map drawn in RAS returns to the voxels it was drawn on.
    write_label_map(tmp_path / "labels.nii.gz", ramp(dtype=np.uint8), volume.native)
    written, source = load(tmp_path / "labels.nii.gz"), load(path)
    np.testing.assert_array_equal(np.asarray(written.dataobj), stored)
    if name == "scan.nii":
        assert written.affine.tobytes() == source.affine.tobytes()
    np.testing.assert_allclose(written.affine, source.affine, atol=1e-4)
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
    dtype=st.sampled_from(("u1", "i2", "i4", "f4")),
    name=st.sampled_from(sorted(KINDS)),
)
def test_each_value_keeps_its_place_in_the_world(tmp_path_factory, affine, shape, dtype, name):
    folder = tmp_path_factory.mktemp("world")
    path = save(folder / name, ramp(shape, dtype), affine, KINDS[name])
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
    expected_kind = nib.Nifti2Image if name == "scan.nii.gz" else nib.Nifti1Image
    assert type(load(folder / "again.nii")) is expected_kind
    np.testing.assert_array_equal(np.asarray(again.dataobj), np.asarray(stored.dataobj))
    if name == "scan.mgz":  # which has no affine, but what makes one
        np.testing.assert_allclose(again.affine, stored.affine, rtol=1e-5, atol=1e-4)
    else:
        assert again.affine.tobytes() == stored.affine.tobytes()


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

    def fail(image, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(nib.Nifti1Image, "to_stream", fail)
    with pytest.raises(KeyboardInterrupt):
        write_label_map(tmp_path / "out" / "labels.nii.gz", ramp(dtype=np.uint8), volume.native)
    assert list((tmp_path / "out").iterdir()) == []


WRITE_TO_A_FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from infant_seg_jax.data.formats import Grid
from infant_seg_jax.data.volumes import write_volume
from infant_seg_jax.errors import InputError
resource.setrlimit(resource.RLIMIT_FSIZE, (2**12, 2**12))
noise = np.random.default_rng(0).random((32, 32, 32), np.float32)
try:
    write_volume(Path(sys.argv[1]), noise, Grid(noise.shape, np.eye(4)))
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("name", ["map.nii.gz", "map.nii"])
def test_a_volume_on_a_full_disk_is_one_sentence(tmp_path, name):
    """Files may not grow beyond 4 kB, which fails as a full disk does: in the middle."""
    printed = subprocess.run(
        [sys.executable, "-c", WRITE_TO_A_FULL_DISK, tmp_path / name],
        capture_output=True,
        check=True,
        text=True,
    )
    assert printed.stdout.startswith(f"Cannot write to the folder {tmp_path} (File too large): ")
    assert not printed.stderr and not list(tmp_path.iterdir())


def test_array_that_does_not_fit_is_not_written(tmp_path):
    volume = read_image(save(tmp_path / "scan.nii.gz", ramp()))
    with pytest.raises(ValueError):
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
    message = error_of(read_images, [t1, moved], True)
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


@pytest.mark.parametrize("mm", [0.4, 1.0, 3.0])
def test_what_another_tool_rounded_is_one_grid_and_said(tmp_path, mm):
    """The bound is a share of a voxel, whatever the voxel's size and the axes' directions."""
    affine = affine_of((mm, mm, mm), degrees=(20, -10, 30))
    scan = read_image(save(tmp_path / "scan.nii", ramp(), affine))
    path = tmp_path / "mask.nii"
    for share, told in ((0.0, 0), (0.0005, 0), (0.002, 1), (0.0099, 1), (0.0102, None)):
        moved = affine.copy()
        moved[:3, 3] += share * affine[:3, 1]
        save(path, np.ones(SHAPE, np.uint8), moved)
        if told is None:
            assert f"{path} lies up to" in error_of(read_mask, path, scan)
            continue
        mask, notices = read_mask(path, scan)
        assert mask.all() and len(notices) == told
        for notice in notices:
            match = re.search(rf"{path} lies up to (.*) mm away from {scan.path} \(", notice)
            assert match and float(match[1]) == pytest.approx(share * mm, rel=0.02)
        again = read_images([scan.path, path_of_other(path, moved)], strict=True)
        assert again.data.shape == (*SHAPE, 2) and len(again.notices) == told


def path_of_other(path, affine):
    """A second modality on that grid."""
    return save(path.with_name("other.nii"), ramp() + 1, affine)


@pytest.mark.parametrize(
    "values, shown",
    [
        ({(1, 1, 1): np.nan, (1, 2, 3): np.nan}, "2 voxels that are NaN or infinite"),
        ({(1, 1, 1): np.nan, (0, 0, 0): np.nan}, "1 voxels that are NaN or infinite"),
        ({(0, 0, 0): np.inf}, "1 voxels that are NaN or infinite"),
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


@pytest.mark.parametrize("kind", ["float32", "float64", "with a slope"])
def test_nan_around_a_brain_is_background(tmp_path, kind):
    """Of every region of NaN that reaches the border; a brain may have zeros, too."""
    brain = np.zeros((9, 10, 8), bool)
    brain[2:7, 2:9, 2:6] = True
    brain[4:6, 8, 3:5] = False  # connected to what is around it
    values = np.where(brain, ramp(brain.shape), 0).astype(np.float64)
    values[4, 4, 4] = 0
    stored = np.where(brain, values, np.nan)
    if kind == "with a slope":
        image = nib.Nifti1Image(stored / 2, affine_of(), dtype="float32")
        image.header.set_slope_inter(2, 0)
        path = tmp_path / "nan.nii"
        nib.save(image, path)
    else:
        path = save(tmp_path / "nan.nii", stored.astype(kind))
    found = read_image(path)
    np.testing.assert_array_equal(found.data[..., 0], values)
    (notice,) = found.notices
    assert notice == (
        f"{path} is NaN in {1 - brain.mean():.1%} of its voxels, which are treated as background."
    )
    scan = read_image(save(tmp_path / "scan.nii", ramp(brain.shape)))
    label_map = read_label_map(path)
    np.testing.assert_array_equal(label_map.data, values)
    assert label_map.notices == (notice,)
    mask, notices = read_mask(path, scan)
    np.testing.assert_array_equal(mask, values != 0)
    assert notices == (notice,)


@pytest.mark.parametrize("value, shown", [(0, "is empty: every voxel is 0"), (7, "voxel is 7")])
def test_volume_without_contrast_is_refused(tmp_path, value, shown):
    path = save(tmp_path / "scan.nii", np.full(SHAPE, value, np.int16))
    message = error_of(read_image, path)
    assert str(path) in message and shown in message


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


def test_a_voxel_is_as_large_as_the_box_that_its_axes_span() -> None:
    assert voxel_ml(np.diag([2.0, -1.0, 5.0, 1.0])) == pytest.approx(10 / 1000)
    sheared = np.array([[2.0, 1.0, 0.5, 0], [0, 1, 3.0, 0], [0, 0, 5, 0], [0, 0, 0, 1]])
    assert voxel_ml(sheared) == pytest.approx(10 / 1000)  # a shear changes no volume
