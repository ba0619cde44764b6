"""How well two label maps overlap: counts of voxels, and the ratios made of them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer

from infant_seg_jax.data.labels import IGNORE, TISSUE_CLASSES, ClassSet


@dataclass(frozen=True)
class Overlap:
    """Voxels of one class in two label maps, those that are ignored in either left out.

    All ratios below are NaN where neither label map has the tissue, and 0 where only one has it,
    also those whose own denominator would be 0.

    Attributes:
        both: in both.
        predicted: in the prediction.
        true: in the truth.
    """

    both: int
    predicted: int
    true: int

    @property
    def dice(self) -> float:
        """`2 |P and T| / (|P| + |T|)` (Dice, Ecology 26, 1945)."""
        return self._ratio(2 * self.both, self.predicted + self.true)

    @property
    def jaccard(self) -> float:
        """`|P and T| / |P or T|` (Jaccard, 1901), which is `dice / (2 - dice)`."""
        return self._ratio(self.both, self.predicted + self.true - self.both)

    @property
    def sensitivity(self) -> float:
        """`|P and T| / |T|`: how much of the tissue was found; also called recall."""
        return self._ratio(self.both, self.true)

    @property
    def precision(self) -> float:
        """`|P and T| / |P|`: how much of what was found is the tissue."""
        return self._ratio(self.both, self.predicted)

    @property
    def volume_similarity(self) -> float:
        """`1 - ||P| - |T|| / (|P| + |T|)`, wherever the two are (Taha and Hanbury, BMC Medical
        Imaging 15, 2015)."""
        return self._ratio(2 * min(self.predicted, self.true), self.predicted + self.true)

    def _ratio(self, part: int, whole: int) -> float:
        if not (self.predicted or self.true):
            return float("nan")
        return part / whole if whole else 0.0


def overlap_per_tissue(
    prediction: Integer[np.ndarray, "*shape"],
    truth: Integer[np.ndarray, "*shape"],
    classes: ClassSet = TISSUE_CLASSES,
) -> dict[str, Overlap]:
    """Count each class's voxels; those that are `IGNORE` in either label map are left out."""
    ignored = (truth == IGNORE) | (prediction == IGNORE)
    found = {}
    for name, index in classes.foreground.items():
        predicted, true = ((m == index) & ~ignored for m in (prediction, truth))
        found[name] = Overlap(
            both=int(np.count_nonzero(predicted & true)),
            predicted=int(np.count_nonzero(predicted)),
            true=int(np.count_nonzero(true)),
        )
    return found


def dice_per_tissue(
    prediction: Integer[np.ndarray, "*shape"],
    truth: Integer[np.ndarray, "*shape"],
    classes: ClassSet = TISSUE_CLASSES,
) -> dict[str, float]:
    """The Dice coefficient of each class but background; NaN for one in neither label map.

    Voxels that are `IGNORE` in either label map are left out.
    """
    counts = overlap_per_tissue(prediction, truth, classes)
    return {name: found.dice for name, found in counts.items()}


def mean_dice(dice: dict[str, float]) -> float:
    """The mean over the tissues that have a Dice; NaN if none has."""
    known = [value for value in dice.values() if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
