"""Sweeps: which runs they make of one config, and what they gather."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from infant_seg_jax.__main__ import main
from infant_seg_jax.commands.compare_transfer import _start
from infant_seg_jax.config import Config, default_config
from infant_seg_jax.data.phantom import write_cohort
from infant_seg_jax.data.preparing import prepare
from infant_seg_jax.data.sources.phantom import PHANTOM
from infant_seg_jax.evaluation.score_table import ScoreTable, dice_table
from infant_seg_jax.report.transfer import describe, draw_transfer, write_transfer
from infant_seg_jax.store.run_folder import read_run
from infant_seg_jax.training import interruption, sweeps
from infant_seg_jax.training.sweeps import ENCODER, compare_transfer, train_folds
from tests.input_errors import input_error
from tests.training.tiny import tiny_config, tiny_flags


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Config]]:
    """Instead of training, remember with what; Dice is made of the config."""
    made: list[tuple[str, Config]] = []

    def train(config: Config, run: Path) -> None:
        made.append((run.name, config))

    def evaluate(run: Path, data: Path, split: str, fold: int, which: str) -> ScoreTable:
        assert which == "latest"  # The best would have been chosen by the same subjects.
        _, config = made[-1]
        better = 0.1 * bool(config.init.checkpoint) + 0.01 * config.seed
        names = [f"{split}{fold}_{index}" for index in range(4)]
        dice = {name: 0.5 + better + 0.02 * i * better for i, name in enumerate(names)}
        return dice_table({n: {"CSF": d, "GM": d, "WM": d + 0.1} for n, d in dice.items()})

    monkeypatch.setattr(sweeps, "train_and_evaluate", train)
    monkeypatch.setattr(sweeps, "evaluate_run", evaluate)
    folds = SimpleNamespace(folds=({}, {}, {}))
    monkeypatch.setattr(sweeps, "open_prepared", lambda path: folds)
    return made


def test_every_fold_and_seed_is_trained_once(runs: list[Any], tmp_path: Path) -> None:
    config = default_config()
    config.seed = 4
    table = train_folds(config, tmp_path, seeds=2)
    assert [name for name, _ in runs] == [
        f"fold{fold}_seed{seed}" for fold in range(3) for seed in (4, 5)
    ]
    assert [(one.data.fold, one.seed) for _, one in runs] == [
        (fold, seed) for fold in range(3) for seed in (4, 5)
    ]
    assert (config.data.fold, config.seed) == (0, 4)  # The config given is left alone.
    assert len(table.subjects) == 12
    # The mean over the seeds 4 and 5.
    assert table.subjects["validation2_0"]["CSF"]["dice"] == pytest.approx(0.545)
    assert json.loads((tmp_path / "scores" / "dice.json").read_text())["mean"]["WM"] > 0.6


def test_arms_differ_in_their_start_alone(runs: list[Any], tmp_path: Path) -> None:
    config = default_config()
    config.init.checkpoint, config.init.multipliers = "runs/adult", ("0.1:stem",)
    results = compare_transfer(config, tmp_path, counts=(2, 0), seeds=2)
    assert [name for name, _ in runs] == [
        f"{arm}_{count}_seed{seed}"
        for count in ("2", "all")
        for arm in ("scratch", "fine_tuned", "frozen_encoder")
        for seed in (0, 1)
    ]
    for name, one in runs:
        scratch, frozen = name.startswith("scratch"), name.startswith("frozen")
        assert one.init.checkpoint == ("" if scratch else "runs/adult")
        assert one.init.freeze == (ENCODER if frozen else ())
        assert one.init.multipliers == (() if scratch else ("0.1:stem",))
        assert one.data.train_subjects == (2 if "_2_" in name else 0)
        rest = one.copy_and_resolve_references()
        rest.init, rest.seed, rest.data.train_subjects = config.init, config.seed, 0
        assert rest == config
    assert [result.train_subjects for result in results] == [2, 0]
    difference = results[0].differences["fine_tuned"]
    assert difference.subjects == 4 and difference.mean == pytest.approx(0.103, abs=1e-3)
    assert difference.low <= difference.mean <= difference.high


def test_several_networks_to_start_from(runs: list[Any], tmp_path: Path) -> None:
    config = default_config()
    results = compare_transfer(config, tmp_path, starts={"adult": "runs/adult", "any": "bundled"})
    assert [(name, one.init.checkpoint, one.init.freeze) for name, one in runs] == [
        ("scratch_all_seed0", "", ()),
        ("adult_all_seed0", "runs/adult", ()),
        ("any_all_seed0", "bundled", ()),
    ]
    assert list(results[0].differences) == ["adult", "any"]
    assert "all subjects, from any - from scratch: +" in describe(results)
    draw_transfer(tmp_path / "comparison.png", results)
    with input_error("'scratch'"):
        compare_transfer(config, tmp_path, starts={"scratch": "runs/adult"})


def test_starts_are_named() -> None:
    for text in ("runs/adult", "a b:runs", "adult:", "../up:runs"):
        with input_error(text, "NAME:PATH"):
            _start(text)
    assert _start("adult:C:/runs") == ("adult", "C:/runs")


def test_comparison_is_told_written_and_drawn(runs: list[Any], tmp_path: Path) -> None:
    config = default_config()
    config.init.checkpoint = "runs/adult"
    results = compare_transfer(config, tmp_path, counts=(1, 0))
    table = describe(results)
    assert table.splitlines()[1].split() == [
        *("1", "from", "scratch", "0.500", "0.500", "0.600", "0.533")
    ]
    assert "all subjects, fine-tuned - from scratch: +0.103 [" in table
    write_transfer(tmp_path / "comparison.json", results)
    written = json.loads((tmp_path / "comparison.json").read_text())
    assert [entry["train_subjects"] for entry in written] == [1, "all"]
    assert written[0]["minus_scratch"]["frozen_encoder"]["mean"] == pytest.approx(0.103, abs=1e-3)
    draw_transfer(tmp_path / "comparison.png", results)
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_comparison_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with input_error("config.init.checkpoint"):
        compare_transfer(default_config(), tmp_path)


def run_main(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert not stop.value.code


@pytest.mark.slow
def test_folds_and_comparison_for_real(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cohort(tmp_path / "scans", range(5), shape=(32, 32, 32))
    prepare(PHANTOM.open(tmp_path / "scans"), tmp_path / "folds", folds=2)
    prepare(PHANTOM.open(tmp_path / "scans"), tmp_path / "one")
    config = tiny_config(tmp_path / "folds", steps=2)
    run_main(["train-folds", *tiny_flags(config), f"--workdir={tmp_path}/runs"])
    assert capsys.readouterr().out.count("sub-00") == 5
    adult = tmp_path / "runs" / "fold0_seed0"
    config.data.path, config.init.checkpoint = str(tmp_path / "one"), str(adult)
    run_main(
        ["compare-transfer", *tiny_flags(config), "--subjects=1,all", f"--workdir={tmp_path}/t"]
    )
    printed = capsys.readouterr().out
    assert printed.count("from scratch") == 2 + 4
    record, _ = read_run(tmp_path / "t" / "frozen_encoder_1_seed0")
    assert record.init.freeze == ENCODER
    assert np.isfinite(
        json.loads((tmp_path / "t" / "comparison.json").read_text())[0]["dice"]["scratch"]["mean"]
    )


def test_told_to_stop_a_sweep_begins_no_other_run_and_scores_none(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interruption.StopSignal, "received", lambda self, step: step == 1)
    with pytest.raises(interruption.Stopped) as stop:
        train_folds(tiny_config(prepared, steps=3), tmp_path / "sweep", seeds=2)
    assert stop.value.code == 0
    assert [path.name for path in (tmp_path / "sweep").iterdir()] == ["fold0_seed0"]
