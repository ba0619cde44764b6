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

    A value is far if its modified z-score, 0.6745 times its distance from the others' median in
    units of their median absolute deviation, exceeds 3.5 (Iglewicz and Hoaglin, How to Detect and
    Handle Outliers, 1993). The others are the 20 nearest in age, by the logarithm of the time since
    conception, since brains change fastest at first; where fewer than 10 others have a known age,
    all others.

    Args:
        values: of one volume; NaN where there is none.
        months: ages since birth at term; NaN where they are not known.
    """
    found = np.zeros(len(values), bool)
    known = np.isfinite(values)
    age = np.log(np.maximum(months + _TERM_MONTHS, 1.0))
    for index in np.flatnonzero(known):
        others = known & (np.arange(len(values)) != index)
        apart = np.where(others, np.abs(age - age[index]), np.nan)
        if np.isfinite(apart).sum() >= LEAST:
            near = np.argsort(apart, kind="stable")[:NEAREST]  # NaN comes last.
            others = np.isin(np.arange(len(values)), near) & np.isfinite(apart)
        if others.sum() >= LEAST:
            median = np.median(values[others])
            deviation = np.median(np.abs(values[others] - median))
            found[index] = _NORMAL * abs(values[index] - median) > FAR * deviation > 0
    return found
