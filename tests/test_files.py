import errno
import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from infant_seg_jax.files import (
    atomic_folder,
    atomic_path,
    read_json,
    remove_left_behind,
    sha256,
    write_json,
)
from tests.input_errors import input_error


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_with_its_suffixes_when_all_is_written(tmp_path):
    target = tmp_path / "new" / "folder" / "map.nii.gz"
    with atomic_path(target) as aside:
        assert aside.name == target.name and aside.parent.parent == target.parent
        aside.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert names(target.parent) == ["map.nii.gz"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    target = tmp_path / "metrics.json"
    target.write_text("old")
    with pytest.raises(error):
        with atomic_path(target) as aside:
            aside.write_text("ha")
            raise error
    assert target.read_text() == "old"
    assert names(tmp_path) == ["metrics.json"]


def test_folder_appears_when_all_is_written(tmp_path):
    target = tmp_path / "deep" / "set"
    with atomic_folder(target) as folder:
        (folder / "case").mkdir()
        (folder / "case" / "a").write_text("a")
        assert not target.exists()
    assert (target / "case" / "a").read_text() == "a"
    assert names(tmp_path / "deep") == ["set"]


def test_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "set").mkdir()
    with atomic_folder(tmp_path / "set") as folder:
        (folder / "a").write_text("a")
    assert names(tmp_path / "set") == ["a"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_folder_that_fails_leaves_nothing(tmp_path, error):
    with pytest.raises(error):
        with atomic_folder(tmp_path / "set") as folder:
            (folder / "half").write_text("h")
            raise error
    assert names(tmp_path) == []


def test_full_folder_or_file_is_never_replaced(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "precious").write_text("p")
    (tmp_path / "file").write_text("p")
    for taken in (tmp_path / "set", tmp_path / "file"):
        with input_error(taken):
            with atomic_folder(taken):
                pytest.fail("the block must not run")
    assert (tmp_path / "set" / "precious").read_text() == "p"


@pytest.mark.parametrize("atomic", [atomic_path, atomic_folder])
def test_folder_that_cannot_be_written_to_is_named(tmp_path, atomic):
    (tmp_path / "file").write_text("in the way")
    with input_error(f"{tmp_path / 'file'} "):
        with atomic(tmp_path / "file" / "out"):
            pytest.fail("the block must not run")


@pytest.mark.parametrize("atomic", [atomic_path, atomic_folder])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded"),
        (OSError("1000 requested and 10 written"), "1000 requested and 10 written"),  # NumPy's
    ],
)
def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path, atomic, error, reason):
    with input_error(f"{tmp_path} ", reason):
        with atomic(tmp_path / "out") as aside:
            if atomic is atomic_folder:  # of which each file is written in the same way
                (aside / "first").write_text("f")
            raise error
    assert names(tmp_path) == []


def test_a_file_in_a_folder_to_be_is_not_named_by_where_it_is_written_meanwhile(tmp_path):
    with input_error(f"{tmp_path / 'set'} ", "No space left on device"):
        with atomic_folder(tmp_path / "set") as folder, atomic_path(folder / "a.json"):
            raise OSError(errno.ENOSPC, "No space left on device")


def test_what_is_read_meanwhile_is_not_what_cannot_be_written(tmp_path):
    with pytest.raises(FileNotFoundError):
        with atomic_path(tmp_path / "out"):
            open(tmp_path.parent / "elsewhere")


WRITE_FOR_EVER = """
import sys, time
from pathlib import Path
from infant_seg_jax.files import atomic_path
with atomic_path(Path(sys.argv[1])) as aside:
    aside.write_text("half")
    print("begun", flush=True)
    time.sleep(1000)
"""


def test_what_a_killed_process_left_goes_and_what_another_writes_stays(tmp_path):
    target = tmp_path / "labels.nii.gz"
    killed, alive = (
        subprocess.Popen(
            [sys.executable, "-c", WRITE_FOR_EVER, target], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    )
    try:
        for process in (killed, alive):
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
        (tmp_path / ".writing-by-an-older-version").mkdir()
        (tmp_path / ".writing-by-an-older-version" / target.name).touch()
        assert len(names(tmp_path)) == 3
        killed.kill()
        killed.wait()
        write_json(tmp_path / "a.json", 1)
        (left, _) = names(tmp_path)
        assert left.startswith(".writing-") and (tmp_path / left / target.name).is_file()
    finally:
        for process in (killed, alive):
            process.kill()
            process.communicate()
    (tmp_path / "sub" / "anat").mkdir(parents=True)
    (tmp_path / left).rename(tmp_path / "sub" / "anat" / left)
    remove_left_behind(tmp_path, below=True)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.json"]


def test_many_processes_that_clear_up_take_nothing_from_each_other(tmp_path):
    def write(number):
        with atomic_path(tmp_path / f"{number}.txt") as aside:
            remove_left_behind(tmp_path)
            aside.write_text(str(number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(200)))
    assert names(tmp_path) == sorted(f"{number}.txt" for number in range(200))


def test_json_goes_round(tmp_path):
    content = {"train": ["IBSR_01"], "spacing_mm": [0.9375, 1.5, 1e-7], "none": None, "ü": "é"}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == content
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"bad": object()})
    assert read_json(tmp_path / "a.json") == content


def test_json_that_cannot_be_read_is_named(tmp_path):
    with input_error(tmp_path / "none.json", os.strerror(errno.ENOENT)):
        read_json(tmp_path / "none.json")
    for content in (b'{"a": 1', b"\xff\xfe\x00"):
        (tmp_path / "bad.json").write_bytes(content)
        with input_error(tmp_path / "bad.json"):
            read_json(tmp_path / "bad.json")


def test_sha256_of_known_vectors(tmp_path):
    # FIPS 180-2, appendix B.1, and a file longer than any buffer.
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(tmp_path / "abc") == expected
    (tmp_path / "long").write_bytes(b"x" * 3_000_000)
    assert sha256(tmp_path / "long") == hashlib.sha256(b"x" * 3_000_000).hexdigest()
