"""Dice per subject and tissue: as a table to read, as CSV and as JSON."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infant_seg_jax.data.class_sets import classes_record
from infant_seg_jax.data.labels import TISSUE_CLASSES, ClassSet
from infant_seg_jax.files import write_json, write_rows
from infant_seg_jax.metrics.overlap import mean_dice


@dataclass(frozen=True)
class DiceTable:
    """Dice of each subject's tissues, or of other classes; NaN for one in neither label map."""

    subjects: Mapping[str, Mapping[str, float]]
    classes: ClassSet = TISSUE_CLASSES

    @property
    def columns(self) -> tuple[str, ...]:
        """Every class but background, and their mean."""
        return (*self.classes.foreground, "mean")

    def rows(self) -> list[tuple[str, list[float]]]:
        """Subject, then Dice of each class and their mean, in the order of `columns`."""
        return [
            (
                subject,
                [*(dice[tissue] for tissue in self.classes.foreground), mean_dice(dict(dice))],
            )
            for subject, dice in self.subjects.items()
        ]

    def summary(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation (of a sample) over subjects, for each of `columns`."""
        values = np.array([row for _, row in self.rows()]).reshape(-1, len(self.columns))
        result = {}
        for column, name in zip(values.T, self.columns, strict=True):
            known = column[~np.isnan(column)]
            mean = float(known.mean()) if known.size else math.nan
            result[name] = (mean, float(known.std(ddof=1)) if known.size > 1 else math.nan)
        return result

    def __str__(self) -> str:
        width = max(map(len, ("subject", *self.subjects)))
        wide = max(6, *map(len, self.columns))
        lines = ["  ".join([f"{'subject':{width}}", *(f"{n:>{wide}}" for n in self.columns)])]
        for subject, row in self.rows():
            lines.append("  ".join([f"{subject:{width}}", *(f"{v:{wide}.3f}" for v in row)]))
        for label, index in (("mean", 0), ("sd", 1)):
            row = [self.summary()[name][index] for name in self.columns]
            lines.append("  ".join([f"{label:{width}}", *(f"{v:{wide}.3f}" for v in row)]))
        return "\n".join(lines)


def write_dice(folder: Path, table: DiceTable) -> None:
    """Write `dice.csv` (a row per subject) and `dice.json` (subjects and summary; NaN is null)."""
    rows = [[subject, *map(_number, row)] for subject, row in table.rows()]
    write_rows(folder / "dice.csv", [["subject", *table.columns], *rows])
    write_json(
        folder / "dice.json",
        {
            **classes_record(table.classes),
            "subjects": {
                subject: dict(zip(table.columns, map(_number, row), strict=True))
                for subject, row in table.rows()
            },
            "mean": {name: _number(mean) for name, (mean, _) in table.summary().items()},
            "sd": {name: _number(sd) for name, (_, sd) in table.summary().items()},
        },
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
