"""How large brains and their tissues are, by age; wide on purpose, to tell mistakes from people.

The ranges are no norms. They are set well outside what these report, because methods differ in what
they count (cerebellum and brainstem or not, fluid in the sulci or in the ventricles alone):

- before term: Kyriakopoulou et al., Brain Structure and Function 222, 2017; Scott et al.,
  International Journal of Developmental Neuroscience 29, 2011;
- at term: Romberg et al., Archives of Disease in Childhood 107, 2022 (brain 379 ml with a standard
  deviation of 72, cortical GM 140 with 47, WM 195 with 38); Holland et al., JAMA Neurology 71, 2014
  (brain about 340 ml at birth, two thirds more after 90 days);
- to two years: Knickmeyer et al., Journal of Neuroscience 28, 2008 (the brain doubles in its first
  year and gains 15% in its second; GM grows by 149%, WM by 11%);
- children: Caviness et al., Cerebral Cortex 6, 1996 (brain about 1,310 ml at 7 to 11 years, two
  thirds of the cerebrum GM);
- the whole life: Bethlehem et al., Nature 604, 2022 (GM is largest at six years, WM at 29);
- adults: Matsumae et al., Journal of Neurosurgery 84, 1996 (with all fluid 1,470 ml in men and
  1,290 in women, standard deviations of 100 and 110).
"""

from collections.abc import Mapping

import numpy as np

from infant_seg_jax.data.ages import Age

BRAIN = "brain"
"""All tissues together; how much of the fluid is among them depends on who drew the outline."""
GM_SHARE = "GM share"
"""Gray matter's part of gray and white matter, which is exchanged labels' undoing."""

_AGES = (
    *(Age(float(weeks), "weeks postmenstrual") for weeks in (20, 30, 40)),
    *(Age(float(months), "months") for months in (6, 12, 24)),
    *(Age(float(years), "years") for years in (6, 20, 90)),
)
_MONTHS = [age.months for age in _AGES]
_RANGES: Mapping[str, tuple[tuple[float, float], ...]] = {  # in ml, save for the share
    "CSF": (
        *((0, 120), (0, 250), (0, 350)),
        *((0, 450), (0, 500), (0, 500)),
        *((0, 500), (0, 600), (0, 900)),
    ),
    "GM": (
        *((3, 60), (15, 180), (60, 420)),
        *((200, 780), (280, 950), (330, 1050)),
        *((400, 1150), (350, 1250), (300, 1100)),
    ),
    "WM": (
        *((5, 80), (30, 220), (70, 360)),
        *((100, 480), (130, 540), (150, 620)),
        *((200, 720), (240, 880), (180, 850)),
    ),
    BRAIN: (
        *((15, 200), (80, 480), (220, 800)),
        *((450, 1300), (550, 1500), (650, 1650)),
        *((800, 1950), (850, 2100), (750, 2100)),
    ),
    GM_SHARE: (
        *((0.1, 0.75), (0.2, 0.75), (0.3, 0.8)),
        *((0.45, 0.88), (0.5, 0.86), (0.5, 0.85)),
        *((0.5, 0.82), (0.4, 0.8), (0.4, 0.8)),
    ),
}


def plausible_range(what: str, age: Age | None) -> tuple[float, float]:
    """What `"CSF"`, `"GM"`, `"WM"` and `BRAIN` may be in ml at an age, or `GM_SHARE` as a fraction.

    Linear between the ages above, and as at the first and last of them beyond; at an unknown age,
    as wide as at all of them together.
    """
    lows, highs = zip(*_RANGES[what], strict=True)
    if age is None:
        return float(min(lows)), float(max(highs))
    low, high = (np.interp(age.months, _MONTHS, bounds) for bounds in (lows, highs))
    return float(low), float(high)


def implausible_tissues(volumes: Mapping[str, float], age: Age | None) -> tuple[str, ...]:
    """What about a label map's volumes of `CSF`, `GM` and `WM` in ml is far from plausible.

    A phrase each, as in 'GM 12 ml (expected 60 to 420)'.
    """
    found = [_judge(name, volumes[name], age) for name in ("CSF", "GM", "WM")]
    found.append(implausible_brain(sum(volumes.values()), age))
    gray, white = volumes["GM"], volumes["WM"]
    if gray + white > 0:
        low, high = plausible_range(GM_SHARE, age)
        share = gray / (gray + white)
        if not low <= share <= high:
            found.append(f"GM {share:.0%} of GM and WM together (expected {low:.0%} to {high:.0%})")
    return tuple(filter(None, found))


def implausible_brain(ml: float, age: Age | None) -> str:
    """As `implausible_tissues`, of a whole brain; empty where it is plausible."""
    return _judge(BRAIN, ml, age)


def _judge(what: str, ml: float, age: Age | None) -> str:
    low, high = plausible_range(what, age)
    if low <= ml <= high:
        return ""
    return f"{what} {ml:.3g} ml (expected {low:.0f} to {high:.0f})"
