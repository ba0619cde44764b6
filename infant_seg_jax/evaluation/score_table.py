"""Metrics per subject and tissue, and what they come to over subjects."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from infant_seg_jax.data.labels import TISSUE_CLASSES, ClassSet
from infant_seg_jax.metrics.intervals import mean_interval
from infant_seg_jax.metrics.measures import METRICS

MEAN = "mean"
"""What stands beside the tissues for each subject's mean over them."""


@dataclass(frozen=True)
class Summary:
    """One metric of one tissue over the subjects that have it.

    Attributes:
        subjects: how many.
        mean: infinite if one of them is.
        sd: standard deviation of a sample; NaN with fewer than two.
        low, high: a 95% interval of the mean, as `mean_interval` has it.
    """

    subjects: int
    mean: float
    sd: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Summary":
        """Of all values that are not NaN."""
        known = np.array([value for value in values if not math.isnan(value)])
        mean = float(known.mean()) if known.size else math.nan
        spread = known.size > 1 and bool(np.isfinite(known).all())
        sd = float(known.std(ddof=1)) if spread else math.nan
        return cls(known.size, mean, sd, *mean_interval(known))


@dataclass(frozen=True)
class ScoreTable:
    """What was measured.

    Attributes:
        subjects: by subject, tissue and metric; NaN where there is nothing to measure.
        tolerance: of the surface Dice, in mm; NaN where that was not measured.
        classes: what was measured: the tissues, or others.
    """

    subjects: Mapping[str, Mapping[str, Mapping[str, float]]]
    tolerance: float = math.nan
    classes: ClassSet = TISSUE_CLASSES

    @property
    def rows(self) -> tuple[str, ...]:
        """Every class but background, and `MEAN`."""
        return (*self.classes.foreground, MEAN)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those of `METRICS` that every subject has of every tissue."""
        rows = [values for tissues in self.subjects.values() for values in tissues.values()]
        return tuple(name for name in METRICS if all(name in values for values in rows))

    def of(self, metric: str, row: str) -> dict[str, float]:
        """One metric of a tissue, or for `MEAN` each subject's mean over the tissues it has."""
        if row != MEAN:
            return {name: tissues[row][metric] for name, tissues in self.subjects.items()}
        found = {}
        for name, tissues in self.subjects.items():
            values = [tissues[tissue][metric] for tissue in self.classes.foreground]
            known = [value for value in values if not math.isnan(value)]
            found[name] = float(np.mean(known)) if known else math.nan
        return found

    def by_subject(self, metric: str) -> list[tuple[str, list[float]]]:
        """Subject, then one metric of each of `rows`."""
        columns = [self.of(metric, row) for row in self.rows]
        return [(name, [column[name] for column in columns]) for name in self.subjects]

    @cached_property
    def summary(self) -> dict[str, dict[str, Summary]]:
        """By metric, then by tissue and `MEAN`."""
        return {
            metric: {row: Summary.of(self.of(metric, row).values()) for row in self.rows}
            for metric in self.metrics
        }

    def __str__(self) -> str:
        width, wide = max(map(len, METRICS)), max(6, *map(len, self.rows))
        columns = "    mean       sd  95% interval        subjects"
        lines = [f"{'metric':{width}}  {'tissue':{wide}} {columns}"]
        for metric, rows in self.summary.items():
            shown = metric
            for row, found in rows.items():
                mean, sd, low, high = (
                    in_words(value, metric)
                    for value in (found.mean, found.sd, found.low, found.high)
                )
                interval = f"{low} to {high}" if low != "-" else "-"
                lines.append(
                    f"{shown:{width}}  {row:{wide}} {mean:>8} {sd:>8}  "
                    f"{interval:18} {found.subjects:9}"
                )
                shown = ""
        return "\n".join(lines)


def dice_table(
    dice: Mapping[str, Mapping[str, float]], classes: ClassSet = TISSUE_CLASSES
) -> ScoreTable:
    """A table of nothing but Dice, which is given by subject and tissue."""
    subjects = {
        subject: {tissue: {"dice": value} for tissue, value in tissues.items()}
        for subject, tissues in dice.items()
    }
    return ScoreTable(subjects, classes=classes)


def dice_in_words(table: ScoreTable) -> str:
    """A line for each subject with the Dice of every tissue, then their mean and deviation."""
    width = max(map(len, ("subject", *table.subjects)))
    wide = max(6, *map(len, table.rows))
    summary = [table.summary["dice"][row] for row in table.rows]
    rows = [
        *table.by_subject("dice"),
        ("mean", [found.mean for found in summary]),
        ("sd", [found.sd for found in summary]),
    ]
    lines = ["  ".join([f"{'subject':{width}}", *(f"{row:>{wide}}" for row in table.rows)])]
    for name, values in rows:
        lines.append("  ".join([f"{name:{width}}", *(f"{value:{wide}.3f}" for value in values)]))
    return "\n".join(lines)


def in_words(value: float, metric: str) -> str:
    """With as many digits as the metric is worth; `-` for NaN."""
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" if METRICS[metric].unit else f"{value:.3f}"
