"""The order of tissues by age and modality, and what is drawn about it."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from infant_seg_jax.rendering.contrast import (
    ADULT_MONTHS,
    MODALITIES,
    Prior,
    draw_contrast,
    typical_means,
)
from infant_seg_jax.rendering.structures import BRAIN, Structure

T1W, T2W = map(MODALITIES.index, ("T1w", "T2w"))
GRAY, WHITE, FLUID = Structure.CORTEX, Structure.WHITE, Structure.SULCAL_CSF


def test_a_newborns_white_matter_is_darker_than_gray_in_t1_and_an_adults_brighter() -> None:
    newborn, adult = (typical_means(T1W, age) for age in (0.0, ADULT_MONTHS))
    assert newborn[FLUID] < newborn[WHITE] < newborn[GRAY]
    assert adult[FLUID] < adult[GRAY] < adult[WHITE]


def test_t2_shows_the_reverse() -> None:
    newborn, adult = (typical_means(T2W, age) for age in (0.0, ADULT_MONTHS))
    assert newborn[FLUID] > newborn[WHITE] > newborn[GRAY]
    assert adult[FLUID] > adult[GRAY] > adult[WHITE]


@pytest.mark.parametrize("modality", [T1W, T2W])
def test_gray_and_white_matter_meet_between_three_and_nine_months(modality: int) -> None:
    def differ(age: float) -> float:
        means = typical_means(modality, age)
        return float(means[WHITE] - means[GRAY])

    assert differ(3.0) * differ(9.0) < 0
    assert abs(differ(6.0)) < 0.2 * abs(differ(ADULT_MONTHS))


@pytest.mark.parametrize("modality", [T1W, T2W])
def test_the_depth_is_behind_the_rest_at_birth_and_before_it_from_three_months(
    modality: int,
) -> None:
    ages = np.linspace(0, ADULT_MONTHS, 50)
    means = np.array([typical_means(modality, float(age)) for age in ages])
    sign = 1 if modality == T1W else -1
    ahead = sign * (means[:, Structure.DEEP_WHITE] - means[:, WHITE])
    assert ahead[0] < 0 and (ahead[ages >= 3] >= 0).all()
    assert (np.diff(sign * means[:, WHITE]) >= -1e-6).all()


@pytest.mark.parametrize(
    ("modality", "ratios"),
    [
        (T1W, {WHITE: 0.94, Structure.DEEP_WHITE: 0.91, Structure.BRAINSTEM: 1.09}),
        (T2W, {WHITE: 1.34, Structure.DEEP_WHITE: 1.54, FLUID: 2.2, Structure.BRAINSTEM: 0.83}),
    ],
)
def test_a_newborns_brightness_is_as_measured(modality: int, ratios: dict[int, float]) -> None:
    means = typical_means(modality, 0.0)
    for structure, ratio in ratios.items():
        assert float(means[structure] / means[GRAY]) == pytest.approx(ratio, abs=0.03)


def test_ages_between_the_tables_and_beyond() -> None:
    low, middle, high = (np.asarray(typical_means(T1W, age)) for age in (6.0, 7.5, 9.0))
    assert np.allclose(middle, (low + high) / 2, atol=1e-6)
    assert np.array_equal(typical_means(T1W, 1e6), typical_means(T1W, ADULT_MONTHS))


def draws(prior: Prior, count: int = 400, channels: int = 1) -> np.ndarray:
    keys = jax.random.split(jax.random.key(3), count)
    return np.asarray(jax.vmap(lambda key: draw_contrast(key, prior, channels).means)(keys))


def test_draws_scatter_about_the_age_by_the_spread() -> None:
    prior = Prior("T1w", 6.0, 6.0, spread=0.03, fluid_spread=0.03)
    found = draws(prior)[:, [FLUID, GRAY, WHITE], 0]
    expected = np.asarray(typical_means(T1W, 6.0))[[FLUID, GRAY, WHITE]]
    error = 4 * 0.03 / np.sqrt(len(found))
    assert np.allclose(found.mean(axis=0), expected, atol=error)
    assert np.allclose(found.std(axis=0), 0.03, rtol=0.2)


def test_ages_stay_in_their_range() -> None:
    found = draws(Prior("T1w", 0.0, 3.0, spread=0.0))[:, WHITE, 0]
    ends = [float(typical_means(T1W, age)[WHITE]) for age in (0.0, 3.0)]
    assert ends[0] - 1e-6 <= found.min() < ends[0] + 0.01
    assert ends[1] - 0.01 < found.max() <= ends[1] + 1e-6


def test_unordered_draws_have_white_matter_above_and_below_gray() -> None:
    found = draws(Prior("T1w", 60.0, 60.0, unordered=1.0))[..., 0]
    share = np.mean(found[:, WHITE] > found[:, GRAY])
    assert 0.4 < share < 0.6
    ordered = draws(Prior("T1w", 60.0, 60.0, unordered=0.0))[..., 0]
    assert (ordered[:, WHITE] > ordered[:, GRAY]).all()


def test_any_modality_is_either() -> None:
    bright_fluid = draws(Prior("any", 0.0, 1.0))[:, FLUID, 0] > 0.7
    assert 0.4 < bright_fluid.mean() < 0.6


def test_channels_share_the_age() -> None:
    prior = replace(Prior("T1w"), spread=0.0, fluid_spread=0.0)
    found = draws(prior, channels=2)[:, :BRAIN]
    assert np.allclose(found[..., 0], found[..., 1])


def test_outside_there_is_no_signal_and_inside_some() -> None:
    found = draws(Prior("any", unordered=0.5, spread=0.5))
    assert (found[:, Structure.OUTSIDE] == 0).all()
    assert (found[:, 1:] > 0).all()
