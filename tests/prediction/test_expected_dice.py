"""The Dice that is expected of a label map, and its range."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit

from infant_seg_jax.data.formats.grid import Grid
from infant_seg_jax.data.labels import CSF, GM, WM
from infant_seg_jax.data.phantom import render_phantom
from infant_seg_jax.data.volumes import Volume
from infant_seg_jax.prediction.ensemble import Ensemble
from infant_seg_jax.prediction.expected_dice import (
    LEAST,
    SHARE,
    ScoredScan,
    Signs,
    contrast_to_noise,
    expected_dice,
)
from infant_seg_jax.prediction.reference_statistics import (
    ReferenceStatistics,
    statistics_from_record,
)
from tests.untrained import untrained_predictor


def scans(count: int, seed: int, noise: float = 0.3) -> list[ScoredScan]:
    """Scans whose Dice falls with entropy and rises with contrast, with noise on its logit."""
    random = np.random.default_rng(seed)
    entropy, refined = random.uniform(0.2, 0.5, count), random.uniform(0.1, 0.3, count)
    contrast = random.uniform(1, 5, count)
    dice = expit(3 - 2 * entropy - 6 * refined + np.log(contrast) + random.normal(0, noise, count))
    rows = zip(entropy, refined, contrast, dice, strict=True)
    return [ScoredScan(*map(float, row)) for row in rows]


def signs_of(scan: ScoredScan) -> Signs:
    return Signs(scan.entropy, scan.refined_entropy, scan.contrast)


def test_with_one_sign_that_varies_it_is_simple_regression() -> None:
    known = [replace(scan, refined_entropy=0.2, contrast=2.0) for scan in scans(30, seed=0)]
    x, y = np.array([scan.entropy for scan in known]), logit([scan.dice for scan in known])
    slope, intercept = np.polyfit(x, y, 1)
    new, count = 0.45, len(known)
    mean = intercept + slope * new
    residual = np.sqrt(np.sum((y - intercept - slope * x) ** 2) / (count - 2))
    further = np.sqrt(1 + 1 / count + (new - x.mean()) ** 2 / np.sum((x - x.mean()) ** 2))
    reach = stats.t.ppf((1 + SHARE) / 2, count - 2) * residual * further
    found = expected_dice(known, Signs(new, 0.2, 2.0))
    assert found is not None
    truth = expit([mean, mean - reach, mean + reach])
    assert (found.mean, found.low, found.high) == pytest.approx(tuple(truth))


def test_so_many_of_further_scans_are_in_the_range_as_it_says() -> None:
    inside = []
    for seed in range(40):
        known, further = scans(40, 2 * seed), scans(25, 2 * seed + 1)
        for scan in further:
            found = expected_dice(known, signs_of(scan))
            assert found is not None and 0 < found.low < found.mean < found.high < 1
            inside.append(found.low <= scan.dice <= found.high)
    assert np.mean(inside) == pytest.approx(SHARE, abs=4 * np.sqrt(SHARE * 0.1 / len(inside)))


def test_far_from_all_known_scans_the_range_is_wider() -> None:
    known = scans(40, seed=0)
    usual, odd = Signs(0.35, 0.2, 3.0), Signs(0.9, 0.8, 0.2)
    widths = []
    for signs in (usual, odd):
        found = expected_dice(known, signs)
        assert found is not None
        widths.append(logit(found.high) - logit(found.low))
    assert widths[1] > 1.5 * widths[0]


def test_nothing_is_expected_where_too_little_is_known() -> None:
    known = scans(LEAST, seed=0)
    usual = signs_of(known[0])
    assert expected_dice(known, usual) is not None
    assert expected_dice(known[1:], usual) is None
    assert expected_dice(known, replace(usual, contrast=float("nan"))) is None


def test_contrast_is_that_of_two_normal_distributions_in_the_best_image() -> None:
    random = np.random.default_rng(0)
    tissues = random.choice([0, CSF, GM, WM], (40, 40, 40))
    means = np.array([[0.0, 0.0], [100.0, 5.0], [160.0, 5.0], [300.0, 5.0]])
    image = means[tissues] + random.normal(0, [20.0, 1.0], (*tissues.shape, 2))
    assert contrast_to_noise(image, tissues) == pytest.approx(3, rel=0.03)
    assert contrast_to_noise(-7 * image, tissues) == pytest.approx(
        contrast_to_noise(image, tissues)
    )
    assert np.isnan(contrast_to_noise(image, np.where(tissues == CSF, GM, tissues)))


def test_what_is_known_survives_a_record() -> None:
    known = ReferenceStatistics((0.1,), (), (1000.0,), tuple(scans(3, seed=0)))
    assert statistics_from_record(asdict(known)) == known
    for damaged in ([5], [{"entropy": 0.1}], [{**asdict(known)["scored"][0], "dice": "nan"}]):
        with pytest.raises((TypeError, ValueError)):
            statistics_from_record({"scored": damaged})


def test_a_prediction_has_it_only_where_the_known_scans_are_alike() -> None:
    known = ReferenceStatistics(scored=tuple(scans(30, seed=0)))
    predictor = replace(untrained_predictor(), refine=True, reference=known)
    phantom = render_phantom(3, shape=(32, 36, 30))
    grid = Grid(phantom.image.shape, phantom.affine)
    volume = Volume(phantom.image[..., None], phantom.affine, grid, Path("phantom.nii"))
    assert predictor.segment(volume).confidence.expected_dice is not None
    assert replace(predictor, refine=False).segment(volume).confidence.expected_dice is None
    two = Ensemble([predictor, predictor])
    assert two.segment(volume).confidence.expected_dice is None
