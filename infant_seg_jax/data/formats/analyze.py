"""Analyze 7.5 pairs, `.hdr` with `.img`, and SPM's variants with an origin and a scale.

Analyze does not store left and right. As SPM and nibabel do, the first axis of a transverse volume
is taken to grow to the left (LAS, the radiological convention), and a notice always says so.
https://web.archive.org/web/2007/http://www.mayo.edu/bir/PDF/ANALYZE75.pdf
"""

from pathlib import Path

import nibabel as nib
import numpy as np

from infant_seg_jax.data.formats.grid import (
    Affine,
    Grid,
    Layout,
    axes_in_words,
    axis_sizes,
    check_affine,
    check_scale,
    check_shape,
    check_spacing,
)
from infant_seg_jax.data.formats.names import stem
from infant_seg_jax.errors import InputError

_ORIENT = 252
# The world axis, 0 to 2 for left, anterior and superior, that each axis of the file grows to.
_AXES = {0: (0, 1, 2), 1: (0, 2, 1), 2: (1, 2, 0)}  # transverse, coronal, sagittal
_TYPES = {
    **{2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8"},  # Analyze's own codes
    **{130: "i1", 132: "u2", 136: "u4"},  # SPM's
    **{256: "i1", 512: "u2", 768: "u4"},  # NIfTI's, which some programs write
}


def parse_analyze(block: bytes, path: Path) -> Layout:
    """Judge a header by its bytes.

    Raises:
        InputError: it is not Analyze, or not usable, or SPM's orientation lies beside it.
    """
    size = nib.Spm2AnalyzeHeader.sizeof_hdr
    if size not in (int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big")) or (
        len(block) < size
    ):
        raise InputError(
            f"{path} is neither an Analyze nor a NIfTI header: it begins with {block[:4]!r} and "
            f"has no NIfTI mark, expected the number {size} or a mark."
        )
    header = nib.Spm2AnalyzeHeader(block[:size], check=False)
    shape = check_shape(axis_sizes(header["dim"]), path)
    code = int(header["datatype"])
    if code not in _TYPES:
        raise InputError(
            f"{path} has voxels of the type {code}, expected Analyze's 2 (uint8), 4 (int16), "
            "8 (int32), 16 (float32) or 64 (float64): convert it to NIfTI."
        )
    offset = float(header["vox_offset"])
    if not 0 <= offset < 2**31:
        raise InputError(
            f"{path} claims that its voxels begin at byte {offset:g}, expected 0 or later: is it "
            "corrupt?"
        )
    scale = check_scale(*header.get_slope_inter(), path)
    check_spacing(np.asarray(header["pixdim"], np.float64)[1:4], path)
    affine, notice = _affine(header, block[_ORIENT], path)
    notices = [notice]
    if scale is not None:
        notices.append(
            f"{path} is an Analyze file with a scale: its values are multiplied by {scale[0]:g} "
            f"and shifted by {scale[1]:g}, as SPM does."
        )
    dtype = np.dtype(_TYPES[code]).newbyteorder(header.endianness)
    return Layout(Grid(shape, affine), dtype, int(offset), scale, tuple(notices))


def _affine(header: nib.Spm2AnalyzeHeader, orient: int, path: Path) -> tuple[Affine, str]:
    mat = path.with_name(stem(path) + ".mat")
    if mat.is_file():
        raise InputError(
            f"{path} has its orientation in SPM's {mat.name} beside it, which is not read: convert "
            "it to NIfTI with SPM, or move that file away if you do not need it."
        )
    if orient not in _AXES:
        raise InputError(
            f"{path} has the Analyze orientation {orient}, expected 0 (transverse), 1 (coronal) or "
            "2 (sagittal): convert it to NIfTI with a program that knows its orientation."
        )
    # nibabel takes every volume for transverse: row n is where axis n goes, the first one negated.
    affine = np.asarray(header.get_best_affine(), np.float64)
    affine[0] *= -1
    affine[list(_AXES[orient])] = affine[:3].copy()
    affine[0] *= -1
    check_affine(affine, path)
    return affine, (
        f"{path} is an Analyze file, which does not store left and right: its axes are assumed to "
        f"point to {axes_in_words(affine)}, the radiological convention."
    )
