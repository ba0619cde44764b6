"""Scans whose volumes are far from those of the others."""

import numpy as np
import pytest

from infant_seg_jax.labeling.outliers import outliers


def test_the_modified_z_score_of_a_cohort_without_ages():
    """Iglewicz and Hoaglin's, of each value against the others."""
    values = np.append(np.linspace(1000, 1100, 15), [1190.0, 1250.0, np.nan])
    found = outliers(values, np.full(len(values), np.nan))
    for index, value in enumerate(values[:-1]):
        others = np.delete(values[:-1], index)
        deviation = np.median(np.abs(others - np.median(others)))
        score = 0.6745 * abs(value - np.median(others)) / deviation
        assert found[index] == (score > 3.5)
    assert found.tolist() == [False] * 16 + [True, False]


def test_growth_is_no_outlier_but_a_brain_of_another_age_is():
    months = np.linspace(0, 24, 60)
    random = np.random.default_rng(0)
    volumes = 400 + 700 * (1 - np.exp(-months / 8)) + random.normal(0, 15, 60)
    volumes[3] = 1000.0  # an adult's, at a month
    assert np.flatnonzero(outliers(volumes, months)).tolist() == [3]
    unknown = outliers(volumes, np.full(60, np.nan))
    assert not unknown[3]  # without its age it is one like others


@pytest.mark.parametrize("count", [0, 1, 10])
def test_few_or_equal_scans_tell_nothing(count):
    values = np.append(np.zeros(count), 1e6)
    assert not outliers(values, np.full(count + 1, np.nan)).any()
    assert not outliers(np.full(count, 5.0), np.zeros(count)).any()


def test_scans_of_unknown_age_are_compared_with_all():
    values, months = np.append(np.linspace(90, 110, 20), 300.0), np.linspace(0, 3, 21)
    months[-1] = np.nan
    assert outliers(values, months).tolist() == [False] * 20 + [True]
