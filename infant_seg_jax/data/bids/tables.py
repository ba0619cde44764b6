"""Tables and sidecars of BIDS trees: small `.tsv` and `.json` files that people write by hand."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from infant_seg_jax.errors import InputError

MAX_BYTES = 2**22
MAX_ROWS = 100_000


def read_table(
    path: Path, needed: Sequence[str], optional: Sequence[str] = ()
) -> list[dict[str, str]]:
    """The rows of a `.tsv`: the columns asked for, and nothing for `n/a` or a column not there.

    Names of columns are lower case.

    Raises:
        InputError: the file is missing, too large or no UTF-8, lacks a column that is needed, or
            has a row with more or fewer cells than its first.
    """
    lines = csv.reader(
        io.StringIO(_read_text(path), newline=None), delimiter="\t", quoting=csv.QUOTE_NONE
    )
    wanted = (*needed, *optional)
    rows: list[dict[str, str]] = []
    header: list[str] = []
    at: dict[str, int] = {}
    try:
        for line in lines:
            cells = ["" if cell == "n/a" else cell for cell in (_plain(cell) for cell in line)]
            if not any(cells):
                continue
            if not header:
                header = [cell.lower() for cell in cells]
                _check_header(header, needed, path)
                at = {name: header.index(name) for name in wanted if name in header}
                continue
            if len(cells) != len(header):
                raise InputError(
                    f"{path} has {len(cells)} cells in line {lines.line_num}, expected "
                    f"{len(header)} as in the first line, separated by tabs."
                )
            if len(rows) == MAX_ROWS:
                raise InputError(
                    f"{path} has more than {MAX_ROWS} rows, expected at most that many."
                )
            rows.append({name: cells[at[name]] if name in at else "" for name in wanted})
    except csv.Error as error:
        raise InputError(f"{path} is not a readable table ({error}).") from error
    _check_header(header, needed, path)
    return rows


def read_sidecar(path: Path) -> Mapping[str, Any]:
    """What a sidecar says; nothing if it is JSON of another kind.

    Raises:
        InputError: the file is missing, too large or no JSON.
    """
    try:
        content = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not valid JSON ({error}).") from error
    return content if isinstance(content, dict) else {}


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} is larger than {MAX_BYTES} bytes, expected a small table.")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"Cannot read {path} ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: save it as UTF-8.") from error


def _check_header(header: Sequence[str], needed: Iterable[str], path: Path) -> None:
    for name in needed:
        if name not in header:
            found = ", ".join(f"'{cell[:40]}'" for cell in header[:10]) or "none"
            raise InputError(
                f"{path} has no column '{name}', found {found}, expected columns separated by tabs."
            )


def _plain(cell: str) -> str:
    return cell.strip().strip('"').strip()
