import math

import pytest

from infant_seg_jax.data.ages import AGE_UNITS, Age, parse_age
from infant_seg_jax.errors import InputError
from tests.input_errors import input_error


@pytest.mark.parametrize(
    "age, months",
    [
        (Age(0.0, "days"), 0),
        (Age(365.25, "days"), 12),
        (Age(365.25 / 7, "weeks"), 12),
        (Age(6.0, "months"), 6),
        (Age(1.5, "years"), 18),
        (Age(40.0, "weeks postmenstrual"), 0),  # a birth at term
        (Age(40 + 365.25 / 14, "weeks postmenstrual"), 6),
        (Age(40 - 365.25 / 84, "weeks postmenstrual"), -1),  # before term
    ],
)
def test_ages_compare_in_months_since_birth_at_term(age, months):
    assert age.months == pytest.approx(months, abs=1e-12)


def test_ages_are_said_in_their_own_unit():
    assert str(Age(37.29, "weeks postmenstrual")) == "37.29 weeks postmenstrual"
    assert str(Age(6.0, "months")) == "6 months"
    assert set(AGE_UNITS) == {"days", "weeks", "weeks postmenstrual", "months", "years"}


@pytest.mark.parametrize("unit", AGE_UNITS)
def test_oldest_age_is_150_years_in_any_unit(unit):
    per_year = {"days": 365.25, "months": 12.0, "years": 1.0}.get(unit, 365.25 / 7)
    assert Age(149 * per_year, unit).value == 149 * per_year
    with input_error(unit, "0 to 150 years"):
        Age(151 * per_year, unit)


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, -math.inf])
def test_what_is_no_age_is_one_sentence(value):
    with pytest.raises(InputError) as caught:
        Age(value, "months")
    assert str(caught.value) == f"{value:g} months is not an age, expected 0 to 150 years."


def test_unknown_unit_is_one_sentence():
    with pytest.raises(InputError) as caught:
        Age(3.0, "fortnights")
    assert str(caught.value) == (
        "'fortnights' is not a unit of age, expected days, weeks, weeks postmenstrual, months, "
        "years."
    )


@pytest.mark.parametrize("text", ["n/a", "", "three", "nan", "inf", "-1", "1e9", "12,5"])
def test_tables_that_give_no_age(text):
    assert parse_age(text, "weeks") is None


@pytest.mark.parametrize("text, value", [("42.14", 42.14), (" 7 ", 7), ("0", 0), ("1e1", 10)])
def test_tables_that_give_an_age(text, value):
    assert parse_age(text, "weeks postmenstrual") == Age(float(value), "weeks postmenstrual")
