"""How well two label maps overlap."""

import numpy as np
from jaxtyping import Integer

from infant_seg_jax.data.labels import CLASS_NAMES, IGNORE, TISSUES


def dice_per_tissue(
    prediction: Integer[np.ndarray, "*shape"], truth: Integer[np.ndarray, "*shape"]
) -> dict[str, float]:
    """The Dice coefficient of each tissue, `2 |P and T| / (|P| + |T|)` (Dice, Ecology 26, 1945).

    Voxels that are `IGNORE` in either label map are left out. A tissue that is in neither label map
    has no Dice: NaN.
    """
    counted = (truth != IGNORE) & (prediction != IGNORE)
    # One pass: entry (i, j) counts the voxels predicted i whose truth is j.
    pairs = prediction[counted].astype(np.intp) * len(CLASS_NAMES) + truth[counted]
    confusion = np.bincount(pairs, minlength=len(CLASS_NAMES) ** 2).reshape(len(CLASS_NAMES), -1)
    overlap = np.diagonal(confusion)
    sizes = confusion.sum(axis=0) + confusion.sum(axis=1)
    return {
        name: float(2 * overlap[i] / sizes[i]) if sizes[i] else float("nan")
        for i, name in enumerate(CLASS_NAMES)
        if name in TISSUES
    }


def mean_dice(dice: dict[str, float]) -> float:
    """The mean over the tissues that have a Dice; NaN if none has."""
    known = [value for value in dice.values() if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
