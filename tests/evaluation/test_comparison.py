"""Two score tables against each other, by arithmetic done by hand."""

import math
from pathlib import Path

import pytest

from infant_seg_jax.data.class_sets import DRAWEM9_CLASSES
from infant_seg_jax.data.labels import TISSUES
from infant_seg_jax.errors import InputError
from infant_seg_jax.evaluation.comparison import compare, match_subjects
from infant_seg_jax.evaluation.score_table import ScoreTable
from infant_seg_jax.metrics.paired import paired_difference
from tests.input_errors import input_error

A, B = Path("scores/a"), Path("scores/b")


def table(values, tolerance=1.0, metrics=("dice", "assd_mm", "surface_dice")):
    """One number per tissue, the same for each of `metrics`."""
    return ScoreTable(
        {
            subject: {
                tissue: {metric: float(value) for metric in metrics}
                for tissue, value in zip(TISSUES, row, strict=True)
            }
            for subject, row in values.items()
        },
        tolerance,
    )


OURS = {"s1": (0.9, 0.8, 0.7), "s2": (0.8, 0.8, 0.5), "s3": (0.7, 0.9, math.nan), "x": (1, 1, 1)}
THEIRS = {"s3": (0.6, 0.9, 0.4), "s1": (0.5, 0.7, 0.7), "s2": (0.9, 0.7, 0.9), "y": (0, 0, 0)}


@pytest.fixture
def matched():
    return match_subjects(table(OURS), table(THEIRS), A, B)


def test_subjects_are_matched_and_the_others_named(matched):
    assert list(matched.a.subjects) == list(matched.b.subjects) == ["s1", "s2", "s3"]
    assert matched.b.subjects["s1"]["CSF"]["dice"] == 0.5
    assert matched.only_a == ("x",) and matched.only_b == ("y",)


def test_names_may_be_written_in_other_ways():
    a = table({"IBSR_01": (1.0, 1.0, 1.0), "IBSR_02": (1.0, 1.0, 1.0)})
    b = table({"ibsr-02": (0.5, 0.5, 0.5)})
    found = match_subjects(a, b, A, B)
    assert list(found.b.subjects) == ["IBSR_02"] and found.only_a == ("IBSR_01",)


def test_rows_are_paired_differences(matched):
    found = compare(matched, "dice")
    row = found.rows["CSF"]
    assert (row.mean_a, row.mean_b) == pytest.approx((0.8, 2 / 3))
    a, b = {"1": 0.9, "2": 0.8, "3": 0.7}, {"1": 0.5, "2": 0.9, "3": 0.6}
    assert row.difference == paired_difference(a, b)
    assert (row.a_better, row.b_better) == (2, 1)
    assert found.rows["WM"].difference.subjects == 2  # s3 has none in A
    assert found.rows["WM"].difference.mean == pytest.approx(-0.2)
    mean = found.rows["mean"]
    assert mean.mean_a == pytest.approx((0.8 + 0.7 + 0.8) / 3)
    assert mean.mean_b == pytest.approx((1.9 / 3 + 2.5 / 3 + 1.9 / 3) / 3)


def test_lower_distances_are_better(matched):
    row = compare(matched, "assd_mm").rows["CSF"]
    assert (row.a_better, row.b_better) == (1, 2)


def test_what_differs_most_comes_first(matched):
    found = compare(matched, "dice")
    assert found.tissues == ("WM", "CSF", "GM")
    assert [(one.subject, one.tissue) for one in found.largest[:3]] == [
        ("s1", "CSF"),
        ("s2", "WM"),
        ("s1", "GM"),
    ]
    assert found.largest[0].difference == pytest.approx(0.4)
    assert len(found.largest) == 8
    sizes = [abs(one.difference) for one in found.largest]
    assert sizes == sorted(sizes, reverse=True)


def test_exchanging_the_two_exchanges_the_signs(matched):
    other = match_subjects(matched.b, matched.a, B, A)
    there, back = compare(matched, "dice"), compare(other, "dice")
    for row, found in there.rows.items():
        assert found.difference.mean == pytest.approx(-back.rows[row].difference.mean)
        assert (found.a_better, found.b_better) == (
            back.rows[row].b_better,
            back.rows[row].a_better,
        )


def test_missed_tissues_are_the_largest_differences():
    inf = math.inf
    a = table({"1": (inf, inf, 1.0), "2": (1.0, 1.0, 1.0), "3": (1.0, 1.0, 1.5)})
    b = table({"1": (1.0, inf, 1.0), "2": (2.0, 1.0, 1.0), "3": (1.5, 1.0, 1.0)})
    found = compare(match_subjects(a, b, A, B), "assd_mm")
    assert found.largest[0].subject == "1" and found.largest[0].difference == inf
    assert found.rows["GM"].difference.mean == 0  # both missed it
    assert {one.difference for one in found.largest if one.tissue == "GM"} == {0.0}
    assert found.tissues[0] == "CSF" and found.rows["CSF"].mean_a == inf
    assert (found.rows["CSF"].a_better, found.rows["CSF"].b_better) == (2, 1)


def test_tissue_that_nobody_has_is_not_among_those_that_differ():
    nan = math.nan
    a, b = table({"1": (nan, 0.5, 0.5)}), table({"1": (0.5, 0.4, 0.5)})
    found = compare(match_subjects(a, b, A, B), "dice")
    assert found.tissues == ("GM", "WM") and math.isnan(found.rows["CSF"].mean_a)


def test_nobody_in_common_is_an_error():
    many = {f"sub-{index:02}": (1.0, 1.0, 1.0) for index in range(7)}
    with pytest.raises(InputError) as error:
        match_subjects(table(many), table({"z": (1.0, 1.0, 1.0)}), A, B)
    assert str(error.value) == (
        "scores/a and scores/b have no subject in common: one has sub-00, sub-01, sub-02, "
        "sub-03, sub-04 and 2 more, the other has z; expected scores of the same subjects."
    )
    with input_error(A, B, " z;"):
        match_subjects(table({}), table({"z": (1.0, 1.0, 1.0)}), A, B)


def test_names_that_read_alike_are_an_error():
    a = table({"A_1": (1.0, 1.0, 1.0), "a-1": (1.0, 1.0, 1.0)})
    with input_error(A, "A_1", "a-1"):
        match_subjects(a, a, A, B)


def test_metric_that_one_lacks_is_an_error():
    a, b = table({"1": (1.0, 1.0, 1.0)}), table({"1": (1.0, 1.0, 1.0)}, metrics=("dice",))
    with input_error(B, "'assd_mm'", "dice"):
        compare(match_subjects(a, b, A, B), "assd_mm")


def test_surface_dice_at_other_tolerances_is_an_error():
    a, b = (table({"1": (1.0, 1.0, 1.0)}, tolerance) for tolerance in (1.0, 2.0))
    matched = match_subjects(a, b, A, B)
    assert compare(matched, "assd_mm").rows["CSF"].difference.mean == 0
    with input_error(A, "1 mm", B, "2 mm"):
        compare(matched, "surface_dice")


def test_tables_of_other_classes_are_not_compared():
    scores = {"s1": dict.fromkeys(DRAWEM9_CLASSES.foreground, {"dice": 1.0})}
    finer = ScoreTable(scores, 1.0, DRAWEM9_CLASSES)
    assert compare(match_subjects(finer, finer, A, B), "dice").tissues
    with input_error(A, "background, CSF, GM, WM", B, "CGM"):
        match_subjects(table(OURS), finer, A, B)
