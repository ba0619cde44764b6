"""Small volumes, and files of them: what the tests of volumes and of their formats share."""

import gzip
import itertools
import math
import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

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

# Byte offsets in the NIfTI-1 header: https://nifti.nimh.nih.gov/nifti-1/documentation/nifti1fields
DIM, DATATYPE, BITPIX, PIXDIM, VOX_OFFSET, SLOPE, UNITS = 40, 70, 72, 76, 108, 112, 123
QFORM_CODE, QUATERN, SROW, MAGIC = 252, 256, 280, 344


def affine_of(spacing=(0.9, 1.5, 1.1), origin=(-40.0, -31.0, 17.0), degrees=(0, 0, 0)):
    affine = np.eye(4)
    rotation = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    affine[:3, :3] = rotation @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


def load(path) -> Any:
    if path.suffix == ".mgh":  # nibabel leaves that file open
        return nib.MGHImage.from_bytes(path.read_bytes())
    return nib.load(path)


def ramp(shape=SHAPE, dtype: Any = np.int16):
    """Every voxel differs from every other, so no two axes or directions are alike."""
    return np.arange(1, math.prod(shape) + 1).reshape(shape).astype(dtype)


def save(path, array, affine=None, kind: Any = nib.Nifti1Image):
    image = kind(array, affine_of() if affine is None else affine)
    nib.save(image, path)
    return path


def save_raw(path, edit, array=None, kind: Any = nib.Nifti1Image):
    """Save, then edit the header's bytes, which nibabel would refuse to write."""
    ending = ".mgh" if kind is nib.MGHImage else ".nii"
    good = save(path.with_name("good" + ending), ramp() if array is None else array, kind=kind)
    block = bytearray(good.read_bytes())
    edit(block)
    compressed = path.suffix in (".gz", ".mgz")
    path.write_bytes(gzip.compress(block) if compressed else block)
    return path


def put(offset, form, *values, order="<"):
    return lambda block: struct.pack_into(order + form, block, offset, *values)


def both(*edits):
    return lambda block: [edit(block) for edit in edits]


def no_sform(block):
    put(QFORM_CODE, "hh", 1, 0)(block)


def error_of(function, *args):
    with pytest.raises(InputError) as caught:
        function(*args)
    message = str(caught.value)
    assert message.endswith((".", "?")) and "\n" not in message
    return message


def notice_of(path: Path, notices: tuple[str, ...]) -> str:
    """The only notice, which is a sentence that names the file."""
    (notice,) = notices
    assert str(path) in notice and notice.endswith(".") and "\n" not in notice
    return notice


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
