"""What a page says of runs: how they went, from where they started, with what."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from infant_seg_jax.config import Config, default_config, flatten
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import read_json, read_text
from infant_seg_jax.report.drawing import charts
from infant_seg_jax.report.drawing.charts import MAX_SERIES, Series
from infant_seg_jax.report.pages.step_times import seconds_per_step
from infant_seg_jax.store.run_folder import read_metrics, read_run
from infant_seg_jax.training.peak_memory import DEVICE, PROCESS, read_peak_memory

_RECORDED = ("git_commit", "modalities", "extents", "preparation")
_START_COLUMNS = ("path", "shape", "start", "frozen", "multiplier")


@dataclass(frozen=True)
class StartGroup:
    """Parameters of one block that start alike: the block, how, how many, and which."""

    block: str
    start: str
    frozen: bool
    multiplier: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class RunPage:
    """A run.

    Attributes:
        name: its folder.
        number: its color and dashes in the charts.
        color, dashes: these.
        started_from: the run whose weights it began with; empty: from scratch.
        after: at which step of the charts it begins, which is where that run ended, or 0.
        steps: how many it took, of how many.
        loss: the last.
        dice: of its best validation, by tissue and mean, and the step; empty without one.
        seconds: a step took so long; None where that was not recorded.
        memory: the most that was held, of one device, or of the process.
        data: the name of the prepared set that it trained on and was validated on.
        devices, subjects: in words.
        starts: what was loaded and frozen.
        config: every value, and whether it is the default's.
        record: versions and what else `run.json` says.
    """

    name: str
    number: int
    color: str
    dashes: str
    started_from: str
    after: int
    steps: str
    loss: str
    dice: Mapping[str, str]
    seconds: str
    memory: str
    data: str
    devices: str
    subjects: str
    starts: tuple[StartGroup, ...]
    config: tuple[tuple[str, str, bool], ...]
    record: Mapping[str, str]


@dataclass(frozen=True)
class TrainingPage:
    """Runs beside each other: the charts in which all of them are, a row for each, notices.

    `marked` says whether a line marks where fine-tuning starts, `alike` whether all runs were
    validated on the same data; `classes` are those that any run has, but background.
    """

    classes: tuple[str, ...]
    charts: tuple[Markup, ...]
    runs: tuple[RunPage, ...]
    marked: bool
    alike: bool
    notices: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Run:
    """What the files of a run say."""

    folder: Path
    name: str
    config: Config
    classes: tuple[str, ...]
    record: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]

    def series(self, key: str) -> tuple[list[float], list[float]]:
        """The steps at which something was measured, and what."""
        points = [
            (line["step"], line[key])
            for line in self.lines
            if isinstance(line.get("step"), int) and isinstance(line.get(key), int | float)
        ]
        return [float(step) for step, _ in points], [float(value) for _, value in points]


def training_page(folders: Mapping[str, Path]) -> TrainingPage:
    """Read runs, by the names that they are to have.

    Raises:
        InputError: one cannot be read.
    """
    runs = [_read(name, folder) for name, folder in folders.items()]
    notices = []
    if len(runs) > MAX_SERIES:
        notices.append(f"The charts show the first {MAX_SERIES} of {len(runs)} runs.")
    parents = {run.name: _parent(run, runs) for run in runs}
    begins = {run.name: _begin(run, parents) for run in runs}
    drawn = list(enumerate(runs))[:MAX_SERIES]
    marks = sorted({float(begins[run.name]) for _, run in drawn if begins[run.name]})

    def chart(title: str, label: str, key: str) -> Markup | None:
        series = []
        for number, run in drawn:
            steps, values = run.series(key)
            if any(map(math.isfinite, values)):
                series.append(Series(number, [begins[run.name] + step for step in steps], values))
        return charts.curves(title, label, series, marks) if series else None

    classes = tuple(dict.fromkeys(name for run in runs for name in run.classes))
    wanted = [
        chart("Training loss", "loss", "loss"),
        chart("Validation, mean", "Dice", "mean_dice"),
        *(chart(f"Validation, {tissue}", "Dice", f"dice_{tissue}") for tissue in classes),
        chart("Learning rate", "learning rate", "learning_rate"),
        chart("Norm of the gradient", "norm", "gradient_norm"),
    ]
    return TrainingPage(
        classes=classes,
        charts=tuple(one for one in wanted if one is not None),
        runs=tuple(_page(number, run, begins[run.name]) for number, run in enumerate(runs)),
        marked=bool(marks),
        alike=len(set(map(_data, runs))) < 2,
        notices=tuple(notices),
    )


def _read(name: str, folder: Path) -> _Run:
    config, expects = read_run(folder)  # Which says whether both files are sound.
    record = read_json(folder / "run.json")
    lines = [line for line in read_metrics(folder) if isinstance(line, dict)]
    return _Run(folder, name, config, tuple(expects.classes.foreground), record, lines)


def _parent(run: _Run, runs: Sequence[_Run]) -> _Run | None:
    """The run among these from whose weights this one began, by its path or its folder's name."""
    if not run.config.init.checkpoint:
        return None
    source = Path(run.config.init.checkpoint)
    same = [other for other in runs if other.folder.resolve() == source.resolve()]
    named = [other for other in runs if other.folder.resolve().name == source.name]
    found = same or (named if len(named) == 1 else [])
    return found[0] if found and found[0] is not run else None


def _begin(run: _Run, parents: Mapping[str, _Run | None]) -> int:
    """Where a run begins in the charts: after the steps of all that it is built on."""
    after, seen = 0, {run.name}
    parent = parents[run.name]
    while parent is not None and parent.name not in seen:
        seen.add(parent.name)
        after += _steps(parent)
        parent = parents[parent.name]
    return after


def _steps(run: _Run) -> int:
    return max((line["step"] for line in run.lines if isinstance(line.get("step"), int)), default=0)


def _limit(config: Config) -> str:
    """What ends a run, in words."""
    return f"in {config.minutes:g} min" if config.minutes else f"of {config.steps}"


def _page(number: int, run: _Run, after: int) -> RunPage:
    color, dashes = charts.series_style(number)
    _, losses = run.series("loss")
    seconds = seconds_per_step(run.folder)
    subjects = _mapping(run.record.get("subjects"))
    default = flatten(default_config())
    return RunPage(
        name=run.name,
        number=number,
        color="currentColor" if color == charts.INK else color,
        dashes=dashes,
        started_from=str(run.config.init.checkpoint),
        after=after,
        steps=f"{_steps(run)} {_limit(run.config)}",
        loss=f"{losses[-1]:.3f}" if losses else "-",
        dice=_best(run),
        seconds="-" if seconds is None else f"{seconds:.3g} s",
        memory=_memory(read_peak_memory(run.folder)),
        data=Path(_data(run)).name or "-",
        devices=_counted(run.record.get("devices")),
        subjects=", ".join(
            f"{len(cases)} {name}" for name, cases in subjects.items() if isinstance(cases, list)
        ),
        starts=_starts(run.folder / "start.tsv"),
        config=tuple(
            (key, str(value), value == default.get(key))
            for key, value in flatten(run.config).items()
        ),
        record={
            **_as_text(run.record.get("data"), "data: "),
            **_as_text(run.record.get("versions")),
            **_as_text({key: run.record[key] for key in _RECORDED if key in run.record}),
        },
    )


def _best(run: _Run) -> dict[str, str]:
    """The validation of the best mean Dice."""
    keys = {**{name: f"dice_{name}" for name in run.classes}, "mean": "mean_dice"}
    scored = [line for line in run.lines if isinstance(line.get("mean_dice"), float)]
    scored = [line for line in scored if math.isfinite(line["mean_dice"])]
    if not scored:
        return {}
    best = max(scored, key=lambda line: line["mean_dice"])
    values = {name: best.get(key) for name, key in keys.items()}
    shown = {
        name: f"{value:.3f}" if isinstance(value, int | float) else "-"
        for name, value in values.items()
    }
    return {**shown, "step": str(best.get("step", "-"))}


def _data(run: _Run) -> str:
    return str(_mapping(run.record.get("data")).get("path", ""))


def _memory(peak: Mapping[str, int]) -> str:
    names = ((DEVICE, "of a device"), (PROCESS, "of the process"))
    return next((f"{peak[key] / 2**30:.2f} GiB {of}" for key, of in names if key in peak), "-")


def _starts(path: Path) -> tuple[StartGroup, ...]:
    """The table of what was loaded and frozen, by block; nothing where there is none."""
    try:
        rows = list(csv.DictReader(read_text(path).splitlines(), delimiter="\t"))
    except (InputError, csv.Error):
        return ()
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for row in rows:
        if any(row.get(column) is None for column in _START_COLUMNS):
            continue
        kind, _, rest = row["path"].partition("/")
        block = f"{rest.split('/')[0]}, {'statistics' if kind == 'batch_stats' else 'parameters'}"
        key = (block, row["start"], row["frozen"], row["multiplier"])
        groups.setdefault(key, []).append(f"{row['path']} ({row['shape']})")
    return tuple(
        StartGroup(block, start, frozen == "True", multiplier, tuple(paths))
        for (block, start, frozen, multiplier), paths in groups.items()
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _as_text(values: object, prefix: str = "") -> dict[str, str]:
    return {f"{prefix}{key}": str(value) for key, value in _mapping(values).items()}


def _counted(devices: object) -> str:
    names = [str(device) for device in devices] if isinstance(devices, list) else []
    counts = {name: names.count(name) for name in dict.fromkeys(names)}
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "-"
