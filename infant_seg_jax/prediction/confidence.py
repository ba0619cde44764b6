"""How sure a network is of a scan, as numbers that a person can sort scans by."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer

from infant_seg_jax.metrics.overlap import dice_per_tissue, mean_dice
from infant_seg_jax.prediction.expected_dice import ExpectedDice, Signs, contrast_to_noise

_SLICES = 16


@dataclass(frozen=True)
class Confidence:
    """What a prediction says of itself.

    Attributes:
        entropy: mean over the brain's voxels of the probabilities' entropy, from 0 (every voxel
            certain) to 1 (every class as likely as any other).
        agreement: mean Dice over the tissues between the label maps of the scan and of its mirror
            image, mirrored back; NaN if the scan was not mirrored.
        unusual: what is odd about the scan or its labels, a sentence each; or nothing.
        checked: what was looked at for that, a word or two each. No sentence is no proof.
        expected_dice: by what a model has measured on scans whose truth is known; None if that is
            too little, or of other scans than this.
    """

    entropy: float
    agreement: float
    unusual: tuple[str, ...] = ()
    checked: tuple[str, ...] = ()
    expected_dice: ExpectedDice | None = None


def mean_entropy(
    probabilities: Float[np.ndarray, "x y z k"], mask: Bool[np.ndarray, "x y z"]
) -> float:
    """Mean entropy over the mask in units of the largest possible, `log(k)`; NaN if it is empty."""
    total, count = 0.0, 0
    for first in range(0, mask.shape[0], _SLICES):  # So that little is held beside the volume.
        part = slice(first, first + _SLICES)
        inside = probabilities[part][mask[part]].astype(np.float64)
        total -= float((inside * np.log(np.maximum(inside, 1e-30))).sum())
        count += len(inside)
    return total / count / float(np.log(probabilities.shape[-1])) if count else float("nan")


def signs_of(
    entropy: float,
    refined: Float[np.ndarray, "x y z k"],
    mask: Bool[np.ndarray, "x y z"],
    scan: Float[np.ndarray, "X Y Z c"],
    tissues: Integer[np.ndarray, "X Y Z"],
) -> Signs:
    """What the Dice of a refined label map is expected by.

    Args:
        entropy: of the network's own probabilities.
        refined: the refined probabilities, in the crop.
        mask: the brain in the crop.
        scan: the whole scan.
        tissues: its label map.
    """
    return Signs(entropy, mean_entropy(refined, mask), contrast_to_noise(scan, tissues))


def agreement(one: Integer[np.ndarray, "x y z"], other: Integer[np.ndarray, "x y z"]) -> float:
    """Mean Dice of two label maps over the tissues; NaN where neither has any."""
    return mean_dice(dice_per_tissue(one, other))
