"""Charts are SVG of the page's own ink, in which names are text."""

import math
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from infant_seg_jax.data.labels import TISSUE_CLASSES
from infant_seg_jax.report.drawing import charts
from infant_seg_jax.report.drawing.charts import Series

COLORS = TISSUE_CLASSES.colors
GROUPS = {"CSF": [[0.5, 0.7]], "GM": [[0.6, 0.8]], "WM": [[0.9, math.nan]], "mean": [[0.7, 0.7]]}

EVERY = {
    "curves": lambda title: charts.curves(
        title, "loss", [Series(0, [1.0, 2.0], [0.3, 0.2])], [1.5]
    ),
    "bars": lambda title: charts.bars_with_dots(
        title, "each dot is a subject", GROUPS, COLORS, True
    ),
    "against": lambda title: charts.against_each_other(
        title, "ml", [1.0, 2.0], [1.0, 3.0], "#56B4E9"
    ),
    "bland-altman": lambda title: charts.bland_altman(
        title, "ml", [1.0, 2.0, 4.0], [1.0, 3.0, 5.0], "#56B4E9"
    ),
    "histogram": lambda title: charts.histogram(
        title, "mm", [0.0, 1.0, 1.0, 99.0], "#56B4E9", 10.0
    ),
    "strip": lambda title: charts.strip(title, "ml", [3.0, 1.0, math.nan], "#56B4E9"),
    "age": lambda title: charts.against_age(
        title, [1.0, 7.0, math.nan], [500.0, 800.0, 9.0], ["a", "a", ""], "#56B4E9"
    ),
}


def texts(svg: Markup) -> list[str]:
    root = ElementTree.fromstring(svg)
    return ["".join(part.itertext()).strip() for part in root.iter() if part.tag.endswith("text")]


def test_subjects_of_the_same_score_are_dots_beside_each_other() -> None:
    for count in (1, 2, 6, 9):
        drawn = charts.bars_with_dots("t", "", {"CSF": [[0.5] * count]}, COLORS, shares=True)
        dots = [
            part
            for part in ElementTree.fromstring(drawn).iter()
            if part.tag.endswith("use") and "fill-opacity" in (part.get("style") or "")
        ]
        assert len({dot.get("x") for dot in dots}) == len(dots) == count


@pytest.mark.parametrize("draw", EVERY.values(), ids=EVERY)
def test_a_chart_is_well_formed_in_the_pages_ink_with_its_title_as_text(draw) -> None:
    title = 'a $x^2$ <script>alert("1")</script> & b_1'
    svg = draw(title)
    root = ElementTree.fromstring(svg)  # So it is well-formed.
    assert root.get("role") == "img" and root.get("aria-label") == title
    assert title in texts(svg)
    assert "currentColor" in svg and charts.INK not in svg and "#000000" not in svg
    assert "<script" not in svg and "<style" not in svg and "<metadata" not in svg
    assert "http" not in svg.replace("http://www.w3.org/", "")  # Names of formats, not addresses.


def test_charts_of_one_page_share_no_id_of_another_meaning() -> None:
    """What has an id is named by what it is: the same id, the same drawing."""
    meanings: dict[str, str] = {}
    for draw in EVERY.values():
        for part in ElementTree.fromstring(draw("title")).iter():
            if name := part.get("id"):
                drawn = ElementTree.tostring(part, encoding="unicode")
                assert meanings.setdefault(name, drawn) == drawn
    assert meanings


def test_bars_are_as_high_as_the_means_and_begin_at_zero() -> None:
    svg = charts.bars_with_dots("Dice", "", {"CSF": [[0.2, 0.4]], "GM": [[0.6]]}, COLORS, True)
    bars = []
    for part in ElementTree.fromstring(svg).iter():
        style = part.get("style", "").lower()
        if any(f"fill: {color.lower()}" in style for color in COLORS.values()):
            numbers = [
                float(n) for n in part.get("d", "").replace("L", "M").split() if n[0] not in "Mz"
            ]
            bars.append((max(numbers[1::2]), min(numbers[1::2])))
    (floor_csf, top_csf), (floor_gm, top_gm) = bars
    assert floor_csf == floor_gm
    assert (floor_csf - top_csf) / (floor_gm - top_gm) == pytest.approx(0.3 / 0.6, rel=1e-3)
    assert {"0.0", "1.0"} <= set(texts(svg))


def test_volumes_against_age_are_a_dot_a_scan_and_a_line_for_each_person_of_several() -> None:
    people = ["a", "a", "b", "", "", "c", "c"]
    months = [1.0, 6.0, 2.0, 3.0, 4.0, 5.0, math.nan]
    svg = charts.against_age("GM", months, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 99.0], people, "#56B4E9")
    root = ElementTree.fromstring(svg)
    styles = [part.get("style", "").lower() for part in root.iter()]
    dots = [
        (float(part.get("x", "")), float(part.get("y", "")))
        for part in root.iter()
        if part.tag.endswith("use") and "#56b4e9" in part.get("style", "").lower()
    ]
    assert len(dots) == 6  # The last has no age.
    assert sum("opacity: 0.5" in style for style in styles) == 1  # Of the two scans of `a`.
    (left, low), *_, (right, high) = sorted(dots)
    assert (right - left) > 0 > (high - low)  # The oldest of ml 2 against the youngest of ml 1.
    slope = (high - low) / (2 - 1)
    assert sorted(y for _, y in dots) == pytest.approx(
        [low + slope * (ml - 1) for ml in range(6, 0, -1)], abs=1e-3
    )


def test_many_values_become_few_dots() -> None:
    values = np.random.default_rng(0).random(5000).tolist()
    few, many = (charts.strip("", "ml", part, "#56B4E9") for part in (values[:300], values))
    assert many.count("<use") - few.count("<use") < 30  # The ticks may differ.
    assert len(many) < 100_000


@given(st.lists(st.integers(), max_size=50), st.integers(2, 10))
def test_an_even_choice_keeps_order_and_both_ends(values: list[int], most: int) -> None:
    chosen = charts.evenly(values, most)
    assert len(chosen) == min(len(values), most)
    if values:
        assert chosen[0] == values[0] and chosen[-1] == values[-1]
    steps = charts.evenly(range(len(values)), most)
    assert sorted(set(steps)) == steps


def test_every_series_looks_different_and_unlike_a_tissue() -> None:
    styles = [charts.series_style(number) for number in range(charts.MAX_SERIES)]
    assert len(set(styles)) == charts.MAX_SERIES
    assert not {color for color, _ in styles} & set(COLORS.values())
