"""Scans whose volumes are far from those of the others in a cohort."""

import numpy as np
from jaxtyping import Bool, Float

LEAST = 10
"""Fewer others say nothing."""
NEAREST = 20
FAR = 3.5

_TERM_MONTHS = 9.2
_NORMAL = 0.6745  # The median absolute deviation of a standard normal distribution.


def outliers(
    values: Float[np.ndarray, " n"], months: Float[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    """Which values are far from those of the others of about the same age.

    A value is far if its modified z-score, 0.6745 times its distance from what the others have at
    its age in units of the median of theirs, exceeds 3.5 (Iglewicz and Hoaglin, How to Detect and
    Handle Outliers, 1993). The others are the 20 nearest in age, and what they have at an age is a
    line through them (Theil and Sen), over the logarithm of the time since conception, since
    brains grow fastest at first. Where fewer than 10 others have a known age, they are all others,
    and what they have is their median.

    Args:
        values: of one volume; NaN where there is none.
        months: ages since birth at term; NaN where they are not known.
    """
    found = np.zeros(len(values), bool)
    known = np.isfinite(values)
    age = np.log(np.maximum(months + _TERM_MONTHS, 1.0))
    for index in np.flatnonzero(known):
        others = np.flatnonzero(known & (np.arange(len(values)) != index))
        apart = np.abs(age[others] - age[index])
        line = np.isfinite(apart).sum() >= LEAST
        if line:
            near = np.argsort(apart, kind="stable")[:NEAREST]  # NaN comes last.
            others = others[near][np.isfinite(apart[near])]
        if len(others) >= LEAST:
            slope = _slope(age[others], values[others]) if line else 0.0
            level = values - slope * (age if line else 0.0)
            median = np.median(level[others])
            deviation = np.median(np.abs(level[others] - median))
            found[index] = _NORMAL * abs(level[index] - median) > FAR * deviation > 0
    return found


def _slope(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    """The median of the slopes between all pairs of points; 0 where all have one `x`."""
    one, other = np.triu_indices(len(x), 1)
    run, rise = x[other] - x[one], y[other] - y[one]
    return float(np.median(rise[run != 0] / run[run != 0])) if run.any() else 0.0
