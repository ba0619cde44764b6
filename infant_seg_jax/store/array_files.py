"""Files of named arrays that cannot execute anything: safetensors, and NumPy's .npz.

Nothing is allocated because a header says so: a file's own size bounds what reading it takes, and
every array's shape has to agree with the bytes that are there.

The format of safetensors: https://github.com/huggingface/safetensors#format
"""

import io
import math
import os
import stat
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
from jaxtyping import Shaped
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from infant_seg_jax.errors import InputError

Arrays = dict[str, Shaped[np.ndarray, "..."]]

MAX_BYTES = 2**30
"""What the arrays of a file may take; the paper's network takes 6 MB."""

_MAX_HEADER = 2**21
_MAX_NAME = 200

_TYPES = {
    **{"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16},
    **{"I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8},
    **{"U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_},
}
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".tar")
_END_OF_ZIP = struct.Struct("<4s4H2LH")


def write_safetensors(path: Path, arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> None:
    """Write arrays by name; the same arrays make the same bytes."""
    # Copied where they are not in C order, because the library writes memory as it lies.
    # Its own `save_file` makes files that nobody but the owner may read.
    path.write_bytes(save({name: np.asarray(array, order="C") for name, array in arrays.items()}))


def read_safetensors(path: Path) -> Arrays:
    """Read all arrays of a safetensors file.

    Raises:
        InputError: the file is missing, a link or too large, is damaged, or holds a type of
            numbers that NumPy does not have.
    """
    content = _read(path)
    header = int.from_bytes(content[:8], "little")
    if header > _MAX_HEADER:
        raise InputError(
            f"{path} claims a header of {header} bytes, expected at most {_MAX_HEADER}: it is "
            "damaged, or not a safetensors file."
        )
    try:
        entries = deserialize(content)
    except SafetensorError as error:
        raise _damaged(path, "a safetensors file", error) from error
    arrays: Arrays = {}
    for name, entry in entries:
        _check_name(name, path)
        if entry["dtype"] not in _TYPES:
            raise InputError(
                f"{path} contains {name} as {entry['dtype']}, expected one of {', '.join(_TYPES)}."
            )
        _check_shape(name, entry["shape"], path)
        flat = np.frombuffer(entry["data"], _TYPES[entry["dtype"]])
        arrays[name] = flat.reshape(entry["shape"])
    return arrays


def read_npz(path: Path) -> Arrays:
    """Read all arrays of numbers of an .npz file, as `np.savez` and its compressed twin write it.

    Raises:
        InputError: the file is missing, a link or too large, is damaged, or holds anything but
            numbers.
    """
    content = _read(path)
    check_end_of_zip(content, path, "an .npz file as written by NumPy")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > MAX_BYTES:
                raise InputError(
                    f"{path} contains arrays of more than {MAX_BYTES} bytes, expected those of a "
                    "network."
                )
            arrays: Arrays = {}
            for member in members:
                name = member.filename.removesuffix(".npy")
                _check_name(name, path)
                if name in arrays:
                    raise ValueError(f"it has two arrays named {name}")
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(f"{name} has a compression that NumPy does not use")
                with archive.open(member) as file:
                    arrays[name] = _read_npy(file, member.file_size, name)
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy's header parser raise many kinds.
        raise _damaged(path, "an .npz file of numbers", error) from error
    return arrays


def read_state_dict(path: Path) -> Arrays:
    """The arrays of a PyTorch state dict that was saved as .safetensors or .npz.

    Raises:
        InputError: it is neither, or cannot be read. PyTorch's own files are pickles, which may
            execute anything, and are never opened: the sentence says how to save theirs anew.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return read_safetensors(path)
    if suffix == ".npz":
        return read_npz(path)
    if suffix in _PICKLES:
        raise InputError(
            f"{path} has the name of a pickle, which may run any program when it is opened, so it "
            "is not opened: if you trust the file, save its weights as safetensors, in Python, "
            "with `import torch; from safetensors.torch import save_file` and `save_file({name: "
            f"tensor.contiguous() for name, tensor in torch.load({path.name!r}, 'cpu', "
            f"weights_only=True).items()}}, {path.with_suffix('.safetensors').name!r})`."
        )
    raise InputError(
        f"{path} is not a file of weights, expected one that ends in .safetensors or .npz."
    )


def check_is_file(path: Path) -> None:
    """Raise an InputError if `path` is missing, or a link or anything else but a file itself."""
    try:
        mode = path.lstat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"Cannot read {path} ({reason}).") from error
    if not stat.S_ISREG(mode):
        what = "a link" if stat.S_ISLNK(mode) else "no file"
        raise InputError(f"{path} is {what}, expected the file itself: copy it there.")


def _read(path: Path) -> bytes:
    check_is_file(path)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES + _MAX_HEADER:
                raise InputError(
                    f"{path} has {size} bytes, expected at most {MAX_BYTES}: no network is that "
                    "large."
                )
            return file.read(size)
    except OSError as error:
        raise InputError(f"Cannot read {path} ({error.strerror}).") from error


def check_end_of_zip(content: bytes, path: Path, what: str) -> None:
    """Refuse archives whose list of members would itself take much memory.

    NumPy writes the list's end as the file's last 22 bytes, without a comment, and preceded by
    nothing of zip64, which a network's few arrays do not need.

    Args:
        content: the file's, or at least its last 42 bytes.
        path: of the file.
        what: the archive is to be.

    Raises:
        InputError: its end is another.
    """
    start = len(content) - _END_OF_ZIP.size
    if start < 0 or content[max(start - 20, 0) :].startswith(b"PK\6\7"):
        raise InputError(f"{path} is damaged, or not {what}.")
    signature, *_, size, _, comment = _END_OF_ZIP.unpack(content[start:])
    if signature != b"PK\5\6" or comment or size > _MAX_HEADER:
        raise InputError(f"{path} is damaged, or not {what}.")


def _read_npy(file: BinaryIO | Any, size: int, name: str) -> Shaped[np.ndarray, "..."]:
    """An array from its .npy file of `size` bytes, which may claim what it likes."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"{name} has the .npy version {version}")
    if dtype.kind not in "fiub":
        raise ValueError(f"{name} holds {dtype}")
    if min(shape, default=1) < 1 or math.prod(shape) * dtype.itemsize != size - file.tell():
        raise ValueError(
            f"{name} claims the shape {shape}, which does not match its number of bytes"
        )
    flat = np.frombuffer(bytearray(file.read()), dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def _check_name(name: str, path: Path) -> None:
    if not name.isprintable() or not 0 < len(name) <= _MAX_NAME:
        raise InputError(
            f"{path} names an array {name[:20]!r}, expected 1 to {_MAX_NAME} printable characters."
        )


def _check_shape(name: str, shape: list[int], path: Path) -> None:
    if min(shape, default=1) < 1 or len(shape) > 8:
        raise InputError(
            f"{path} gives {name} the shape {shape[:8]}, expected at most 8 axes, none of size 0."
        )


def _damaged(path: Path, what: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(f"{path} is damaged, or not {what} ({reason}).")
