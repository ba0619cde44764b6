import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infant_seg_jax.data.ages import Age
from infant_seg_jax.data.sources import SourceCase
from infant_seg_jax.data.splits import SPLITS, check_folds, make_folds, read_folds
from infant_seg_jax.errors import InputError
from tests.input_errors import input_error

PARTICIPANTS = {"a1": "a", "a2": "a", "b1": "b", "c1": "c"}


def case(case_id, participant=None, labeled=True, split=None, months=None):
    labels = Path("labels.nii") if labeled else None
    age = None if months is None else Age(float(months), "months")
    images = (Path("t1.nii"),)
    return SourceCase(case_id, participant or case_id, images, labels, age=age, split=split)


def make_fold(cases, seed):
    (fold,) = make_folds(cases, seed)
    return fold


def test_the_sources_own_split_is_kept():
    cases = [
        case("4", split="test", labeled=False),
        case("1", split="train"),
        case("3", split="validation"),
        case("2", split="train"),
        case("5"),  # in none
    ]
    fold = make_fold(cases, seed=0)
    assert fold == {"train": ("1", "2"), "validation": ("3",), "test": ("4",)}


@given(
    sessions=st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=40),
    seed=st.integers(0, 5),
)
def test_drawn_fold_never_splits_a_participant(sessions, seed):
    cases = [
        case(f"s{number}", f"p{participant}", labeled)
        for number, (participant, labeled) in enumerate(sessions)
    ]
    fold = make_fold(cases, seed)
    assert fold == make_fold(cases, seed)
    participant = {c.case_id: c.participant for c in cases}
    groups = [{participant[id_] for id_ in fold[name]} for name in SPLITS]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    # Every labeled case is in exactly one split, and train and validation hold no other.
    placed = [id_ for name in SPLITS for id_ in fold[name]]
    labeled = {c.case_id for c in cases if c.labels}
    assert len(placed) == len(set(placed)) and labeled <= set(placed)
    assert set(fold["train"] + fold["validation"]) <= labeled
    check_folds([fold], Path("splits.json"), participant, labeled)


@pytest.mark.parametrize(
    "count, sizes", [(1, (1, 0, 0)), (2, (1, 1, 0)), (3, (1, 1, 1)), (18, (10, 4, 4))]
)
def test_drawn_fold_has_the_documented_sizes(count, sizes):
    cases = [case(f"{number:02}") for number in range(count)]
    assert tuple(len(make_fold(cases, seed=3)[name]) for name in SPLITS) == sizes


def test_seed_changes_the_draw_and_order_of_cases_does_not():
    cases = [case(f"{number:02}") for number in range(18)]
    folds = [make_fold(cases, seed) for seed in range(5)]
    assert len({fold["test"] for fold in folds}) > 1
    again = make_fold(cases[::-1], seed=0)
    assert all(set(again[name]) == set(folds[0][name]) for name in SPLITS)


def test_what_the_source_keeps_for_testing_is_not_drawn():
    cases = [case(f"{number:02}") for number in range(10)]
    cases += [case("t1", split="test"), case("t2", labeled=False, split="test")]
    fold = make_fold(cases, seed=1)
    assert fold["test"] == ("t1", "t2")
    assert (len(fold["train"]), len(fold["validation"])) == (8, 2)
    assert all(fold["test"] == ("t1", "t2") for fold in make_folds(cases, 0, 5))


@given(
    sessions=st.lists(
        st.tuples(st.integers(0, 12), st.booleans(), st.none() | st.integers(0, 24)),
        min_size=1,
        max_size=40,
    ),
    count=st.integers(2, 6),
)
def test_each_participant_validates_once_in_k_folds(sessions, count):
    cases = [
        case(f"s{number}", f"p{participant}", labeled, months=months)
        for number, (participant, labeled, months) in enumerate(sessions)
    ]
    labeled = {c.case_id for c in cases if c.labels}
    participant = {c.case_id: c.participant for c in cases}
    people = {c.participant for c in cases if c.labels}
    if len(people) < count:
        with input_error(f"{len(people)} ", count):
            make_folds(cases, 0, count)
        return
    folds = make_folds(cases, 0, count)
    assert folds == make_folds(cases, 0, count)
    check_folds(folds, Path("splits.json"), participant, labeled)
    validated = [id_ for fold in folds for id_ in fold["validation"]]
    assert sorted(validated) == sorted(labeled)
    sizes = [len({participant[id_] for id_ in fold["validation"]}) for fold in folds]
    assert len(folds) == count and max(sizes) - min(sizes) <= 1
    for fold in folds:
        assert set(fold["train"]) == labeled - set(fold["validation"])


def test_folds_pool_what_the_source_trains_and_validates_on():
    cases = [case(f"{n}", split="train" if n < 4 else "validation") for n in range(6)]
    folds = make_folds([*cases, case("t", split="test")], 0, 3)
    assert sorted(id_ for fold in folds for id_ in fold["validation"]) == list("012345")
    assert all(fold["test"] == ("t",) for fold in folds)


@pytest.mark.parametrize("seed", range(5))
def test_ages_are_spread_evenly_over_the_splits(seed):
    cases = [case(f"{months:02}", months=months) for months in range(25)]
    groups = [fold["validation"] for fold in make_folds(cases[::-1], seed, 5)]
    groups += [make_fold(cases, seed)[name] for name in ("validation", "test")]
    for group in groups:
        # One of each fifth of all ages, or nearly: a draw without strata misses one in 88%.
        ages = sorted(int(id_) for id_ in group)
        assert len(ages) == 5
        assert all(abs(age - (5 * i + 2)) <= 4 for i, age in enumerate(ages)), ages


def test_folds_are_read_from_json(tmp_path):
    fold = {"train": ["1", "2"], "validation": [], "test": ["3"]}
    (tmp_path / "splits.json").write_text(json.dumps([fold, fold]))
    folds = read_folds(tmp_path / "splits.json")
    assert folds == ({"train": ("1", "2"), "validation": (), "test": ("3",)},) * 2


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        3,
        [3],
        [{}],
        [{"train": [], "test": []}],
        [{"train": "1", "validation": [], "test": []}],
    ],
)
def test_json_of_another_form_is_named(tmp_path, content):
    (tmp_path / "splits.json").write_text(json.dumps(content))
    with input_error(tmp_path / "splits.json"):
        read_folds(tmp_path / "splits.json")


@pytest.mark.parametrize(
    "fold, sentence",
    [
        (
            {"train": ("a1",), "validation": ("b1",), "test": ("a2",)},
            "splits.json names the case a2 in 'test' of fold 1, but its participant a is in "
            "'train' too, expected each participant in one split: move all of its cases to one "
            "split.",
        ),
        (
            {"train": ("a1", "b1"), "validation": ("b1",), "test": ()},
            "splits.json names the case b1 in 'validation' of fold 1, but its participant b is in "
            "'train' too, expected each participant in one split: move all of its cases to one "
            "split.",
        ),
        (
            {"train": ("a1", "d9"), "validation": (), "test": ()},
            "splits.json names the case d9 in 'train' of fold 1, which is not in the set, "
            "expected one of a1, a2, b1, c1.",
        ),
        (
            {"train": ("a1",), "validation": ("c1",), "test": ()},
            "splits.json names the case c1 in 'validation' of fold 1, which has no labels, "
            "expected it in 'test' or nowhere.",
        ),
    ],
)
def test_unsound_fold_is_one_sentence(fold, sentence):
    sound = {"train": ("a1", "a2"), "validation": ("b1",), "test": ("c1",)}
    check_folds([sound], Path("splits.json"), PARTICIPANTS, {"a1", "a2", "b1"})
    with pytest.raises(InputError) as caught:
        check_folds([sound, fold], Path("splits.json"), PARTICIPANTS, {"a1", "a2", "b1"})
    assert str(caught.value) == sentence
