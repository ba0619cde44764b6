"""What a network makes of scans that it should be sure of, to know others by."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from infant_seg_jax.data.prepared import PreparedCase
from infant_seg_jax.data.volumes import voxel_ml
from infant_seg_jax.prediction.predictor import Predictor
from infant_seg_jax.prediction.reference_statistics import ReferenceStatistics
from infant_seg_jax.progress import progress
from infant_seg_jax.store.loading import open_predictor
from infant_seg_jax.store.run_folder import REFERENCE, write_statistics

_MOST = 20
"""So many scans tell what a scan like the training's is; more would tell little more."""


def calibrate(run: Path, validation: Sequence[PreparedCase]) -> None:
    """Write what a finished run's best network makes of scans that it has not learned from.

    Nothing is done where that is known, or where there are none.

    Raises:
        InputError: the run folder has no checkpoint that fits, or cannot be written to.
    """
    if not validation or (Path(run) / REFERENCE).exists():
        return
    predictor = open_predictor(run)  # In every process, for they read checkpoints together.
    if jax.process_index() == 0:
        write_statistics(run, measure_statistics(predictor, validation[:_MOST]))


def measure_statistics(predictor: Predictor, cases: Sequence[PreparedCase]) -> ReferenceStatistics:
    """Predict cases as they are and mirrored, with a progress bar, and measure each.

    Take those of the validation, or others that the network has not been trained on but that are
    like its training's. They need no labels. What has no value, as the agreement where no tissue
    was found, is left out.
    """
    entropies, agreements, volumes = [], [], []
    with progress("calibrating", len(cases), unit="scan") as bar:
        for case in cases:
            image = case.image()
            found = replace(predictor, mirror=True).predict(image, case.case_id)
            entropies.append(found.entropy)
            agreements.append(found.agreement)
            volumes.append(np.count_nonzero(image.any(axis=-1)) * voxel_ml(case.affine))
            bar.update()
    return ReferenceStatistics(_finite(entropies), _finite(agreements), tuple(volumes))


def _finite(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(filter(math.isfinite, values))
