"""A sheet of pictures: what each augmentation does to a prepared scan, alone and with the others.

Each picture is an axial slice of the whole volume, in the radiological convention, with its tissues
outlined and the values that were drawn above it. Gray levels are the same in all of them.
"""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from infant_seg_jax.augmentation import AUGMENTATIONS, Draws, apply, draw
from infant_seg_jax.config import Config
from infant_seg_jax.data.formats.grid import Shape
from infant_seg_jax.data.labels import IGNORE, TISSUE_CLASSES, ClassSet
from infant_seg_jax.data.prepared import PreparedCase
from infant_seg_jax.files import atomic_path
from infant_seg_jax.progress import progress
from infant_seg_jax.report.drawing.slices import Scan, class_slice, middle, outlined_slice, rgb

TELLING_REACH = 0.3
"""Of `gain` and `offset`, to show what they do where the config has them off."""

UNKNOWN_COLOR = "#505050"
_PANEL = 2.2  # Inches, its width.
_TITLE_WIDTH = 46  # Letters.


@dataclass(frozen=True)
class Row:
    """What a row of the sheet shows: its name, and the `config.augmentation` that is drawn from."""

    name: str
    config: Config


def sheet_rows(config: Config, channels: int) -> list[Row]:
    """Each augmentation alone, in every patch, at its strength in `config.augmentation`.

    Then all together: as the config has them, or, where it has none on, each with certainty.
    """
    names = [one.name for one in AUGMENTATIONS if one.name != "drop_modality" or channels > 1]

    def only(*chosen: str) -> Config:
        changed = config.copy_and_resolve_references()
        for one in AUGMENTATIONS:
            strength = (config[one.name] or TELLING_REACH) if one.in_every_patch else 1.0
            changed[one.name] = strength if one.name in chosen else 0.0
        return changed

    configured = any(config[name] for name in names)
    together = Row("as configured", config) if configured else Row("all together", only(*names))
    return [*(Row(name.replace("_", " "), only(name)) for name in names), together]


def augmentation_sheet(
    path: Path,
    case: PreparedCase,
    modalities: Sequence[str],
    config: Config,
    draws: int = 4,
    seed: int = 0,
    classes: ClassSet = TISSUE_CLASSES,
) -> Path:
    """Draw what `config.augmentation` does to a case: a row per augmentation, a column per draw.

    Several modalities are shown side by side. What comes from beyond the volume is gray.

    Raises:
        InputError: the case's arrays are damaged, or the picture cannot be written.
    """
    image = case.image()
    labels = np.array(case.labels()) if case.labels_path else np.zeros(case.shape, np.uint8)
    paint = painter(image, case.spacing, classes)
    rows = sheet_rows(config, case.channels)
    figure = Figure(
        figsize=(_PANEL * max(draws, 2) * case.channels, 1.3 * _PANEL * (len(rows) + 1)),
        layout="constrained",
    )
    grid = figure.subplots(len(rows) + 1, max(draws, 2), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    paint(grid[0, 0], image, np.zeros_like(labels))
    paint(grid[0, 1], image, labels)
    grid[0, 0].set_title(f"{case.case_id}, {' and '.join(modalities)}", fontsize=7)
    grid[0, 1].set_title("as prepared", fontsize=7)

    keys = jax.random.split(jax.random.key(seed), draws)
    with progress("drawing", len(rows), unit="row") as bar:
        for row, panels in zip(rows, grid[1:], strict=True):
            augment = jax.jit(_augmentation_by(row.config))
            for key, axes in zip(keys, panels, strict=False):
                drawn, changed, moved = augment(key, image, labels)
                paint(axes, np.asarray(changed), np.asarray(moved))
                axes.set_title(describe(drawn, case.shape), fontsize=6)
            panels[0].text(-0.04, 0.5, row.name, ha="right", va="center", rotation=90, fontsize=9)
            panels[0].texts[-1].set_transform(panels[0].transAxes)
            bar.update()
    draw_legend(figure, classes)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return path


def describe(draws: Draws, shape: Shape) -> str:
    """What was drawn and chosen for one volume of `shape`, in a few lines of words."""
    chosen = [one for one in AUGMENTATIONS if one.name in draws and bool(draws[one.name].chosen)]
    described = [one.describe(draws[one.name].values, shape) for one in chosen]
    lines = [line for words in described for line in textwrap.wrap(words, _TITLE_WIDTH)]
    if len(chosen) == 1:
        return "\n".join(lines)
    return textwrap.fill("; ".join(described), _TITLE_WIDTH)


def _augmentation_by(config: Config) -> Callable[..., tuple[Draws, Any, Any]]:
    def augment(key: Any, image: Any, labels: Any) -> tuple[Draws, Any, Any]:
        drawn = draw(key, config, image.shape[-1], labels.shape)
        return drawn, *apply(drawn, image, labels)

    return augment


def painter(
    image: Float[np.ndarray, "x y z c"], spacing: tuple[float, float, float], classes: ClassSet
) -> Callable[[Axes, np.ndarray, np.ndarray], None]:
    """Draws images and outlines of labels at the level, and in the gray levels, of `image`."""
    brain = image != 0
    at = middle(brain.any(axis=-1))[2]
    # Even on both sides of 0, the brain's mean, so that an inverted image finds room.
    reach = float(np.percentile(np.abs(image[brain]), 99.5)) if brain.any() else 1.0
    affine = np.diag([*spacing, 1.0])

    def paint(
        axes: Axes, image: Float[np.ndarray, "x y z c"], labels: UInt8[np.ndarray, "x y z"]
    ) -> None:
        beside_each_other = []
        for channel in np.moveaxis(np.where(image == 0, -reach, image), -1, 0):
            scan = Scan(channel, labels, affine, classes=classes, window=(-reach, reach))
            shown = outlined_slice(scan, "axial", at)
            shown[class_slice(scan, labels, "axial", at) == IGNORE] = rgb(UNKNOWN_COLOR)
            beside_each_other.append(shown)
        axes.imshow(np.concatenate(beside_each_other, axis=1))

    return paint


def draw_legend(figure: Figure, classes: ClassSet) -> None:
    """What the colors of a sheet mean, below it."""
    tissues = [Patch(color=color, label=name) for name, color in classes.colors.items()]
    figure.legend(
        handles=[*tissues, Patch(color=UNKNOWN_COLOR, label="ignored: from beyond the volume")],
        loc="outside lower left",
        ncols=4,
        title="Axial slices; the subject's right is on the left (radiological convention)",
        fontsize=8,
        title_fontsize=8,
    )
