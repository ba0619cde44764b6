"""Lists of scans in text and CSV files: `--input=@scans.txt`."""

import csv
from collections.abc import Sequence
from pathlib import Path

from infant_seg_jax.data.formats.names import ending_of
from infant_seg_jax.errors import InputError
from infant_seg_jax.paths import expand

MARK = "@"
_MAX_BYTES = 2**26
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def expand_lists(inputs: Sequence[str]) -> list[str]:
    """What a person named, with each `@FILE` replaced by what the file lists.

    A line has a scan, or a folder, as `--input` takes it; in `.csv` and `.tsv` files a row has one
    in each column, the modalities of a subject. Paths are relative to the working folder, as they
    are on the command line. Empty lines, those that begin with #, and a first row of names of
    columns are passed over.

    Raises:
        InputError: there is no such list, it cannot be read, or it lists nothing.
    """
    found = []
    for name in inputs:
        is_list = name.startswith(MARK) and not Path(name).exists()
        found += _read(Path(expand(name.removeprefix(MARK)))) if is_list else [name]
    return found


def _read(path: Path) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            text = file.read(_MAX_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(
            f"The list {path} cannot be read ({why}): name a text file with one scan per line."
        ) from error
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    delimiter = _DELIMITERS.get(path.suffix.lower())
    if delimiter is None:
        scans = [line.strip() for line in lines]
    else:
        rows = [[cell.strip() for cell in row if cell.strip()]
                for row in csv.reader(lines, delimiter=delimiter)]  # fmt: skip
        if rows and not any(ending_of(Path(cell)) or Path(cell).exists() for cell in rows[0]):
            rows = rows[1:]
        scans = [",".join(row) for row in rows if row]
    if not scans:
        raise InputError(f"The list {path} is empty, expected one scan per line.")
    return scans
