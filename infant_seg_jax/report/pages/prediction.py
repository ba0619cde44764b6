"""What a page says of label maps that were predicted: what was found, how surely, what is odd."""

import csv
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from infant_seg_jax.data.labels import TISSUE_CLASSES, ClassSet, LabelSchema
from infant_seg_jax.data.schemas import TISSUE_SCHEMA
from infant_seg_jax.data.volumes import read_label_map
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import as_named, read_json, read_text
from infant_seg_jax.labeling.scans import TABLE, schema_of, sidecar_of, table_of
from infant_seg_jax.prediction.expected_dice import ExpectedDice
from infant_seg_jax.progress import progress
from infant_seg_jax.report.drawing.slices import LARGE, SMALL, Scan, mosaic
from infant_seg_jax.report.pages.page import view_command
from infant_seg_jax.report.pages.scan_paths import scan_of, with_image
from infant_seg_jax.report.viewer.embedded import EmbeddedViewer

MAX_PICTURES = 40
"""Of more scans, so many are shown: those that are flagged first, then the least certain."""
MAX_LOOKS = 3
"""So many of them can be looked around in."""
MAX_LARGE = 6
"""So many of them have large pictures."""

_LEAST_IN_CHARTS = 3
_GONE = "The picture does not show the scan, because the file is no longer where it was."
_SUMS = ("brain", "intracranial")


@dataclass(frozen=True)
class ScanRow:
    """A row of the table of volumes.

    Attributes:
        label_map: the path below the output.
        person: the participant; empty where the table does not say.
        months: the age at the scan; NaN where the table does not say.
        volumes: in ml, of the classes, the brain and all within the skull.
        entropy, agreement: as in the table; NaN where it has none.
        flagged: whether there is something to know.
    """

    label_map: str
    person: str
    months: float
    volumes: Mapping[str, float]
    entropy: float
    agreement: float
    flagged: bool


@dataclass(frozen=True)
class ScanCard:
    """A scan that is shown.

    Attributes:
        row: its row.
        made_by: by which network, a sentence; empty where that is not known.
        ranks: of each volume, its place in the cohort in words.
        notices: what to know before trusting it.
        checked: a sentence on which checks there were.
        expected_dice: with its range; empty where it is not known.
        picture: slices; None, and a sentence among the notices, where there are none.
        command: what opens it in the viewer.
        look: where it is in the page's own viewer; empty where it is not.
    """

    row: ScanRow
    made_by: str
    ranks: Mapping[str, str]
    notices: tuple[str, ...]
    checked: str
    expected_dice: str
    picture: Markup | None
    command: str
    look: str = ""


@dataclass(frozen=True)
class PredictionPage:
    """A folder of label maps in words, a table, charts of the cohort, and pictures.

    Attributes:
        made_by: by which networks the scans that are shown were labeled, a sentence each.
        next_steps: commands that may be of use now, each with what it does.
        volumes: the columns of the table that have such.
        charts: volumes and certainty.
        growth: volumes against age, where ages are known.
        classes: those of the label maps.
    """

    name: str
    verdict: tuple[str, ...]
    made_by: tuple[str, ...]
    next_steps: tuple[tuple[str, str], ...]
    rows: tuple[ScanRow, ...]
    volumes: tuple[str, ...]
    charts: tuple[Markup, ...]
    growth: tuple[Markup, ...]
    cards: tuple[ScanCard, ...]
    classes: ClassSet
    notices: tuple[str, ...]


def is_prediction(folder: Path) -> bool:
    """Whether `predict` wrote to this folder."""
    return _table_of(folder).is_file()


def _table_of(folder: Path) -> Path:
    """The table of volumes; that of a dataset that version 0.1 wrote is not in its `docs`."""
    return next(filter(Path.is_file, (table_of(folder), folder / TABLE)), folder / TABLE)


def prediction_page(
    folder: Path, name: str, viewer: EmbeddedViewer | None = None
) -> PredictionPage:
    """Read the table of volumes, and of some label maps all there is.

    Args:
        folder: what `predict` wrote.
        name: of the page.
        viewer: what is to carry those that are flagged or least certain, a few.

    Raises:
        InputError: the table cannot be read, or has other columns.
    """
    volumes, rows = _read_table(_table_of(folder))
    schemas = (schema_of(folder / row.label_map) for row in rows)
    classes = next((found.classes for found in schemas if found), TISSUE_CLASSES)
    chosen = sorted(rows, key=lambda row: (not row.flagged, -_or_zero(row.entropy), row.label_map))
    cards = []
    with progress("drawing", min(len(rows), MAX_PICTURES), unit="scan") as bar:
        for number, row in enumerate(chosen[:MAX_PICTURES]):
            size = LARGE if number < MAX_LARGE else SMALL
            cards.append(_card(folder, row, rows, viewer if number < MAX_LOOKS else None, size))
            bar.update()
    notices = []
    if len(rows) > MAX_PICTURES:
        notices.append(
            f"{MAX_PICTURES} of {len(rows)} scans are shown: flagged ones first, then those that "
            "the network is least certain about. The table has all scans."
        )
    drawn, remarks = _charts(rows, classes) if len(rows) >= _LEAST_IN_CHARTS else ((), ())
    made_by = tuple(filter(None, dict.fromkeys(card.made_by for card in cards)))
    return PredictionPage(
        name,
        _verdict(rows),
        made_by,
        _next_steps(folder),
        tuple(rows),
        volumes,
        drawn,
        _growth(rows, classes),
        tuple(cards),
        classes,
        (*notices, *remarks),
    )


def _next_steps(folder: Path) -> tuple[tuple[str, str], ...]:
    steps = (
        (
            ("evaluate", f"--prediction={folder}", "--truth=TRUTH", "--output=scores"),
            "measures the label maps, if you have true ones",
        ),
        (
            ("train", "--config=fine_tune_bundled", "--config.data.path=PREPARED", "--workdir=RUN"),
            "fine-tunes the bundled model on your own labeled scans, for example with corrected "
            "label maps; infant-seg prepare makes the prepared set",
        ),
    )
    return tuple((shlex.join(["infant-seg", *command]), what) for command, what in steps)


def _read_table(path: Path) -> tuple[tuple[str, ...], list[ScanRow]]:
    """The columns of volumes, and the rows."""
    try:
        lines = read_text(path).splitlines()
        reader = csv.DictReader(lines, delimiter="\t", quotechar=None, quoting=csv.QUOTE_NONE)
        columns = [name for name in reader.fieldnames or () if name.endswith("_ml")]
        volumes = tuple(name.removesuffix("_ml") for name in columns)
        if volumes[-2:] != _SUMS:
            raise KeyError("_ml, ".join((*_SUMS, "")))
        return volumes, [_row(cells, volumes) for cells in reader]
    except InputError:
        raise
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is not a table of volumes as written by predict ({error!r}): predict again."
        ) from error


def _row(cells: Mapping[str, str], volumes: Sequence[str]) -> ScanRow:
    return ScanRow(
        cells["label_map"],
        *_person(cells),
        {name: _number(cells[f"{name}_ml"]) for name in volumes},
        _number(cells["entropy"]),
        _number(cells["agreement"]),
        cells["flagged"] == "true",
    )


def _person(cells: Mapping[str, str]) -> tuple[str, float]:
    """The participant and the age; tables of version 0.1 have no ages."""
    person = cells["participant_id"]
    return "" if person == "n/a" else person, _number(cells.get("age_months", "n/a"))


def _number(text: str) -> float:
    return math.nan if text == "n/a" else float(text)


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _verdict(rows: Sequence[ScanRow]) -> tuple[str, ...]:
    flagged = sum(row.flagged for row in rows)
    sentences = [f"{len(rows)} {'scan' if len(rows) == 1 else 'scans'} labeled."]
    if rows:
        sentences.append(
            f"{flagged} with automatic warnings: read the warnings before you use the label maps."
            if flagged
            else "No automatic warnings, which proves nothing: look at each label map."
        )
    return tuple(sentences)


def _charts(
    rows: Sequence[ScanRow], classes: ClassSet
) -> tuple[tuple[Markup, ...], tuple[str, ...]]:
    """The cohort's volumes and certainty, and sentences about the charts."""
    from infant_seg_jax.report.drawing import charts  # Not above: Matplotlib takes half a second.

    found = [
        charts.strip(f"{tissue}", "ml", [row.volumes[tissue] for row in rows], color)
        for tissue, color in classes.colors.items()
        if tissue in rows[0].volumes
    ]
    label = "mean entropy: 0 certain, 1 all classes equally likely"
    found.append(charts.strip("Uncertainty", label, [row.entropy for row in rows], charts.GRAY))
    if charts.finite([row.agreement for row in rows]):
        label = "Dice between the labels of the scan and of its mirror image"
        agreement = [row.agreement for row in rows]
        found.append(charts.strip("Agreement", label, agreement, charts.GRAY))
    sentence = f"The charts show {charts.MAX_DOTS} scans, chosen evenly."
    return tuple(found), (sentence,) if len(rows) > charts.MAX_DOTS else ()


def _growth(rows: Sequence[ScanRow], classes: ClassSet) -> tuple[Markup, ...]:
    """The volumes of classes and of all within the skull against age, if a few ages are known."""
    months = [row.months for row in rows]
    if np.isfinite(months).sum() < _LEAST_IN_CHARTS:
        return ()
    from infant_seg_jax.report.drawing import charts  # Not above: Matplotlib takes half a second.

    people = [row.person for row in rows]
    colors = {**classes.colors, _SUMS[-1]: charts.GRAY}
    volumes = {name: [row.volumes.get(name, math.nan) for row in rows] for name in colors}
    return tuple(
        charts.against_age(name, months, ml, people, colors[name])
        for name, ml in volumes.items()
        if charts.finite(ml)
    )


def _card(
    folder: Path, row: ScanRow, rows: Sequence[ScanRow], viewer: EmbeddedViewer | None, size: int
) -> ScanCard:
    path = folder / as_named(row.label_map)
    sidecar = sidecar_of(path)
    notices: tuple[str, ...] = ()
    content: Any = None
    schema = schema_of(path) or TISSUE_SCHEMA
    scan_path = scan_of(sidecar)
    picture, look, made_by = None, "", ""
    try:
        content = read_json(sidecar)
        found = content.get("Notices") if isinstance(content, dict) else None
        notices = tuple(map(str, found)) if isinstance(found, list) else ()
        made_by = _made_by(content)
        scan, missing = _read(path, scan_path, schema)
        picture = mosaic(scan, f"{row.label_map}: slices with outlined tissues", size)
        notices += missing
        look = viewer.add(row.label_map, scan) if viewer else ""
    except InputError as error:
        notices += (f"No picture: {error}",)
    names = schema.classes.foreground if len(rows) > 1 else ()
    ranks = {name: _rank(row, rows, name) for name in names if name in row.volumes}
    command = view_command((scan_path, path)) if scan_path else ""
    checked, expected = _checked(row, content), _expected_dice(content)
    return ScanCard(row, made_by, ranks, notices, checked, expected, picture, command, look)


def _made_by(content: Any) -> str:
    """By which network a label map was made, as its JSON has it."""
    try:
        models = [(str(one["Name"]), str(one["SHA256"])[:8]) for one in content["Models"]]
        refined = content["Settings"]["Refine"] is True
    except (KeyError, TypeError):
        return ""
    ours = {path.name for path in (files("infant_seg_jax") / "weights").iterdir()}
    names = " and ".join(
        f"{'the bundled model ' if name in ours else ''}{name} ({sha})" for name, sha in models
    )
    return f"Labeled by {names}{', with intensity-based refinement' * refined}."


def _expected_dice(content: Any) -> str:
    """The Dice to expect with its range, as a label map's JSON has it."""
    try:
        found = content["Confidence"]["ExpectedDice"]
        return str(ExpectedDice(*(float(found[key]) for key in ("mean", "low", "high"))))
    except (KeyError, TypeError, ValueError):
        return ""


def _checked(row: ScanRow, sidecar: Any) -> str:
    """Which checks there were, and whether one of them warned."""
    try:
        names = ", ".join(map(str, sidecar["Confidence"]["Checked"]))
    except (KeyError, TypeError):
        names = ""
    prefix = "" if row.flagged else "No automatic warning. "
    return f"{prefix}Checked: {names or 'not recorded'}."


def _read(path: Path, scan_path: Path | None, schema: LabelSchema) -> tuple[Scan, tuple[str, ...]]:
    label_map = read_label_map(path)
    labels = schema.to_classes(label_map.data, path)
    scan = Scan(None, labels, label_map.affine, classes=schema.classes)
    return with_image(scan, label_map, scan_path, _GONE)


def _rank(row: ScanRow, rows: Sequence[ScanRow], name: str) -> str:
    values = np.array([other.volumes[name] for other in rows])
    place = 1 + int(np.sum(values > row.volumes[name]))
    return f"rank {place} of {len(rows)} by size, median {np.median(values):.1f} ml"
