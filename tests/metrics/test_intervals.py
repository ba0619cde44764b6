"""Intervals of means by their coverage and their edges."""

import numpy as np
import pytest

from infant_seg_jax.metrics.intervals import mean_interval


def test_covers_the_mean_of_a_skewed_population_as_often_as_it_says():
    random = np.random.default_rng(0)
    intervals = [mean_interval(random.exponential(2.0, 40)) for _ in range(60)]
    covered = [low <= 2.0 <= high for low, high in intervals]
    assert 0.85 <= np.mean(covered) <= 1.0


def test_is_that_of_a_normal_mean_where_there_are_many():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    error = values.std(ddof=1) / np.sqrt(400)
    assert mean_interval(values) == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.1 * error
    )


@pytest.mark.parametrize("seed", range(5))
def test_holds_the_mean_and_moves_with_the_values(seed):
    values = np.random.default_rng(seed).gamma(2.0, 1.0, 15)
    low, high = mean_interval(values)
    assert values.min() < low < values.mean() < high < values.max()
    moved = mean_interval(10 - 2 * values)
    assert moved == pytest.approx((10 - 2 * high, 10 - 2 * low), abs=0.05)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [1.0],
        [1.0, 2.0],
        [0.9] * 5,
        [0.1 + 0.2, 0.3, 0.3],
        [1.0, 2.0, np.inf],
        [1.0, 2.0, np.nan],
    ],
)
def test_there_is_none_of_too_few_or_equal_or_infinite_values(values):
    assert np.isnan(mean_interval(values)).all()


def test_is_the_same_every_time_and_in_pieces(monkeypatch):
    values = np.random.default_rng(2).random(30)
    whole = mean_interval(values)
    assert mean_interval(values) == whole
    monkeypatch.setattr("infant_seg_jax.metrics.intervals._AT_ONCE", 3000)
    assert mean_interval(values) == pytest.approx(whole, abs=0.01)


@pytest.mark.parametrize("exponent", [-560, -200, 300])
def test_of_values_of_any_size_it_is_as_large(exponent):
    values = np.random.default_rng(0).gamma(1.0, size=20)
    low, high = mean_interval(values)
    expected = np.ldexp(low, exponent), np.ldexp(high, exponent)
    assert mean_interval(np.ldexp(values, exponent)) == pytest.approx(expected, rel=1e-9, abs=0)
