"""Pictures: slices with tissue overlays, Dice bars, curves.

Slices are drawn in the radiological convention, the subject's right on the picture's left, and say
so. The tissue colours are from the colour-blind safe palette of Okabe and Ito (2008).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, Shaped, UInt8
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from infant_seg_jax.data.labels import TISSUE_CLASSES
from infant_seg_jax.data.volumes import Volume
from infant_seg_jax.evaluation.dice_table import DiceTable
from infant_seg_jax.files import atomic_path
from infant_seg_jax.report.slices import ENDS, PLANES, plane_slice

RUN_COLOURS = ("#000000", "#0072B2", "#CC79A7")


@dataclass(frozen=True)
class Curve:
    """A run's loss and validation Dice against steps."""

    name: str
    steps: Sequence[int]
    losses: Sequence[float]
    validation_steps: Sequence[int]
    dice: Sequence[float]


def draw_slice(
    axes: Axes,
    volume: Volume,
    label_map: UInt8[np.ndarray, "x y z"] | None,
    plane: str,
    at: int,
) -> None:
    """Draw a slice of a scan, with its tissues in colour if a label map is given."""
    spacing = list(volume.spacing)
    del spacing[PLANES.index(plane)]
    aspect = spacing[1] / spacing[0]
    image = volume.data[..., 0]
    axes.imshow(
        plane_slice(image, plane, at),
        cmap="gray",
        vmin=0,
        vmax=float(np.percentile(image[image > 0], 99.5)),
        aspect=aspect,
    )
    if label_map is not None:
        tissues = plane_slice(label_map, plane, at).astype(float)
        tissues[tissues == 0] = np.nan
        colours = ListedColormap(list(TISSUE_CLASSES.colours.values()))
        axes.imshow(
            tissues,
            cmap=colours,
            vmin=1,
            vmax=3,
            alpha=0.65,
            aspect=aspect,
            interpolation="nearest",
        )
    for x, letter in zip((0.02, 0.98), ENDS[plane], strict=True):
        axes.text(
            x,
            0.5,
            letter,
            color="white",
            transform=axes.transAxes,
            ha="left" if x < 0.5 else "right",
        )
    axes.set_axis_off()


def middle(label_map: Bool[np.ndarray, "x y z"]) -> tuple[int, int, int]:
    """The voxel in the middle of what is true."""
    x, y, z = (int(np.median(index)) for index in np.nonzero(label_map))
    return x, y, z


def mosaic(path: Path, volume: Volume, label_map: UInt8[np.ndarray, "x y z"]) -> Path:
    """Draw a scan and its label map in three planes, three slices each."""
    figure, rows = plt.subplots(6, 3, figsize=(9, 16), layout="constrained")
    inside = volume.data[..., 0] != 0
    for p, plane in enumerate(PLANES):
        occupied = np.nonzero(inside.any(axis=tuple(a for a in range(3) if a != p)))[0]
        for column, share in enumerate((0.3, 0.5, 0.7)):
            at = int(occupied[0] + share * (occupied[-1] - occupied[0]))
            draw_slice(rows[2 * p, column], volume, None, plane, at)
            draw_slice(rows[2 * p + 1, column], volume, label_map, plane, at)
            rows[2 * p, column].set_title(f"{plane}, slice {at}", fontsize=9)
    _tissue_legend(figure)
    return _save(figure, path)


def demo_figure(
    path: Path,
    volume: Volume,
    truth: Shaped[np.ndarray, "x y z"],
    prediction: UInt8[np.ndarray, "x y z"],
    tables: Mapping[str, DiceTable],
    curves: Sequence[Curve],
) -> Path:
    """Scan, truth and prediction; Dice bars with every subject as a dot; curves of the runs."""
    figure = plt.figure(figsize=(13, 8), layout="constrained")
    grid = figure.add_gridspec(3, 5, width_ratios=(1, 1, 1, 0.05, 2.2))
    centre = middle(truth > 0)
    shown = (("scan", None), ("truth", truth.astype(np.uint8)), ("prediction", prediction))
    for row, (plane, at) in enumerate(zip(PLANES, centre, strict=True)):
        for column, (title, label_map) in enumerate(shown):
            axes = figure.add_subplot(grid[row, column])
            draw_slice(axes, volume, label_map, plane, at)
            if row == 0:
                axes.set_title(f"unseen infant: {title}" if column == 0 else title)
    _dice_bars(figure.add_subplot(grid[0, 4]), tables)
    _curves(figure.add_subplot(grid[1, 4]), curves, "loss")
    _curves(figure.add_subplot(grid[2, 4]), curves, "dice")
    _tissue_legend(figure)
    return _save(figure, path)


def _dice_bars(axes: Axes, tables: Mapping[str, DiceTable]) -> None:
    width = 0.8 / len(tables)
    columns = next(iter(tables.values())).columns
    for i, (name, table) in enumerate(tables.items()):
        places = np.arange(len(columns)) + (i - (len(tables) - 1) / 2) * width
        means = [table.summary()[column][0] for column in columns]
        axes.bar(places, means, width, label=name, color=RUN_COLOURS[1 + i], alpha=0.6)
        for _, row in table.rows():
            axes.plot(places, row, "o", color="black", markersize=2.5)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_ylim(0, 1)
    axes.set_ylabel("Dice, unseen infants")
    axes.legend(loc="lower right", fontsize=8, framealpha=0.95)


def _curves(axes: Axes, curves: Sequence[Curve], what: str) -> None:
    for curve, colour in zip(curves, RUN_COLOURS, strict=True):
        if what == "loss":
            axes.plot(curve.steps, curve.losses, color=colour, label=curve.name)
        else:
            axes.plot(curve.validation_steps, curve.dice, "o-", color=colour, label=curve.name)
    axes.set_ylabel("training loss" if what == "loss" else "validation Dice")
    axes.set_xlabel("step")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)


def _tissue_legend(figure: Figure) -> None:
    figure.legend(
        handles=[
            Patch(color=colour, label=name) for name, colour in TISSUE_CLASSES.colours.items()
        ],
        loc="outside lower left",
        ncols=3,
        title="R: subject's right (radiological convention)",
        fontsize=8,
        title_fontsize=8,
    )


def _save(figure: Figure, path: Path) -> Path:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
    return path
