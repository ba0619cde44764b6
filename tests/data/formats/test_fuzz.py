"""Damaged and hostile files end in a volume or in our own error, and cost no memory."""

import gzip
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.freesurfer.mghformat import header_dtype as mgh_dtype

from infant_seg_jax.data.volumes import read_image, read_label_map
from infant_seg_jax.errors import InputError
from tests.data.volume_files import ramp, save

MUTATIONS = 90
MEMORY = 2**26
FORMATS = {
    "nifti1": ("scan.nii", nib.Nifti1Image, nib.Nifti1Header.template_dtype),
    "nifti1.gz": ("scan.nii.gz", nib.Nifti1Image, nib.Nifti1Header.template_dtype),
    "nifti2": ("scan.nii", nib.Nifti2Image, nib.Nifti2Header.template_dtype),
    "nifti2.gz": ("scan.nii.gz", nib.Nifti2Image, nib.Nifti2Header.template_dtype),
    "nifti1 pair": ("scan.hdr", nib.Nifti1Pair, nib.Nifti1Header.template_dtype),
    "nifti2 pair.gz": ("scan.hdr.gz", nib.Nifti2Pair, nib.Nifti2Header.template_dtype),
    "analyze": ("scan.hdr", nib.AnalyzeImage, nib.Spm2AnalyzeHeader.template_dtype),
    "analyze.gz": ("scan.hdr.gz", nib.AnalyzeImage, nib.Spm2AnalyzeHeader.template_dtype),
    "mgh": ("scan.mgh", nib.MGHImage, mgh_dtype),
    "mgz": ("scan.mgz", nib.MGHImage, mgh_dtype),
}
FLOATS = [0, -1, 1, 0.5, 352, 1e-40, 1e30, -1e30, 3.4e38, np.nan, np.inf, -np.inf]
INTEGERS = [0, -1, 1, 2, 3, 7, 8, 348, 540, 2**15 - 1, -(2**15), 2**31 - 1, 2**63 - 1, -(2**63)]


def bits_flipped(data: bytes, dtype: np.dtype, rng: np.random.Generator) -> bytes:
    block = np.frombuffer(data, np.uint8).copy()
    at = rng.integers(0, min(dtype.itemsize, block.size), rng.integers(1, 5))
    block[at] ^= 1 << rng.integers(0, 8, at.size).astype(np.uint8)
    return block.tobytes()


def bytes_overwritten(data: bytes, dtype: np.dtype, rng: np.random.Generator) -> bytes:
    block = np.frombuffer(data, np.uint8).copy()
    at = rng.integers(0, min(dtype.itemsize, block.size), rng.integers(1, 12))
    block[at] = rng.choice([0, 1, 127, 128, 255, 66, 31, 139], at.size)
    return block.tobytes()


def truncated(data: bytes, dtype: np.dtype, rng: np.random.Generator) -> bytes:
    return data[: rng.integers(len(data) if rng.random() < 0.5 else dtype.itemsize)]


def extended(data: bytes, dtype: np.dtype, rng: np.random.Generator) -> bytes:
    return data + rng.bytes(int(rng.integers(1, 1000)))


def fields_replaced(data: bytes, dtype: np.dtype, rng: np.random.Generator) -> bytes:
    """Header fields, or single entries of them, given the values that break careless code."""
    block = np.frombuffer(data[: dtype.itemsize], dtype).copy()
    for _ in range(rng.integers(1, 4)):
        field = block[rng.choice([name for name in dtype.names or () if name != "magic"])]
        if field.dtype.kind == "S":
            field[:] = rng.bytes(field.dtype.itemsize)
            continue
        values: Any = FLOATS if field.dtype.kind == "f" else INTEGERS
        where = (slice(None), rng.integers(field.shape[1])) if field.ndim == 2 else slice(None)
        if rng.random() < 0.3:
            where = slice(None)
        with np.errstate(over="ignore"):
            field[where] = np.array(rng.choice(values)).astype(field.dtype)
    return block.tobytes() + data[dtype.itemsize :]


def sizes_replaced(data: bytes, dtype: np.dtype, rng: np.random.Generator) -> bytes:
    """Shapes that claim up to terabytes, or less than nothing."""
    block = np.frombuffer(data[: dtype.itemsize], dtype).copy()
    name = "dim" if "dim" in (dtype.names or ()) else "dims"
    sizes = rng.choice([-1, 0, 1, 3, 5, 513, 1024, 32767], 3)
    block[name][0, (1 if name == "dim" else 0) :][:3] = sizes
    return block.tobytes() + data[dtype.itemsize :]


MUTATORS = (
    *(bits_flipped, bytes_overwritten, truncated, extended),
    *(fields_replaced, fields_replaced, sizes_replaced),
)


def compressed(data: bytes, rng: np.random.Generator) -> bytes:
    """Compressed, and one time in four damaged afterwards."""
    block = bytearray(gzip.compress(data, 1))
    if (chance := rng.random()) < 0.1:
        block = block[: rng.integers(len(block))]
    elif chance < 0.2:
        block[rng.integers(len(block))] ^= 1 << int(rng.integers(8))
    elif chance < 0.25:
        block += rng.bytes(20)
    return bytes(block)


def mutants(folder: Path, form: str, count: int, seed: int) -> Iterator[Path]:
    """The same path again and again, its files damaged in another way each time."""
    name, kind, dtype = FORMATS[form]
    plain = name.removesuffix(".gz").replace(".mgz", ".mgh")
    source = save(folder / f"good-{plain}", ramp(), kind=kind)
    path = folder / name
    files = [(source, path)]
    if ".hdr" in name:
        files.append((source.with_suffix(".img"), folder / name.replace(".hdr", ".img")))
    contents = [(good.read_bytes(), target) for good, target in files]
    rng = np.random.default_rng([seed, sorted(FORMATS).index(form)])
    for _ in range(count):
        damaged = rng.integers(len(contents)) if rng.random() < 0.2 else 0
        for index, (data, target) in enumerate(contents):
            if index == damaged:
                choices = MUTATORS if index == 0 else (truncated, extended)
                data = choices[rng.integers(len(choices))](data, dtype, rng)
            target.write_bytes(compressed(data, rng) if name.endswith(("gz", "mgz")) else data)
        yield path


@pytest.mark.parametrize("form", FORMATS)
def test_mutated_files_end_in_a_volume_or_in_our_error(tmp_path, form):
    outcomes = {True: 0, False: 0}
    tracemalloc.start()
    try:
        for path in mutants(tmp_path, form, MUTATIONS, seed=5):
            for read in (read_image, read_label_map):
                outcomes[survives(read, path)] += 1
    finally:
        tracemalloc.stop()
    assert min(outcomes.values()) > MUTATIONS / 5  # the mutations are neither harmless nor gross


def survives(read: Any, path: Path) -> bool:
    """Whether a file was read; it was refused in one sentence otherwise, at no great cost."""
    tracemalloc.reset_peak()
    try:
        volume = read(path)
    except InputError as error:
        message = str(error)
        assert str(path.with_suffix("")).removesuffix(".hdr") in message
        assert "\n" not in message and message.endswith((".", "?"))
        return False
    else:
        assert np.isfinite(volume.data).all() and np.isfinite(volume.affine).all()
        assert all(str(path) in notice for notice in volume.notices)
        return True
    finally:
        assert tracemalloc.get_traced_memory()[1] < MEMORY


@pytest.mark.parametrize("name, kind", [("a.nii.gz", nib.Nifti1Image), ("a.mgz", nib.MGHImage)])
@pytest.mark.parametrize("begins_well", [False, True])
def test_a_bomb_of_zeros_costs_little(tmp_path, name, kind, begins_well):
    good = save(tmp_path / name, ramp(), kind=kind)
    begin = gzip.decompress(good.read_bytes()) if begins_well else b""
    good.write_bytes(gzip.compress(begin + bytes(2**28), 1))
    assert good.stat().st_size < 2**21
    tracemalloc.start()
    try:
        assert survives(read_image, good) == begins_well
    finally:
        tracemalloc.stop()
