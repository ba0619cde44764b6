from dataclasses import replace
from pathlib import Path

import pytest

from infant_seg_jax.data.ages import Age
from infant_seg_jax.data.labels import CSF, GM, LabelSchema
from infant_seg_jax.data.sources import SOURCES, Dataset, Query, Source, SourceCase
from infant_seg_jax.errors import InputError
from tests.data.sources.trees import error_of

SCHEMA = LabelSchema("toy", {0: 0, 6: CSF})


def case(name: str, age: Age | None = None) -> SourceCase:
    return SourceCase(name, name, (Path(name),), age=age)


def dataset_of(*cases: SourceCase) -> Dataset:
    return Dataset("toy", Path("FOLDER"), ("T1w",), SCHEMA, cases, ("Noticed before.",))


BABIES = dataset_of(
    *(case(f"{weeks:g}", Age(weeks, "weeks postmenstrual")) for weeks in (29.5, 37.0, 40.0, 44.25))
)


@pytest.mark.parametrize(
    "low, high, kept",
    [
        (None, None, ["29.5", "37", "40", "44.25"]),
        (37.0, None, ["37", "40", "44.25"]),
        (None, 37.0, ["29.5", "37"]),
        (37.0, 44.25, ["37", "40", "44.25"]),
    ],
)
def test_ages_are_kept_with_both_bounds(low, high, kept):
    found = BABIES.of_ages(low, high)
    assert [case.case_id for case in found.cases] == kept
    assert found == replace(BABIES, cases=found.cases)


def test_no_case_of_the_ages_is_refused():
    with pytest.raises(InputError) as caught:
        BABIES.of_ages(38.0, 39.9)
    assert str(caught.value) == (
        "FOLDER has no case with an age from 38 to 39.9: the known ages range from 29.5 weeks "
        "postmenstrual to 44.25 weeks postmenstrual."
    )


def test_cases_of_unknown_age_are_left_out_with_a_notice():
    dataset = dataset_of(case("a"), case("b", Age(2.0, "years")), case("c"))
    found = dataset.of_ages(1.0, None)
    assert [case.case_id for case in found.cases] == ["b"]
    assert found.notices == (
        "Noticed before.",
        "2 of 3 cases have no known age and are left out.",
    )
    assert dataset.of_ages(None, None) is dataset


def test_no_known_age_at_all_is_refused():
    with pytest.raises(InputError) as caught:
        dataset_of(case("a")).of_ages(1.0, 2.0)
    assert str(caught.value) == ("FOLDER has no case with an age from 1 to 2: no age is known.")


def test_single_ids_change_their_meaning():
    changed = BABIES.with_schema_changes({6: GM, 8: GM})
    assert changed.schema.table == {0: 0, 6: GM, 8: GM}
    assert changed.cases == BABIES.cases
    assert BABIES.with_schema_changes({}) == BABIES


def test_open_hands_on_the_query(tmp_path):
    asked = []

    def find(folder: Path, query: Query) -> Dataset:
        asked.append((folder, query))
        return BABIES

    source = Source("toy", "a toy", find, frozenset({"labels", "modalities"}))
    query = Query(modalities=("T2w",), labels="labels/*", schema=SCHEMA)
    assert source.open(tmp_path) is BABIES and source.open(tmp_path, query) is BABIES
    assert asked == [(tmp_path, Query()), (tmp_path, query)]
    assert error_of(source, tmp_path, masks="mask/*") == (
        "--masks has no meaning for --source=toy, expected --labels, --modalities or --schema if "
        "anything."
    )


@pytest.mark.parametrize(
    "choice, value",
    [("modalities", ("T2w",)), ("images", ("*.nii",)), ("labels", "*.nii"), ("masks", "*.nii")],
)
def test_a_choice_without_meaning_is_refused(tmp_path, choice, value):
    assert error_of(SOURCES["ibsr"], tmp_path, **{choice: value}) == (
        f"--{choice} has no meaning for --source=ibsr, expected --schema if anything."
    )


@pytest.mark.parametrize("name", SOURCES)
def test_a_missing_folder_or_an_empty_one_is_refused(tmp_path, name):
    assert SOURCES[name].name == name
    missing = tmp_path / "nowhere"
    assert error_of(SOURCES[name], missing) == f"There is no folder {missing}."
    (tmp_path / "file").touch()
    assert error_of(SOURCES[name], tmp_path / "file") == f"There is no folder {tmp_path / 'file'}."
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in error_of(SOURCES[name], tmp_path / "empty")
