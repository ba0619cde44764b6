"""Dice of a run on a prepared set, or of label maps against their truths."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from infant_seg_jax.data.formats import ENDINGS, ENDINGS_IN_WORDS, stem
from infant_seg_jax.data.labels import LabelSchema
from infant_seg_jax.data.prepared import PreparedCase, open_prepared
from infant_seg_jax.data.schemas import TISSUE_SCHEMA
from infant_seg_jax.data.volumes import check_same_grid, read_label_map
from infant_seg_jax.errors import InputError
from infant_seg_jax.inference.predictor import Predictor
from infant_seg_jax.metrics.overlap import dice_per_tissue
from infant_seg_jax.metrics.table import DiceTable
from infant_seg_jax.progress import progress

_SUFFIXES = ("_dseg", "_seg", "_segTRI_ana", "_label", "_labels", "_T1w", "_T2w", "_ana_strip")


def evaluate_run(
    run: Path, data: Path, split: str = "validation", fold: int = 0, which: str = "best"
) -> DiceTable:
    """Predict the labelled cases of a split and measure their Dice.

    Raises:
        InputError: the run or the prepared set cannot be used, the split has no labelled case, or
            the set was prepared for other modalities or with other parameters than the run's.
    """
    prepared = open_prepared(data)
    predictor = Predictor.from_run(run, which)
    for what in ("modalities", "preparation"):
        theirs, ours = getattr(prepared, what), getattr(predictor, what)
        if theirs != ours:
            raise InputError(
                f"{data} was prepared with the {what} {theirs}, but {run} was trained with {ours}: "
                "prepare the set as the training set was."
            )
    cases = [case for case in prepared.split(split, fold) if case.labels_path is not None]
    if not cases:
        raise InputError(f"{data} has no labelled case in the split '{split}' of fold {fold}.")
    return score_cases(predictor, cases)


def score_cases(predictor: Predictor, cases: Sequence[PreparedCase]) -> DiceTable:
    """Dice of each case, predicted whole, with a progress bar."""
    scores = {}
    with progress("evaluating", len(cases), unit="scan") as bar:
        for case in cases:
            label_map = predictor.label_map(np.asarray(case.image()))
            scores[case.case_id] = dice_per_tissue(label_map, case.labels())
            bar.update()
    return DiceTable(scores)


def evaluate_label_maps(
    prediction: Path,
    truth: Path,
    schema: LabelSchema = TISSUE_SCHEMA,
    prediction_schema: LabelSchema = TISSUE_SCHEMA,
) -> DiceTable:
    """Dice of every prediction in a folder against the truth of the same name.

    Names are compared without their endings and without suffixes such as `_dseg`, `_seg`, `_T1w`.

    Raises:
        InputError: a prediction has no truth or more than one, a file cannot be used, values lie
            outside the schema, or the two are not on one grid.
    """
    predictions, truths = _by_subject(prediction), _by_subject(truth)
    missing = sorted(set(predictions) - set(truths))
    if missing:
        raise InputError(
            f"{truth} has no label map for {predictions[missing[0]]} (and {len(missing) - 1} "
            f"others), expected a file named {missing[0]} or {missing[0]}_dseg, "
            f"{ENDINGS_IN_WORDS}."
        )
    scores = {}
    with progress("evaluating", len(predictions), unit="scan") as bar:
        for subject, path in predictions.items():
            predicted, true = read_label_map(path), read_label_map(truths[subject])
            check_same_grid(predicted, true)
            scores[subject] = dice_per_tissue(
                prediction_schema.to_classes(predicted.data, path),
                schema.to_classes(true.data, truths[subject]),
            )
            bar.update()
    return DiceTable(scores)


def _by_subject(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.name.lower().endswith(ENDINGS):
            subject = stem(path)
            while suffix := next((s for s in _SUFFIXES if subject.endswith(s)), None):
                subject = subject.removesuffix(suffix)
            if subject in found:
                raise InputError(
                    f"{folder} has two files for {subject}, {found[subject].name} and {path.name}, "
                    "expected one label map for each subject and no scans."
                )
            found[subject] = path
    if not found:
        raise InputError(f"{folder} holds no label map, expected {ENDINGS_IN_WORDS}.")
    return found
