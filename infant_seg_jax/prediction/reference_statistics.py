"""Whether a scan looks like those that a network was trained on, by what was measured on such.

A new scan is unusual where a measurement lies beyond what 99% of further scans are expected to
show, given those known: a prediction interval for normal values (Hahn and Meeker, Statistical
Intervals, 1991). The fewer are known, the wider it is, and of two or fewer nothing is said.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from infant_seg_jax.prediction.expected_dice import ScoredScan

SHARE = 0.99
"""So many of the scans that are like the training's are not unusual, by one measurement."""

_LEAST = 3
_MANY = 20
_FURTHER = 1.25
"""Of many scans, sizes of several ages say, no further one is expected to be larger than the
largest, or smaller than the smallest, by more than this factor."""


@dataclass(frozen=True)
class ReferenceStatistics:
    """What was measured on scans like those of the training, one value for each of them.

    They are best held out of the training, since a network may be surer of scans that it has seen.

    Attributes:
        entropy: as in `Confidence`.
        agreement: as in `Confidence`.
        volume_ml: of what is not air: of stripped scans, the brain.
        scored: of stripped scans whose truth is known, what the Dice of others is expected by.
    """

    entropy: tuple[float, ...] = ()
    agreement: tuple[float, ...] = ()
    volume_ml: tuple[float, ...] = ()
    scored: tuple[ScoredScan, ...] = ()

    def measured(self, *, mirrored: bool) -> tuple[str, ...]:
        """What scans are compared by, as far as enough is known, with or without a mirror image."""
        kinds = {"entropy": self.entropy, "agreement": self.agreement * mirrored}
        kinds["size"] = self.volume_ml
        return tuple(
            f"{name} against references" for name, of in kinds.items() if len(of) >= _LEAST
        )


NOTHING_KNOWN = ReferenceStatistics()


def statistics_from_record(record: Mapping[str, Any]) -> ReferenceStatistics:
    """What `dataclasses.asdict` and JSON left.

    Raises:
        TypeError, ValueError: a key is unknown, a value is no list of finite numbers, or there is a
            volume that is not above 0.
    """
    lists = dict(record)
    scored = [
        ScoredScan(**{name: float(value) for name, value in dict(scan).items()})
        for scan in lists.pop("scored", ())
    ]
    found = ReferenceStatistics(
        **{name: tuple(map(float, values)) for name, values in lists.items()},
        scored=tuple(scored),
    )
    every = [*found.entropy, *found.agreement, *found.volume_ml]
    every += [value for scan in scored for value in astuple(scan)]
    if not all(map(math.isfinite, every)) or min(found.volume_ml, default=1.0) <= 0:
        raise ValueError("a measurement is not finite, or a volume not above 0")
    return found


def why_unusual(
    path: Path,
    reference: ReferenceStatistics,
    *,
    entropy: float,
    agreement: float,
    volume_ml: float,
) -> tuple[str, ...]:
    """What of a scan is not as in the training, a sentence each; of a NaN nothing is said."""
    found = []
    high = highest_expected(reference.entropy)
    if entropy > high:
        found.append(
            f"{path} was labeled with a mean entropy of {entropy:.3f}, but {SHARE:.0%} of scans "
            f"like the training scans stay below {high:.3f}: look at the label map before using it."
        )
    low = -highest_expected([-value for value in reference.agreement])
    if agreement < low:
        found.append(
            f"{path} and its mirror image were labeled with an agreement of Dice {agreement:.3f}, "
            f"but {SHARE:.0%} of scans like the training scans reach {low:.3f}: look at the label "
            "map before using it."
        )
    # Volumes are compared by their logarithms, and either way.
    logs, both_ways = np.log(reference.volume_ml), (1 + SHARE) / 2
    low, high = np.exp([-highest_expected(-logs, both_ways), highest_expected(logs, both_ways)])
    if len(logs) >= _MANY:
        smallest, largest = min(reference.volume_ml), max(reference.volume_ml)
        low, high = max(low, smallest / _FURTHER), min(high, largest * _FURTHER)
    if volume_ml < low or volume_ml > high:
        found.append(
            f"{path} shows {volume_ml:.0f} ml that are not air, but {SHARE:.0%} of scans like the "
            f"training's show between {low:.0f} and {high:.0f}: check that it shows what they do, "
            "and at the right voxel size."
        )
    return tuple(found)


def highest_expected(values: Sequence[float] | np.ndarray, share: float = SHARE) -> float:
    """What a further value stays below with a probability of `share`; infinite for few values."""
    count = len(values)
    if count < _LEAST:
        return math.inf
    deviation = np.std(values, ddof=1) * math.sqrt(1 + 1 / count)
    return float(np.mean(values) + stdtrit(count - 1, share) * deviation)
