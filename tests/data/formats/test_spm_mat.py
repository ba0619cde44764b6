import io
import struct

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from infant_seg_jax.data.formats.spm_mat import read_matrices

MATRIX = np.arange(16).reshape(4, 4) * 1.25 - 3
CONTENT = {
    "M": MATRIX,
    "mat": MATRIX * 2,
    "whole": np.arange(16.0).reshape(4, 4),  # which MATLAB stores as bytes
    "single": MATRIX.astype(np.float32),
    "row": np.ones((1, 7)),
    "text": "hello",
    "complex": MATRIX + 2j,
}


def mat_file(content, **options):
    file = io.BytesIO()
    savemat(file, content, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "options",
    [{"format": "4"}, {"format": "5"}, {"format": "5", "do_compression": True}],
    ids=["4", "5", "compressed"],
)
def test_matrices_are_what_scipy_reads(options):
    data = mat_file(CONTENT, **options)
    expected, found = loadmat(io.BytesIO(data)), read_matrices(data)
    assert set(found) == {"M", "mat", "whole", "single", "complex"}
    for name, matrix in found.items():
        assert matrix.dtype == np.float64
        np.testing.assert_array_equal(matrix, expected[name].real)


def test_the_first_of_several_matrices_is_read():
    several = np.stack([MATRIX, MATRIX * 3], -1)
    np.testing.assert_array_equal(read_matrices(mat_file({"mat": several}))["mat"], MATRIX)


def big_endian_4():
    return struct.pack(">5i", 1000, 4, 4, 0, 4) + b"mat\0" + MATRIX.T.astype(">f8").tobytes()


def big_endian_5():
    parts = (
        struct.pack(">2I2I", 6, 8, 6, 0),
        struct.pack(">2I2i", 5, 8, 4, 4),
        struct.pack(">2H4s", 3, 1, b"mat\0"),
        struct.pack(">2I", 9, 128) + MATRIX.T.astype(">f8").tobytes(),
    )
    body = b"".join(parts)
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\1\0MI" + struct.pack(">2I", 14, len(body)) + body


@pytest.mark.parametrize("data", [big_endian_4(), big_endian_5()], ids=["4", "5"])
def test_big_endian_files_are_read(data):
    np.testing.assert_array_equal(loadmat(io.BytesIO(data))["mat"], MATRIX)  # it is a legal file
    np.testing.assert_array_equal(read_matrices(data)["mat"], MATRIX)


@pytest.mark.parametrize("version, compression", [("4", False), ("5", False), ("5", True)])
def test_mutated_files_end_in_a_matrix_or_in_an_error(version, compression):
    good = mat_file({"M": MATRIX, "mat": MATRIX}, format=version, do_compression=compression)
    rng, begin = np.random.default_rng(2), 0 if version == "4" else 120
    refused = 0
    for _ in range(300):
        block = np.frombuffer(good, np.uint8).copy()
        at = rng.integers(begin, block.size, rng.integers(1, 6))
        block[at] = rng.choice([0, 1, 3, 5, 14, 15, 127, 128, 255], at.size)
        data = block.tobytes()[: None if rng.random() < 0.8 else rng.integers(block.size)]
        try:
            found = read_matrices(data)
        except ValueError:
            refused += 1
        else:
            assert all(matrix.shape == (4, 4) for matrix in found.values())
    assert 30 < refused < 300
