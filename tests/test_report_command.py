"""`infant-seg report`, and the reports that other commands draw at their end."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from infant_seg_jax.__main__ import main
from infant_seg_jax.report import report
from infant_seg_jax.report.viewer import embedded
from tests.data.volume_files import save
from tests.report.cohort import AFFINE, scan, truth, write_evaluation, write_run


def run(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> tuple[str, str]:
    """What a command says on standard output, and on standard error."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    code = stop.value.code
    assert (1 if isinstance(code, str) else code or 0) == status, printed.err
    assert "Traceback" not in printed.err
    return printed.out, printed.err


@pytest.fixture
def maps(tmp_path: Path) -> list[str]:
    """The arguments of an evaluation of two subjects."""
    for folder, shift in (("true", 0), ("found", 1)):
        (tmp_path / folder).mkdir()
        for name in ("sub-1", "sub-2"):
            moved = np.roll(truth(), shift, axis=1)
            save(tmp_path / folder / f"{name}_dseg.nii.gz", moved, AFFINE)
    where = [f"--prediction={tmp_path / 'found'}", f"--truth={tmp_path / 'true'}"]
    return ["evaluate", *where, f"--output={tmp_path / 'scores'}"]


def test_report_says_where_the_page_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = write_evaluation(tmp_path)
    printed, _ = run(capsys, "report", scores)
    assert printed == f"Open {scores / 'report.html'} in a browser.\n"
    page = tmp_path / "new" / "page.html"
    printed, _ = run(capsys, "report", scores, write_run(tmp_path / "run"), f"--output={page}")
    assert str(page) in printed and "<h2>Training</h2>" in page.read_text()


def test_report_carries_a_viewer_if_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "niivue_script", lambda: b"niivue")
    monkeypatch.setattr(embedded, "niivue_license", lambda: "license")
    scores = write_evaluation(tmp_path)
    run(capsys, "report", scores, "--viewer")
    assert (scores / "report.html").read_text().count("data-look=") == 3


def test_report_refuses_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, printed = run(capsys, "report", tmp_path, status=1)
    assert printed.startswith("infant-seg: report: ") and len(printed.splitlines()) == 1
    run(capsys, "report", status=2)


def test_evaluate_draws_its_report_unless_told_not_to(
    maps: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "scores" / "report.html"
    _, printed = run(capsys, *maps, "--noreport")
    assert not page.exists() and "report" not in printed
    _, printed = run(capsys, *maps)
    assert f"Look at it: {page}" in printed and "sub-2" in page.read_text()
    page.unlink()
    _, printed = run(capsys, *maps, "--quiet")
    assert page.exists() and printed == ""


def test_evaluate_takes_the_scans_for_its_pictures(
    maps: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without = "The pictures do not show the scans, because no folder of scans was named"
    page = tmp_path / "scores" / "report.html"
    run(capsys, *maps)
    assert without in page.read_text() and "infant-seg view" not in page.read_text()
    (tmp_path / "scans").mkdir()
    for name in ("sub-1", "sub-2"):
        save(tmp_path / "scans" / f"{name}_T1w.nii.gz", scan(), AFFINE)
    run(capsys, *maps, f"--images={tmp_path / 'scans'}")
    assert without not in page.read_text()
    assert f"infant-seg view {tmp_path / 'scans' / 'sub-1_T1w.nii.gz'} " in page.read_text()
    _, printed = run(capsys, *maps, f"--images={tmp_path / 'true'}", status=1)
    assert "contains no scan whose name matches a subject with label maps, such as sub-1" in printed
    arguments = ["evaluate", "--checkpoint=c", "--data=d", "--images=i", f"--output={tmp_path}"]
    _, printed = run(capsys, *arguments, status=1)
    assert "--prediction and --truth (and --images, if you have the scans)" in printed


def test_a_report_that_cannot_be_drawn_fails_nothing(
    maps: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(paths: object, page: object) -> Path:
        raise RuntimeError("no\nink")

    monkeypatch.setattr(report, "write_report", fail)
    printed, err = run(capsys, *maps)
    assert "There is no report because it could not be drawn (RuntimeError: no ink)." in err
    assert "Written to" in printed and (tmp_path / "scores" / "metrics.csv").is_file()


def test_a_report_of_label_maps_does_not_load_jax(tmp_path: Path) -> None:
    scores = write_evaluation(tmp_path)
    code = f"""
import sys
from infant_seg_jax.__main__ import main
try:
    main(["report", {str(scores)!r}])
except SystemExit as stop:
    assert not stop.code, stop.code
assert "jax" not in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
