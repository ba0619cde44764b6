"""A run on a prepared set, by a network whose answers are known."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from infant_seg_jax.config import default_config
from infant_seg_jax.data.prepared import PreparedSet
from infant_seg_jax.data.preprocessing import Preparation
from infant_seg_jax.errors import InputError
from infant_seg_jax.evaluation import runs
from infant_seg_jax.evaluation.runs import evaluate_run, measure_run
from infant_seg_jax.metrics.measures import measure
from infant_seg_jax.metrics.overlap import dice_per_tissue
from infant_seg_jax.models.factory import make_model
from infant_seg_jax.prediction.predictor import Predictor
from tests.data.toys import make_cases, prepare_toys
from tests.input_errors import input_error


@dataclass(frozen=True, eq=False)
class Oracle(Predictor):
    """Labels every image as the case that it is of says, one voxel further to the right."""

    answers: dict[bytes, np.ndarray] = field(default_factory=dict)

    def label_map(self, image: np.ndarray, of: Path | str = "") -> np.ndarray:
        return np.roll(self.answers[image.tobytes()], 1, axis=0)


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedSet:
    return prepare_toys(make_cases(tmp_path / "input"), tmp_path / "set")


@pytest.fixture
def predictor(prepared: PreparedSet, monkeypatch: pytest.MonkeyPatch) -> Oracle:
    found = Oracle(
        *(make_model(default_config()), {}, prepared.expected_scans, (16, 16, 16), 0.0, 1),
        answers={
            np.asarray(case.image()).tobytes(): np.asarray(case.labels())
            for case in prepared.cases
            if case.labels_path
        },
    )
    monkeypatch.setattr(runs, "open_predictor", lambda run, which: found)
    return found


def test_measures_the_labeled_cases_of_a_split(prepared: PreparedSet, predictor: Oracle) -> None:
    found = measure_run(Path("run"), prepared.folder, "train", tolerance=1.5)
    cases = [case for case in prepared.split("train") if case.labels_path]
    assert list(found.scores.subjects) == [case.case_id for case in cases] and cases
    assert found.scores.tolerance == 1.5 and not found.failures
    for case in cases:
        labels = np.asarray(case.labels())
        expected = measure(np.roll(labels, 1, axis=0), labels, case.spacing, 1.5)
        np.testing.assert_equal(found.scores.subjects[case.case_id], expected)


def test_dice_alone_is_that_of_all_metrics(prepared: PreparedSet, predictor: Oracle) -> None:
    whole = measure_run(Path("run"), prepared.folder, "train").scores
    table = evaluate_run(Path("run"), prepared.folder, "train")
    for subject, tissues in table.subjects.items():
        dice = {tissue: values["dice"] for tissue, values in tissues.items()}
        assert dice == {tissue: whole.of("dice", tissue)[subject] for tissue in dice}
        case = next(case for case in prepared.cases if case.case_id == subject)
        labels = np.asarray(case.labels())
        assert dice == dice_per_tissue(np.roll(labels, 1, axis=0), labels)


def test_bad_case_does_not_stop_the_others(prepared: PreparedSet, predictor: Oracle) -> None:
    first, *others = [case.case_id for case in prepared.split("train") if case.labels_path]
    answers = iter(predictor.answers)
    original = Oracle.label_map

    def fail_once(self: Oracle, image: np.ndarray, of: str) -> np.ndarray:
        if image.tobytes() == bad:
            raise InputError("The scan is bad.")
        return original(self, image)

    bad = next(answers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Oracle, "label_map", fail_once)
        found = measure_run(Path("run"), prepared.folder, "train")
    assert found.failures == {first: "The scan is bad."}
    assert list(found.scores.subjects) == others


def test_set_that_was_prepared_in_another_way_is_refused(
    prepared: PreparedSet, predictor: Oracle
) -> None:
    expects = replace(predictor.expects, preparation=Preparation(margin_mm=9.0))
    object.__setattr__(predictor, "expects", expects)
    with input_error(prepared.folder, "run", "margin_mm=9.0"):
        measure_run(Path("run"), prepared.folder, "train")
