"""The demo in one picture: slices of an unseen infant, Dice, and the curves of the runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from infant_seg_jax.evaluation.score_table import ScoreTable
from infant_seg_jax.files import atomic_path
from infant_seg_jax.report.drawing.charts import STYLE, Series, draw_bars, draw_curves
from infant_seg_jax.report.drawing.slices import (
    ENDS,
    PLANES,
    Scan,
    filled_slice,
    gray_slice,
    middle,
)


@dataclass(frozen=True)
class Curve:
    """A run's loss and validation Dice against steps."""

    name: str
    steps: Sequence[int]
    losses: Sequence[float]
    validation_steps: Sequence[int]
    dice: Sequence[float]


def demo_figure(
    path: Path, scan: Scan, tables: Mapping[str, ScoreTable], curves: Sequence[Curve]
) -> Path:
    """Scan, truth and prediction; Dice bars with every subject as a dot; curves of the runs.

    Args:
        path: of the picture.
        scan: with its truth.
        tables: by the name of the run, in the order of the curves.
        curves: of these runs, and of others after them.
    """
    assert scan.truth is not None
    names = [curve.name for curve in curves]
    with rc_context(STYLE):
        figure = Figure(figsize=(13, 8), layout="constrained")
        grid = figure.add_gridspec(3, 5, width_ratios=(1, 1, 1, 0.05, 2.2))
        for row, (plane, at) in enumerate(zip(PLANES, middle(scan.truth > 0), strict=True)):
            shown = {
                "unseen infant: scan": gray_slice(scan, plane, at),
                "truth": filled_slice(scan, scan.truth, plane, at),
                "prediction": filled_slice(scan, scan.labels, plane, at),
            }
            for column, (title, pixels) in enumerate(shown.items()):
                axes = figure.add_subplot(grid[row, column])
                show_slice(axes, pixels, plane)
                axes.set_title("" if row else title)
        bars, losses, dice = (figure.add_subplot(grid[row, 4]) for row in range(3))
        columns = next(iter(tables.values())).rows
        groups = {
            name: [list(table.of("dice", name).values()) for table in tables.values()]
            for name in columns
        }
        draw_bars(bars, "Dice, unseen infants", groups, {}, shares=True)
        numbered = list(enumerate(curves))
        loss = [Series(number, one.steps, one.losses) for number, one in numbered]
        draw_curves(losses, "training loss", loss)
        validation = [Series(number, one.validation_steps, one.dice) for number, one in numbered]
        draw_curves(dice, "validation Dice", validation)
        losses.legend(names, fontsize=8)
        figure.legend(
            handles=[Patch(color=color, label=name) for name, color in scan.classes.colors.items()],
            loc="outside lower left",
            ncols=3,
            title="R: subject's right (radiological convention)",
            fontsize=8,
            title_fontsize=8,
        )
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=110, facecolor="white")
    return path


def show_slice(axes: Axes, pixels: np.ndarray, plane: str) -> None:
    """Draw a slice, with the sides marked."""
    axes.imshow(pixels)
    for x, letter, side in zip((0.02, 0.98), ENDS[plane], ("left", "right"), strict=True):
        axes.text(x, 0.5, letter, color="white", transform=axes.transAxes, ha=side)
    axes.set_axis_off()
