"""The ranges hold what the literature reports, and keep out what only mistakes make."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infant_seg_jax.data.ages import AGE_UNITS, Age
from infant_seg_jax.data.plausibility import (
    BRAIN,
    GM_SHARE,
    implausible_brain,
    implausible_tissues,
    plausible_range,
)

WHAT = ("CSF", "GM", "WM", BRAIN, GM_SHARE)
TERM = Age(40.0, "weeks postmenstrual")
ADULT = {"CSF": 180.0, "GM": 700.0, "WM": 480.0}


@pytest.mark.parametrize(
    ("what", "age", "mean", "sd"),
    [
        # Romberg et al. 2022, preterm infants at term
        (BRAIN, TERM, 379, 72),
        ("GM", TERM, 140, 47),
        ("WM", TERM, 195, 38),
        # Holland et al. 2014, with 10% for a standard deviation
        (BRAIN, Age(0.0, "days"), 341, 34),
        (BRAIN, Age(90.0, "days"), 1.64 * 341, 56),
        # Knickmeyer et al. 2008: 101% more than at birth, and 15% more again
        (BRAIN, Age(1.0, "years"), 2.01 * 420, 84),
        (BRAIN, Age(2.0, "years"), 2.01 * 1.15 * 420, 97),
        # Caviness et al. 1996: a mean, and two thirds of the cerebrum
        (BRAIN, Age(9.0, "years"), 1312, 110),
        (GM_SHARE, Age(9.0, "years"), 0.67, 0.03),
        # Matsumae et al. 1996: men and women with all their fluid
        (BRAIN, Age(50.0, "years"), 1469, 102),
        (BRAIN, Age(50.0, "years"), 1289, 111),
    ],
)
def test_people_are_well_inside(what: str, age: Age, mean: float, sd: float) -> None:
    low, high = plausible_range(what, age)
    assert low < mean - 1.5 * sd
    assert mean + 3 * sd < high


@given(
    what=st.sampled_from(WHAT),
    value=st.floats(0, 150),
    unit=st.sampled_from(AGE_UNITS),
)
def test_every_age_has_a_range_and_an_unknown_age_the_widest(
    what: str, value: float, unit: str
) -> None:
    low, high = plausible_range(what, Age(value, unit))
    lowest, highest = plausible_range(what, None)
    assert 0 <= lowest <= low < high <= highest


def test_ranges_change_gradually() -> None:
    months = np.linspace(-5, 100, 1000)
    for what in WHAT:
        ranges = [plausible_range(what, _age(float(month))) for month in months]
        steps = np.abs(np.diff(ranges, axis=0)).max()
        assert steps < 0.02 * plausible_range(what, None)[1]


def test_an_adult_brain_is_plausible_for_an_adult_and_not_for_a_newborn() -> None:
    assert implausible_tissues(ADULT, Age(30.0, "years")) == ()
    assert implausible_tissues(ADULT, None) == ()
    warnings = implausible_tissues(ADULT, TERM)
    assert warnings == (
        "GM 700 ml (expected 60 to 420)",
        "WM 480 ml (expected 70 to 360)",
        "brain 1.36e+03 ml (expected 220 to 800)",
    )


def test_exchanged_gray_and_white_matter_are_noticed() -> None:
    exchanged = {"CSF": 180.0, "GM": 300.0, "WM": 800.0}
    warnings = implausible_tissues(exchanged, Age(10.0, "years"))
    assert "GM 27% of GM and WM together (expected 47% to 81%)" in warnings


def test_a_wrong_unit_is_noticed_at_any_age() -> None:
    for factor in (1e-3, 1e3):  # voxel sizes in cm, or in a tenth of a millimeter
        wrong = {tissue: ml * factor for tissue, ml in ADULT.items()}
        assert len(implausible_tissues(wrong, None)) >= 3


def test_no_tissue_at_all_is_not_divided_by() -> None:
    warnings = implausible_tissues({"CSF": 0.0, "GM": 0.0, "WM": 0.0}, None)
    assert [phrase.split()[0] for phrase in warnings] == ["GM", "WM", "brain"]


@pytest.mark.parametrize("ml", [1240.0, math.nextafter(2100.0, 0)])
def test_a_plausible_brain_says_nothing(ml: float) -> None:
    assert implausible_brain(ml, Age(30.0, "years")) == ""


def _age(months: float) -> Age:
    weeks = 40 + months * 365.25 / 7 / 12
    return Age(weeks, "weeks postmenstrual")
