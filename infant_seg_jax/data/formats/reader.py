"""Reading any file that holds a volume.

A file is judged by its header before anything as large as its voxels is allocated, so that a
damaged or hostile header costs an error and not the machine's memory.
"""

import gzip
import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8

from infant_seg_jax.data.formats.analyze import parse_analyze
from infant_seg_jax.data.formats.grid import Grid, Layout, Scale, times
from infant_seg_jax.data.formats.mgh import parse_mgh
from infant_seg_jax.data.formats.names import ending_of, parts
from infant_seg_jax.data.formats.nifti import HEADER_SIZE, mark_of, parse_nifti
from infant_seg_jax.errors import InputError

_GZIP = b"\x1f\x8b"
_DEFLATE_RATIO = 1032  # deflate packs at most 258 bytes into two bits
_CHUNK = 2**24


def read_layout(path: Path) -> Layout:
    """Read and judge the header alone of a volume, whichever file of a pair is given.

    Raises:
        InputError: a file is missing, or its header is damaged or not usable: of another format,
            with more than one 3D volume or too large a one, no usable affine, spacing or type.
    """
    with _errors_named(path):
        return _layout(parts(path)[0])


def read_voxels(
    path: Path,
) -> tuple[Shaped[np.ndarray, "i j k"], Scale | None, Grid, tuple[str, ...]]:
    """Read a file that holds one 3D volume; trailing axes of length 1 are dropped.

    Returns:
        The voxels as stored, `(slope, intercept)` if they are yet to be scaled, the grid, and
        notices: what people should know about the file, in full sentences.

    Raises:
        InputError: as `read_layout`, or the voxels are truncated or corrupt.
    """
    with _errors_named(path):
        header_path, voxel_path = parts(path)
        layout = _layout(header_path)
        # The voxels that an .img begins with could look like gzip's mark; a header cannot.
        compressed = (
            _is_gzip(voxel_path)
            if voxel_path == header_path
            else voxel_path.name.lower().endswith(".gz")
        )
        size = math.prod(layout.grid.shape) * layout.dtype.itemsize
        _check_room(layout, voxel_path, layout.offset + size, compressed)
        with _open(voxel_path, compressed) as file:
            file.seek(layout.offset)
            voxels = _read_exactly(file, size)
            file.read(_CHUNK)  # nothing, as a rule, but gzip compares its checksum at the end
    voxels = voxels.view(layout.dtype).reshape(layout.grid.shape, order="F")
    return voxels, layout.scale, layout.grid, layout.notices


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}): is it truncated or corrupt?") from error


def _layout(path: Path) -> Layout:
    # People meet .nii files that are compressed and .nii.gz files that are not.
    with _open(path, _is_gzip(path)) as file:
        block = file.read(HEADER_SIZE)
    with np.errstate(all="ignore"):  # the formats refuse what overflows or is no number
        match ending_of(path):
            case ".mgh" | ".mgz":
                layout = parse_mgh(block, path)
            case ".hdr" | ".hdr.gz" if mark_of(block) is None:
                layout = parse_analyze(block, path)
            case ending:
                layout = parse_nifti(block, path, pair=ending in (".hdr", ".hdr.gz"))
    if layout.dtype.kind not in "iuf":
        raise InputError(f"{path} has {layout.dtype} voxels, expected real numbers.")
    return layout


def _check_room(layout: Layout, path: Path, needed: int, compressed: bool) -> None:
    size = path.stat().st_size
    if needed > size * (_DEFLATE_RATIO if compressed else 1):
        raise InputError(
            f"{path} claims {times(layout.grid.shape)} voxels of {layout.dtype.name} ({needed} "
            f"bytes), which its {size} bytes cannot hold: the file is truncated or corrupt."
        )


def _is_gzip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(_GZIP)) == _GZIP


def _open(path: Path, compressed: bool) -> io.BufferedIOBase:
    return gzip.open(path) if compressed else open(path, "rb")


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
