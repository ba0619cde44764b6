"""Files of arrays: what goes in comes out, and hostile ones end in one sentence."""

import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from infant_seg_jax.errors import InputError
from infant_seg_jax.store import array_files
from infant_seg_jax.store.array_files import (
    read_npz,
    read_safetensors,
    read_state_dict,
    write_safetensors,
)

MUTATIONS = 300
MEMORY = 2**23
RNG = np.random.default_rng(0)
ARRAYS: dict[str, np.ndarray] = {
    "params/stem/kernel": RNG.normal(size=(3, 3, 3, 2, 5)).astype(np.float32),
    "params/half/kernel": RNG.normal(size=(4, 6)).astype(np.float16),
    "double": RNG.normal(size=7),
    "counter": np.array(12),
    "transposed": RNG.normal(size=(4, 5)).astype(np.float32).T,
    "strided": np.arange(20, dtype=np.int32)[::3],
    "big_endian": np.arange(4, dtype=">f4"),
}


def check_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].shape == array.shape, name
        assert found[name].dtype.newbyteorder("=") == array.dtype.newbyteorder("="), name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_safetensors_return_what_was_written(tmp_path: Path) -> None:
    for name in "ab":
        write_safetensors(tmp_path / f"{name}.safetensors", ARRAYS)
    check_equal(read_safetensors(tmp_path / "a.safetensors"), ARRAYS)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_file_may_be_read_by_whom_any_new_file_may(tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    write_safetensors(tmp_path / "a.safetensors", ARRAYS)
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "new").stat().st_mode


def test_others_read_what_is_written_and_write_what_is_read(tmp_path: Path) -> None:
    """Against the format's own library for PyTorch, which knows types that NumPy lacks."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    ours = {name: array for name, array in ARRAYS.items() if name != "big_endian"}
    write_safetensors(tmp_path / "ours.safetensors", ours)
    theirs = {name: t.numpy() for name, t in load_file(tmp_path / "ours.safetensors").items()}
    check_equal(theirs, ours)
    values = torch.linspace(-3, 3, 11)
    save_file({"a": values.bfloat16(), "b": values > 0}, tmp_path / "theirs.safetensors")
    found = read_safetensors(tmp_path / "theirs.safetensors")
    assert found["a"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found["a"].astype(np.float32), values.bfloat16().float().numpy())
    np.testing.assert_array_equal(found["b"], values.numpy() > 0)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_returns_what_numpy_wrote(tmp_path: Path, save: Any) -> None:
    arrays = {name.replace("/", "."): array for name, array in ARRAYS.items()}
    save(tmp_path / "a.npz", **arrays)
    check_equal(read_npz(tmp_path / "a.npz"), arrays)
    check_equal(read_state_dict(tmp_path / "a.npz"), arrays)


def safetensors(header: Any, data: bytes = bytes(8), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(**changes: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}


TWICE = b'{"a":%s,"a":%s}' % ((json.dumps(entry()["a"]).encode(),) * 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged, or not a safetensors file"),
        (bytes(8), "is damaged, or not a safetensors file"),
        (safetensors(entry(), length=2**63), f"claims a header of {2**63} bytes"),
        (safetensors(entry(), length=2**25), f"claims a header of {2**25} bytes"),
        (safetensors(entry(), length=2**12), "is damaged"),
        (safetensors(b'{"a":' + b"[" * 10_000), "is damaged"),
        (safetensors(entry(shape=[2**40], data_offsets=[0, 2**42])), "is damaged"),
        (safetensors(entry(shape=[2**40])), "is damaged"),
        (safetensors(entry(shape=[2**33, 2**33])), "is damaged"),
        (safetensors(entry(shape=[-2])), "is damaged"),
        (safetensors(entry(shape=[2.0])), "is damaged"),
        (safetensors(entry(), bytes(4)), "is damaged"),
        (safetensors(entry(), bytes(12)), "is damaged"),
        (safetensors(entry(data_offsets=[4, 12]), bytes(12)), "is damaged"),
        (safetensors(entry() | {"b": entry()["a"]}), "is damaged"),
        (safetensors(TWICE, bytes(16)), "is damaged"),
        (safetensors(entry(shape=[0, 2**62], data_offsets=[0, 0]), b""), "gives a the shape [0,"),
        (safetensors(entry(shape=[1] * 70 + [2])), "expected at most 8 axes"),
        (
            safetensors(entry(dtype="F8_E4M3", shape=[8])),
            "contains a as F8_E4M3, expected one of F64",
        ),
        (safetensors({"a\n": entry()["a"]}), r"names an array 'a\n', expected 1 to 200 printable"),
        (safetensors({"a" * 300: entry()["a"]}), "expected 1 to 200 printable characters"),
    ],
)
def test_hostile_safetensors_cost_nothing(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    assert message in refusal(path)


def npy(array: np.ndarray, **header: Any) -> bytes:
    """A .npy file whose header may claim something else than what it holds."""
    file = io.BytesIO()
    claims: Any = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape} | header
    np.lib.format.write_array_header_1_0(file, claims)
    return file.getvalue() + array.tobytes()


def archive(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as content:
        for name, data in members:
            content.writestr(name, data)
    return file.getvalue()


def end_replaced(content: bytes, at: int, field: bytes) -> bytes:
    """With other bytes in the 22 that end an archive."""
    start = len(content) - 22 + at
    return content[:start] + field + content[start + len(field) :]


class Payload:
    """What a pickle may do: call anything."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


ONE = np.ones(2, np.float32)
OBJECTS = np.array([Payload(), Payload()], object)
GOOD = archive(("a.npy", npy(ONE)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an .npz file as written by NumPy"),
        (b"PK\5\6", "not an .npz file as written by NumPy"),
        (pickle.dumps({"a": 1}), "not an .npz file as written by NumPy"),
        (GOOD + b"comment", "not an .npz file as written by NumPy"),
        (end_replaced(GOOD, 20, b"\x01\0"), "not an .npz file as written by NumPy"),
        (end_replaced(GOOD, 12, b"\xff" * 4), "not an .npz file as written by NumPy"),
        (GOOD[:-22] + b"PK\6\7" + bytes(16) + GOOD[-22:], "not an .npz file as written by NumPy"),
        (archive(("a.npy", npy(ONE, shape=(2**40,)))), "claims the shape (1099511627776,)"),
        (archive(("a.npy", npy(ONE, shape=(-2,)))), "claims the shape (-2,)"),
        (archive(("a.npy", npy(ONE, shape=(0, 2**62)))), "claims the shape (0, 46"),
        (archive(("a.npy", npy(ONE, descr="<f8"))), "claims the shape (2,)"),
        (archive(("a.npy", npy(ONE, descr="|O"))), "holds object"),
        (archive(("a.npy", npy(ONE, descr="<U1"))), "holds <U1"),
        (archive(("a.npy", npy(ONE, descr="<c8", shape=(1,)))), "holds complex64"),
        (archive(("a.npy", npy(ONE)[:9])), "is damaged, or not an .npz file of numbers"),
        (archive(("a.npy", b"\x93NUMPY\x03\0" + bytes(20))), "has the .npy version (3, 0)"),
        (archive(("a.npy", pickle.dumps(Payload()))), "is damaged, or not an .npz file of numbers"),
        (archive(("a.npy", npy(ONE)), ("a", npy(ONE))), "has two arrays named a"),
        (archive(("a.npy", npy(ONE)), method=zipfile.ZIP_LZMA), "has a compression that NumPy"),
        (archive(("a\n.npy", npy(ONE))), r"names an array 'a\n'"),
    ],
)
def test_hostile_npz_cost_nothing(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    assert message in refusal(path)


def test_pickled_objects_in_npz_are_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", a=OBJECTS)
    assert "holds object" in refusal(Path("a.npz"))
    assert not Path("executed").exists()


def test_a_bomb_of_zeros_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_files, "MAX_BYTES", 2**21)
    path = tmp_path / "a.npz"
    zeros = np.zeros(2**18, np.float32)
    np.savez_compressed(path, a=zeros, b=zeros, c=zeros)
    assert path.stat().st_size < 2**14
    assert "contains arrays of more than 2097152 bytes" in refusal(path)
    np.savez_compressed(path, a=zeros)
    assert read_npz(path)["a"].size == 2**18


def test_files_that_are_none_or_too_large_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_safetensors(tmp_path / "real.safetensors", ARRAYS)
    (tmp_path / "link.safetensors").symlink_to("real.safetensors")
    assert "is a link, expected the file itself" in refusal(tmp_path / "link.safetensors")
    os.mkfifo(tmp_path / "pipe.safetensors")  # opening it would wait for ever
    assert "is no file" in refusal(tmp_path / "pipe.safetensors")
    (tmp_path / "folder.npz").mkdir()
    assert "is no file" in refusal(tmp_path / "folder.npz")
    assert "No such file" in refusal(tmp_path / "nowhere.npz")
    with open(tmp_path / "sparse.safetensors", "wb") as file:
        file.truncate(2**40)
    assert "has 1099511627776 bytes, expected at most" in refusal(tmp_path / "sparse.safetensors")


@pytest.mark.parametrize("name", ["theirs.pth", "theirs.PT", "it's.ckpt", "pytorch_model.bin"])
def test_pickles_are_refused_with_a_snippet_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    state = torch.nn.Conv3d(2, 3, 2).state_dict()
    torch.save(state, name)
    _, first, _, second, _ = refusal(Path(name)).split("`")
    exec(f"{first}\n{second}", {})
    found = read_state_dict(Path(name).with_suffix(".safetensors"))
    check_equal(found, {key: tensor.numpy() for key, tensor in state.items()})


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.h5").write_bytes(b"\x89HDF")
    assert "expected one that ends in .safetensors or .npz" in refusal(tmp_path / "weights.h5")


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    kind = rng.integers(4)
    if kind == 0:
        return data[: rng.integers(len(data))]
    if kind == 1:
        return data + rng.bytes(int(rng.integers(1, 100)))
    block = np.frombuffer(data, np.uint8).copy()
    where = rng.integers(0, min(400, block.size) if kind == 2 else block.size, rng.integers(1, 5))
    if rng.random() < 0.5:  # the end of a zip is its list of members
        where = block.size - 1 - where
    block[where] = rng.choice([0, 1, 32, 48, 57, 91, 127, 128, 255], where.size)
    return block.tobytes()


@pytest.mark.parametrize("name", ["a.safetensors", "a.npz"])
def test_mutated_files_end_in_arrays_or_in_our_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("npz"):
        arrays: Any = {key: array for key, array in ARRAYS.items() if "/" not in key}
        np.savez_compressed(path, **arrays)
    else:
        write_safetensors(path, ARRAYS)
    good, outcomes = path.read_bytes(), {True: 0, False: 0}
    rng = np.random.default_rng(7)
    for _ in range(MUTATIONS):
        path.write_bytes(mutated(good, rng))
        outcomes[survives(path)] += 1
    assert outcomes[False] > MUTATIONS / 3 and outcomes[True] > MUTATIONS / 50


def survives(path: Path) -> bool:
    """Whether a file was read; it was refused in one sentence otherwise, at no great cost."""
    tracemalloc.start()
    try:
        arrays = read_state_dict(path)
    except InputError as error:
        check_sentence(str(error), str(path))
        return False
    else:
        assert sum(array.nbytes for array in arrays.values()) < 2**16
        return True
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MEMORY


def refusal(path: Path) -> str:
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as caught:
            read_state_dict(path)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
    check_sentence(str(caught.value), path.name)
    return str(caught.value)


def check_sentence(message: str, name: str) -> None:
    assert name in message
    assert "\n" not in message and message.endswith(".")
    assert len(message) < 1000
