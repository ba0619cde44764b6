"""The files of a score table: CSV for pandas and people, JSON for scripts.

`metrics.csv` and `metrics.json` have all metrics; `dice.csv` and `dice.json`, of folds and sweeps,
the Dice alone.
"""

import csv
import io
import math
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from infant_seg_jax.data.class_sets import CLASS_SETS, classes_in, classes_record
from infant_seg_jax.data.labels import TISSUE_CLASSES, ClassSet
from infant_seg_jax.errors import InputError
from infant_seg_jax.evaluation.score_table import MEAN, ScoreTable, dice_table
from infant_seg_jax.files import read_json, read_text, write_json, write_rows
from infant_seg_jax.metrics.measures import METRICS

CSV_NAME, JSON_NAME = "metrics.csv", "metrics.json"
DICE_CSV, DICE_JSON = "dice.csv", "dice.json"

_KEYS, _TOLERANCE = ("subject", "tissue"), "tolerance_mm"
_MAX_BYTES = 2**28


def write_scores(folder: Path, table: ScoreTable, about: Mapping[str, Any]) -> None:
    """Write `metrics.csv` and `metrics.json`, each whole or not at all.

    The CSV has a row for each subject and tissue and a column for each metric; what is NaN is left
    empty, and what is infinite is `inf`. The JSON has `about`, the summary and the same values, as
    `to_json` writes them.
    """
    rows = [
        [subject, tissue, *(_number(tissues[tissue][m]) for m in table.metrics), table.tolerance]
        for subject, tissues in table.subjects.items()
        for tissue in table.classes.foreground
    ]
    write_rows(folder / CSV_NAME, [[*_KEYS, *table.metrics, _TOLERANCE], *rows])
    content = {
        **about,
        **classes_record(table.classes),
        _TOLERANCE: table.tolerance,
        "metrics": {name: asdict(METRICS[name]) for name in table.metrics},
        "summary": {
            metric: {row: asdict(found) for row, found in rows.items()}
            for metric, rows in table.summary.items()
        },
        "subjects": table.subjects,
    }
    write_json(folder / JSON_NAME, to_json(content))


def write_dice(folder: Path, table: ScoreTable) -> None:
    """Write `dice.csv` (a row per subject) and `dice.json` (subjects and summary; NaN is null)."""

    def cells(values: Iterable[float]) -> list[float | None]:
        return [None if math.isnan(value) else round(value, 6) for value in values]

    rows = [(subject, cells(values)) for subject, values in table.by_subject("dice")]
    summary = table.summary["dice"].values()
    write_rows(
        folder / DICE_CSV, [["subject", *table.rows], *([name, *values] for name, values in rows)]
    )
    write_json(
        folder / DICE_JSON,
        {
            **classes_record(table.classes),
            "subjects": {name: dict(zip(table.rows, values, strict=True)) for name, values in rows},
            "mean": dict(zip(table.rows, cells(found.mean for found in summary), strict=True)),
            "sd": dict(zip(table.rows, cells(found.sd for found in summary), strict=True)),
        },
    )


def to_json(content: Any) -> Any:
    """With what JSON has for numbers: null for NaN, "inf" or "-inf" for what is infinite.

    Seven digits are kept.
    """
    if isinstance(content, Mapping):
        return {key: to_json(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [to_json(value) for value in content]
    return _number(content) if isinstance(content, float) else content


def _number(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return float(f"{value:.7g}") if math.isfinite(value) else str(value)


def has_scores(folder: Path) -> bool:
    """Whether there is a table of scores in this folder."""
    return (folder / CSV_NAME).is_file() or (folder / DICE_CSV).is_file()


def read_table(folder: Path) -> ScoreTable:
    """All that `evaluate` measured, or else the Dice of each subject, as folds and sweeps have it.

    Raises:
        InputError: the table cannot be read.
    """
    path = folder / DICE_CSV
    if (folder / CSV_NAME).is_file() or not path.is_file():
        return read_scores(folder)
    header, *rows = _read_rows(path)
    classes = classes_beside(path, set(header) - {"subject", MEAN})
    try:
        named = [dict(zip(header, row, strict=True)) for row in rows]
        return dice_table(
            {
                row["subject"]: {name: float(row[name] or "nan") for name in classes.foreground}
                for row in named
            },
            classes,
        )
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{path} is not a table of Dice as written by training ({error!r}): train again."
        ) from error


def read_scores(path: Path) -> ScoreTable:
    """Read the `metrics.csv` that `path` is or holds, or any table of that shape.

    Columns of other names are passed over. Metrics may be missing; a tissue without a row has no
    values.

    Raises:
        InputError: there is no such file, it is too large or no such table, names another tissue
            or one of a subject twice, or holds a value that is no number, or several tolerances.
    """
    path = path / CSV_NAME if path.is_dir() else path
    header, *rows = _read_rows(path)
    metrics = [name for name in METRICS if name in header]
    if not metrics or not set(_KEYS) <= set(header):
        raise InputError(
            f"{path} has the columns {', '.join(header)[:200]}, expected subject, tissue and some "
            f"of {', '.join(METRICS)}, as written by `infant-seg evaluate`."
        )
    at = header.index(_KEYS[1])
    classes = classes_beside(path, {row[at] for row in rows if len(row) > at})
    foreground = tuple(classes.foreground)
    subjects: dict[str, dict[str, dict[str, float]]] = {}
    seen: set[tuple[str, str]] = set()
    tolerances: set[float] = set()
    for number, cells in enumerate(rows, start=2):
        where = f"{path}, row {number}"
        row = dict(zip(header, cells, strict=False))
        subject, tissue = (row.get(key, "") for key in _KEYS)
        if not subject or tissue not in foreground or (subject, tissue) in seen:
            raise InputError(
                f"{where} has the subject '{subject}' and the tissue '{tissue}', expected each of "
                f"{', '.join(foreground)} once per subject."
            )
        seen.add((subject, tissue))
        nothing = {name: dict.fromkeys(metrics, math.nan) for name in foreground}
        tissues = subjects.setdefault(subject, nothing)
        tissues[tissue] = {name: _parse(row.get(name, ""), f"{where}, {name}") for name in metrics}
        tolerances.add(_parse(row.get(_TOLERANCE, ""), f"{where}, {_TOLERANCE}"))
    known = {value for value in tolerances if not math.isnan(value)}
    if len(known) > 1:
        raise InputError(
            f"{path} has the tolerances {', '.join(f'{value:g}' for value in sorted(known))} mm, "
            "expected one for all rows."
        )
    return ScoreTable(subjects, known.pop() if known else math.nan, classes)


def classes_beside(path: Path, names: Collection[str]) -> ClassSet:
    """The classes of a CSV of scores: by the JSON of the same name, or those with such names."""
    if (beside := path.with_suffix(".json")).is_file():
        with suppress(InputError, TypeError, ValueError):
            return classes_in(read_json(beside))
    having = (one for one in CLASS_SETS.values() if set(names) <= one.foreground.keys())
    return next(having, TISSUE_CLASSES)


def _read_rows(path: Path) -> list[list[str]]:
    """The rows that hold anything; at least a header."""
    if not path.is_file():
        raise InputError(
            f"There is no file {path}, expected a folder written by `infant-seg evaluate`, or its "
            f"{CSV_NAME}."
        )
    try:
        rows = [row for row in csv.reader(io.StringIO(read_text(path, _MAX_BYTES))) if row]
    except csv.Error as error:
        raise InputError(f"{path} is not a CSV file ({error}).") from error
    if not rows:
        raise InputError(f"{path} is empty, expected a table of scores.")
    return rows


def _parse(text: str, where: str) -> float:
    try:
        return float(text) if text.strip() else math.nan
    except ValueError as error:
        raise InputError(f"{where} has '{text[:40]}', expected a number.") from error
