"""FreeSurfer's MGH volumes: `.mgh` and, compressed, `.mgz`; big-endian throughout.

https://surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/MghFormat
"""

from gzip import GzipFile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Shaped
from nibabel.freesurfer.mghformat import DATA_OFFSET, header_dtype

from infant_seg_jax.data.formats.grid import (
    Affine,
    Grid,
    Layout,
    Shape,
    axes_in_words,
    check_affine,
    check_shape,
    check_spacing,
)
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import atomic_path

_TYPES = {0: "u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}
_CORONAL = np.array([[-1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


def parse_mgh(block: bytes, path: Path) -> Layout:
    """Judge a header by its bytes.

    A header whose `goodRASFlag` says that its geometry is not valid gets FreeSurfer's default,
    voxels of 1 mm in coronal slices (LIA), and a notice.

    Raises:
        InputError: it is not MGH or not usable.
    """
    # FreeSurfer keeps what a volume is meant for in the higher bytes of the version.
    if len(block) < DATA_OFFSET or block[3] != 1:
        raise InputError(
            f"{path} is not an MGH file: it begins with {block[:4]!r}, expected version 1 and a "
            f"header of {DATA_OFFSET} bytes."
        )
    fields = np.frombuffer(block, header_dtype, count=1)[0]
    sizes = [int(size) for size in fields["dims"]]
    shape = check_shape(sizes[:3] if sizes[3] == 1 else sizes, path)
    code = int(fields["type"])
    if code not in _TYPES:
        raise InputError(
            f"{path} has voxels of the type {code}, expected MGH's 0 (uint8), 1 (int32), "
            "3 (float32), 4 (int16) or 10 (uint16)."
        )
    affine = check_affine(_affine(fields, shape, path), path)
    notices = ()
    if fields["goodRASFlag"] <= 0:
        notices = (
            f"{path} says nothing about its orientation and voxel size (its goodRASFlag is "
            f"{fields['goodRASFlag']}): its axes are assumed to point to {axes_in_words(affine)}, "
            "and its voxels to be 1 mm wide.",
        )
    return Layout(Grid(shape, affine), np.dtype(_TYPES[code]), DATA_OFFSET, None, notices)


def write_mgh(path: Path, array: Shaped[np.ndarray, "i j k *c"], grid: Grid) -> None:
    """Write an array on `grid`, whole or not at all; the affine in the format's 32 bits.

    It has three axes: trailing ones, of length 1, are dropped.

    Raises:
        InputError: the format has no such type (it has uint8, int16, int32 and float32), or the
            folder cannot be written to.
    """
    if array.dtype.name not in ("uint8", "int16", "int32", "float32"):
        raise InputError(
            f"{path} would hold {array.dtype} voxels, expected uint8, int16, int32 or float32, "
            "which are all that MGH has: write NIfTI."
        )
    stored: Any = array.reshape(grid.shape)
    image = nib.MGHImage(stored, grid.affine)
    packed = path.name.lower().endswith(".mgz")
    with atomic_path(path) as temporary, temporary.open("wb") as plain:
        with GzipFile("", "wb", 1, plain, mtime=0) if packed else plain as file:
            image.to_stream(file)


def _affine(fields: np.void, shape: Shape, path: Path) -> Affine:
    spacing, cosines, center = np.ones(3), _CORONAL, np.zeros(3)
    if fields["goodRASFlag"] > 0:
        spacing, cosines, center = (
            fields[name].astype(np.float64) for name in ("delta", "Mdc", "Pxyz_c")
        )
        check_spacing(spacing, path)
    affine = np.eye(4)
    affine[:3, :3] = cosines.T * spacing
    affine[:3, 3] = center - affine[:3, :3] @ (np.array(shape) / 2)
    return affine
