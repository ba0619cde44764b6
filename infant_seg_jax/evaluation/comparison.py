"""Two score tables, subject by subject: which is better, by how much, and where."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from infant_seg_jax.data.subjects import subject_of, with_scan
from infant_seg_jax.errors import InputError, some_of
from infant_seg_jax.evaluation.score_table import ScoreTable
from infant_seg_jax.metrics.measures import METRICS
from infant_seg_jax.metrics.paired import PairedDifference, paired_difference


@dataclass(frozen=True)
class Matched:
    """Two tables of the same subjects under the same names.

    Attributes:
        a, b: the tables.
        path_a, path_b: where they come from.
        only_a, only_b: the subjects that the other one did not have.
    """

    a: ScoreTable
    b: ScoreTable
    path_a: Path
    path_b: Path
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]


@dataclass(frozen=True)
class RowComparison:
    """One metric of a tissue, or of each subject's mean over tissues.

    Attributes:
        mean_a, mean_b: over the subjects that have it in both.
        difference: A minus B.
        a_better, b_better: in how many of the subjects.
    """

    mean_a: float
    mean_b: float
    difference: PairedDifference
    a_better: int
    b_better: int


@dataclass(frozen=True)
class SubjectDifference:
    """One metric of one subject's tissue in A and in B, and A minus B."""

    subject: str
    tissue: str
    a: float
    b: float
    difference: float


@dataclass(frozen=True)
class Comparison:
    """Two tables by one metric.

    Attributes:
        metric: one of `METRICS`.
        rows: by tissue and `mean`.
        tissues: those that any subject has in both, the one whose mean differs most first.
        largest: all subjects' tissues that have the metric in both, what differs most first.
    """

    metric: str
    rows: Mapping[str, RowComparison]
    tissues: tuple[str, ...]
    largest: tuple[SubjectDifference, ...]


def match_subjects(a: ScoreTable, b: ScoreTable, path_a: Path, path_b: Path) -> Matched:
    """Find the subjects that two tables have in common, and call them as A does.

    Names are compared as `subject_of` reads them, and by the scan in them: `IBSR_01` is `ibsr-01`.

    Raises:
        InputError: there is none in common, two subjects of one table read alike, or the tables are
            of other classes.
    """
    if a.classes.names != b.classes.names:
        raise InputError(
            f"{path_a} has scores of {a.classes}, {path_b} of {b.classes}, expected the same "
            "classes: evaluate both with the same --classes."
        )
    names_a, names_b = _by_key(a, path_a), _by_key(b, path_b)
    common = [key for key in names_a if key in names_b]
    if not common:
        raise InputError(
            f"{path_a} and {path_b} have no subject in common: one has "
            f"{some_of(names_a.values()) or 'nobody'}, the other has "
            f"{some_of(names_b.values()) or 'nobody'}; expected scores of the same subjects."
        )
    return Matched(
        replace(a, subjects={names_a[key]: a.subjects[names_a[key]] for key in common}),
        replace(b, subjects={names_a[key]: b.subjects[names_b[key]] for key in common}),
        path_a,
        path_b,
        tuple(name for key, name in names_a.items() if key not in names_b),
        tuple(name for key, name in names_b.items() if key not in names_a),
    )


def compare(matched: Matched, metric: str) -> Comparison:
    """Compare by one metric; a subject that lacks it (NaN) in either table is left out.

    Raises:
        InputError: a table has no such metric, or it is the surface Dice and the two tables have
            different tolerances.
    """
    for table, path in ((matched.a, matched.path_a), (matched.b, matched.path_b)):
        if metric not in table.metrics:
            raise InputError(
                f"{path} has no metric '{metric}', expected one of {', '.join(table.metrics)}."
            )
    tolerances = matched.a.tolerance, matched.b.tolerance
    if metric == "surface_dice" and tolerances[0] != tolerances[1]:
        raise InputError(
            f"{matched.path_a} has the surface Dice at {tolerances[0]:g} mm and {matched.path_b} "
            f"at {tolerances[1]:g} mm: evaluate both with the same --tolerance."
        )
    rows = {row: _compare_row(matched, metric, row) for row in matched.a.rows}
    counted = [
        tissue for tissue in matched.a.classes.foreground if rows[tissue].difference.subjects
    ]
    found = [
        SubjectDifference(subject, tissue, x, y, 0.0 if x == y else x - y)
        for tissue in counted
        for subject, x, y in _pairs(matched, metric, tissue)
    ]
    return Comparison(
        metric,
        rows,
        tuple(sorted(counted, key=lambda tissue: _apart(rows[tissue].difference.mean))),
        tuple(sorted(found, key=lambda one: _apart(one.difference))),
    )


def _compare_row(matched: Matched, metric: str, row: str) -> RowComparison:
    pairs = _pairs(matched, metric, row)
    a, b = ({subject: values[i] for subject, *values in pairs} for i in (0, 1))
    higher, lower = sum(x > y for _, x, y in pairs), sum(x < y for _, x, y in pairs)
    better = (higher, lower) if METRICS[metric].higher_is_better else (lower, higher)
    return RowComparison(_mean(a.values()), _mean(b.values()), paired_difference(a, b), *better)


def _pairs(matched: Matched, metric: str, row: str) -> list[tuple[str, float, float]]:
    """Subject, A's value, B's value, where there are both."""
    a, b = matched.a.of(metric, row), matched.b.of(metric, row)
    return [
        (subject, value, b[subject])
        for subject, value in a.items()
        if not math.isnan(value) and not math.isnan(b[subject])
    ]


def _by_key(table: ScoreTable, path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in table.subjects:
        key = with_scan(subject_of(Path(name)), Path(name))
        if key in found:
            raise InputError(
                f"{path} has the subjects {found[key]} and {name}, whose names mean the same, "
                "expected a different name for each subject."
            )
        found[key] = name
    return found


def _mean(values: Collection[float]) -> float:
    return float(np.mean(list(values))) if values else math.nan


def _apart(difference: float) -> float:
    """To sort by: the furthest apart first, what is not known last."""
    return math.inf if math.isnan(difference) else -abs(difference)
