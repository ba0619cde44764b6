"""What a page says of an evaluation: how good, of whom, and where it fails."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from markupsafe import Markup

from infant_seg_jax.data.labels import IGNORE, ClassSet
from infant_seg_jax.errors import InputError
from infant_seg_jax.evaluation.score_files import JSON_NAME, read_table
from infant_seg_jax.evaluation.score_table import MEAN, ScoreTable, in_words
from infant_seg_jax.files import read_json
from infant_seg_jax.metrics.measures import METRICS
from infant_seg_jax.metrics.surfaces import surface, surface_distances
from infant_seg_jax.progress import progress
from infant_seg_jax.report.drawing import charts
from infant_seg_jax.report.drawing.slices import Scan, error_picture
from infant_seg_jax.report.pages.confusion import (
    confusion_ml,
    confusion_rows,
    confusion_sentence,
    volume_charts,
)
from infant_seg_jax.report.pages.evaluated_cases import EvaluatedCase, evaluated_cases
from infant_seg_jax.report.pages.page import Row, number
from infant_seg_jax.report.viewer.embedded import EmbeddedViewer

MAX_CASES = 100
"""Of more subjects, so many are read back for volumes and confusions."""

_HISTOGRAM_END_MM = 10.0
_IN_TABLE = {
    "dice": "Dice",
    "hausdorff95_mm": "HD95 (mm)",
    "assd_mm": "ASSD (mm)",
    "volume_difference_ml": "volume difference (ml)",
}


@dataclass(frozen=True)
class ShownCase:
    """A subject that is shown: why, how well it went, and pictures of it.

    `command` opens it in the viewer, `look` is where it is in the page's own; each may be empty.
    """

    title: str
    name: str
    dice: str
    picture: Markup
    histograms: tuple[Markup, ...]
    command: str
    look: str


@dataclass(frozen=True)
class EvaluationPage:
    """An evaluation in words, tables and pictures.

    Attributes:
        name: its folder.
        verdict: sentences.
        about: what was measured.
        summary: a row for each metric and tissue: mean, sd, interval, subjects.
        columns, subjects: the table of subjects.
        bars: the charts of means.
        volumes: the charts of volumes.
        confusion: of each true class, the percentages that were predicted as each class.
        shown: best, median and worst subject.
        classes: what was measured.
        notices: what is missing, and why.
    """

    name: str
    verdict: tuple[str, ...]
    about: Mapping[str, str]
    summary: tuple[Row, ...]
    columns: tuple[str, ...]
    subjects: tuple[Row, ...]
    bars: tuple[Markup, ...]
    volumes: tuple[Markup, ...]
    confusion: tuple[Row, ...]
    shown: tuple[ShownCase, ...]
    classes: ClassSet
    notices: tuple[str, ...]


def evaluation_page(
    folder: Path, name: str, viewer: EmbeddedViewer | None = None
) -> EvaluationPage:
    """Read scores, and the label maps that they are of, and say what they come to.

    Args:
        folder: what `evaluate` wrote.
        name: of the page.
        viewer: what is to carry the subjects that are shown.

    Raises:
        InputError: the scores cannot be read.
    """
    scores = read_table(folder)
    about, notices = _about(folder)
    cases: dict[str, EvaluatedCase] = {}
    try:
        cases = evaluated_cases(folder, about, scores.classes) if about else {}
    except InputError as error:
        notices.append(f"No pictures and volumes: {error}")
    cases = {subject: case for subject, case in cases.items() if subject in scores.subjects}
    shown, confusions = _read_cases(scores, cases, notices, partial(_look, viewer, name))
    return EvaluationPage(
        name=name,
        verdict=(
            *_verdict(scores),
            *filter(None, [confusion_sentence(confusions, scores.classes)]),
        ),
        about={key: str(about[key]) for key in _ABOUT if about.get(key) not in (None, "")},
        summary=_summary(scores),
        columns=_columns(scores),
        subjects=_subjects(scores),
        bars=_bars(scores),
        volumes=volume_charts(confusions, scores.classes),
        confusion=confusion_rows(confusions, scores.classes),
        shown=shown,
        classes=scores.classes,
        notices=tuple(notices),
    )


_ABOUT = ("checkpoint", "which", "data", "split", "fold", "prediction", "truth", "images")


def _about(folder: Path) -> tuple[Mapping[str, Any], list[str]]:
    """What `metrics.json` says beside the scores, and who is not among them."""
    if not (folder / JSON_NAME).is_file():
        return {}, [
            "There are only scores: `infant-seg evaluate` measures more and draws pictures."
        ]
    try:
        content = read_json(folder / JSON_NAME)
    except InputError as error:
        return {}, [str(error)]
    if not isinstance(content, dict):
        return {}, [f"{folder / JSON_NAME} does not say what was measured."]
    failures, unpredicted = content.get("failures"), content.get("unpredicted")
    notices = list(map(str, failures.values())) if isinstance(failures, dict) else []
    if isinstance(unpredicted, list) and unpredicted:
        notices.append(f"Left out, without a prediction: {', '.join(map(str, unpredicted))}.")
    return content, notices


def _verdict(scores: ScoreTable) -> tuple[str, ...]:
    if "dice" not in scores.metrics:
        return ()
    summary, means = scores.summary["dice"], scores.of("dice", MEAN)
    known = {subject: value for subject, value in means.items() if not math.isnan(value)}
    mean = summary[MEAN]
    if not known:
        return ("No subject has a tissue that can be measured.",)
    interval = (
        f" (95% interval {mean.low:.3f} to {mean.high:.3f})" if math.isfinite(mean.low) else ""
    )
    tissues = sorted(
        (summary[name].mean, name) for name in scores.classes.foreground if summary[name].subjects
    )
    worst = min(known, key=known.__getitem__)
    sentences = [
        f"Mean Dice {mean.mean:.3f}{interval} over {mean.subjects} "
        f"{'subject' if mean.subjects == 1 else 'subjects'}.",
        f"Best is {tissues[-1][1]} ({tissues[-1][0]:.3f}), worst {tissues[0][1]} "
        f"({tissues[0][0]:.3f}).",
    ]
    if len(known) > 1:
        sentences.append(f"The worst subject is {worst} ({known[worst]:.3f}).")
    if len(known) < 3:
        sentences.append("There are too few subjects to estimate how well others would do.")
    return tuple(sentences)


def _summary(scores: ScoreTable) -> tuple[Row, ...]:
    rows = []
    for metric, by_row in scores.summary.items():
        for row, found in by_row.items():
            values = (found.mean, found.sd, found.low, found.high)
            cells = tuple((number(value), in_words(value, metric)) for value in values)
            rows.append(
                Row(f"{metric}, {row}", (*cells, (float(found.subjects), str(found.subjects))))
            )
    return tuple(rows)


def _columns(scores: ScoreTable) -> tuple[str, ...]:
    return tuple(
        f"{title}, {row}"
        for metric, title in _IN_TABLE.items()
        if metric in scores.metrics
        for row in scores.rows
    )


def _subjects(scores: ScoreTable) -> tuple[Row, ...]:
    columns = [
        (metric, scores.of(metric, row))
        for metric in _IN_TABLE
        if metric in scores.metrics
        for row in scores.rows
    ]
    return tuple(
        Row(
            subject,
            tuple(
                (number(values[subject]), in_words(values[subject], metric))
                for metric, values in columns
            ),
        )
        for subject in scores.subjects
    )


def _bars(scores: ScoreTable) -> tuple[Markup, ...]:
    found = []
    for metric, title, shares in (
        ("dice", "Dice", True),
        ("hausdorff95_mm", "Hausdorff distance, 95th percentile", False),
        ("surface_dice", f"Surface Dice at {scores.tolerance:g} mm", True),
    ):
        if metric in scores.metrics:
            rows = scores.rows if shares else scores.rows[:-1]
            groups = {row: [list(scores.of(metric, row).values())] for row in rows}
            unit = METRICS[metric].unit
            label = f"{unit or 'from 0 to 1'}; each dot is a subject"
            found.append(charts.bars_with_dots(title, label, groups, scores.classes.colors, shares))
    return tuple(found)


def _chosen(scores: ScoreTable, cases: Mapping[str, EvaluatedCase]) -> dict[str, str]:
    """Best, median and worst subject by mean Dice, of those that can be read, and their titles."""
    if "dice" not in scores.metrics:
        return {}
    means = scores.of("dice", MEAN)
    known = [subject for subject in cases if not math.isnan(means[subject])]
    known.sort(key=lambda subject: (-means[subject], subject))
    if len(known) < 3:
        names = ("Best", "Worst") if len(known) == 2 else ("The only subject",)
        return dict(zip(known, names, strict=False))
    return {known[-1]: "Worst", known[(len(known) - 1) // 2]: "Median", known[0]: "Best"}


def _read_cases(
    scores: ScoreTable,
    cases: Mapping[str, EvaluatedCase],
    notices: list[str],
    look: Callable[[str, Scan], str],
) -> tuple[tuple[ShownCase, ...], dict[str, Float[np.ndarray, "k k"]]]:
    """Pictures of some, and the confusions in ml of all or of an even choice; one in memory."""
    chosen = _chosen(scores, cases)
    names = list(chosen)
    others = [name for name in cases if name not in chosen]
    names += charts.evenly(others, MAX_CASES - len(names))
    if len(names) < len(cases):
        notices.append(f"Volumes are shown for {len(names)} of {len(cases)} subjects.")
    pictures: dict[str, ShownCase] = {}
    confusions = {}
    with progress("reading for the report", len(names), unit="subject") as bar:
        for name in names:
            try:
                scan, missing = cases[name].read()
                if name in chosen:
                    notices += [sentence for sentence in missing if sentence not in notices]
                    where = look(f"{chosen[name]}: {name}", scan)
                    pictures[name] = _show(name, chosen[name], scan, scores, cases[name], where)
                confusions[name] = confusion_ml(scan)
            except InputError as error:
                notices.append(str(error))
            bar.update()
    return tuple(pictures[name] for name in chosen if name in pictures), confusions


def _look(viewer: EmbeddedViewer | None, evaluation: str, title: str, scan: Scan) -> str:
    return viewer.add(f"{evaluation}, {title}", scan) if viewer else ""


def _show(
    name: str, title: str, scan: Scan, scores: ScoreTable, case: EvaluatedCase, look: str
) -> ShownCase:
    dice = ", ".join(
        f"{row} {in_words(scores.of('dice', row)[name], 'dice')}" for row in scores.rows
    )
    alt = f"{name}: slices of the scan, the truth, the prediction, and where they differ"
    picture, histograms = error_picture(scan, alt), _histograms(scan)
    return ShownCase(title, name, dice, picture, histograms, case.command, look)


def _histograms(scan: Scan) -> tuple[Markup, ...]:
    """Distances of both surfaces to each other, a chart for each tissue that has both."""
    assert scan.truth is not None
    ignored = (scan.truth == IGNORE) | (scan.labels == IGNORE)
    found = []
    for tissue, index in scan.classes.foreground.items():
        surfaces = [_surface(labels, index, ignored) for labels in (scan.labels, scan.truth)]
        if all(one.any() for one in surfaces):
            predicted, true = surfaces
            distances = np.concatenate(surface_distances(predicted, true, scan.spacing))
            title = f"{tissue}: distance between surfaces"
            label = f"mm, {_HISTOGRAM_END_MM:g} or more on the right"
            found.append(
                charts.histogram(
                    title,
                    label,
                    distances.tolist(),
                    scan.classes.colors[tissue],
                    _HISTOGRAM_END_MM,
                )
            )
    return tuple(found)


def _surface(labels: UInt8[np.ndarray, "x y z"], index: int, ignored: np.ndarray) -> np.ndarray:
    return surface((labels == index) & ~ignored, ignored)
