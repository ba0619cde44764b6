"""How sure a mean over subjects is."""

from collections.abc import Iterable

import numpy as np

_RESAMPLES = 9999
_AT_ONCE = 2**22
_LEAST = 1e-200  # What differs by less has no spread that could be computed.


def mean_interval(values: Iterable[float], seed: int = 0) -> tuple[float, float]:
    """A 95% interval of the mean of `values`, by bootstrap over them (BCa, Efron 1987).

    NaN with fewer than three values, where all are as good as one, or where one is not finite.
    """
    sample = np.array(list(values), np.float64)
    if sample.size < 3 or not np.isfinite(sample).all():
        return np.nan, np.nan
    if np.ptp(sample) <= max(1e-12 * np.abs(sample).max(), _LEAST):
        return np.nan, np.nan
    # Of values about 1, the third powers that BCa takes are no 0; powers of two round nothing.
    exponent = int(np.frexp(np.abs(sample).max())[1])
    from scipy import stats  # Not above: it takes a third of a second.

    interval = stats.bootstrap(
        (np.ldexp(sample, -exponent),),
        np.mean,
        n_resamples=_RESAMPLES,
        batch=max(1, _AT_ONCE // sample.size),
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(np.ldexp(interval.low, exponent)), float(np.ldexp(interval.high, exponent))
