"""How good a run's predictions of a prepared set are."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from infant_seg_jax.data.formats import Grid
from infant_seg_jax.data.prepared import PreparedCase, open_prepared
from infant_seg_jax.data.volumes import write_label_map
from infant_seg_jax.errors import InputError
from infant_seg_jax.evaluation.dice_table import DiceTable
from infant_seg_jax.evaluation.gathering import Evaluation, gather
from infant_seg_jax.metrics.measures import TOLERANCE_MM, measure
from infant_seg_jax.metrics.overlap import dice_per_tissue
from infant_seg_jax.prediction.predictor import Predictor
from infant_seg_jax.progress import progress
from infant_seg_jax.store.loading import open_predictor


def measure_run(
    run: Path,
    data: Path,
    split: str = "validation",
    fold: int = 0,
    which: str = "best",
    tolerance: float = TOLERANCE_MM,
    keep: Callable[[str], Path] | None = None,
) -> Evaluation:
    """Predict the labelled cases of a split and measure all there is to measure.

    Args:
        run: a run's folder, or an exported model's.
        data: a prepared set.
        split, fold: which of its cases.
        which: the run's checkpoint, `"best"` or `"latest"`.
        tolerance: of the surface Dice, in mm.
        keep: where to write what was predicted of a case; nowhere unless given.

    Raises:
        InputError: the run or the prepared set cannot be used, the split has no labelled case, or
            the set was prepared for other modalities or with other parameters than the run's.
    """
    predictor, cases = _open(run, data, split, fold, which)
    return gather(
        {case.case_id: partial(_measure_case, predictor, case, tolerance, keep) for case in cases},
        tolerance,
    )


def evaluate_run(
    run: Path, data: Path, split: str = "validation", fold: int = 0, which: str = "best"
) -> DiceTable:
    """As `measure_run`, but the Dice alone, and a case that cannot be used is an error."""
    return score_cases(*_open(run, data, split, fold, which))


def score_cases(predictor: Predictor, cases: Sequence[PreparedCase]) -> DiceTable:
    """Dice of each case, predicted whole, with a progress bar."""
    scores = {}
    with progress("evaluating", len(cases), unit="scan") as bar:
        for case in cases:
            scores[case.case_id] = dice_per_tissue(_predict(predictor, case), case.labels())
            bar.update()
    return DiceTable(scores)


def _open(
    run: Path, data: Path, split: str, fold: int, which: str
) -> tuple[Predictor, list[PreparedCase]]:
    prepared = open_prepared(data)
    predictor = open_predictor(run, which)
    for what in ("modalities", "preparation"):
        theirs, ours = getattr(prepared, what), getattr(predictor.expects, what)
        if theirs != ours:
            raise InputError(
                f"{data} was prepared with the {what} {theirs}, but {run} was trained with {ours}: "
                "prepare the set as the training set was."
            )
    cases = [case for case in prepared.split(split, fold) if case.labels_path is not None]
    if not cases:
        raise InputError(f"{data} has no labelled case in the split '{split}' of fold {fold}.")
    return predictor, cases


def _measure_case(
    predictor: Predictor,
    case: PreparedCase,
    tolerance: float,
    keep: Callable[[str], Path] | None,
) -> dict[str, dict[str, float]]:
    labels, predicted = np.asarray(case.labels()), _predict(predictor, case)
    if keep:
        write_label_map(keep(case.case_id), predicted, Grid(case.shape, case.affine))
    return measure(predicted, labels, case.spacing, tolerance)


def _predict(predictor: Predictor, case: PreparedCase) -> np.ndarray:
    return predictor.label_map(case.image(), case.case_id)
