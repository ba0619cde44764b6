"""Which cases train, validate and test: folds, in JSON that a person may edit."""

from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import numpy as np

from infant_seg_jax.data.sources import SourceCase
from infant_seg_jax.errors import InputError, some_of
from infant_seg_jax.files import read_json

SPLITS = ("train", "validation", "test")
Fold = Mapping[str, tuple[str, ...]]
"""The ids of the cases in each split."""

_VALIDATION_PART = _TEST_PART = 0.2


def make_folds(cases: Sequence[SourceCase], seed: int, count: int = 1) -> tuple[Fold, ...]:
    """The source's own split where it has one, else folds drawn from `seed` by participant.

    One fold: a fifth of the labeled participants validates (at least one of two), a fifth tests
    (at least one of three, none where the source says what tests) and the others train. Several:
    each labeled participant validates in exactly one of them and trains in the others, whether
    the source lets it train or validate. In all of them, what the source calls test tests, and so
    do participants without any labels. Unlabeled cases never train or validate.

    Each draw is stratified by age where ages are known.

    Raises:
        InputError: there are more folds than labeled participants.
    """
    own_test = {case.participant for case in cases if case.split == "test"}
    drawn = sorted({case.participant for case in cases if case.labels} - own_test)
    by_age = _by_age(drawn, cases, np.random.default_rng(seed))
    if count > 1:
        if count > len(by_age):
            raise InputError(
                f"{len(by_age)} labeled participants cannot make {count} folds, expected at most "
                "as many folds as participants."
            )
        return tuple(
            _fold(cases, dict.fromkeys(by_age, "train") | dict.fromkeys(part, "validation"))
            for part in _deal(by_age, _even_sizes(len(by_age), count), seed)
        )
    if any(case.split in ("train", "validation") for case in cases):
        return (_fold(cases, {}),)
    n_validation = max(round(_VALIDATION_PART * len(by_age)), len(by_age) > 1)
    n_test = 0 if own_test else max(round(_TEST_PART * len(by_age)), len(by_age) > 2)
    validation, test = _deal(by_age, [n_validation, n_test], seed)
    part = dict.fromkeys(by_age, "train") | dict.fromkeys(validation, "validation")
    return (_fold(cases, part | dict.fromkeys(test, "test")),)


def _fold(cases: Sequence[SourceCase], drawn: Mapping[str, str]) -> Fold:
    """One fold, from the split drawn for participants, and the source's own for all others."""

    def split_of(case: SourceCase) -> str | None:
        return drawn.get(case.participant) or case.split or (None if case.labels else "test")

    usable = [case for case in cases if case.labels or split_of(case) == "test"]
    return {name: tuple(c.case_id for c in usable if split_of(c) == name) for name in SPLITS}


def _by_age(
    participants: Sequence[str], cases: Sequence[SourceCase], random: np.random.Generator
) -> list[str]:
    """Participants from the youngest to the oldest, by their mean age; those of none come last.

    Equal ages, and unknown ones, are in random order.
    """
    ages = {
        name: [c.age.months for c in cases if c.participant == name and c.age]
        for name in participants
    }
    shuffled = [participants[int(i)] for i in random.permutation(len(participants))]
    return sorted(shuffled, key=lambda name: float(np.mean(ages[name])) if ages[name] else np.inf)


def _deal(ordered: Sequence[str], sizes: Sequence[int], seed: int) -> list[list[str]]:
    """Groups of the given sizes, each spread evenly over the order."""
    random = np.random.default_rng([seed, len(ordered)])
    left, groups = list(ordered), []
    for size in sizes:
        # One of each of `size` runs of neighbors.
        runs = np.array_split(np.arange(len(left)), size) if size else []
        taken = {int(random.choice(run)) for run in runs}
        groups.append([name for i, name in enumerate(left) if i in taken])
        left = [name for i, name in enumerate(left) if i not in taken]
    return groups


def _even_sizes(total: int, parts: int) -> list[int]:
    return [total // parts + (i < total % parts) for i in range(parts)]


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
    folds: Sequence[Fold], path: Path, participants: Mapping[str, str], labeled: Set[str]
) -> None:
    """Check folds against the cases that there are.

    Args:
        folds: as read from `path`, which the errors name.
        participants: the participant of each case, by the case's id.
        labeled: the ids of the cases with labels.

    Raises:
        InputError: a fold names an unknown case, trains or validates on one without labels, or
            has one participant in two splits.
    """
    for number, fold in enumerate(folds):
        seen: dict[str, str] = {}
        for name, case_id in ((split, id_) for split in SPLITS for id_ in fold[split]):
            where = f"{path} names the case {case_id} in '{name}' of fold {number}"
            if case_id not in participants:
                raise InputError(
                    f"{where}, which is not in the set, expected one of "
                    f"{some_of(participants, 10)}."
                )
            if name != "test" and case_id not in labeled:
                raise InputError(f"{where}, which has no labels, expected it in 'test' or nowhere.")
            participant = participants[case_id]
            if seen.setdefault(participant, name) != name:
                raise InputError(
                    f"{where}, but its participant {participant} is in '{seen[participant]}' too, "
                    "expected each participant in one split: move all of its cases to one split."
                )
