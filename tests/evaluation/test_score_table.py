"""What many subjects' metrics come to."""

import math
import statistics

import pytest

from infant_seg_jax.data.labels import TISSUES
from infant_seg_jax.evaluation.score_table import MEAN, ScoreTable, Summary, in_words
from infant_seg_jax.metrics.measures import METRICS

ROWS = (*TISSUES, MEAN)
DICE = {
    "sub-01": {"CSF": 0.8, "GM": 0.9, "WM": 0.4},
    "sub-02": {"CSF": 0.5, "GM": 0.25, "WM": math.nan},
    "sub-03": {"CSF": 0.0, "GM": 0.125, "WM": 0.75},
    "sub-04": {"CSF": 0.3, "GM": 0.5, "WM": 0.5},
}


def table(dice=DICE, **others):
    """All other metrics are 1, but for those named."""
    return ScoreTable(
        {
            subject: {
                tissue: {**dict.fromkeys(METRICS, 1.0), "dice": value, **others}
                for tissue, value in tissues.items()
            }
            for subject, tissues in dice.items()
        },
        tolerance=1.0,
    )


def test_one_metric_of_a_tissue_and_each_subjects_mean_over_those_it_has():
    assert table().of("dice", "GM") == {name: row["GM"] for name, row in DICE.items()}
    means = table().of("dice", MEAN)
    assert means["sub-01"] == pytest.approx(0.7)
    assert means["sub-02"] == pytest.approx(0.375)
    nothing = {"a": dict.fromkeys(TISSUES, math.nan)}
    assert math.isnan(table(nothing).of("dice", MEAN)["a"])


def test_summary_equals_the_statistics_of_the_known():
    found = table().summary["dice"]
    assert tuple(found) == ROWS
    for row in ROWS:
        known = [value for value in table().of("dice", row).values() if not math.isnan(value)]
        assert found[row].subjects == len(known)
        assert found[row].mean == pytest.approx(statistics.mean(known))
        assert found[row].sd == pytest.approx(statistics.stdev(known))
        assert min(known) <= found[row].low < found[row].mean < found[row].high <= max(known)
    assert found["WM"].subjects == 3


def test_missed_tissue_makes_the_mean_infinite_and_is_not_left_out():
    found = Summary.of([1.0, 2.0, math.inf, 3.0, math.nan])
    assert found.subjects == 4 and found.mean == math.inf
    assert math.isnan(found.sd) and math.isnan(found.low)


def test_summary_of_one_and_of_none():
    one = Summary.of([0.5, math.nan])
    assert (one.subjects, one.mean) == (1, 0.5) and math.isnan(one.sd)
    none = Summary.of([math.nan])
    assert none.subjects == 0 and math.isnan(none.mean) and math.isnan(none.high)


def test_metrics_are_those_that_everybody_has():
    assert table().metrics == tuple(METRICS)
    few = ScoreTable({"a": {tissue: {"jaccard": 1.0, "dice": 1.0} for tissue in TISSUES}}, 1.0)
    assert few.metrics == ("dice", "jaccard")
    assert tuple(few.summary) == ("dice", "jaccard")


def test_table_in_words_has_a_line_for_each_metric_and_tissue_in_columns():
    header, *lines = str(table(hausdorff_mm=12.345)).splitlines()
    assert len(lines) == len(METRICS) * len(ROWS)
    assert len({len(line) for line in (header, *lines)}) == 1
    first = lines[0].split()
    assert first[:3] == ["dice", "CSF", "0.400"]
    assert first[-4:-1] == [f"{table().summary['dice']['CSF'].low:.3f}", "to", first[-2]]
    assert first[-1] == "4"
    distance = next(line for line in lines if line.startswith("hausdorff_mm"))
    assert distance.split() == ["hausdorff_mm", "CSF", "12.35", "0.00", "-", "4"]


def test_numbers_have_the_digits_that_they_are_worth():
    assert in_words(0.12345, "dice") == "0.123"
    assert in_words(1.2345, "assd_mm") == "1.23"
    assert in_words(math.inf, "assd_mm") == "inf"
    assert in_words(math.nan, "dice") == "-"
