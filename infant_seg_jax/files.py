"""Files that are either whole or absent: write aside, then rename."""

import csv
import errno
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from infant_seg_jax.errors import InputError

FULL = {errno.ENOSPC, errno.EDQUOT}
"""The numbers of errors that say that a disk, or what of it one may use, is full."""

_ASIDE, _HELD = ".writing-", ".held"
_MAX_BYTES = 2**26


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it replaces `path` only if the block succeeds.

    The temporary name keeps all of `path`'s suffixes, because writers such as nibabel choose the
    format by them.

    Raises:
        InputError: the folder cannot be created or written to, or its disk is full.
    """
    path = Path(path)
    with _aside(path) as aside:
        temporary = aside / path.name
        yield temporary
        os.replace(temporary, path)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` to fill; it becomes `path` only if the block succeeds.

    Raises:
        InputError: `path` exists already and is not an empty folder, or its parent cannot be
            written to, or its disk is full.
    """
    path = Path(path)
    check_is_new(path)
    with _aside(path) as aside:
        folder = aside / path.name
        folder.mkdir()
        yield folder
        os.replace(folder, path)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it.

    Raises:
        InputError: `path` exists already and is not an empty folder, or cannot be made.
    """
    check_is_new(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from error


def check_is_new(path: Path) -> None:
    """Raise an InputError if `path` exists already and is not an empty folder."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} already exists and is not an empty folder: name another output.")


@contextmanager
def errors_of_writing(folder: Path) -> Iterator[None]:
    """Have errors of writing to files in a folder be InputErrors.

    Raises:
        InputError: something cannot be written there.
        OSError: of a file that lies elsewhere, which is only read then.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None and not Path(error.filename).is_relative_to(folder):
            raise
        raise _cannot_write(folder, error) from error


def _cannot_write(folder: Path, error: OSError) -> InputError:
    remedy = "make room on its disk, or name another output folder"
    full = error.errno in {*FULL, None}  # NumPy's, of an array written in part, has no number.
    folder = Path(*(part for part in folder.parts if not part.startswith(_ASIDE)))
    return InputError(
        f"Cannot write to the folder {folder} ({error.strerror or error}): "
        f"{remedy if full else 'name an output folder that you may write to'}."
    )


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_left_behind(path.parent)
        aside, held = _new_aside(path.parent)
    except OSError as error:
        raise _cannot_write(path.parent, error) from error
    with held:
        try:
            with errors_of_writing(path.parent):
                yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _new_aside(folder: Path) -> tuple[Path, IO[str]]:
    """A new folder in `folder`, and a file in it that says, while it is open, that it is in use."""
    while True:
        aside = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=folder))
        with suppress(FileNotFoundError):  # Another process took it for one left behind.
            held = open(aside / _HELD, "w")  # noqa: SIM115 (as long as the folder is in use)
            with suppress(OSError):  # Not every file system has locks.
                fcntl.flock(held, fcntl.LOCK_EX)
            if (aside / _HELD).exists():
                return aside, held
            held.close()


def remove_left_behind(folder: Path, *, below: bool = False) -> None:
    """Remove what killed processes were writing in a folder; what others still write stays.

    Args:
        folder: where.
        below: whether to look in all folders below it, too.
    """
    for aside in list(folder.rglob(f"{_ASIDE}*") if below else folder.glob(f"{_ASIDE}*")):
        with suppress(OSError):  # Another process holds it, or there are no locks.
            inside = os.listdir(aside)
            if _HELD in inside:
                with open(aside / _HELD, "r+") as held:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(aside)
            elif inside:  # of version 0.1
                shutil.rmtree(aside)
            else:
                aside.rmdir()  # Unless another process puts something into it now.


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8, made `legible`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(legible(text), encoding="utf-8", newline="")


def write_rows(path: Path, rows: Iterable[Iterable[Any]], delimiter: str = ",") -> None:
    """Write rows of cells as CSV, or with another delimiter, whole or not at all."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    write_text(path, text.getvalue())


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all.

    What is not ASCII is escaped, bytes of a file's name that are no text, too, so that a name is
    read as it was written.
    """
    write_text(path, json.dumps(content, indent=2) + "\n")


def legible(name: str) -> str:
    """A name as text that can be written anywhere: bytes that are no UTF-8 as `\\udce9`."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def as_named(text: str) -> str:
    """The name that `legible` made a text of."""
    return re.sub(r"\\udc([89a-f][0-9a-f])", lambda byte: chr(0xDC00 + int(byte[1], 16)), text)


def read_text(path: Path, most: int = _MAX_BYTES) -> str:
    """Read a file of UTF-8.

    Raises:
        InputError: the file is missing, is no such text, or has more than `most` bytes.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise InputError(f"Cannot read {path} ({error.strerror}).") from error
    if len(content) > most:
        raise InputError(f"{path} is too large to read, expected at most {most} bytes.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error}).") from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: as `read_text`, or it is not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}).") from error


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
