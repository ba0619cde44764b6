"""Files out of zip and tar archives, of which nothing is trusted.

No path of an archive is ever written to: the files wanted are known by name, and the rest is only
counted. An archive with links, or with paths that leave it, is refused whole.
"""

import gzip
import io
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Collection, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from infant_seg_jax.errors import InputError
from infant_seg_jax.store.array_files import MAX_BYTES, check_end_of_zip, check_is_file

_MAX_MEMBERS = 1000
_HEADERS = 1024 * _MAX_MEMBERS
"""Bytes of a tar archive beside its files."""
_END = 64
"""Bytes, as many of a zip archive's end as it takes to know the size of its list of members."""


@dataclass(frozen=True)
class _Member:
    """A file, a folder or something else in an archive.

    Attributes:
        path: in the archive.
        size: of a file, in bytes.
        is_file, is_folder: whether it is one; neither for links and devices.
        open: opens a file, until the next member is asked for.
    """

    path: PurePosixPath
    size: int
    is_file: bool
    is_folder: bool
    open: Callable[[], IO[bytes] | io.BufferedIOBase]


def unpack(archive: Path, folder: Path, names: Collection[str]) -> None:
    """Write certain files of an archive into a folder.

    They are at the top of the archive or in a folder there, as in `model/model.json`.

    Args:
        archive: a zip file, or a tar file that may be compressed by gzip.
        folder: where to, without the archive's own folder.
        names: of the files, with the folder that they are in; others are left out.

    Raises:
        InputError: the file is no such archive, is damaged or too large, has a link or a path that
            leaves it, or has two files of one name.
        OSError: the folder cannot be written to.
    """
    check_is_file(archive)
    total = 0
    try:
        with closing(_members(archive)) as members:
            for number, member in enumerate(members):
                total += member.size
                _check(member, number, total, archive)
                parts = member.path.parts
                fitting = [name for name in ("/".join(parts), "/".join(parts[1:])) if name in names]
                if member.is_file and fitting:
                    _write(member, folder / fitting[0], archive)
    except (InputError, OSError) as error:
        if isinstance(error, gzip.BadGzipFile):
            raise _damaged(archive, error) from error
        raise
    except Exception as error:  # zipfile, tarfile and zlib raise many kinds.
        raise _damaged(archive, error) from error


def _write(member: _Member, path: Path, archive: Path) -> None:
    if path.exists():
        raise InputError(
            f"{archive} contains {path.name} twice, expected one model: unpack it, and give the "
            "folder of one."
        )
    path.parent.mkdir(exist_ok=True)
    with open(path, "xb") as file, member.open() as stream:
        shutil.copyfileobj(stream, file)


def _check(member: _Member, number: int, total: int, archive: Path) -> None:
    """Raise an InputError for a member that no model has, or for too many."""
    if not (member.is_file or member.is_folder):
        raise InputError(
            f"{archive} contains {str(member.path)!r}, which is a link or a device, expected files "
            "and folders."
        )
    if member.path.is_absolute() or ".." in member.path.parts:
        raise InputError(
            f"{archive} contains the path {str(member.path)!r}, which leaves the archive, so it is "
            "not unpacked."
        )
    if number >= _MAX_MEMBERS or total > MAX_BYTES:
        raise InputError(
            f"{archive} contains more than {_MAX_MEMBERS} files or {MAX_BYTES} bytes, expected a "
            "model folder."
        )


def _members(archive: Path) -> Generator[_Member, None, None]:
    with open(archive, "rb") as file:
        start = file.read(4)
        if start[:2] == b"PK":
            yield from _of_zip(archive)
            return
        file.seek(0)
        if start[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=file) as unzipped:
                yield from _of_tar(_Bounded(unzipped))
        else:
            yield from _of_tar(_Bounded(file))


def _of_zip(archive: Path) -> Generator[_Member, None, None]:
    with open(archive, "rb") as file:
        file.seek(-min(_END, archive.stat().st_size), io.SEEK_END)
        check_end_of_zip(file.read(), archive, "a zip archive without a comment")
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{info.filename} is neither stored nor deflated")
            kind = stat.S_IFMT(info.external_attr >> 16)
            is_folder = info.is_dir()
            is_file = not is_folder and kind in (0, stat.S_IFREG)  # 0: not made on Unix.
            yield _Member(
                PurePosixPath(info.filename),
                info.file_size,
                is_file,
                is_folder,
                partial(opened.open, info),
            )


def _of_tar(stream: "_Bounded") -> Generator[_Member, None, None]:
    with tarfile.open(fileobj=cast(Any, stream), mode="r|") as opened:
        for info in opened:
            yield _Member(
                PurePosixPath(info.name),
                info.size,
                info.isreg(),
                info.isdir(),
                partial(_extracted, opened, info),
            )


def _extracted(opened: tarfile.TarFile, info: tarfile.TarInfo) -> io.BufferedIOBase:
    found = opened.extractfile(info)
    assert isinstance(found, io.BufferedIOBase)  # None is for what is neither a file nor a link.
    return found


class _Bounded:
    """A stream of which no more is read than a model may have: a header may claim any size."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream, self._left = stream, MAX_BYTES + _HEADERS

    def read(self, size: int) -> bytes:
        found = self._stream.read(min(size, self._left + 1))
        self._left -= len(found)
        if self._left < 0:
            raise ValueError(f"it unpacks to more than {MAX_BYTES} bytes")
        return found


def _damaged(archive: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(
        f"{archive} is damaged, or not a zip or tar archive ({reason}): unpack it with another "
        "program, and give the folder."
    )
