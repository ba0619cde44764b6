"""Measure subjects one after another, so that a bad one does not stop the others."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from infant_seg_jax.data.labels import ClassSet
from infant_seg_jax.errors import InputError
from infant_seg_jax.evaluation.score_table import ScoreTable
from infant_seg_jax.progress import log_always, progress


@dataclass(frozen=True)
class Evaluation:
    """What became of many subjects.

    Attributes:
        scores: of those that could be measured.
        failures: by subject, the sentence that says why it could not.
        unpredicted: who has a truth, but no prediction.
    """

    scores: ScoreTable
    failures: Mapping[str, str]
    unpredicted: tuple[str, ...] = ()


def gather(
    subjects: Mapping[str, Callable[[], dict[str, dict[str, float]]]],
    tolerance: float,
    classes: ClassSet,
) -> Evaluation:
    """Call each subject's measurement in turn, with a progress bar; say at once what fails.

    Args:
        subjects: by subject, what measures it as `measure` does, or raises an InputError.
        tolerance: that of their surface Dice, in mm.
        classes: what is measured.
    """
    scores, failures = {}, {}
    with progress("evaluating", len(subjects), unit="scan") as bar:
        for subject, measure_it in subjects.items():
            try:
                scores[subject] = measure_it()
            except InputError as error:
                failures[subject] = str(error)
                log_always(str(error))
            bar.update()
    return Evaluation(ScoreTable(scores, tolerance, classes), failures)
