"""The 4x4 matrices in a MATLAB file such as SPM's `.mat`: formats 4 and 5, real numbers.

A reader of our own, because SciPy's crashes the interpreter on some damaged files.
https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
"""

import zlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64

Matrix = Float64[np.ndarray, "4 4"]

_TYPES_4 = ("f8", "f4", "i4", "i2", "u2", "u1")
_TYPES_5 = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
_MATRIX, _COMPRESSED = 14, 15
_FLOAT_CLASSES = (6, 7)
_HEADER_5 = 128
_MAX_BYTES = 2**16


def read_matrices(content: bytes) -> dict[str, Matrix]:
    """The 4x4 matrices by name; of an array of several matrices, the first one.

    Raises:
        ValueError: the bytes are not a MATLAB file of these formats, or a damaged one.
    """
    try:
        if 0 in content[:4]:  # format 5 begins with text
            return dict(_matrices_4(content))
        order = {b"IM": "<", b"MI": ">"}[content[_HEADER_5 - 2 : _HEADER_5]]
        return dict(_matrices_5(content[_HEADER_5:], order))
    except (LookupError, zlib.error) as error:
        raise ValueError("it is no MATLAB file of the formats 4 or 5, or damaged") from error


def _matrices_4(content: bytes) -> Iterator[tuple[str, Matrix]]:
    order = "<" if int.from_bytes(content[:4], "little") < 1000 else ">"
    at = 0
    while at < len(content):
        fields = np.frombuffer(content, order + "i4", 5, at)
        kind, rows, columns, imaginary, name_length = (int(field) for field in fields)
        if min(rows, columns, name_length) < 0:
            raise ValueError("it has a matrix of negative size")
        dtype = np.dtype(order + _TYPES_4[kind // 10 % 10])
        begin = at + 20 + name_length
        if (rows, columns) == (4, 4) and kind % 10 == 0:
            name = content[at + 20 : begin].rstrip(b"\0").decode("latin-1")
            yield name, _matrix(content[begin:], dtype)
        at = begin + rows * columns * dtype.itemsize * (2 if imaginary else 1)


def _matrices_5(content: bytes, order: str) -> Iterator[tuple[str, Matrix]]:
    for kind, data in _elements(content, order):
        if kind == _COMPRESSED:
            unpacked = zlib.decompressobj().decompress(data, _MAX_BYTES)
            kind, data = next(_elements(unpacked, order), (0, b""))
        parts = list(_elements(data, order)) if kind == _MATRIX else []
        if len(parts) < 4:
            continue
        (_, flags), (_, sizes), (_, name), (number, values) = parts[:4]
        is_float = int(np.frombuffer(flags, order + "u4")[0]) & 255 in _FLOAT_CLASSES
        if is_float and tuple(np.frombuffer(sizes, order + "i4")[:2]) == (4, 4):
            yield name.decode("latin-1"), _matrix(values, np.dtype(order + _TYPES_5[number]))


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """The type and the bytes of each element of format 5."""
    at = 0
    while at + 8 <= len(content):
        kind, size = (int(number) for number in np.frombuffer(content, order + "u4", 2, at))
        begin = at + 8
        if kind >> 16:  # at most four bytes, kept within the tag
            kind, size, begin = kind & 0xFFFF, kind >> 16, at + 4
        end = begin + size
        if end > len(content):
            raise ValueError(f"it ends within an element of {size} bytes")
        yield kind, content[begin:end]
        at = end if kind == _COMPRESSED else end + -end % 8


def _matrix(data: bytes, dtype: np.dtype) -> Matrix:
    """Sixteen numbers by columns."""
    return np.frombuffer(data, dtype, 16).reshape(4, 4).T.astype(np.float64)
