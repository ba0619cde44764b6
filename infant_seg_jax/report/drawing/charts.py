"""Charts as SVG that stands in a page: its ink is the page's, so it suits light and dark alike.

Classes have colors of their own, always with a line of ink around them; runs and
evaluations have those of `SERIES_COLORS`. Names are drawn as they are: no mathematics in dollars.
"""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np
from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#010203"
"""What becomes the page's text color."""
SERIES_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", INK)
"""Of the palette of Okabe and Ito (2008), those that no tissue has; seen on white and on black."""
DASHES = ("-", "--", ":", "-.")
MAX_SERIES = len(SERIES_COLORS) * len(DASHES)
MAX_DOTS = 300
"""Of more values an even choice is drawn, or a page of a thousand scans would not open."""
GRAY = "#999999"
"""Of what is of no tissue."""

_Value = TypeVar("_Value")
STYLE: dict[Any, Any] = {
    **{"text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "infant_seg_jax"},
    **{key: INK for key in ("text.color", "axes.labelcolor", "axes.edgecolor", "grid.color")},
    **{key: INK for key in ("xtick.color", "ytick.color")},
    **{"axes.facecolor": "none", "figure.facecolor": "none", "savefig.facecolor": "none"},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True},
    **{"axes.grid": True, "grid.alpha": 0.2, "font.size": 9, "axes.titlesize": 10},
}


@dataclass(frozen=True)
class Series:
    """A line of a chart.

    Attributes:
        number: which run's it is, from 0; it has that one's color and dashes.
        x, y: its points; those that are not finite are left out.
    """

    number: int
    x: Sequence[float] | Sequence[int]
    y: Sequence[float]


def series_style(number: int) -> tuple[str, str]:
    """Color and dashes of the series of this number."""
    colors = len(SERIES_COLORS)
    return SERIES_COLORS[number % colors], DASHES[number // colors % len(DASHES)]


def curves(
    title: str, y_label: str, series: Sequence[Series], marks: Sequence[float] = ()
) -> Markup:
    """Lines against steps; a vertical line at each mark."""

    def paint(axes: Axes) -> None:
        draw_curves(axes, y_label, series)
        for mark in marks:
            axes.axvline(mark, color=INK, linestyle=(0, (1, 2)), linewidth=1)

    return _draw(title, paint)


def draw_curves(axes: Axes, y_label: str, series: Sequence[Series]) -> None:
    """Draw lines against steps."""
    for one in series:
        points = [(x, y) for x, y in zip(one.x, one.y, strict=True) if math.isfinite(y)]
        color, dashes = series_style(one.number)
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            color=color,
            linestyle=dashes,
            marker="o" if len(points) < 40 else "",
            markersize=3,
            linewidth=1.4,
        )
    axes.set(xlabel="step", ylabel=y_label)


def bars_with_dots(
    title: str,
    y_label: str,
    groups: Mapping[str, Sequence[Sequence[float]]],
    colors: Mapping[str, str],
    shares: bool,
) -> Markup:
    """For each group, as each tissue, the mean of each series as a bar and its values as dots.

    Args:
        title, y_label: above the chart, and beside its axis.
        groups: by name, the values of every series, in the order of their numbers.
        colors: of groups, where there is one series; `GRAY` for others.
        shares: whether the values are shares, whose axis ends at 1.
    """
    return _draw(title, lambda axes: draw_bars(axes, y_label, groups, colors, shares))


def draw_bars(
    axes: Axes,
    y_label: str,
    groups: Mapping[str, Sequence[Sequence[float]]],
    colors: Mapping[str, str],
    shares: bool,
) -> None:
    """Draw what `bars_with_dots` has."""
    several = max(map(len, groups.values())) > 1
    for place, (name, group) in enumerate(groups.items()):
        width = 0.8 / max(1, len(group))
        for number, values in enumerate(group):
            known = finite(values)
            at = place + (number - (len(group) - 1) / 2) * width
            color = series_style(number)[0] if several else colors.get(name, GRAY)
            if known:
                bar = axes.bar(at, float(np.mean(known)), 0.9 * width, color=color)
                bar.patches[0].set(edgecolor=INK, linewidth=0.6, alpha=0.75)
            shown = evenly(known, MAX_DOTS)
            places = max(1, min(len(shown), 9))
            offsets = np.arange(len(shown)) % places - (places - 1) / 2
            spread = 0.6 * width * offsets / places
            axes.plot(at + spread, shown, "o", color=INK, markersize=2.5, alpha=0.8)
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set_ylabel(y_label)
    axes.grid(visible=False, axis="x")
    if shares:
        axes.set(ylim=(0, 1), yticks=np.linspace(0, 1, 6))


def against_each_other(
    title: str, unit: str, true: Sequence[float], predicted: Sequence[float], color: str
) -> Markup:
    """Predicted against true values of every subject, and the line on which they are the same."""

    def paint(axes: Axes) -> None:
        _dots(axes, true, predicted, color)
        low, high = min(*true, *predicted), max(*true, *predicted)
        room = 0.05 * (high - low) or 1.0
        ends = (low - room, high + room)
        axes.plot(ends, ends, color=INK, linewidth=0.8, linestyle="--")
        axes.set(xlabel=f"true ({unit})", ylabel=f"predicted ({unit})")

    return _draw(title, paint)


def bland_altman(
    title: str, unit: str, true: Sequence[float], predicted: Sequence[float], color: str
) -> Markup:
    """Differences against means (Bland and Altman, Lancet 327, 1986).

    The solid line is the mean of the differences; the dashed ones, from three subjects on, are 1.96
    standard deviations from it, between which 95% of differences lie if they are normal.
    """

    def paint(axes: Axes) -> None:
        difference = np.subtract(predicted, true)
        _dots(axes, (np.add(predicted, true) / 2).tolist(), difference.tolist(), color)
        mean = float(difference.mean())
        axes.axhline(0, color=INK, linewidth=0.6, alpha=0.4)
        axes.axhline(mean, color=INK, linewidth=1.2)
        if len(difference) >= 3:
            reach = 1.96 * float(difference.std(ddof=1))
            for limit in (mean - reach, mean + reach):
                axes.axhline(limit, color=INK, linewidth=0.9, linestyle="--")
        axes.set(xlabel=f"mean of both ({unit})", ylabel=f"predicted − true ({unit})")

    return _draw(title, paint)


def histogram(title: str, x_label: str, values: Sequence[float], color: str, end: float) -> Markup:
    """Shares of values; what is beyond `end` is in the last bin."""

    def paint(axes: Axes) -> None:
        bins = np.linspace(0, end, 25)
        clipped = np.minimum(values, end)
        axes.hist(
            clipped,
            bins=bins.tolist(),
            weights=np.full(len(clipped), 1 / max(1, len(clipped))),
            color=color,
            edgecolor=INK,
            linewidth=0.5,
        )
        axes.set_yscale("log")
        axes.set(xlabel=x_label, ylabel="share of the surface")

    return _draw(title, paint)


def strip(title: str, x_label: str, values: Sequence[float], color: str) -> Markup:
    """Every value as a dot along a line, and the median as a stroke."""

    def paint(axes: Axes) -> None:
        known = finite(values)
        shown = evenly(sorted(known), MAX_DOTS)
        heights = np.arange(len(shown)) % 7 - 3.0
        _dots(axes, shown, heights.tolist(), color)
        if known:
            axes.axvline(float(np.median(known)), color=INK, linewidth=1.2)
        axes.set(xlabel=x_label, yticks=[], ylim=(-6, 6))
        axes.spines["left"].set_visible(False)

    return _draw(title, paint, height=1.6)


def against_age(
    title: str, months: Sequence[float], ml: Sequence[float], people: Sequence[str], color: str
) -> Markup:
    """Volumes against ages; a line joins those of one person.

    Args:
        title: above the chart.
        months: ages since birth; scans whose age or volume is not finite are left out.
        ml: the volume of each scan.
        people: whose scan each is; empty where that is not known.
        color: of the dots.
    """
    scans = zip(people, months, ml, strict=True)
    known = [scan for scan in scans if math.isfinite(scan[1]) and math.isfinite(scan[2])]

    def paint(axes: Axes) -> None:
        shown = evenly(sorted(known), MAX_DOTS)
        for person, own in groupby(shown, key=itemgetter(0)):
            _, x, y = zip(*own, strict=True)
            if person and len(x) > 1:
                axes.plot(x, y, color=INK, linewidth=0.6, alpha=0.5)
        _dots(axes, [x for _, x, _ in shown], [y for *_, y in shown], color)
        axes.set(xlabel="age (months)", ylabel="ml")

    return _draw(title, paint)


def finite(values: Sequence[float]) -> list[float]:
    """Those that are neither NaN nor infinite."""
    return [float(value) for value in values if math.isfinite(value)]


def evenly(values: Sequence[_Value], most: int) -> list[_Value]:
    """All values, or of more than `most` an even choice."""
    if len(values) <= most:
        return list(values)
    return [values[at] for at in np.linspace(0, len(values) - 1, most).round().astype(int)]


def _dots(axes: Axes, x: Sequence[float], y: Sequence[float], color: str) -> None:
    if len(x) > MAX_DOTS:
        chosen = np.linspace(0, len(x) - 1, MAX_DOTS).round().astype(int)
        x, y = np.asarray(x)[chosen].tolist(), np.asarray(y)[chosen].tolist()
    axes.plot(x, y, "o", color=color, markersize=5, markeredgecolor=INK, markeredgewidth=0.6)


def _draw(title: str, paint: Callable[[Axes], None], height: float = 2.7) -> Markup:
    text = io.StringIO()
    with rc_context(STYLE):
        figure = Figure(figsize=(4.0, height), layout="constrained")
        axes = figure.subplots()
        paint(axes)
        axes.set_title(title)
        figure.savefig(text, format="svg", metadata={"Date": None})
    return _inline(text.getvalue(), title)


def _inline(svg: str, title: str) -> Markup:
    """Nothing but the drawing, in the page's ink, without the ids that many charts would share."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style type=\"text/css\">.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg).replace(INK, "currentColor")
    label = escape(title)
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))
