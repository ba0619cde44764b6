"""How good a run's predictions of a prepared set are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from infant_seg_jax.data.formats import Grid
from infant_seg_jax.data.labels import TISSUE_CLASSES, ClassSet, LabelSchema
from infant_seg_jax.data.prepared import PreparedCase, open_prepared
from infant_seg_jax.data.volumes import write_label_map
from infant_seg_jax.errors import InputError
from infant_seg_jax.evaluation.gathering import Evaluation, gather
from infant_seg_jax.evaluation.score_table import ScoreTable, dice_table
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
    classes: ClassSet | None = None,
) -> Evaluation:
    """Predict the labeled cases of a split and measure all there is to measure.

    Args:
        run: a run's folder, or an exported model's.
        data: a prepared set.
        split, fold: which of its cases.
        which: the run's checkpoint, `"best"` or `"latest"`.
        tolerance: of the surface Dice, in mm.
        keep: where to write what was predicted of a case; nowhere unless given.
        classes: what to measure; None: those of the run if the set has the same, else tissues.

    Raises:
        InputError: the run or the prepared set cannot be used, the split has no labeled case, or
            the set was prepared for other modalities or with other parameters than the run's, or
            not both tell the classes apart that are wanted.
    """
    task = _open(run, data, split, fold, which, classes)
    return gather(
        {case.case_id: partial(_measure_case, task, case, tolerance, keep) for case in task.cases},
        tolerance,
        task.classes,
    )


def evaluate_run(
    run: Path, data: Path, split: str = "validation", fold: int = 0, which: str = "best"
) -> ScoreTable:
    """As `measure_run`, but the Dice alone, and a case that cannot be used is an error."""
    return _score(_open(run, data, split, fold, which))


def score_cases(predictor: Predictor, cases: Sequence[PreparedCase]) -> ScoreTable:
    """Dice of each case of the network's own classes, predicted whole, with a progress bar."""
    classes = predictor.expects.classes
    return _score(_Task(predictor, cases, classes, classes))


@dataclass(frozen=True, eq=False)
class _Task:
    """A network, cases with labels of some classes, and the classes to measure."""

    predictor: Predictor
    cases: Sequence[PreparedCase]
    labeled: ClassSet
    classes: ClassSet

    def predicted(self, case: PreparedCase) -> UInt8[np.ndarray, "x y z"]:
        """What the network makes of a case."""
        found = self.predictor.label_map(case.image(), case.case_id)
        return self.predictor.expects.classes.convert(found, self.classes)

    def true(self, case: PreparedCase) -> UInt8[np.ndarray, "x y z"]:
        """A case's labels."""
        return self.labeled.convert(np.asarray(case.labels()), self.classes)


def _score(task: _Task) -> ScoreTable:
    scores = {}
    with progress("evaluating", len(task.cases), unit="scan") as bar:
        for case in task.cases:
            found = task.predicted(case), task.true(case)
            scores[case.case_id] = dice_per_tissue(*found, task.classes)
            bar.update()
    return dice_table(scores, task.classes)


def _open(
    run: Path, data: Path, split: str, fold: int, which: str, classes: ClassSet | None = None
) -> _Task:
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
        raise InputError(f"{data} has no labeled case in the split '{split}' of fold {fold}.")
    own = predictor.expects.classes
    if classes is None:
        classes = own if own == prepared.classes else TISSUE_CLASSES
    if classes != TISSUE_CLASSES and {own, prepared.classes} != {classes}:
        raise InputError(
            f"{run} has the classes {own} and {data} has {prepared.classes}, expected {classes} in "
            f"both, or --classes={TISSUE_CLASSES.name}."
        )
    return _Task(predictor, cases, prepared.classes, classes)


def _measure_case(
    task: _Task, case: PreparedCase, tolerance: float, keep: Callable[[str], Path] | None
) -> dict[str, dict[str, float]]:
    predicted = task.predicted(case)
    if keep:
        ids = LabelSchema.of(task.classes).with_ignored().to_ids(predicted)
        write_label_map(keep(case.case_id), ids, Grid(case.shape, case.affine))
    return measure(predicted, task.true(case), case.spacing, tolerance, task.classes)
