import math

import numpy as np
import pytest

from infant_seg_jax.prediction.confidence import agreement, mean_entropy


def test_entropy_is_0_where_certain_and_1_where_all_is_equal() -> None:
    mask = np.ones((40, 3, 2), bool)
    certain = np.zeros((40, 3, 2, 4), np.float32)
    certain[..., 2] = 1
    assert mean_entropy(certain, mask) == pytest.approx(0, abs=1e-12)
    assert mean_entropy(np.full_like(certain, 0.25), mask) == pytest.approx(1)
    halves = np.zeros_like(certain)
    halves[..., :2] = 0.5
    assert mean_entropy(halves, mask) == pytest.approx(0.5)


def test_entropy_is_the_mean_over_the_mask() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet([0.3] * 4, (37, 5, 4)).astype(np.float32)
    mask = random.random((37, 5, 4)) < 0.3
    entropies = [
        -sum(p * math.log(p) for p in map(float, probabilities[at]) if p > 0) / math.log(4)
        for at in zip(*np.nonzero(mask), strict=True)
    ]
    assert mean_entropy(probabilities, mask) == pytest.approx(np.mean(entropies), rel=1e-6)
    assert math.isnan(mean_entropy(probabilities, np.zeros_like(mask)))


def test_agreement_is_the_mean_dice_of_tissues_that_are_there() -> None:
    one = np.array([[[0, 1, 1, 2]]], np.uint8)
    other = np.array([[[0, 1, 2, 2]]], np.uint8)
    assert agreement(one, one) == 1
    assert agreement(one, other) == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert math.isnan(agreement(one * 0, one * 0))
