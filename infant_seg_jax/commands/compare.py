"""say which of two evaluations is better, subject by subject.

A and B are folders written by `evaluate`, or their metrics.csv: two methods on the same subjects.
For each tissue, and for each subject's mean over tissues, the table has both means, the mean
difference A - B with a 95% bootstrap interval, and the p-value of Wilcoxon's signed-rank test.
Then come the tissues and subjects with the largest differences.

    infant-seg compare scores/ours scores/theirs
    infant-seg compare --metric=hausdorff95_mm,surface_dice scores/ours scores/theirs
    infant-seg compare --output=comparison.json scores/ours scores/theirs
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from absl import flags

from infant_seg_jax.errors import InputError
from infant_seg_jax.evaluation.comparison import Comparison, Matched, compare, match_subjects
from infant_seg_jax.evaluation.score_files import read_scores, to_json
from infant_seg_jax.evaluation.score_table import in_words
from infant_seg_jax.files import write_json
from infant_seg_jax.metrics.measures import METRICS
from infant_seg_jax.paths import define_path

ARGUMENTS = "A B"


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_list(
        "metric",
        [],
        f"Metrics to compare in addition to the Dice: {', '.join(METRICS)}, or all.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "most",
        10,
        "Number of largest differences to list.",
        lower_bound=0,
        flag_values=values,
    )
    define_path(
        "output", "", "A JSON file to write all results to, for scripts.", flag_values=values
    )


def run(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    for name in values.metric:
        if name != "all" and name not in METRICS:
            raise InputError(
                f"There is no metric '{name}', expected all or some of {', '.join(METRICS)}."
            )
    a, b = map(Path, arguments)
    metrics = list(METRICS) if "all" in values.metric else ["dice", *values.metric]
    matched = match_subjects(read_scores(a), read_scores(b), a, b)
    comparisons = [compare(matched, metric) for metric in dict.fromkeys(metrics)]
    print(_describe_subjects(matched))
    for comparison in comparisons:
        print(f"\n{_table(comparison)}")
        if values.most:
            print(f"\n{_largest(comparison, values.most)}")
    if values.output:
        write_json(Path(values.output), _as_json(matched, comparisons))
        print(f"\nWritten to {values.output}.")


def _describe_subjects(matched: Matched) -> str:
    lines = [f"A: {matched.path_a}", f"B: {matched.path_b}", f"Subjects: {len(matched.a.subjects)}"]
    for whose, names in (("A", matched.only_a), ("B", matched.only_b)):
        if names:
            lines.append(f"Only {whose} has {len(names)}, left out: {', '.join(names)}")
    return "\n".join(lines)


def _table(comparison: Comparison) -> str:
    metric = comparison.metric
    better = "higher" if METRICS[metric].higher_is_better else "lower"
    columns = f"{'A':>8} {'B':>8} {'A - B':>9}  {'95% interval':20} {'p':>6}  {'A better':>8}"
    lines = [f"{metric}, {better} is better", f"{'':8} {columns} {'B better':>8} subjects"]
    for name, row in comparison.rows.items():
        a, b = in_words(row.mean_a, metric), in_words(row.mean_b, metric)
        found = row.difference
        low, high = (_signed(value, metric) for value in (found.low, found.high))
        interval = "-" if math.isnan(found.low) else f"{low} to {high}"
        p_value = "-" if math.isnan(found.p_value) else f"{found.p_value:.3f}"
        lines.append(
            f"{name:8} {a:>8} {b:>8} {_signed(found.mean, metric):>9}  {interval:20} {p_value:>6}  "
            f"{row.a_better:8} {row.b_better:8} {found.subjects:8}"
        )
    return "\n".join(lines)


def _largest(comparison: Comparison, most: int) -> str:
    metric = comparison.metric
    width = max((len(one.subject) for one in comparison.largest), default=0)
    lines = [f"Tissues, largest difference first: {', '.join(comparison.tissues) or 'none'}"]
    lines += [
        f"  {one.subject:{width}}  {one.tissue:4} {in_words(one.a, metric):>8} "
        f"{in_words(one.b, metric):>8} {_signed(one.difference, metric):>9}"
        for one in comparison.largest[:most]
    ]
    return "\n".join(lines)


def _signed(value: float, metric: str) -> str:
    return (
        in_words(value, metric) if math.isnan(value) or value < 0 else f"+{in_words(value, metric)}"
    )


def _as_json(matched: Matched, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    return {
        "a": str(matched.path_a),
        "b": str(matched.path_b),
        "subjects": list(matched.a.subjects),
        "only_a": list(matched.only_a),
        "only_b": list(matched.only_b),
        "metrics": {one.metric: to_json(asdict(one)) for one in comparisons},
    }
