"""`infant-seg evaluate` and `infant-seg compare`, as a person runs them."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from infant_seg_jax.__main__ import main
from infant_seg_jax.data.labels import CSF, GM, WM
from infant_seg_jax.evaluation.score_files import read_scores
from infant_seg_jax.metrics.measures import METRICS
from tests.data.volume_files import save

REPOSITORY = Path(__file__).parents[1]
SUBJECTS = 5


def label_map(shift: int = 0) -> np.ndarray:
    """Slabs of the three tissues, moved along y."""
    found = np.zeros((16, 14, 12), np.uint8)
    for index, tissue in enumerate((CSF, GM, WM)):
        found[1 + 4 * index : 5 + 4 * index, 2 + shift : 9 + shift, 3:8] = tissue
    return found


def run(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> tuple[str, str]:
    """What a command says on standard output, and on standard error."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    code = stop.value.code
    err = printed.err + (code if isinstance(code, str) else "")
    assert (1 if isinstance(code, str) else code or 0) == status, err
    assert "Traceback" not in err
    return printed.out, err


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """True label maps, and those of two tools: theirs are one voxel further away."""
    for folder, shift in (("true", 0), ("ours", 1), ("theirs", 2)):
        (tmp_path / folder).mkdir()
        for index in range(SUBJECTS):
            moved = shift + (index % 2 if shift else 0)
            save(tmp_path / folder / f"sub-{index}_dseg.nii.gz", label_map(moved))
    return tmp_path


@pytest.fixture
def scored(data: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Both evaluated, in the folders `scores/ours` and `scores/theirs`."""
    for name in ("ours", "theirs"):
        run(capsys, *evaluate(data, name))
    return data / "scores"


def evaluate(data: Path, name: str) -> list[str]:
    return [
        *("evaluate", f"--prediction={data / name}", f"--truth={data / 'true'}"),
        f"--output={data / 'scores' / name}",
        "--noreport",
    ]


def test_names_that_cannot_be_encoded_are_written_with_backslashes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "maps").mkdir()
    for name in (b"ok_dseg.nii.gz", b"caf\xe9_dseg.nii.gz"):
        save(tmp_path / "maps" / os.fsdecode(name), label_map())
    both = f"--prediction={tmp_path / 'maps'}", f"--truth={tmp_path / 'maps'}"
    run(capsys, "evaluate", *both, f"--output={tmp_path / 'scores'}")
    found = read_scores(tmp_path / "scores")
    assert sorted(found.subjects) == [r"caf\udce9", "ok"]
    page = (tmp_path / "scores" / "report.html").read_text(encoding="utf-8")
    assert page.count("The picture does not show the scan") == 0 and r"caf\udce9" in page
    run(capsys, "compare", tmp_path / "scores", tmp_path / "scores")
    printed = subprocess.run(
        [sys.executable, "-m", "infant_seg_jax", "evaluate", *both, "--output=Zoë", "--noreport"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        check=False,
    )
    assert printed.returncode == 0, printed.stderr
    assert rb"Written to Zo\xeb/metrics.csv" in printed.stdout


def test_runs_are_measured_and_compared_each_for_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, moved in (("true", 0), ("ours", 1), ("theirs", 2)):
        (tmp_path / folder).mkdir()
        for number in (1, 2):
            path = tmp_path / folder / f"sub-1_run-{number}_dseg.nii.gz"
            save(path, label_map(moved * (number - 1)))
    for name in ("ours", "theirs"):
        run(capsys, *evaluate(tmp_path, name))
    scores = tmp_path / "scores"
    dice = read_scores(scores / "ours").of("dice", "GM")
    assert dice == {"sub-1_run-1": 1, "sub-1_run-2": pytest.approx(6 / 7)}
    printed, _ = run(capsys, "compare", scores / "ours", scores / "theirs")
    assert "Subjects: 2" in printed


def test_evaluate_prints_a_table_and_writes_it(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed, _ = run(capsys, *evaluate(data, "ours"), "--tolerance=2")
    content = json.loads((data / "scores/ours/metrics.json").read_text())
    with (data / "scores/ours/metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    dice = 6 / 7  # a voxel of seven along y
    assert float(rows[0]["dice"]) == pytest.approx(dice, abs=1e-6)
    assert rows[0]["subject"] == "sub-0" and len(rows) == 3 * SUBJECTS
    assert content["subjects"]["sub-0"]["CSF"]["dice"] == pytest.approx(dice, abs=1e-6)
    assert content["subjects"]["sub-0"]["CSF"]["hausdorff_mm"] == pytest.approx(1.5)
    assert content["tolerance_mm"] == 2 and content["truth"] == str(data / "true")
    assert content["failures"] == {} and content["unpredicted"] == []
    mean = (3 * dice + 2 * 5 / 7) / 5
    assert content["summary"]["dice"]["GM"]["mean"] == pytest.approx(mean, abs=1e-6)
    assert f"dice                   CSF       {mean:.3f}" in printed
    assert all(metric in printed for metric in METRICS)
    assert printed.splitlines()[-1] == (
        f"Written to {data}/scores/ours/metrics.csv and {data}/scores/ours/metrics.json."
    )


def test_evaluate_finishes_the_others_and_tells_who_failed(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = data / "ours" / "sub-1_dseg.nii.gz"
    broken.write_bytes(broken.read_bytes()[:50])
    (data / "ours" / "sub-3_dseg.nii.gz").unlink()
    printed, err = run(capsys, *evaluate(data, "ours"), status=1)
    assert "1 of 4 subjects could not be measured (see above): sub-1." in err
    assert str(broken) in err
    assert "Left out, without a prediction: sub-3." in printed
    content = json.loads((data / "scores/ours/metrics.json").read_text())
    assert list(content["subjects"]) == ["sub-0", "sub-2", "sub-4"]
    assert str(broken) in content["failures"]["sub-1"] and content["unpredicted"] == ["sub-3"]


def test_evaluate_writes_nothing_if_nobody_can_be_measured(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (data / "ours").iterdir():
        save(path, label_map()[1:])
    printed, err = run(capsys, *evaluate(data, "ours"), status=1)
    assert "5 of 5 subjects could not be measured" in err
    assert printed == "" and not (data / "scores").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--prediction=p", "--checkpoint=c"], "Give either --checkpoint and --data, or --pred"),
        (["--prediction=p", "--truth=nowhere"], "There is no file or folder"),
        (["--prediction=p", "--truth=t", "--schema=isge"], "There is no label schema 'isge'"),
    ],
)
def test_evaluate_refuses_with_a_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, err = run(capsys, "evaluate", *arguments, f"--output={tmp_path / 'out'}", status=1)
    assert sentence in err and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_evaluate_does_not_load_jax_for_label_maps(data: Path) -> None:
    code = f"""
import sys
from infant_seg_jax.__main__ import main
try:
    main({evaluate(data, "ours")})
except SystemExit as stop:
    assert not stop.code, stop.code
assert "jax" not in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_compare_says_who_is_better_by_how_much_and_where(
    scored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed, _ = run(capsys, "compare", scored / "ours", scored / "theirs", "--most=4")
    lines = printed.splitlines()
    assert lines[:3] == [f"A: {scored / 'ours'}", f"B: {scored / 'theirs'}", "Subjects: 5"]
    assert "dice, higher is better" in lines
    row = next(line for line in lines if line.startswith("CSF")).split()
    ours, theirs = (3 * 6 + 2 * 5) / 35, (3 * 5 + 2 * 4) / 35
    assert row[1:4] == [f"{ours:.3f}", f"{theirs:.3f}", f"+{ours - theirs:.3f}"]
    assert row[-3:] == ["5", "0", "5"]  # better in A, better in B, subjects
    assert sum(line.startswith("  sub-") for line in lines) == 4


def test_compare_takes_other_metrics_and_files(
    scored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = scored / "comparison.json"
    printed, _ = run(
        capsys,
        *("compare", "--metric=hausdorff95_mm,assd_mm,dice", f"--output={output}"),
        *(scored / "ours" / "metrics.csv", scored / "theirs" / "metrics.csv"),
    )
    content = json.loads(output.read_text())
    assert list(content["metrics"]) == ["dice", "hausdorff95_mm", "assd_mm"]
    row = content["metrics"]["hausdorff95_mm"]["rows"]["WM"]
    assert row["difference"]["mean"] == pytest.approx(-1.5, abs=1e-5)  # a voxel along y
    assert row["difference"]["p_value"] == pytest.approx(2 / 2**5)  # all of one sign
    assert row["a_better"] == 5 and content["only_a"] == []
    assert len(content["metrics"]["dice"]["largest"]) == 3 * SUBJECTS
    assert "hausdorff95_mm, lower is better" in printed and f"Written to {output}." in printed
    printed, _ = run(capsys, "compare", "--metric=all", scored / "ours", scored / "theirs")
    assert all(f"{metric}, " in printed for metric in METRICS)


def test_compare_names_whom_only_one_has(scored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = scored / "theirs" / "metrics.csv"
    path.write_text(path.read_text().replace("sub-4,", "sub-9,"))
    printed, _ = run(capsys, "compare", scored / "ours", scored / "theirs")
    assert "Subjects: 4" in printed
    assert "Only A has 1, left out: sub-4" in printed and "Only B has 1, left out: sub-9" in printed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ours", "nowhere"], "There is no file nowhere, expected a folder"),
        (["ours", "others"], "ours and others have no subject in common: one has sub-0,"),
        (["ours", "theirs", "--metric=dcie"], "There is no metric 'dcie', expected all or some of"),
    ],
)
def test_compare_refuses_with_a_sentence(
    scored: Path,
    arguments: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (scored / "others").mkdir()
    text = (scored / "ours" / "metrics.csv").read_text()
    (scored / "others" / "metrics.csv").write_text(text.replace("sub-", "baby-"))
    monkeypatch.chdir(scored)
    _, err = run(capsys, "compare", *arguments, status=1)
    assert sentence in err and len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("folders", [["ours"], ["ours", "theirs", "third"]])
def test_compare_takes_two_folders(folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "compare", *folders, status=2)
