"""Sets that are made part by part; what was finished is not done again.

A part is a folder, written aside and renamed. While a set is unfinished, its parameters lie in it;
at the end they are in its manifest. Other parameters than a set's own are refused.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from infant_seg_jax.data.prepared import MANIFEST, SPLITS_FILE
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import (
    atomic_folder,
    make_folder,
    read_json,
    remove_left_behind,
    write_json,
)
from infant_seg_jax.progress import progress

Entry = dict[str, Any]
"""What the manifest says of a part."""

_UNFINISHED, _PART = "unfinished.json", "case.json"
_Item = TypeVar("_Item")


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """Of the libraries that decide what a set holds."""
    return {library: version(library) for library in libraries}


def begin(output: Path, parameters: Mapping[str, Any]) -> None:
    """Make the folder, or check that what it holds is the beginning, or all, of the same set.

    Raises:
        InputError: it holds something else, such as a set that was made with other parameters.
    """
    records = [output / name for name in (_UNFINISHED, MANIFEST) if (output / name).is_file()]
    if not records:
        make_folder(output)
        write_json(output / _UNFINISHED, parameters)
        return
    before, now = _flat(read_json(records[0])), _flat(parameters)
    changed = [
        f"{key}: {before.get(key)!r}, not {value!r}"
        for key, value in now.items()
        if before.get(key) != value
    ]
    if changed:
        listed = "; ".join(part if len(part) < 200 else part[:200] + "..." for part in changed[:5])
        raise InputError(
            f"{output} contains a set with other parameters ({listed}): name another output, or "
            "delete that one first."
        )
    remove_left_behind(output, below=True)


def finish_all(
    output: Path,
    items: Sequence[_Item],
    finish_one: Callable[[_Item], Entry],
    accept: Callable[[Entry, Sequence[Entry]], None] = lambda entry, others: None,
    *,
    unit: str,
    workers: int | None = None,
) -> list[Entry]:
    """The entries of all parts, in their order; if there is to be none, `output` goes too.

    Args:
        output: was begun.
        items: what the parts are made of.
        finish_one: makes a part, as `finish_part` does.
        accept: is called with each entry and those before it.
        unit: what a part is called.
        workers: parts made at a time (threads: decompression, NumPy and SciPy release the lock).

    Raises:
        InputError: a part cannot be made, or is not accepted.
    """
    entries: list[Entry] = []
    try:
        with (
            ThreadPoolExecutor(workers or min(4, os.cpu_count() or 1)) as pool,
            progress("preparing", len(items), unit=unit) as bar,
        ):
            try:
                for entry in pool.map(finish_one, items):
                    accept(entry, entries)
                    entries.append(entry)
                    bar.update()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    except InputError:
        if not any(output.glob(f"*/{_PART}")):  # nothing that would be worth going on with
            (output / _UNFINISHED).unlink(missing_ok=True)
            with suppress(OSError):  # there is something else in it, which is not ours
                output.rmdir()
        raise
    return entries


def finish_part(
    folder: Path, identity: Mapping[str, Any], write: Callable[[Path], Mapping[str, Any]]
) -> Entry:
    """The entry of a part: its `identity` and what `write` returns, which fills its folder.

    If the folder is there and of the same identity, nothing is written.
    """
    if (folder / _PART).is_file():
        entry = read_json(folder / _PART)
        if isinstance(entry, dict) and all(entry.get(key) == identity[key] for key in identity):
            return entry
        shutil.rmtree(folder)
    with atomic_folder(folder) as aside:
        entry = {**identity, **write(aside)}
        write_json(aside / _PART, entry)
    return entry


def end(output: Path, splits: Any, manifest: Mapping[str, Any]) -> None:
    """Write what makes the set a whole one; `manifest` has the parameters, and the entries."""
    if not (output / SPLITS_FILE).exists():  # it may have been edited
        write_json(output / SPLITS_FILE, splits)
    write_json(output / MANIFEST, manifest)
    (output / _UNFINISHED).unlink(missing_ok=True)


def _flat(record: Any) -> dict[str, Any]:
    """A record's values by their keys, those of its inner records as `outer.inner`."""
    flat: dict[str, Any] = {}
    for key, value in record.items() if isinstance(record, dict) else ():
        inner = _flat(value)
        flat |= {f"{key}.{name}": part for name, part in inner.items()} or {key: value}
    return flat
