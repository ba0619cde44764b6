"""From a run to a model folder, and from there to predictions and to further runs."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from infant_seg_jax.__main__ import main
from infant_seg_jax.data.prepared import open_prepared
from infant_seg_jax.data.schemas import ISEG_SCHEMA
from infant_seg_jax.files import sha256
from infant_seg_jax.models.variables import by_path
from infant_seg_jax.prediction.predictor import Predictor
from infant_seg_jax.store.checkpoints import read_variables
from infant_seg_jax.store.loading import open_model, open_predictor, source_schema
from infant_seg_jax.store.run_folder import read_metrics, read_statistics
from infant_seg_jax.training.loop import train_and_evaluate
from tests.input_errors import input_error
from tests.training.tiny import tiny_config


@pytest.fixture(scope="module")
def run(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that keeps an average of its weights; its step 2 is saved, and not validated."""
    config = tiny_config(prepared, steps=3)
    config.validate_every, config.save_every, config.average_decay = 3, 2, 0.5
    workdir = tmp_path_factory.mktemp("runs") / "adult"
    train_and_evaluate(config, workdir)
    return workdir


def export(*arguments: str | Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["export-model", *map(str, arguments)])
    assert not stop.value.code


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    folder = run.parent / "model"
    export(run, folder)
    return folder


@pytest.fixture(scope="module")
def image(prepared: Path) -> np.ndarray:
    return np.asarray(open_prepared(prepared).cases[0].image())


def same(one: Predictor, other: Predictor) -> bool:
    ours, theirs = by_path(one.variables), by_path(other.variables)
    return ours.keys() == theirs.keys() and all(
        np.asarray(ours[path]).tobytes() == np.asarray(theirs[path]).tobytes() for path in ours
    )


def test_an_exported_model_predicts_what_its_run_does(
    run: Path, exported: Path, image: np.ndarray
) -> None:
    of_run, of_model = open_predictor(run), open_predictor(exported)
    assert same(of_run, of_model) and same(of_run, open_predictor(run))
    for name in ("model", "expects", "window", "overlap"):
        assert getattr(of_run, name) == getattr(of_model, name), name
    expected = of_run.probabilities(image)
    assert expected.std() > 0.01
    assert of_model.probabilities(image).tobytes() == expected.tobytes()


def test_half_precision_predicts_nearly_the_same(
    run: Path, exported: Path, image: np.ndarray, tmp_path: Path
) -> None:
    export("--float16", run, tmp_path / "of_run")
    export(exported, tmp_path / "of_model", "--float16")
    half, also_half = open_predictor(tmp_path / "of_run"), open_predictor(tmp_path / "of_model")
    assert same(half, also_half)
    exact, close = (p.probabilities(image) for p in (open_predictor(run), half))
    assert 0 < np.abs(exact - close).max() < 0.01


def test_the_checkpoint_and_the_weights_can_be_chosen(
    run: Path, exported: Path, tmp_path: Path
) -> None:
    export("--which=2", "--weights=raw", run, tmp_path / "raw")
    raw = open_predictor(tmp_path / "raw")
    assert same(raw, open_predictor(run, "2", "raw"))
    assert not same(raw, open_predictor(exported))
    for which in ("best", "latest", "2"):
        assert same(open_predictor(tmp_path / "raw", which), raw)
    assert same(open_predictor(tmp_path / "raw", weights="raw"), raw)
    with input_error("step 2", "best", "latest", 3):
        open_predictor(tmp_path / "raw", "3")
    with input_error("raw", "averaged"):
        open_predictor(tmp_path / "raw", weights="averaged")
    training = open_model(tmp_path / "raw").training
    assert (training["step"], training["weights"]) == (2, "raw")
    assert training["validation_dice"] is None


def test_a_finished_run_and_its_model_know_scans_like_the_training_s(
    run: Path, exported: Path, prepared: Path
) -> None:
    (case,) = open_prepared(prepared).split("validation", 0)
    mirrored = replace(open_predictor(run), mirror=True).predict(np.asarray(case.image()))
    reference = read_statistics(run)
    assert reference.entropy == (pytest.approx(mirrored.entropy),)
    assert reference.agreement == (pytest.approx(mirrored.agreement),)
    assert len(reference.volume_ml) == 1
    for network in (open_predictor(run), open_predictor(exported), open_model(exported)):
        assert network.reference == reference


def test_the_source_s_schema_is_found(run: Path, tmp_path: Path) -> None:
    def trained_on(schema: object) -> Path:
        folder = tmp_path / str(schema)
        shutil.copytree(run, folder)
        record = json.loads((folder / "run.json").read_text())
        record["data"]["schema"] = schema
        (folder / "run.json").write_text(json.dumps(record))
        return folder

    iseg = trained_on("iseg")
    export(iseg, tmp_path / "model")
    assert source_schema(iseg) == source_schema(tmp_path / "model") == ISEG_SCHEMA
    assert source_schema(run).to_ids(np.arange(4, dtype=np.uint8)).tolist() == [0, 1, 2, 3]
    for unknown in ("ours", ["iseg"], None):
        with input_error(tmp_path / str(unknown), str(unknown)):
            source_schema(trained_on(unknown))
    with input_error(tmp_path):
        source_schema(tmp_path)


def test_a_model_says_how_it_came_to_be(run: Path, prepared: Path, exported: Path) -> None:
    training = json.loads((exported / "model.json").read_text())["training"]
    assert training == open_model(exported).training == open_model(run).training
    (scores,) = [line for line in read_metrics(run) if "mean_dice" in line]
    assert training["validation_dice"] == {
        "mean": scores["averaged_mean_dice"],
        **{name: scores[f"averaged_dice_{name}"] for name in ("CSF", "GM", "WM")},
    }
    assert (training["step"], training["steps"], training["weights"]) == (3, 3, "averaged")
    assert training["subjects"] == {"train": 3, "validation": 1}
    assert training["data"]["source"] == "phantom"
    assert training["data"]["manifest_sha256"] == sha256(prepared / "manifest.json")
    assert training["started_from"] is None
    assert training["versions"]["jax"] == jax.__version__
    # Neither where it was trained nor on whom.
    text = (exported / "model.json").read_text()
    assert str(prepared.parent) not in text and str(run.parent) not in text
    assert not any(case.case_id in text for case in open_prepared(prepared).cases)


def test_fine_tuning_starts_from_a_model_folder(
    run: Path,
    exported: Path,
    prepared: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tiny_config(prepared, steps=1)
    config.init.checkpoint = str(exported)
    config.init.freeze = ("stem",)
    state = train_and_evaluate(config, tmp_path / "run")
    before = by_path(read_variables(run, weights="averaged").variables["params"])
    after = by_path(state.params)
    for path in before:
        assert np.array_equal(before[path], after[path]) == path.startswith("stem"), path
        np.testing.assert_allclose(before[path], after[path], atol=0.1, err_msg=path)
    with open(tmp_path / "run" / "start.tsv", newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert {row["start"] for row in rows.values()} == {"loaded"}
    assert rows["params/stem_conv0/kernel"]["frozen"] == "True"
    printed = capsys.readouterr().err
    assert (
        f"Starting from {exported}, a model folder of step 3, its averaged weights, with" in printed
    )
    assert open_model(tmp_path / "run").training["started_from"] == "model"


def test_fine_tuning_refuses_what_a_model_folder_has_not(
    exported: Path, prepared: Path, tmp_path: Path
) -> None:
    config = tiny_config(prepared, steps=1)
    config.init.checkpoint, config.init.which = str(exported), "7"
    with input_error("step 3", 7):
        train_and_evaluate(config, tmp_path / "run")
    config.init.which, config.model.growth_rate = "best", 6
    config.init.architecture = "config"
    with input_error("16, expected 24"):
        train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    printed = capsys.readouterr().err.strip()
    assert stop.value.code == 1 and len(printed.splitlines()) == 1
    return printed


def test_what_cannot_be_exported_is_one_sentence(
    run: Path, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    for arguments, value in (
        ([str(tmp_path / "nowhere"), out], str(tmp_path / "nowhere")),
        ([str(tmp_path), out], f"{tmp_path} "),
        ([str(run), out, "--which=9"], "step 9"),
        ([str(run), out, "--which=last"], "'last', expected best, latest"),
        ([str(run), str(exported)], str(exported)),
        ([str(exported), out, "--weights=raw"], "(averaged)"),
    ):
        assert value in refused(["export-model", *arguments], capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["[]", '{"record_version": 2}'])
def test_a_damaged_record_is_one_sentence(run: Path, tmp_path: Path, content: str) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text(content)
    with input_error(tmp_path / "run" / "run.json"):
        open_model(tmp_path / "run")
