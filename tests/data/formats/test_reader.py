import gzip
import tracemalloc

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.data.formats import ENDINGS, parts, read_layout, read_voxels, stem
from infant_seg_jax.data.volumes import read_image
from tests.data.volume_files import error_of, load, put, ramp, save, save_raw


@pytest.mark.parametrize(
    "name, expected",
    [
        ("scan.nii", "scan"),
        ("sub-1_T1w.NII.GZ", "sub-1_T1w"),
        ("brain.mgz", "brain"),
        ("brain.v2.mgh", "brain.v2"),
        ("a.hdr", "a"),
        ("a.hdr.gz", "a"),
        ("a.img", "a"),
        ("a.img.gz", "a"),
        ("notes.txt", "notes.txt"),
        ("nii.gz", "nii.gz"),
        (".nii", ""),
    ],
)
def test_stem_is_the_name_without_what_makes_it_a_volume(tmp_path, name, expected):
    assert stem(tmp_path / name) == expected


def test_a_listing_finds_each_volume_once(tmp_path):
    for name in ("a.hdr", "a.img", "b.HDR.gz", "b.img.gz", "c.mgz", "d.nii.gz", "e.txt"):
        (tmp_path / name).touch()
    found = [path.name for path in tmp_path.iterdir() if path.name.lower().endswith(ENDINGS)]
    assert sorted(found) == ["a.hdr", "b.HDR.gz", "c.mgz", "d.nii.gz"]


@pytest.mark.parametrize(
    "given, other",
    [
        ("a.hdr", "a.img"),
        ("a.hdr", "a.img.gz"),
        ("a.hdr.gz", "a.img.gz"),
        ("a.hdr.gz", "a.img"),
        ("a.HDR", "a.IMG"),
        ("a.b.hdr", "a.b.img"),
    ],
)
def test_either_half_of_a_pair_finds_the_other(tmp_path, given, other):
    (tmp_path / given).touch()
    (tmp_path / other).touch()
    halves = tmp_path / given, tmp_path / other
    assert parts(halves[0]) == parts(halves[1]) == halves


def test_the_half_of_the_same_compression_comes_first(tmp_path):
    for name in ("a.hdr", "a.img", "a.hdr.gz", "a.img.gz"):
        (tmp_path / name).touch()
    assert parts(tmp_path / "a.hdr") == (tmp_path / "a.hdr", tmp_path / "a.img")
    assert parts(tmp_path / "a.img.gz") == (tmp_path / "a.hdr.gz", tmp_path / "a.img.gz")


@pytest.mark.parametrize(
    "given, expected", [("a.hdr", "a.img"), ("a.img", "a.hdr"), ("a.img.gz", "a.hdr.gz")]
)
def test_a_lone_half_is_one_sentence(tmp_path, given, expected):
    (tmp_path / given).write_bytes(bytes(348))
    for read in (read_layout, read_voxels):
        message = error_of(read, tmp_path / given)
        assert str(tmp_path / given) in message
        assert f"expected {tmp_path / expected}:" in message


@pytest.mark.parametrize("halves", [("a.hdr", "a.img.gz"), ("a.hdr.gz", "a.img")])
def test_one_half_may_be_compressed(tmp_path, halves):
    header, voxels = parts(save(tmp_path / "scan.hdr", ramp(), kind=nib.Nifti1Pair))
    for source, name in zip((header, voxels), halves, strict=True):
        data = source.read_bytes()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    array, *_ = read_voxels(tmp_path / halves[1])
    np.testing.assert_array_equal(array, ramp())


@pytest.mark.parametrize(
    "written, renamed, kind",
    [
        ("scan.nii", "scan.nii.gz", nib.Nifti1Image),
        ("scan.nii.gz", "scan.nii", nib.Nifti2Image),
        ("scan.mgh", "scan.mgz", nib.MGHImage),
        ("scan.mgz", "scan.mgh", nib.MGHImage),
    ],
)
def test_a_file_is_compressed_if_it_begins_so(tmp_path, written, renamed, kind):
    save(tmp_path / written, ramp(), kind=kind).rename(tmp_path / renamed)
    np.testing.assert_array_equal(read_voxels(tmp_path / renamed)[0], ramp())


def test_voxels_that_look_compressed_are_not(tmp_path):
    """An .img has no header, so its first voxels may be gzip's mark."""
    array = ramp(dtype=np.uint8)
    array[:2, 0, 0] = 0x1F, 0x8B
    path = save(tmp_path / "scan.hdr", array, kind=nib.Nifti1Pair)
    np.testing.assert_array_equal(read_voxels(path)[0], array)


def test_the_header_alone_says_what_is_there(tmp_path):
    path = save(tmp_path / "scan.nii", ramp((3, 4, 5, 1), np.float32))
    path.write_bytes(path.read_bytes()[:352])
    layout = read_layout(path)
    assert (layout.grid.shape, layout.dtype, layout.offset) == ((3, 4, 5), np.float32, 352)
    assert layout.scale is None and layout.grid.trailing_axes == 1
    np.testing.assert_array_equal(layout.grid.affine, load(path).affine)


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
        (lambda data: gzip.compress(data), "not a NIfTI file"),
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
    assert "expected .nii, .nii.gz, .mgh" in error_of(read_image, tmp_path / "scan.txt")
    (tmp_path / "text.nii").write_text("hello " * 100)
    assert "not a NIfTI file" in error_of(read_image, tmp_path / "text.nii")
    long = tmp_path / f"{'a' * 300}.nii"
    assert "cannot be read" in error_of(read_image, long)
