"""`infant-seg inspect`, as a person runs it."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from infant_seg_jax.__main__ import main
from infant_seg_jax.data.inspection import inspect_paths
from infant_seg_jax.data.phantom import write_cohort
from tests.data.volume_files import save


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "a folder" / ("of-a-long-name-" * 6)
    write_cohort(folder, range(2), shape=(64, 76, 64), spacing=2.4)
    return folder


def inspect(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main_or_exit(0, "inspect", "--quiet", *arguments)
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out


def main_or_exit(status: int, *arguments: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert (stop.value.code or 0) == status or (status == 1 and isinstance(stop.value.code, str))


def test_the_report_is_plain_text_in_80_columns_with_whole_paths(
    scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = inspect(capsys, str(scans))
    assert printed.isascii() and "\x1b" not in printed
    for file in scans.rglob("*.nii.gz"):
        assert str(file) in printed.splitlines()
    for line in printed.splitlines():
        assert len(line) <= 80 or line.startswith(str(scans))
        assert line == line.rstrip()
    assert "2 scans, 2 label maps, 0 masks" in printed
    assert "label map  4 values, schema 'tissues', assumed because it fits" in printed
    assert "64x76x64 voxels of 2.4x2.4x2.4 mm, axes RAS" in printed
    assert printed.endswith("\nNo warnings.\n")


def test_the_volumes_are_those_of_the_labels(
    scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = inspect(capsys, str(scans))
    wanted = [
        f"{label.ml:.1f}"
        for file in inspect_paths([scans]).files
        for label in file.labels
        if label.name in ("CSF", "GM", "WM")
    ]
    assert re.findall(r"  (?:CSF|GM|WM) +([\d.]+) ml \(value [123]\)", printed) == wanted


def test_a_schema_may_be_given_and_flags_may_follow_the_path(
    scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = inspect(capsys, str(scans), "--schema=ibsr")
    assert "schema 'ibsr'\n" in printed and "assumed" not in printed


def test_the_json_holds_all_of_it(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "report.json"
    printed = inspect(capsys, f"--output={output}", str(scans))
    assert f"Written to {output}." in printed
    report = json.loads(output.read_text())
    inspection = inspect_paths([scans])
    assert [file["path"] for file in report["files"]] == [str(f.path) for f in inspection.files]
    for entry, file in zip(report["files"], inspection.files, strict=True):
        assert entry["kind"] == file.kind
        assert entry["shape"] == [64, 76, 64]
        assert entry["spacing_mm"] == pytest.approx([2.4] * 3, abs=1e-6)
        assert entry["range"] == [file.low, file.high]
        assert [(v["value"], v["class"], v["voxels"]) for v in entry["labels"]] == [
            (v.value, v.name, v.voxels) for v in file.labels
        ]
        assert entry["warnings"] == []
    assert report["failures"] == [] and report["warnings"] == []


def test_broken_files_are_listed_the_rest_is_told_and_the_status_is_1(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(next(scans.rglob("*_T1w.nii.gz")).read_bytes()[:1000])
    with pytest.raises(SystemExit) as stop:
        main(["inspect", str(broken), str(scans), f"--output={tmp_path}/report.json"])
    assert stop.value.code == (
        "infant-seg: inspect: 1 of 5 files cannot be read; see above."  # status 1
    )
    printed = " ".join(capsys.readouterr().out.split())
    assert "2 scans, 2 label maps, 0 masks; 1 cannot be read" in printed
    assert f"Cannot be read - {broken} " in printed
    failures = json.loads((tmp_path / "report.json").read_text())["failures"]
    assert [failure["path"] for failure in failures] == [str(broken)]


def test_series_are_no_failures(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "bold.nii.gz", np.zeros((4, 5, 6, 7), np.int16))
    printed = inspect(capsys, str(scans), str(tmp_path))
    assert "2 scans, 2 label maps, 0 masks; 1 file with several volumes, left out" in printed


def test_warnings_are_told_some_of_a_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.zeros((9, 9, 9), np.uint8)
    for number in range(7):
        mask[3:6, 3:6, number] = 1
        save(tmp_path / f"{number}.nii", mask, np.diag([1, 1, 4, 1]))
    printed = inspect(capsys, str(tmp_path))
    sentences = " ".join(printed.split())  # which are wrapped
    assert printed.count("  warnings   spacing: see below\n") == 7
    assert sentences.count("has voxels of 1x1x4 mm") == 5
    assert "- and 2 more about spacing; see all of them with --output=FILE.json.\n" in printed


def test_parcellations_fit_in_80_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = np.kron(np.arange(1000, 1036).reshape(3, 4, 3), np.ones((3, 3, 3)))
    save(tmp_path / "aparc.nii", np.pad(ids.astype(np.int16), 3), np.diag([2, 2, 2, 1]))
    printed = inspect(capsys, str(tmp_path), "--schema=freesurfer")
    block = printed.split("axes RAS")[1]
    each = re.findall(r"(10\d\d)=([\d.]+)", block)
    assert [int(value) for value, _ in each] == list(range(1000, 1036))
    assert {ml for _, ml in each} == {"0.2"}
    # Paths are never cut.
    lines = [line for line in printed.splitlines() if "/" not in line]
    assert len(lines) > 10 and max(map(len, lines)) <= 80


def test_brackets_in_names_are_no_markup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.zeros((9, 9, 9), np.uint8)
    mask[3:6, 3:6, 3:6] = 1
    path = save(tmp_path / "[red]scan[bold].nii", mask, np.diag([1, 1, 4, 1]))
    printed = inspect(capsys, str(path))
    assert printed.count("[red]scan[bold].nii") == 2  # as a heading and in the warning


def test_names_that_are_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = np.zeros((9, 9, 9), np.uint8)
    mask[3:6, 3:6, 3:6] = 1
    path = save(tmp_path / "scan.nii", mask)
    try:
        path.rename(tmp_path / os.fsdecode(b"na\xefve.nii"))
    except OSError:
        pytest.skip("this file system takes no such name")
    assert "/na\\udcefve.nii\n  mask" in inspect(capsys, str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["inspect"], 2, "PATH... must be given; see `infant-seg inspect --help`."),
        (["inspect", "--shema=iseg", "x"], 2, "Did you mean: schema"),
        (["inspect", "nowhere.nii"], 1, "inspect: There is no file or folder nowhere.nii."),
        (["inspect", ".", "--schema=x"], 1, "There is no label schema 'x'"),
        (["predict", "--checkpoint=a", "--input=b", "--output=c", "x"], 2, "'x' is not a flag"),
    ],
)
def test_wrong_usage(
    arguments: list[str],
    status: int,
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    main_or_exit(status, *arguments)
    printed = capsys.readouterr().err
    assert sentence in printed and len(printed.splitlines()) == 1
