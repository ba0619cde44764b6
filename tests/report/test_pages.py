"""What pages say, against what is known of a small evaluation, prediction and run."""

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape

from infant_seg_jax.data.labels import GM, IGNORE, TISSUE_CLASSES
from infant_seg_jax.evaluation.score_files import read_scores, write_dice
from infant_seg_jax.evaluation.score_table import ScoreTable, dice_table
from infant_seg_jax.report.drawing.slices import Scan
from infant_seg_jax.report.outputs import find_outputs
from infant_seg_jax.report.pages import evaluation as evaluations
from infant_seg_jax.report.pages import prediction as predictions
from infant_seg_jax.report.pages.comparison import comparison_page
from infant_seg_jax.report.pages.confusion import confusion_ml, confusion_sentence
from infant_seg_jax.report.pages.evaluation import evaluation_page
from infant_seg_jax.report.pages.page import Section, write_page
from infant_seg_jax.report.pages.prediction import prediction_page
from infant_seg_jax.report.pages.training import training_page
from infant_seg_jax.report.report import write_report
from infant_seg_jax.training.peak_memory import DEVICE, PROCESS
from tests.data.volume_files import save
from tests.input_errors import input_error
from tests.report.cohort import (
    AFFINE,
    NAMES,
    VOXEL_ML,
    truth,
    write_evaluation,
    write_prediction,
    write_run,
)


def test_confusion_is_counted_in_ml_and_sums_to_the_volumes() -> None:
    random = np.random.default_rng(0)
    labels, true = random.choice([0, 1, 2, 3, IGNORE], (2, 9, 8, 7)).astype(np.uint8)
    found = confusion_ml(Scan(None, labels, AFFINE, true))
    known = (labels != IGNORE) & (true != IGNORE)
    for row in range(len(TISSUE_CLASSES)):
        for column in range(len(TISSUE_CLASSES)):
            count = np.sum(known & (true == row) & (labels == column))
            assert found[row, column] == pytest.approx(count * 3.0 / 1000)


def test_evaluation_says_how_good_and_who_is_worst(tmp_path: Path) -> None:
    page = evaluation_page(write_evaluation(tmp_path), "scores")
    # Moved by 0, 1, 2, 3 of 9 voxels along y.
    dice = [1 - moved / 9 for moved in range(4)]
    assert f"Mean Dice {np.mean(dice):.3f}" in page.verdict[0] and "4 subjects" in page.verdict[0]
    assert "The worst subject is sub-d (0.667)." in page.verdict
    assert [(case.title, case.name) for case in page.shown] == [
        ("Worst", "sub-d"),
        ("Median", "sub-b"),
        ("Best", "sub-a"),
    ]
    assert "mean 0.667" in page.shown[0].dice and len(page.shown[0].histograms) == 3
    scan = tmp_path / "scans" / "sub-d_T1w.nii.gz"
    assert page.shown[0].command.startswith(f"infant-seg view {scan} ")
    rows = {row.name: row.cells for row in page.subjects}
    assert tuple(rows) == NAMES and rows["sub-d"][3] == (pytest.approx(2 / 3, abs=1e-6), "0.667")
    assert len(page.columns) == len(rows["sub-a"])
    assert not page.notices
    # Of WM, most voxels: 1 + 2 + 3 of 4 * 9 layers, as of the others; the first is named.
    assert page.verdict[-1] == (
        "The most frequent error: CSF that was labeled as background, 16.7% of the true CSF."
    )


def test_the_most_frequent_error_is_that_of_most_volume() -> None:
    confusion = np.diag([9.0, 6.0, 70.0, 50.0])
    confusion[2, 3], confusion[1, 2], confusion[0, 1] = 30.0, 4.0, 1000.0
    assert confusion_sentence({"a": confusion / 2, "b": confusion / 2}, TISSUE_CLASSES) == (
        "The most frequent error: GM that was labeled as WM, 30.0% of the true GM."
    )
    assert confusion_sentence({"a": np.diag(np.ones(4))}, TISSUE_CLASSES) == ""
    assert confusion_sentence({}, TISSUE_CLASSES) == ""


def test_scans_are_those_that_were_named_or_left_out_and_that_is_said(tmp_path: Path) -> None:
    scores = write_evaluation(tmp_path)
    for path in (tmp_path / "predicted").glob("*.json"):
        path.unlink()  # Which name the scans.
    with_none = evaluation_page(scores, "scores")
    (notice,) = with_none.notices
    assert notice.startswith(
        "The pictures do not show the scans, because no folder of scans was named: "
    )
    assert not any(case.command for case in with_none.shown)
    assert 'alt="sub-d: slices' in with_none.shown[0].picture

    about = json.loads((scores / "metrics.json").read_text()) | {"images": str(tmp_path / "scans")}
    (scores / "metrics.json").write_text(json.dumps(about))
    page = evaluation_page(scores, "scores")
    assert not page.notices and page.about["images"] == str(tmp_path / "scans")
    scan = tmp_path / "scans" / "sub-d_T1w.nii.gz"
    assert page.shown[0].command.startswith(f"infant-seg view {scan} ")
    assert len(page.shown[0].picture) > len(with_none.shown[0].picture)

    save(scan, np.arange(120, dtype=np.float32).reshape(4, 5, 6), AFFINE)
    page = evaluation_page(scores, "scores")
    (notice,) = page.notices
    assert str(scan) in notice and "one grid" in notice
    assert len(page.shown) == 3 and page.confusion  # It is shown without.


def test_the_viewers_command_says_what_the_labels_mean(tmp_path: Path) -> None:
    scores = write_evaluation(tmp_path)
    path = scores / "metrics.json"
    table = tmp_path / "my labels.yaml"
    table.write_text("0: background\n1: CSF\n2: GM\n3: WM\n")
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"schema": str(table), "prediction_schema": str(table)}))
    command = evaluation_page(scores, "scores").shown[0].command
    assert command.startswith(f"infant-seg view '--schema={table}' ")
    path.write_text(json.dumps(content | {"schema": str(table)}))
    assert evaluation_page(scores, "scores").shown[0].command == ""  # It takes one for both.


def test_confusions_of_all_subjects_come_to_shares_of_the_true_tissue(tmp_path: Path) -> None:
    page = evaluation_page(write_evaluation(tmp_path), "scores")
    # Of each tissue, (0 + 1 + 2 + 3) / (4 * 9) has become background.
    lost = 100 * 6 / 36
    for row in page.confusion:
        background, *tissues = [value for value, _ in row.cells]
        assert background == pytest.approx(lost)
        assert sum(value or 0 for value in tissues) == pytest.approx(100 - lost)
    assert [row.name for row in page.confusion] == ["CSF", "GM", "WM"]
    assert len(page.volumes) == 6 and np.sum(truth() == GM) * VOXEL_ML == pytest.approx(1.296)


def test_evaluation_without_its_label_maps_says_so_and_keeps_the_scores(tmp_path: Path) -> None:
    scores = write_evaluation(tmp_path)
    shutil.rmtree(tmp_path / "truth")
    page = evaluation_page(scores, "scores")
    (notice,) = page.notices
    assert notice.startswith("No pictures and volumes: ") and str(tmp_path / "truth") in notice
    assert not page.shown and not page.confusion and len(page.subjects) == 4


def test_a_damaged_label_map_costs_that_subject_its_picture_alone(tmp_path: Path) -> None:
    scores = write_evaluation(tmp_path)
    broken = tmp_path / "predicted" / "sub-d_dseg.nii.gz"
    broken.write_bytes(broken.read_bytes()[:100])
    page = evaluation_page(scores, "scores")
    (notice,) = page.notices
    assert str(broken) in notice
    assert [case.name for case in page.shown] == ["sub-b", "sub-a"]


def test_volumes_of_many_subjects_are_those_of_some_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluations, "MAX_CASES", 3)
    page = evaluation_page(write_evaluation(tmp_path), "scores")
    assert page.notices == ("Volumes are shown for 3 of 4 subjects.",)
    assert len(page.shown) == 3 and len(page.subjects) == 4


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    scores = write_evaluation(tmp_path)
    path = scores / "metrics.json"
    content = json.loads(path.read_text()) | {
        "failures": {"x": "x is broken."},
        "unpredicted": ["y", "z"],
    }
    path.write_text(json.dumps(content))
    notices = evaluation_page(scores, "scores").notices
    assert notices == ("x is broken.", "Left out, without a prediction: y, z.")


def test_dice_of_folds_and_sweeps_is_reported_too(tmp_path: Path) -> None:
    rows = {"a": {"CSF": 0.5, "GM": 0.7, "WM": 0.9}, "b": {"CSF": 0.4, "GM": math.nan, "WM": 0.8}}
    write_dice(tmp_path, dice_table(rows))
    page = evaluation_page(tmp_path, "scores")
    assert page.verdict[0].startswith("Mean Dice 0.650") and len(page.bars) == 1
    assert page.columns == ("Dice, CSF", "Dice, GM", "Dice, WM", "Dice, mean")
    assert page.subjects[1].cells[1] == (None, "-") and "only scores" in page.notices[0]
    (tmp_path / "dice.csv").write_text("subject,CSF\na,many\n")
    with input_error(tmp_path / "dice.csv"):
        evaluation_page(tmp_path, "scores")


def test_comparison_is_of_the_first_with_each_other(tmp_path: Path) -> None:
    names = tuple(f"sub-{number}" for number in range(6))
    better = read_scores(write_evaluation(tmp_path / "a", names))
    worse = read_scores(write_evaluation(tmp_path / "b", names[3:] + names[:3]))
    page = comparison_page({"a": better, "b": worse, "c": better})
    assert page is not None and len(page.verdict) == 2
    assert page.verdict[0].startswith("Whether a is better than b is unclear with so few")
    assert "mean Dice +0.000 (95% interval -" in page.verdict[0]
    assert page.verdict[0].endswith("better in 3 of 6 subjects.")
    assert page.verdict[1].endswith("better in 0 of 6 subjects.")
    assert comparison_page({"a": better}) is None


def test_a_sure_difference_is_said_to_be_better_or_worse() -> None:
    # Better by 0.10 to 0.20, by 0.15 in the mean.
    def table(share: float) -> ScoreTable:
        return dice_table(
            {f"s{n}": dict.fromkeys(("CSF", "GM", "WM"), share * (5 + n) / 10) for n in range(6)}
        )

    good, bad = table(1.0), table(0.8)
    page, other = comparison_page({"a": good, "b": bad}), comparison_page({"b": bad, "a": good})
    assert page is not None and other is not None
    assert page.verdict[0].startswith(
        "a is better than b, and chance is an unlikely explanation: mean Dice +0.150 (95% "
        "interval +0.1"
    )
    assert other.verdict[0].startswith(
        "b is worse than a, and chance is an unlikely explanation: mean Dice -0.150 (95% interval "
        "-0.1"
    )


def test_prediction_shows_what_is_flagged_first(tmp_path: Path) -> None:
    page = prediction_page(write_prediction(tmp_path), "labels")
    assert page.verdict[0] == "4 scans labeled." and page.verdict[1].startswith("1 with automatic")
    assert [card.checked.startswith("No automatic warning") for card in page.cards] == [
        *(False, True, True, True)
    ]
    assert "Checked: not recorded." in page.cards[1].checked  # by 0.1
    shown = [card.row.label_map[:4] for card in page.cards]
    assert shown == ["s001", "s003", "s002", "s000"]  # Then what the network is least sure of.
    assert page.cards[0].notices == ("It looks <b>odd</b>.",)
    assert page.cards[1].ranks["CSF"] == "rank 1 of 4 by size, median 101.5 ml"
    without = page.cards[2]
    assert without.picture is not None and without.command == ""
    assert "does not show the scan" in without.notices[0]
    assert len(page.charts) == 4  # No agreement, since nothing was mirrored.


def test_volumes_are_drawn_against_age_where_ages_are_known(tmp_path: Path) -> None:
    output = write_prediction(tmp_path)
    assert not prediction_page(output, "labels").growth  # A table of 0.1 has no ages.
    table = output / "tissue_volumes.tsv"
    first, *rest = table.read_text().splitlines()
    for known in (2, 3):
        ages = [f"{6 * n}.00" if n < known else "n/a" for n in range(len(rest))]
        lines = [f"{line}\t{age}" for line, age in zip(rest, ages, strict=True)]
        table.write_text("\n".join([f"{first}\tage_months", *lines]) + "\n")
        titles = [
            re.findall(r'aria-label="(\w+)"', chart)
            for chart in prediction_page(output, "labels").growth
        ]
        assert titles == ([["CSF"], ["GM"], ["WM"], ["intracranial"]] if known == 3 else [])
    assert "Volumes by age" in write_report([output]).read_text(encoding="utf-8")


def test_prediction_says_which_model_it_is_by_and_what_to_do(tmp_path: Path) -> None:
    output = write_prediction(tmp_path)
    for number, name in enumerate(("contrast_agnostic", "mine", "mine")):
        sidecar = output / f"s00{number}_dseg.json"
        content = json.loads(sidecar.read_text())
        content["Models"] = [{"Name": name, "SHA256": 64 * str(number and 1)}]
        content["Settings"]["Refine"] = name != "mine"
        sidecar.write_text(json.dumps(content))
    page = prediction_page(output, "labels")
    assert set(page.made_by) == {
        "Labeled by the bundled model contrast_agnostic (00000000), with intensity-based "
        "refinement.",
        "Labeled by mine (11111111).",
    }
    text = write_report([output]).read_text(encoding="utf-8")
    assert "<h1>Label maps: " in text and "Labeled by mine" in text
    assert "wrong</li>" not in text  # Without a truth, nothing is known to be.
    for command, _ in page.next_steps:
        assert escape(command) in text


def test_prediction_of_many_scans_shows_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "MAX_PICTURES", 2)
    page = prediction_page(write_prediction(tmp_path, 5), "labels")
    assert len(page.cards) == 2 and len(page.rows) == 5
    assert page.notices[0].startswith("2 of 5 scans are shown: flagged ones first")


def test_a_label_map_that_is_gone_is_said(tmp_path: Path) -> None:
    output = write_prediction(tmp_path)
    (output / "s001_dseg.nii.gz").unlink()
    card = prediction_page(output, "labels").cards[0]
    assert card.picture is None and card.notices[-1].startswith("No picture: ")


def test_a_table_of_other_columns_is_refused(tmp_path: Path) -> None:
    output = write_prediction(tmp_path)
    (output / "tissue_volumes.tsv").write_text("a\tb\n1\t2\n")
    with input_error(output / "tissue_volumes.tsv"):
        prediction_page(output, "labels")


def test_a_fine_tuned_run_is_drawn_after_the_one_that_it_began_from(tmp_path: Path) -> None:
    adult = write_run(tmp_path / "adult", steps=8)
    infant = write_run(tmp_path / "infant", start=str(adult), best=0.75)
    (infant / "start.tsv").write_text(
        "path\tshape\tstart\tfrozen\tmultiplier\n"
        "params/stem/kernel\t3x3\tloaded\tTrue\t1.0\n"
        "params/stem/bias\t3\tloaded\tTrue\t1.0\n"
        "params/head/kernel\t3x3\tfresh\tFalse\t0.5\n"
    )
    page = training_page({"adult": adult, "infant": infant})
    first, second = page.runs
    assert (first.after, second.after, page.marked) == (0, 8, True)
    assert second.started_from == str(adult) and not first.started_from
    assert second.dice["mean"] == "0.750" and second.dice["step"] == "2"
    assert second.steps == "4 of 4" and second.loss == "0.500" and second.devices == "2 cpu"
    assert [
        (group.block, group.start, group.frozen, len(group.paths)) for group in second.starts
    ] == [
        ("stem, parameters", "loaded", True, 2),
        ("head, parameters", "fresh", False, 1),
    ]
    changed = {key for key, _, default in second.config if not default}
    assert changed == {"steps", "init.checkpoint"}
    assert len(page.charts) == 7


def test_a_run_without_metrics_has_a_row(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "metrics.jsonl").unlink()
    page = training_page({"run": run})
    assert not page.charts and page.runs[0].loss == "-" and page.runs[0].seconds == "-"
    assert page.runs[0].memory == "-" and page.alike


def test_memory_is_that_of_a_device_or_else_of_the_process(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for key, shown in ((DEVICE, "1.50 GiB of a device"), (PROCESS, "1.50 GiB of the process")):
        (run / "memory.json").write_text(json.dumps({key: 3 * 2**29}))
        assert training_page({"run": run}).runs[0].memory == shown


def test_runs_of_other_data_are_said_not_to_compare(tmp_path: Path) -> None:
    runs = {name: write_run(tmp_path / name) for name in ("adult", "infant")}
    assert training_page(runs).alike
    record = json.loads((runs["infant"] / "run.json").read_text())
    record["data"]["path"] = "prepared/infants"
    (runs["infant"] / "run.json").write_text(json.dumps(record))
    page = training_page(runs)
    assert not page.alike and [run.data for run in page.runs] == ["prepared", "infants"]
    assert "validated on different data" in write_report(list(runs.values())).read_text()


def test_a_report_says_which_run_was_fine_tuned_and_gives_it_the_color_of_its_scores(
    tmp_path: Path,
) -> None:
    adult = write_run(tmp_path / "runs" / "adult")
    write_run(tmp_path / "runs" / "scratch")
    write_run(tmp_path / "runs" / "tuned", start=str(adult))
    for name in ("scratch", "tuned"):
        scores = write_evaluation(tmp_path / "made" / name)
        shutil.copytree(scores, tmp_path / "scores" / name)
    shutil.rmtree(tmp_path / "made")
    text = write_report([tmp_path]).read_text()
    start = "scratch started from random weights; tuned started from the weights of adult."
    assert f"<p>{start}</p>" in text
    assert "<p>Dice says how well a tissue agrees with the truth" in text
    evaluated = re.findall(r'<i style="background: ([^"]+)"></i>(scratch|tuned)', text)
    trained = re.findall(r'<i class="line" style="border-color: ([^"]+)"></i>(\w+)', text)
    assert len(evaluated) == 2 and trained[:2] == evaluated and trained[2][1] == "adult"


def test_outputs_are_found_below_a_folder_and_named_apart(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "demo" / "scores" / "a")
    write_evaluation(tmp_path / "demo" / "scores" / "b")
    write_run(tmp_path / "demo" / "runs" / "a")
    write_prediction(tmp_path / "demo" / "predicted")
    found = {(one.kind, one.name) for one in find_outputs([tmp_path / "demo"])}
    assert found == {
        ("run", "a"),
        ("evaluation", "a/scores"),
        ("evaluation", "b/scores"),
        ("prediction", "labels"),
    }


def test_nothing_to_report_of_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with input_error(tmp_path / "nowhere"):
        find_outputs([tmp_path / "nowhere"])
    with input_error(tmp_path):
        find_outputs([tmp_path])


def test_a_report_is_one_file_that_loads_nothing(tmp_path: Path) -> None:
    scores, labels = write_evaluation(tmp_path / "e"), write_prediction(tmp_path / "p")
    run = write_run(tmp_path / "r")
    page = write_report([scores, labels, run])
    text = page.read_text(encoding="utf-8")
    assert page == scores / "report.html"
    for heading in ("How good: scores", "Labeled: labels", "Training"):
        assert f"<h2>{heading}</h2>" in text
    for what in ("src=", "href="):
        rest = text.split(what)[1:]
        assert all(part.startswith(('"data:', '"#')) for part in rest)
    assert "default-src 'none'" in text and "url(" not in text.replace("url(#", "")


def test_everything_that_comes_from_outside_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    scores = write_evaluation(tmp_path / "e")
    for name in ("metrics.csv", "metrics.json"):
        path = scores / name
        path.write_text(path.read_text().replace("sub-a", evil))
    content = json.loads((scores / "metrics.json").read_text())
    content["failures"] = {evil: f"{evil} failed."}
    content["checkpoint"] = evil
    (scores / "metrics.json").write_text(json.dumps(content))
    run = write_run(tmp_path / "r" / "<img src=x onerror=alert(1)>", start=evil)
    record = json.loads((run / "run.json").read_text())
    record["devices"], record["versions"] = [evil], {evil: evil}
    (run / "run.json").write_text(json.dumps(record))
    text = write_report([scores, run], tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count("<script") == 1 and "<img src=x" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and "&lt;img src=x" in text


def test_a_page_of_names_that_are_no_text_is_written(tmp_path: Path) -> None:
    page = write_page(tmp_path / "p.html", "a\udcff", ["b\udcff"], [])
    assert r"a\udcff" in page.read_text(encoding="utf-8")
    with input_error(page):
        write_page(page / "p.html", "a", [], [Section("s", "comparison.html", None)][:0])
