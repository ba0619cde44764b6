"""A sheet of pictures: the very examples that a config trains on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from infant_seg_jax.config import Config
from infant_seg_jax.data.labels import TISSUE_CLASSES, ClassSet
from infant_seg_jax.data.prepared import PreparedCase
from infant_seg_jax.files import atomic_path, legible
from infant_seg_jax.progress import progress
from infant_seg_jax.rendering.anatomies import AnatomySet
from infant_seg_jax.rendering.patches import make_batch
from infant_seg_jax.report.drawing.augmentation_sheet import draw_legend, painter
from infant_seg_jax.training.examples import draw_examples, example_names

_COLUMNS = 4
"""Of examples, each of which has two panels: with outlines and without."""
_PANEL = 1.7  # Inches.


def example_sheet(
    path: Path,
    cases: Sequence[PreparedCase],
    channels: int,
    anatomies: AnatomySet | None,
    config: Config,
    count: int = 16,
    classes: ClassSet = TISSUE_CLASSES,
) -> Path:
    """Draw the first `count` examples of a run: rendered, augmented and labeled as in its steps.

    Args:
        path: of the picture.
        cases: those that are trained on.
        channels: modalities of an example, which are shown side by side.
        anatomies: what examples are rendered from, if any are.
        config: of the run.
        count: examples.
        classes: of the cases.

    Raises:
        InputError: as `make_batch`, or the picture cannot be written.
    """
    draw = jax.jit(lambda batch, step: draw_examples(batch, step, config)[:2])
    rows = -(-count // _COLUMNS)
    figure = Figure(
        figsize=(2 * _PANEL * _COLUMNS * channels, 1.15 * _PANEL * rows), layout="constrained"
    )
    grid = figure.subplots(rows, 2 * _COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    size = config.patch.batch_size
    panels = iter(grid.reshape(-1, 2))
    with progress("drawing", count, unit="example") as bar:
        for step in range(-(-count // size)):
            batch = make_batch(cases, channels, anatomies, config, step, range(size))
            images, labels = (np.asarray(array) for array in draw(batch, step))
            names = example_names(cases, anatomies, config, step)
            shown = min(size, count - step * size)
            for image, label_map, name in zip(images[:shown], labels, names, strict=False):
                _draw(next(panels), image, label_map, name, classes)
                bar.update()
    draw_legend(figure, classes)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return path


def _draw(panels: Any, image: np.ndarray, labels: np.ndarray, name: str, classes: ClassSet) -> None:
    paint = painter(image, (1.0, 1.0, 1.0), classes)
    paint(panels[0], image, np.zeros_like(labels))
    paint(panels[1], image, labels)
    panels[0].set_title(legible(name), fontsize=6, loc="left")
