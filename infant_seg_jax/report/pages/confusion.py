"""What true tissues became, and what that makes of volumes."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from infant_seg_jax.data.labels import BACKGROUND, IGNORE, ClassSet
from infant_seg_jax.data.volumes import voxel_ml
from infant_seg_jax.report.drawing import charts
from infant_seg_jax.report.drawing.slices import Scan
from infant_seg_jax.report.pages.page import Row, number


def confusion_ml(scan: Scan) -> Float[np.ndarray, "k k"]:
    """By true class, then by predicted class: the volume in ml of what is ignored in neither."""
    if scan.truth is None:
        raise ValueError("there is no truth")
    known = (scan.truth != IGNORE) & (scan.labels != IGNORE)
    count = len(scan.classes)
    pairs = scan.truth[known].astype(np.intp) * count + scan.labels[known]
    counts = np.bincount(pairs, minlength=count**2).reshape(count, count)
    return counts * voxel_ml(scan.affine)


def volume_charts(
    confusions: Mapping[str, Float[np.ndarray, "k k"]], classes: ClassSet
) -> tuple[Markup, ...]:
    """Predicted against true volumes, then differences, a chart for each tissue."""
    if not confusions:
        return ()
    every = np.array(list(confusions.values()))
    found: list[Markup] = []
    for draw, what in (
        (charts.against_each_other, "volume"),
        (charts.bland_altman, "Bland-Altman"),
    ):
        for tissue, index in classes.foreground.items():
            true, predicted = every[:, index].sum(axis=1), every[:, :, index].sum(axis=1)
            color = classes.colors[tissue]
            found.append(draw(f"{tissue}: {what}", "ml", true.tolist(), predicted.tolist(), color))
    return tuple(found)


def confusion_sentence(
    confusions: Mapping[str, Float[np.ndarray, "k k"]], classes: ClassSet
) -> str:
    """Which true tissue became which other class most, by volume; empty if nothing is wrong."""
    if not confusions:
        return ""
    total = np.sum(list(confusions.values()), axis=0)
    wrong = total.copy()
    np.fill_diagonal(wrong, 0.0)
    wrong[BACKGROUND] = 0.0
    if not wrong.any():
        return ""
    true, found = np.unravel_index(int(wrong.argmax()), wrong.shape)
    names = classes.names
    share = 100 * wrong[true, found] / total[true].sum()
    return (
        f"The most frequent error: {names[true]} that was labeled as {names[found]}, "
        f"{share:.1f}% of the true {names[true]}."
    )


def confusion_rows(
    confusions: Mapping[str, Float[np.ndarray, "k k"]], classes: ClassSet
) -> tuple[Row, ...]:
    """A row for each true tissue: what its voxels became, in percent over all subjects."""
    if not confusions:
        return ()
    total = np.sum(list(confusions.values()), axis=0)
    rows = []
    for tissue, index in classes.foreground.items():
        row = total[index]
        shares = 100 * row / row.sum() if row.sum() else np.full(len(row), math.nan)
        cells: Sequence[tuple[float | None, str]] = [
            (number(float(share)), "-" if math.isnan(share) else f"{share:.1f}%")
            for share in shares
        ]
        rows.append(Row(tissue, tuple(cells)))
    return tuple(rows)
