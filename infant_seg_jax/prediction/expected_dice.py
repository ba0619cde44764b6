"""Predict the Dice of a label map, from scans whose true label map is known.

A linear regression predicts the logit of the mean Dice from three signs that need no truth. The
range is the regression's prediction interval for one further scan (Hahn and Meeker, Statistical
Intervals, 1991). It is valid only for scans like the known ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer
from scipy.special import expit, logit, stdtrit

from infant_seg_jax.data.labels import CSF, GM

SHARE = 0.9
"""Share of further scans whose Dice is within the range."""

LEAST = 20
"""With fewer known scans, no Dice is predicted."""

_LEAST_CONTRAST = 0.1
_MOST_VOXELS = 200_000
_DICE = 0.01, 0.99


@dataclass(frozen=True)
class Signs:
    """Measurements of a label map that need no truth.

    Attributes:
        entropy: mean entropy of the network's probabilities over the brain, as in `Confidence`.
        refined_entropy: the same after intensity-based refinement.
        contrast: as `contrast_to_noise` of the label map's gray matter and CSF.
    """

    entropy: float
    refined_entropy: float
    contrast: float


@dataclass(frozen=True)
class ScoredScan(Signs):
    """The signs of a scan whose truth is known, and the mean Dice of its tissues."""

    dice: float


@dataclass(frozen=True)
class ExpectedDice:
    """The expected mean Dice over the tissues, and the range for `SHARE` of scans."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} ({self.low:.2f} to {self.high:.2f})"


def expected_dice(known: Sequence[ScoredScan], signs: Signs) -> ExpectedDice | None:
    """The expected Dice of a label map; None if too few scans are known or a sign is NaN."""
    new = _row(signs)
    if len(known) < LEAST or not np.isfinite(new).all():
        return None
    rows = np.array([_row(scan) for scan in known])
    dice = logit(np.clip([scan.dice for scan in known], *_DICE))
    inverse = np.linalg.pinv(rows.T @ rows)
    slopes = inverse @ rows.T @ dice
    freedom = len(known) - np.linalg.matrix_rank(rows)
    variance = np.sum((dice - rows @ slopes) ** 2) / freedom
    mean = float(new @ slopes)
    reach = float(stdtrit(freedom, (1 + SHARE) / 2) * np.sqrt(variance * (1 + new @ inverse @ new)))
    mean, low, high = map(float, expit([mean, mean - reach, mean + reach]))
    return ExpectedDice(mean, low, high)


def contrast_to_noise(
    image: Float[np.ndarray, "x y z c"], tissues: Integer[np.ndarray, "x y z"]
) -> float:
    """The distance of the medians of gray matter and CSF, divided by the mean of their SDs.

    An SD is half the distance between the 16th and the 84th percentile. Of several channels, the
    one with the largest contrast counts. NaN if a tissue is missing.
    """
    found = [_evenly(image[tissues == tissue]) for tissue in (GM, CSF)]
    if not all(map(len, found)):
        return float("nan")
    gray, fluid = (np.percentile(values, (16, 50, 84), axis=0) for values in found)
    noise = (gray[2] - gray[0] + fluid[2] - fluid[0]) / 4
    apart = np.abs(gray[1] - fluid[1])
    return float(np.max(np.divide(apart, noise, out=np.zeros_like(apart), where=noise > 0)))


def _evenly(values: np.ndarray) -> np.ndarray:
    """At most `_MOST_VOXELS` values, evenly spaced; more would hardly change the percentiles."""
    return values[:: 1 + len(values) // _MOST_VOXELS]


def _row(of: Signs) -> Float[np.ndarray, "4"]:
    contrast = np.log(max(of.contrast, _LEAST_CONTRAST))
    return np.array([1.0, of.entropy, of.refined_entropy, contrast])
