"""Several networks as one: the mean of their probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from infant_seg_jax.data.prepared import ExpectedScans
from infant_seg_jax.data.volumes import Volume
from infant_seg_jax.errors import InputError
from infant_seg_jax.prediction.predictor import Predictor, segment_with
from infant_seg_jax.prediction.segmentation import Segmentation


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Networks, of folds or seeds say, that are asked together.

    Raises:
        InputError: there are none, or they expect other modalities or another preparation of scans
            than the first.
    """

    predictors: Sequence[Predictor]

    def __post_init__(self) -> None:
        if not self.predictors:
            raise InputError("An ensemble has no networks, expected at least one.")
        for number, predictor in enumerate(self.predictors[1:], start=2):
            for what in ("classes", "modalities", "preparation"):
                first, other = getattr(self.expects, what), getattr(predictor.expects, what)
                if first != other:
                    raise InputError(
                        f"Network {number} of the ensemble was trained with the {what} {other}, "
                        f"the first with {first}: expected the same: predict with each network "
                        "separately."
                    )

    @property
    def expects(self) -> ExpectedScans:
        """What the networks expect of a scan; of the extents, what the first does."""
        return self.predictors[0].expects

    def segment(
        self, volume: Volume, mask: Bool[np.ndarray, "x y z"] | None = None
    ) -> Segmentation:
        """As `Predictor.segment`, by the mean of the networks' probabilities.

        Raises:
            InputError: as there.
        """
        return segment_with(self.predictors, volume, mask)
