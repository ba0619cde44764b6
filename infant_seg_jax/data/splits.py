"""Which cases train, validate and test: folds, in JSON that a person may edit."""

from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import numpy as np

from infant_seg_jax.data.sources import SourceCase
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import read_json

SPLITS = ("train", "validation", "test")
Fold = Mapping[str, tuple[str, ...]]
"""The ids of the cases in each split."""

_VALIDATION_PART = _TEST_PART = 0.2


def make_fold(cases: Sequence[SourceCase], seed: int) -> Fold:
    """The source's own split where it has one, else one drawn from `seed` by participant.

    Drawn, a fifth of the labelled participants validates (at least one of two), a fifth tests (at
    least one of three) and the others train; participants without any labels join the test split.
    Unlabelled cases never train or validate.
    """
    if any(case.split for case in cases):
        split_of = {case.case_id: case.split for case in cases}
    else:
        labelled = sorted({case.participant for case in cases if case.labels})
        drawn = [labelled[i] for i in np.random.default_rng(seed).permutation(len(labelled))]
        n_validation = max(round(_VALIDATION_PART * len(drawn)), len(drawn) > 1)
        n_test = max(round(_TEST_PART * len(drawn)), len(drawn) > 2)
        part = dict.fromkeys(drawn, "train")
        part |= dict.fromkeys(drawn[:n_validation], "validation")
        part |= dict.fromkeys(drawn[n_validation : n_validation + n_test], "test")
        split_of = {case.case_id: part.get(case.participant, "test") for case in cases}
    usable = [case for case in cases if case.labels or split_of[case.case_id] == "test"]
    return {
        name: tuple(c.case_id for c in usable if split_of[c.case_id] == name) for name in SPLITS
    }


def read_folds(path: Path) -> tuple[Fold, ...]:
    """Read a list of folds, each `{"train": [ids], "validation": [ids], "test": [ids]}`.

    Raises:
        InputError: the file is missing or something else.
    """
    folds = read_json(path)
    sound = isinstance(folds, list) and all(
        isinstance(fold, dict)
        and set(fold) == set(SPLITS)
        and all(isinstance(ids, list) for ids in fold.values())
        for fold in folds
    )
    if not (sound and folds):
        raise InputError(
            f'{path} is not a list of folds, expected [{{"train": [ids], "validation": [ids], '
            '"test": [ids]}, ...].'
        )
    return tuple({name: tuple(str(id_) for id_ in fold[name]) for name in SPLITS} for fold in folds)


def check_folds(
    folds: Sequence[Fold], path: Path, participants: Mapping[str, str], labelled: Set[str]
) -> None:
    """Check folds against the cases that there are.

    Args:
        folds: as read from `path`, which the errors name.
        participants: the participant of each case, by the case's id.
        labelled: the ids of the cases with labels.

    Raises:
        InputError: a fold names an unknown case, trains or validates on one without labels, or
            has one participant in two splits.
    """
    for number, fold in enumerate(folds):
        seen: dict[str, str] = {}
        for name, case_id in ((split, id_) for split in SPLITS for id_ in fold[split]):
            where = f"{path} names the case {case_id} in '{name}' of fold {number}"
            if case_id not in participants:
                known = ", ".join(list(participants)[:10]) + (", ..." * (len(participants) > 10))
                raise InputError(f"{where}, which the set does not hold, expected one of {known}.")
            if name != "test" and case_id not in labelled:
                raise InputError(f"{where}, which has no labels, expected it in 'test' or nowhere.")
            participant = participants[case_id]
            if seen.setdefault(participant, name) != name:
                raise InputError(
                    f"{where}, but its participant {participant} is in '{seen[participant]}' too, "
                    "expected each participant in one split: move all of theirs to one."
                )
