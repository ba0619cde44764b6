"""NIfTI-1 and NIfTI-2: single files (`.nii`) and pairs (`.hdr` with `.img`).

https://nifti.nimh.nih.gov/nifti-1 and https://nifti.nimh.nih.gov/nifti-2
"""

from gzip import GzipFile
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Shaped
from nibabel.spatialimages import HeaderDataError

from infant_seg_jax.data.formats.grid import (
    Affine,
    Grid,
    Layout,
    Shape,
    apart,
    axes_in_words,
    axis_sizes,
    check_affine,
    check_scale,
    check_shape,
    check_spacing,
)
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import atomic_path

HEADER_SIZE = nib.Nifti2Header.sizeof_hdr
"""Bytes of the longest header, NIfTI-2's."""

_FORM_CODES = range(6)
_FOREIGN_UNITS = {1: "meters", 3: "micrometers"}
_GEOMETRY_FIELDS = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)
_NIFTI1_MAX_SIZE = 2**15 - 1


def mark_of(block: bytes) -> bytes | None:
    """The mark in a NIfTI header: `n+1` or `n+2` for one file, `ni1` or `ni2` for a pair."""
    if block[344:348] in (b"n+1\0", b"ni1\0"):
        return block[344:347]
    if block[4:8] in (b"n+2\0", b"ni2\0") and len(block) >= HEADER_SIZE:
        return block[4:7]
    return None


def parse_nifti(block: bytes, path: Path, pair: bool) -> Layout:
    """Judge a header by its bytes; `pair` says that `path` is a `.hdr` file.

    Raises:
        InputError: it is not NIfTI, not of the kind that the file's name says, or not usable.
    """
    header = _header(block, path, pair)
    shape = check_shape(axis_sizes(header["dim"]), path)
    try:
        dtype = header.get_data_dtype()
        offset = int(header["vox_offset"]) or (0 if pair else header.single_vox_offset)
        slope, intercept = header.get_slope_inter()
    except (HeaderDataError, KeyError, ValueError, OverflowError) as error:
        raise InputError(f"{path} has an unusable header ({error}).") from error
    smallest = 0 if pair else header.sizeof_hdr
    if offset < smallest:
        raise InputError(
            f"{path} claims that its voxels begin at byte {offset}, expected {smallest} or later: "
            "is it corrupt?"
        )
    affine = _affine(header, path)
    notices = _notices(header, affine, shape, path)
    scale = check_scale(slope, intercept, path)
    return Layout(Grid(shape, affine, header), dtype, offset, scale, notices)


def write_nifti(
    path: Path,
    array: Shaped[np.ndarray, "i j k *c"],
    grid: Grid,
    slope: float | None = None,
    *,
    labels: bool = False,
) -> None:
    """Write an array in its own dtype on `grid`, whole or not at all.

    Affine, units and form codes are the grid's, bit for bit, and so is the version of NIfTI. A
    grid that was not read from NIfTI becomes NIfTI-1 (NIfTI-2 if an axis is too long for it) with
    its affine as the sform. With a `slope` the voxels mean that many times what is stored. Those of
    `labels` are marked as such (NIfTI's intent 1002), by which viewers know them.

    Raises:
        InputError: the file's name is not NIfTI's, or its folder cannot be written to.
    """
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise InputError(
            f"{path} does not have the name of a NIfTI file, expected .nii or .nii.gz."
        )
    header = None
    if grid.header is not None:
        header = type(grid.header)()
        for field in _GEOMETRY_FIELDS:
            header[field] = grid.header[field]
    version2 = isinstance(header, nib.Nifti2Header) or max(array.shape) > _NIFTI1_MAX_SIZE
    kind = nib.Nifti2Image if version2 else nib.Nifti1Image
    image = kind(array, grid.affine, header, dtype=array.dtype)
    if grid.header is not None:  # nibabel makes those of axes that are not there 1
        image.header["pixdim"] = grid.header["pixdim"]
    if slope is not None:
        image.header.set_slope_inter(slope, 0)
    if labels:
        image.header.set_intent("label")
    packed = path.name.lower().endswith(".gz")
    with atomic_path(path) as temporary, temporary.open("wb") as plain:
        with GzipFile("", "wb", 1, plain, mtime=0) if packed else plain as file:
            image.to_stream(file)


def _header(block: bytes, path: Path, pair: bool) -> nib.Nifti1Header:
    mark = mark_of(block)
    if mark is None:
        raise InputError(
            f"{path} is not a NIfTI file: it begins with {block[:4]!r} and lacks NIfTI's mark, "
            "expected NIfTI-1 or NIfTI-2."
        )
    if pair and mark.startswith(b"n+"):
        raise InputError(
            f"{path} is marked as a NIfTI header with its voxels in the same file, expected the "
            "header of a pair: rename it to .nii if it contains the voxels."
        )
    if not pair and mark.startswith(b"ni"):
        raise InputError(
            f"{path} is marked as the header of a NIfTI pair, expected a file with its voxels: "
            "rename it to .hdr if its .img exists."
        )
    if mark.endswith(b"1"):
        return nib.Nifti1Header(block[: nib.Nifti1Header.sizeof_hdr], check=False)
    return nib.Nifti2Header(block[:HEADER_SIZE], check=False)


def _affine(header: nib.Nifti1Header, path: Path) -> Affine:
    check_spacing(np.asarray(header["pixdim"], np.float64)[1:4], path)
    codes = int(header["qform_code"]), int(header["sform_code"])
    if not all(code in _FORM_CODES for code in codes):
        raise InputError(
            f"{path} has the qform and sform codes {codes[0]} and {codes[1]}, expected 0 to 5: "
            "is it corrupt?"
        )
    if header["pixdim"][0] not in (-1, 1):  # 0 is common, and NIfTI means 1 by it
        header["pixdim"][0] = 1
    try:
        affine = np.asarray(header.get_best_affine(), np.float64)
    except (HeaderDataError, ValueError) as error:
        raise InputError(f"{path} has an unusable affine ({error}).") from error
    return check_affine(affine, path)


def _notices(header: nib.Nifti1Header, affine: Affine, shape: Shape, path: Path) -> tuple[str, ...]:
    notices = []
    qform, sform = int(header["qform_code"]), int(header["sform_code"])
    if not qform and not sform:
        notices.append(
            f"{path} says nothing about its orientation (it has neither a qform nor a sform): its "
            f"axes are assumed to point to {axes_in_words(affine)}."
        )
    if qform and sform and (wrong := _wrong_qform(header, affine, shape)):
        notices.append(f"{path} has {wrong}: the sform is used.")
    if unit := _FOREIGN_UNITS.get(int(header["xyzt_units"]) & 7):
        notices.append(
            f"{path} says that its unit is {unit}: its numbers are read as millimeters, as in "
            "other tools."
        )
    return tuple(notices)


def _wrong_qform(header: nib.Nifti1Header, sform: Affine, shape: Shape) -> str:
    """What is wrong with a qform beside a sform, if it differs by more than a voxel somewhere."""
    try:
        qform = np.asarray(header.get_qform(), np.float64)
    except (HeaderDataError, ValueError):
        return "a qform that cannot be used"
    voxels, mm = apart(qform, sform, shape)
    if not np.isfinite(mm):
        return "a qform that cannot be used"
    return f"a qform and a sform that place its corners up to {mm:.3g} mm apart" * (voxels > 1)
