"""Draws infant.png: a scan in three planes, above the labels of the bundled model.

    python docs/draw_infant.py sub-0004_ses-V01_T1w.nii.gz docs/infant.png

If the scan's header turns the brain, the picture shows it turned back. Left and right then remain
unknown, so the picture does not mark them.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

import infant_seg_jax as seg
from infant_seg_jax.data.labels import TISSUE_CLASSES
from infant_seg_jax.data.orientation import orientation_of, turned
from infant_seg_jax.report.drawing.slices import PLANES, gray_window, plane_slice

NAMES = {"CSF": "cerebrospinal fluid", "GM": "gray matter", "WM": "white matter"}
MARGIN = 6


def draw(scan: Path, picture: Path) -> None:
    """Label the scan and draw both."""
    labels = seg.load("bundled", fix_orientation=True).segment(scan)
    found = orientation_of(labels.scan)
    turn = found.turn if found is not None and found.contradicts_header else np.eye(3)
    image = turned(labels.scan.data[..., 0], turn)
    tissues = turned(labels.segmentation.label_map, turn)

    box = tuple(
        slice(max(0, index.min() - MARGIN), index.max() + MARGIN) for index in np.nonzero(tissues)
    )
    image, tissues = image[box], tissues[box]
    low, high = gray_window(image)
    shapes = [plane_slice(image, plane, 0).shape for plane in PLANES]
    widths = [shape[1] / shape[0] for shape in shapes]
    figure, rows = plt.subplots(
        2, 3, figsize=(10, 5.9), width_ratios=widths, facecolor="black", layout="constrained"
    )
    colors = TISSUE_CLASSES.colors
    for column, (plane, share) in enumerate(zip(PLANES, (0.44, 0.5, 0.6), strict=True)):
        at = int(share * image.shape[column])
        gray = plane_slice(image, plane, at)
        shown = plane_slice(tissues, plane, at)
        for axes in rows[:, column]:
            axes.imshow(gray, cmap="gray", vmin=low, vmax=high, interpolation="bilinear")
            axes.set_axis_off()
        rows[1, column].imshow(
            np.ma.masked_equal(shown, 0),
            cmap=ListedColormap(list(colors.values())),
            vmin=1,
            vmax=3,
            alpha=0.75,
            interpolation="nearest",
        )
    figure.legend(
        handles=[Patch(color=color, label=NAMES[name]) for name, color in colors.items()],
        loc="outside lower center",
        ncols=3,
        frameon=False,
        labelcolor="white",
    )
    figure.savefig(picture, dpi=100)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
