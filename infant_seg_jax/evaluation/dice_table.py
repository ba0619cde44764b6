"""Dice per subject and tissue: as a table to read, as CSV and as JSON."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infant_seg_jax.data.labels import TISSUES
from infant_seg_jax.files import write_json, write_rows
from infant_seg_jax.metrics.overlap import mean_dice

COLUMNS = (*TISSUES, "mean")


@dataclass(frozen=True)
class DiceTable:
    """Dice of each subject's tissues; NaN where a tissue is in neither label map."""

    subjects: Mapping[str, Mapping[str, float]]

    def rows(self) -> list[tuple[str, list[float]]]:
        """Subject, then Dice of each tissue and their mean, in the order of `COLUMNS`."""
        return [
            (subject, [*(dice[tissue] for tissue in TISSUES), mean_dice(dict(dice))])
            for subject, dice in self.subjects.items()
        ]

    def summary(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation (of a sample) over subjects, for each of `COLUMNS`."""
        values = np.array([row for _, row in self.rows()]).reshape(-1, len(COLUMNS))
        result = {}
        for column, name in zip(values.T, COLUMNS, strict=True):
            known = column[~np.isnan(column)]
            mean = float(known.mean()) if known.size else math.nan
            result[name] = (mean, float(known.std(ddof=1)) if known.size > 1 else math.nan)
        return result

    def __str__(self) -> str:
        width = max(map(len, ("subject", *self.subjects)))
        lines = ["  ".join([f"{'subject':{width}}", *(f"{name:>6}" for name in COLUMNS)])]
        for subject, row in self.rows():
            lines.append("  ".join([f"{subject:{width}}", *(f"{value:6.3f}" for value in row)]))
        for label, index in (("mean", 0), ("sd", 1)):
            row = [self.summary()[name][index] for name in COLUMNS]
            lines.append("  ".join([f"{label:{width}}", *(f"{value:6.3f}" for value in row)]))
        return "\n".join(lines)


def write_dice(folder: Path, table: DiceTable) -> None:
    """Write `dice.csv` (a row per subject) and `dice.json` (subjects and summary; NaN is null)."""
    rows = [[subject, *map(_number, row)] for subject, row in table.rows()]
    write_rows(folder / "dice.csv", [["subject", *COLUMNS], *rows])
    write_json(
        folder / "dice.json",
        {
            "subjects": {
                subject: dict(zip(COLUMNS, map(_number, row), strict=True))
                for subject, row in table.rows()
            },
            "mean": {name: _number(mean) for name, (mean, _) in table.summary().items()},
            "sd": {name: _number(sd) for name, (_, sd) in table.summary().items()},
        },
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
