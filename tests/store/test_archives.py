"""Of archives, the files that are wanted are taken, and nothing leaves the folder."""

import io
import random
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from infant_seg_jax.errors import InputError
from infant_seg_jax.store import archives
from infant_seg_jax.store.archives import unpack
from tests.input_errors import input_error, is_one_sentence

NAMES = ("model.json", "weights.safetensors", "LICENSE")
FILES = {"model.json": b"{}", "weights.safetensors": bytes(5000), "LICENSE": b"free"}
ENDINGS = (".zip", ".tar", ".tar.gz")


def make(path: Path, files: Mapping[str, bytes]) -> Path:
    """An archive of the kind that its name says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
            for name, content in files.items():
                opened.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as opened:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    return path


def unpacked(archive: Path, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    unpack(archive, folder, NAMES)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("within", ["", "adult/", "./"])
def test_the_files_are_taken_from_the_top_or_a_folder(
    tmp_path: Path, ending: str, within: str
) -> None:
    others = {"notes.txt": b"", "old/more/model.json": b"no", "__MACOSX/._model.json": b"no"}
    files = {f"{within}{name}": content for name, content in (others | FILES).items()}
    assert unpacked(make(tmp_path / f"a{ending}", files), tmp_path / "out") == FILES


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", ["../model.json", "a/../../model.json", "/tmp/model.json"])
def test_paths_that_leave_the_archive_are_refused(tmp_path: Path, ending: str, name: str) -> None:
    archive = make(tmp_path / f"a{ending}", {name: b"{}"})
    with input_error(archive, name):
        unpacked(archive, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir()) and not (tmp_path / "model.json").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_tar_archives_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as opened:
        info = tarfile.TarInfo("model.json")
        info.type, info.linkname = kind, "/etc/passwd"
        opened.addfile(info)
    with input_error(tmp_path / "a.tar", "model.json"):
        unpacked(tmp_path / "a.tar", tmp_path / "out")


def test_links_in_zip_archives_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        info = zipfile.ZipInfo("model.json")
        info.external_attr = 0o120777 << 16
        opened.writestr(info, "/etc/passwd")
    with input_error(tmp_path / "a.zip", "model.json"):
        unpacked(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("ending", ENDINGS)
def test_two_models_in_one_archive_are_refused(tmp_path: Path, ending: str) -> None:
    archive = make(tmp_path / f"a{ending}", {"a/model.json": b"1", "b/model.json": b"2"})
    with input_error(archive, "model.json"):
        unpacked(archive, tmp_path / "out")


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_unpacks_to_too_much_is_refused(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 6000)
    big = make(tmp_path / f"big{ending}", {"other": bytes(5000), "model.json": bytes(1001)})
    with input_error(big, 6000):
        unpacked(big, tmp_path / "out")
    many = make(tmp_path / f"many{ending}", {f"f{number}": b"" for number in range(1001)})
    with input_error(many, 1000):
        unpacked(many, tmp_path / "out2")


def test_a_tar_header_that_claims_gigabytes_takes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long name, which tarfile reads whole, of what gzip made small."""
    monkeypatch.setattr(archives, "MAX_BYTES", 2**20)
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**28
    with archives.gzip.open(tmp_path / "a.tgz", "wb", compresslevel=1) as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(2**8):
            file.write(bytes(2**20))
    tracemalloc.start()
    with pytest.raises(InputError):
        unpacked(tmp_path / "a.tgz", tmp_path / "out")
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _changed(content: bytes) -> bytes:
    chance, changed = random.Random(0), bytearray(content)
    for at in chance.sample(range(len(content)), 20):
        changed[at] ^= 0xFF
    return bytes(changed)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    "damage", [_cut, _changed, lambda _: b"", lambda _: b"PK\3\4", bytes.upper]
)
def test_damaged_archives_are_refused_in_a_sentence(
    tmp_path: Path, ending: str, damage: Callable[[bytes], bytes]
) -> None:
    archive = make(tmp_path / f"a{ending}", FILES)
    archive.write_bytes(damage(archive.read_bytes()))
    try:
        found = unpacked(archive, tmp_path / "out")
    except InputError as error:
        assert is_one_sentence(str(error)) and str(archive) in str(error)
    else:  # What is no check sum's may be changed: then the model's own SHA-256 differs.
        assert ending == ".tar" or found.items() <= FILES.items()
