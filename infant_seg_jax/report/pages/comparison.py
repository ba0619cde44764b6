"""What a page says of several evaluations of the same subjects."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from infant_seg_jax.evaluation.score_table import MEAN, ScoreTable, in_words
from infant_seg_jax.metrics.paired import paired_difference
from infant_seg_jax.report.drawing import charts

MAX_EVALUATIONS = len(charts.SERIES_COLORS)


@dataclass(frozen=True)
class ComparisonPage:
    """Evaluations beside each other.

    Attributes:
        verdict: sentences: what the first is better or worse by than each other one.
        colors: of each evaluation.
        chart: Dice of all, every subject a dot.
        columns: the classes that are compared, and their mean.
        rows: mean Dice of each, by these.
    """

    verdict: tuple[str, ...]
    colors: Mapping[str, str]
    chart: Markup
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def comparison_page(tables: Mapping[str, ScoreTable]) -> ComparisonPage | None:
    """The first of several evaluations against each of the others, by the Dice of each subject.

    None, if there is nothing to compare: fewer than two have Dice of the first's classes.
    """
    chosen = {name: table for name, table in tables.items() if "dice" in table.metrics}
    columns = next((table.rows for table in chosen.values()), ())
    chosen = {name: table for name, table in chosen.items() if table.rows == columns}
    chosen = dict(list(chosen.items())[:MAX_EVALUATIONS])
    if len(chosen) < 2:
        return None
    first, *others = chosen
    groups = {
        row: [list(table.of("dice", row).values()) for table in chosen.values()] for row in columns
    }
    colors = {name: charts.series_style(number)[0] for number, name in enumerate(chosen)}
    return ComparisonPage(
        tuple(_verdict(first, other, chosen) for other in others),
        {n: "currentColor" if color == charts.INK else color for n, color in colors.items()},
        charts.bars_with_dots(
            "Dice", "from 0 to 1; each dot is a subject", groups, {}, shares=True
        ),
        columns,
        tuple(
            (name, tuple(in_words(table.summary["dice"][row].mean, "dice") for row in columns))
            for name, table in chosen.items()
        ),
    )


def _verdict(first: str, other: str, tables: Mapping[str, ScoreTable]) -> str:
    scores, others = (tables[name].of("dice", MEAN) for name in (first, other))
    found = paired_difference(scores, others)
    if not found.subjects:
        return f"{first} and {other} have no subject in common."
    better = sum(scores[subject] > others[subject] for subject in scores.keys() & others.keys())
    interval = (
        f" (95% interval {found.low:+.3f} to {found.high:+.3f})" if math.isfinite(found.low) else ""
    )
    subjects = f"{found.subjects} {'subject' if found.subjects == 1 else 'subjects'}"
    counted = f"mean Dice {found.mean:+.3f}{interval}, better in {better} of {subjects}"
    if math.isfinite(found.low) and found.low * found.high > 0:
        which = "better" if found.mean > 0 else "worse"
        return f"{first} is {which} than {other}, and chance is an unlikely explanation: {counted}."
    return (
        f"Whether {first} is better than {other} is unclear with so few subjects or such a small "
        f"difference: {counted}."
    )
