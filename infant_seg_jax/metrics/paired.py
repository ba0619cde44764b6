"""Whether one method is better than another, by the same subjects."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from infant_seg_jax.metrics.intervals import mean_interval


@dataclass(frozen=True)
class PairedDifference:
    """Scores of one method minus those of another, subject by subject.

    Attributes:
        subjects: how many both have a score of.
        mean: of the differences; infinite, or NaN, if some are infinite.
        low, high: a 95% interval of that mean, by bootstrap over subjects; NaN with fewer than
            three subjects, or where all differences are one or some infinite.
        p_value: two-sided Wilcoxon signed-rank test; NaN where no subject differs.
    """

    subjects: int
    mean: float
    low: float
    high: float
    p_value: float

    def __str__(self) -> str:
        return (
            f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}], p = {self.p_value:.3f}, "
            f"{self.subjects} subjects"
        )


def paired_difference(
    scores: Mapping[str, float], others: Mapping[str, float], seed: int = 0
) -> PairedDifference:
    """Compare scores by subject; subjects without a score (NaN) in either are left out."""
    pairs = [
        (scores[subject], others[subject])
        for subject in sorted(scores.keys() & others.keys())
        if not np.isnan(scores[subject]) and not np.isnan(others[subject])
    ]
    if not pairs:
        return PairedDifference(0, np.nan, np.nan, np.nan, np.nan)
    # Two distances that are both infinite do not differ.
    differences = np.array([0.0 if a == b else a - b for a, b in pairs])
    with np.errstate(invalid="ignore"):  # infinite ones of either sign
        mean = float(differences.mean())
    low, high = mean_interval(differences, seed)
    p_value = np.nan
    if differences.any():
        result: Any = stats.wilcoxon(differences)
        p_value = float(result.pvalue)
    return PairedDifference(len(pairs), mean, low, high, p_value)
