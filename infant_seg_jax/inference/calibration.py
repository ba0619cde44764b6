"""What a network makes of scans that it should be sure of, to know others by."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from infant_seg_jax.data.prepared import PreparedCase
from infant_seg_jax.inference.familiarity import Familiar, volume_ml
from infant_seg_jax.inference.predictor import Predictor
from infant_seg_jax.progress import progress


def measure_familiar(predictor: Predictor, cases: Sequence[PreparedCase]) -> Familiar:
    """Predict cases as they are and mirrored, with a progress bar, and measure each.

    Take those of the validation, or others that the network has not been trained on but that are
    like its training's. They need no labels.
    """
    entropies, agreements, volumes = [], [], []
    with progress("calibrating", len(cases), unit="scan") as bar:
        for case in cases:
            image = np.asarray(case.image())
            found = replace(predictor, mirror=True).predict(image)
            entropies.append(found.entropy)
            agreements.append(found.agreement)
            volumes.append(volume_ml(np.asarray(image.any(axis=-1)), case.affine))
            bar.update()
    return Familiar(tuple(entropies), tuple(agreements), tuple(volumes))
