"""Which files hold volumes, by the endings of their names."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from infant_seg_jax.errors import InputError

ENDINGS = (".nii.gz", ".nii", ".mgz", ".mgh", ".hdr.gz", ".hdr")
"""What a file that holds a volume ends with; a pair of `.hdr` and `.img` is its `.hdr`."""
ENDINGS_IN_WORDS = ".nii, .nii.gz, .mgh, .mgz or .hdr with .img"

_VOXELS = (".img.gz", ".img")


def ending_of(path: Path) -> str | None:
    """The ending of a volume's name in lower case, those of `.img` files too; None for others."""
    name = path.name.lower()
    return next((ending for ending in (*ENDINGS, *_VOXELS) if name.endswith(ending)), None)


def stem(path: Path) -> str:
    """A file's name without the ending that makes it a volume."""
    return path.name[: len(path.name) - len(ending_of(path) or "")]


def find_volumes(paths: Iterable[Path | str]) -> tuple[Path, ...]:
    """The volumes among and below `paths`, each once; of a pair of files, the header.

    Raises:
        InputError: a path is missing, is no volume, or is a folder without one.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"There is no file or folder {path}.")
        if not path.is_dir():
            found[parts(path)[0]] = None
            continue
        below = volumes_below(path)
        if not below:
            raise InputError(f"{path} contains no volume, expected {ENDINGS_IN_WORDS} below it.")
        found.update(dict.fromkeys(below))
    return tuple(found)


def volumes_below(folder: Path) -> list[Path]:
    """The files below a folder that are volumes by their names, sorted; of pairs, the headers.

    Links to folders are followed. Hidden files and folders are passed over, and so are folders that
    are called like a volume, though not what lies in them.
    """
    return sorted(path for path in _files_below(folder, ()) if path.name.lower().endswith(ENDINGS))


def _files_below(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """Files that are not hidden, of folders that are not, by a link, inside themselves."""
    here = os.path.realpath(folder)
    if here in above:
        return
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    for entry in visible:
        if entry.is_dir():
            yield from _files_below(folder / entry.name, (*above, here))
        else:
            yield folder / entry.name


def parts(path: Path) -> tuple[Path, Path]:
    """The file of a volume's header and that of its voxels: the same one, save for a pair.

    Either file of a pair may be given; one of the two may be compressed and the other not.

    Raises:
        InputError: a file is missing, or the name is not that of a volume.
    """
    ending = ending_of(path)
    if ending is None:
        raise InputError(f"{path} does not have the name of a volume, expected {ENDINGS_IN_WORDS}.")
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    if ending.startswith(".hdr"):
        return path, _other_half(path, ".img")
    if ending.startswith(".img"):
        return _other_half(path, ".hdr"), path
    return path, path


def _other_half(path: Path, kind: str) -> Path:
    endings = (kind, kind + ".gz")
    if path.name.lower().endswith(".gz"):
        endings = endings[::-1]
    for ending in endings:
        for spelling in (ending, ending.upper()):
            candidate = path.with_name(stem(path) + spelling)
            if candidate.is_file():
                return candidate
    raise InputError(
        f"{path} is one half of a pair and the other is missing, expected "
        f"{path.with_name(stem(path) + endings[0])}: keep both in one folder."
    )
