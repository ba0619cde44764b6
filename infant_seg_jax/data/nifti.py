"""NIfTI-1 and NIfTI-2 files as they are: header, grid and stored voxels.

A file is judged by its header before anything as large as its voxels is allocated, so that a
damaged or hostile header costs an error and not the machine's memory.
"""

import gzip
import io
import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float64, Shaped, UInt8
from nibabel.spatialimages import HeaderDataError

from infant_seg_jax.errors import InputError
from infant_seg_jax.files import atomic_path

Affine = Float64[np.ndarray, "4 4"]
Shape = tuple[int, int, int]

MAX_VOXELS = 2**29
"""Four times 512 x 512 x 512, and 2 GiB as float32."""

_FORM_CODES = range(6)
_SPACING_MM = 1e-4, 1e3
_MAX_MM = 1e6
_MIN_INDEPENDENCE = 1e-3
_DEFLATE_RATIO = 1032  # deflate packs at most 258 bytes into two bits
_CHUNK = 2**24
_GEOMETRY_FIELDS = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


@dataclass(frozen=True, eq=False)
class Grid:
    """A scan's own voxel grid: the one that its file has and that results return to.

    Attributes:
        shape: voxels along the file's first three axes.
        affine: voxel indices to RAS+ millimetres.
        header: the NIfTI header it was read from, for its form codes, units and trailing axes of
            length 1; None for a grid that came from nowhere.
    """

    shape: Shape
    affine: Affine
    header: nib.Nifti1Header | None = None

    @property
    def trailing_axes(self) -> int:
        """How many axes of length 1 the file has after the first three."""
        return 0 if self.header is None else int(self.header["dim"][0]) - 3


def read_nifti(
    path: Path,
) -> tuple[Shaped[np.ndarray, "i j k"], tuple[float, float] | None, Grid]:
    """Read a `.nii` or `.nii.gz` that holds one 3D volume; trailing axes of length 1 are dropped.

    Returns:
        The voxels as stored, `(slope, intercept)` if they are yet to be scaled, and the grid.

    Raises:
        InputError: the file is missing, not NIfTI, truncated or corrupt, holds more than one 3D
            volume or too large a one, or has no usable affine or spacing.
    """
    _check_name(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    compressed = path.name.lower().endswith(".gz")
    try:
        with gzip.open(path) if compressed else open(path, "rb") as file:
            header = _parse_header(file.read(nib.Nifti2Header.sizeof_hdr), path)
            shape = _shape_in(header, path)
            dtype, offset, scale = _layout_in(header, path)
            needed = offset + math.prod(shape) * dtype.itemsize
            size = path.stat().st_size
            if needed > size * (_DEFLATE_RATIO if compressed else 1):
                raise InputError(
                    f"{path} claims {times(shape)} voxels of {dtype.name} ({needed} bytes), which "
                    f"its {size} bytes cannot hold: the file is truncated or corrupt."
                )
            grid = Grid(shape, _affine_in(header, path), header)
            file.seek(offset)
            voxels = _read_exactly(file, math.prod(shape) * dtype.itemsize)
            file.read(_CHUNK)  # nothing, as a rule, but gzip compares its checksum at the end
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}): is it truncated or corrupt?") from error
    return voxels.view(dtype).reshape(shape, order="F"), scale, grid


def write_nifti(path: Path, array: Shaped[np.ndarray, "i j k *c"], grid: Grid) -> None:
    """Write an array in its own dtype on `grid`, whole or not at all.

    Affine, units and form codes are the grid's, bit for bit, and so is the version of NIfTI.

    Raises:
        InputError: the file's name is not NIfTI's, or its folder cannot be written to.
    """
    _check_name(path)
    header = None
    if grid.header is not None:
        header = type(grid.header)()
        for field in _GEOMETRY_FIELDS:
            header[field] = grid.header[field]
        header.set_data_dtype(array.dtype)
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    with atomic_path(path) as temporary:
        nib.save(kind(array, grid.affine, header), temporary)


def times(sizes: Iterable[int | float]) -> str:
    """Sizes in words, as in '256x128x256'."""
    return "x".join(f"{size:g}" if isinstance(size, float) else str(size) for size in sizes)


def _check_name(path: Path) -> None:
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise InputError(f"{path} is not a NIfTI file by its name, expected .nii or .nii.gz.")


def _parse_header(block: bytes, path: Path) -> nib.Nifti1Header:
    if block[344:348] == b"n+1\0":
        return nib.Nifti1Header(block[: nib.Nifti1Header.sizeof_hdr], check=False)
    if block[4:8] == b"n+2\0" and len(block) == nib.Nifti2Header.sizeof_hdr:
        return nib.Nifti2Header(block, check=False)
    raise InputError(
        f"{path} is not a NIfTI file: it begins with {block[:4]!r} and lacks NIfTI's mark, "
        "expected NIfTI-1 or NIfTI-2."
    )


def _shape_in(header: nib.Nifti1Header, path: Path) -> Shape:
    axes = int(header["dim"][0])
    sizes = [int(size) for size in header["dim"][1 : axes + 1]] if 0 < axes < 8 else []
    if len(sizes) < 3 or min(sizes) < 1:
        raise InputError(
            f"{path} has {axes} axes{f' of the sizes {sizes}' if sizes else ''}, expected a 3D "
            "volume: is it corrupt?"
        )
    shape = sizes[0], sizes[1], sizes[2]
    if math.prod(sizes[3:]) != 1:
        raise InputError(
            f"{path} has the shape {times(sizes)}, a time series or several channels, expected "
            "one 3D volume: give each channel as a file of its own."
        )
    if math.prod(shape) > MAX_VOXELS:
        raise InputError(
            f"{path} claims {times(shape)} voxels, expected at most {MAX_VOXELS}: is it corrupt?"
        )
    return shape


def _layout_in(
    header: nib.Nifti1Header, path: Path
) -> tuple[np.dtype, int, tuple[float, float] | None]:
    """The stored dtype, where the voxels begin, and the scaling unless it is the identity."""
    try:
        dtype = header.get_data_dtype()
        offset = int(header["vox_offset"]) or header.single_vox_offset
        slope, intercept = header.get_slope_inter()
    except (HeaderDataError, KeyError, ValueError, OverflowError) as error:
        raise InputError(f"{path} has a header that cannot be used ({error}).") from error
    if dtype.kind not in "iuf":
        raise InputError(f"{path} holds {dtype} voxels, expected real numbers.")
    if offset < header.sizeof_hdr:
        raise InputError(
            f"{path} claims that its voxels begin at byte {offset}, within the header's "
            f"{header.sizeof_hdr} bytes: is it corrupt?"
        )
    scale = None if slope is None else (float(slope), float(intercept or 0))
    return dtype, offset, None if scale == (1, 0) else scale


def _affine_in(header: nib.Nifti1Header, path: Path) -> Affine:
    with np.errstate(all="ignore"):  # what overflows or is no number is refused here
        _check_spacing(np.asarray(header["pixdim"], np.float64)[1:4], path)
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
            raise InputError(f"{path} has an affine that cannot be used ({error}).") from error
        axes = affine[:3, :3]
        spacing = np.linalg.norm(axes, axis=0)
        # The volume of a voxel relative to that of a box of its spacing: 1 for orthogonal axes.
        independence = abs(np.linalg.det(axes / spacing))
        if not (np.all(np.abs(affine) < _MAX_MM) and independence > _MIN_INDEPENDENCE):
            rows = "; ".join(" ".join(f"{value:g}" for value in row) for row in affine[:3])
            raise InputError(
                f"{path} has the affine [{rows}], expected three independent axes and no number "
                f"beyond {_MAX_MM:g}."
            )
        _check_spacing(spacing, path)
    return affine


def _check_spacing(sizes: Float64[np.ndarray, "3"], path: Path) -> None:
    low, high = _SPACING_MM
    if not np.all((sizes >= low) & (sizes <= high)):
        raise InputError(
            f"{path} has the voxel size {times(sizes)} mm, expected sizes from {low:g} to {high:g}."
        )


def _read_exactly(file: io.BufferedIOBase, size: int) -> UInt8[np.ndarray, " size"]:
    """Read `size` bytes; a claim that the file does not keep costs no memory (lazy pages)."""
    voxels = np.empty(size, np.uint8)
    read = 0
    while read < size:
        chunk = file.read(min(_CHUNK, size - read))
        if not chunk:
            raise EOFError(f"it ends after {read} of {size} bytes of voxels")
        voxels[read : read + len(chunk)] = np.frombuffer(chunk, np.uint8)
        read += len(chunk)
    return voxels
