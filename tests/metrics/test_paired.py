"""Paired differences against exact enumeration and by their properties."""

import itertools

import numpy as np
import pytest

from infant_seg_jax.metrics.paired import paired_difference


def scores(values, prefix="s"):
    return {f"{prefix}{index}": float(value) for index, value in enumerate(values)}


def exact_wilcoxon(differences: np.ndarray) -> float:
    """The share of all sign flips with a rank sum at least as far from its middle."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    middle = ranks.sum() / 2
    seen = abs(ranks[differences > 0].sum() - middle)
    flips = itertools.product((0, 1), repeat=len(ranks))
    return float(np.mean([abs(np.dot(flip, ranks) - middle) >= seen for flip in flips]))


@pytest.mark.parametrize("seed", range(4))
def test_p_value_is_that_of_all_sign_flips(seed):
    random = np.random.default_rng(seed)
    a, b = random.normal(0.3, 1, 9), random.normal(0, 1, 9)
    found = paired_difference(scores(a), scores(b))
    assert found.p_value == pytest.approx(exact_wilcoxon(a - b))
    assert found.mean == pytest.approx((a - b).mean()) and found.subjects == 9
    assert found.low < found.mean < found.high


def test_interval_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(1)
    covered = []
    for _ in range(60):
        a = random.normal(0.5, 1, 25)
        found = paired_difference(scores(a), scores(np.zeros(25)))
        covered.append(found.low <= 0.5 <= found.high)
    assert 0.85 <= np.mean(covered) <= 1.0


def test_exchanging_the_two_changes_the_sign():
    random = np.random.default_rng(2)
    a, b = scores(random.normal(size=12)), scores(random.normal(size=12))
    one, other = paired_difference(a, b), paired_difference(b, a)
    assert one.mean == pytest.approx(-other.mean) and one.p_value == pytest.approx(other.p_value)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=0.02)
    assert paired_difference(a, b) == one  # the same every time


def test_only_subjects_that_both_have_count():
    a = {"x": 0.5, "y": 0.7, "z": float("nan"), "w": 1.0}
    b = {"x": 0.4, "y": 0.5, "z": 0.3, "v": 0.1}
    found = paired_difference(a, b)
    assert found.subjects == 2 and found.mean == pytest.approx(0.15)
    assert np.isnan(found.low) and str(found).startswith("+0.150 [")
    none = paired_difference({"a": 1.0}, {"b": 1.0})
    assert none.subjects == 0 and np.isnan(none.mean)


def test_equal_scores_differ_by_nothing():
    same = scores([0.5, 0.6, 0.7, 0.8])
    found = paired_difference(same, same)
    assert found.mean == 0 and np.isnan(found.p_value) and np.isnan(found.low)


def test_missed_tissue_counts_as_the_largest_difference_there_is():
    inf = float("inf")
    a, b = scores([1.0, 2.0, inf, 4.0, 1.5, inf]), scores([1.5, 2.1, 3.0, 4.4, 1.2, inf])
    found = paired_difference(a, b)
    large = {**a, "s2": 1000.0, "s5": 1.0}, {**b, "s5": 1.0}
    assert found.p_value == pytest.approx(paired_difference(*large).p_value)
    assert found.mean == inf and np.isnan(found.low) and found.subjects == 6
    undecided = paired_difference(scores([inf, 1.0]), scores([1.0, inf]))
    assert np.isnan(undecided.mean) and undecided.p_value == 1
