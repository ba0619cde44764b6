"""`infant-seg predict` as a person runs it, with a network that never learned anything."""

import operator
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.__main__ import main
from infant_seg_jax.commands.many_scans import parse_bytes
from infant_seg_jax.data.phantom import render_phantom
from infant_seg_jax.prediction import memory
from infant_seg_jax.prediction.predictor import Predictor
from infant_seg_jax.store import loading
from tests.input_errors import input_error
from tests.untrained import untrained_predictor

Run = Callable[..., tuple[int, list[str], str]]


@pytest.fixture(scope="module")
def networks() -> list[Predictor]:
    """Three that never learned anything, each of its own opinion."""
    first = replace(untrained_predictor(), overlap=0.0, batch_size=1)
    return [
        replace(first, variables=jax.tree.map(partial(operator.mul, scale), first.variables))
        for scale in (1.0, 1.5, 2.0)
    ]


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A BIDS tree of three phantoms."""
    for number in range(3):
        phantom = render_phantom(number, shape=(24, 28, 24))
        folder = tmp_path / "bids" / f"sub-{number}" / "anat"
        folder.mkdir(parents=True)
        image = nib.Nifti1Image(phantom.image, phantom.affine)
        nib.save(image, folder / f"sub-{number}_T1w.nii.gz")
    return tmp_path / "bids"


@pytest.fixture
def run(
    tmp_path: Path,
    networks: list[Predictor],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    def open_predictor(path: Path, which: str, weights: str | None) -> Predictor:
        assert which == "best" and weights is None
        return networks[int(path.name)]

    monkeypatch.setattr(loading, "open_predictor", open_predictor)

    def predict(
        *arguments: str, checkpoint="0", output="out", command="predict"
    ) -> tuple[int, list[str], str]:
        """The exit status, the lines of the output, and all that was said beside it."""
        status = 0
        try:
            main(
                [
                    command,
                    f"--checkpoint={checkpoint}",
                    f"--output={tmp_path / output}",
                    *(["--noreport"] if command == "predict" else []),
                    *arguments,
                ]
            )
        except SystemExit as stop:
            if isinstance(stop.code, str):  # which Python prints before it exits with 1
                print(stop.code, file=sys.stderr)
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out.splitlines(), err

    return predict


def voxels(path: str | Path) -> np.ndarray:
    return np.asarray(nib.Nifti1Image.from_filename(path).dataobj)


def test_a_tree_is_labeled_and_then_finished(run: Run, scans: Path, tmp_path: Path) -> None:
    status, paths, printed = run(f"--input={scans}")
    assert status == 0
    assert paths == [
        str(tmp_path / f"out/sub-{i}/anat/sub-{i}_desc-infantseg_dseg.nii.gz") for i in range(3)
    ]
    assert all(Path(path).is_file() for path in paths)
    assert "1 of 3: sub-0 written (CSF " in printed and " s a scan, " in printed
    assert printed.splitlines()[-1].startswith("3 written, 0 skipped (already finished), 0 failed")

    status, again, printed = run(f"--input={scans}")
    assert (status, again) == (0, paths)
    assert "0 written, 3 skipped (already finished), 0 failed" in printed

    volumes = tmp_path / "out" / "docs" / "tissue_volumes.tsv"
    assert str(volumes) in printed and volumes.is_file()

    status, none, printed = run(f"--input={scans}", "--mirror")
    assert (status, none) == (1, [])
    assert "was made with Mirror False, not True" in printed
    status, again, printed = run(f"--input={scans}", "--mirror", "--overwrite")
    assert (status, again) == (0, paths)
    table = (tmp_path / "out" / "docs" / "tissue_volumes.tsv").read_text().splitlines()
    agreement = dict(zip(table[0].split("\t"), table[1].split("\t"), strict=True))["agreement"]
    assert 0 <= float(agreement) <= 1


def test_more_memory_than_is_allowed_is_said(run: Run, scans: Path) -> None:
    status, _, printed = run(f"--input={scans}", "--max_memory=10MB")
    assert status == 0
    assert "more than the 0.01 GB of --max_memory: the largest" in printed.splitlines()[-1]
    _, _, printed = run(f"--input={scans}", "--max_memory=1TB", "--overwrite")
    assert "--max_memory" not in printed


def test_memory_that_the_report_alone_takes_is_said(
    run: Run, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks = iter((2_000_000_000, 4_000_000_000))
    monkeypatch.setattr(memory, "peak_memory", lambda: {memory.PROCESS: next(peaks)})
    _, _, printed = run(f"--input={scans}", "--max_memory=3GB", "--report")
    assert "the largest of these scans needs" not in printed
    assert printed.splitlines()[-1].startswith(
        "The report used more memory than --max_memory allows"
    )


def test_a_report_is_drawn_of_all_that_is_there(run: Run, scans: Path, tmp_path: Path) -> None:
    status, _, printed = run(f"--input={scans}", "--schema=iseg", "--report")
    page = tmp_path / "out" / "docs" / "report.html"
    assert status == 0 and printed.splitlines()[-1] == f"Look at it: {page}"
    text = page.read_text(encoding="utf-8")
    assert text.count('<img class="slices"') == 3 and "No picture" not in text
    assert "does not show the scan" not in text
    assert f"infant-seg view {scans / 'sub-0/anat/sub-0_T1w.nii.gz'} " in text


def test_a_bad_scan_is_in_the_summary_and_the_status(run: Run, scans: Path) -> None:
    bad = scans / "sub-1/anat/sub-1_T1w.nii.gz"
    bad.write_bytes(bad.read_bytes()[:500])
    status, paths, printed = run(f"--input={scans}")
    assert status == 1 and len(paths) == 2
    assert f"{bad} cannot be read" in printed
    assert "2 written, 0 skipped (already finished), 1 failed" in printed
    assert printed.splitlines()[-1] == (
        "infant-seg: predict: 1 of 3 scans failed (sub-1); see above."
    )


def test_nothing_written_is_nothing_to_look_at(run: Run, scans: Path, tmp_path: Path) -> None:
    bad = scans / "sub-1/anat/sub-1_T1w.nii.gz"
    bad.write_bytes(bad.read_bytes()[:500])
    status, paths, printed = run(f"--input={bad}", "--report")
    assert (status, paths) == (1, []) and "0 written" in printed
    assert "Look at it" not in printed and "volumes in" not in printed
    assert not (tmp_path / "out" / "report.html").exists()


def test_the_label_map_of_one_scan_may_be_named(run: Run, scans: Path, tmp_path: Path) -> None:
    scan = scans / "sub-0/anat/sub-0_T1w.nii.gz"
    status, paths, printed = run(f"--input={scan}", "--report", output="one/mine.nii.gz")
    assert status == 0 and paths == [str(tmp_path / "one/mine.nii.gz")]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "mine.json",
        "mine.nii.gz",
    ]
    assert "Look at it" not in printed and "tissue_volumes" not in printed
    (whole,) = run(f"--input={scan}")[1]
    np.testing.assert_array_equal(voxels(paths[0]), voxels(whole))
    assert "1 skipped" in run(f"--input={scan}", output="one/mine.nii.gz")[2]
    probabilities = ("--probabilities=uint8", "--overwrite")
    assert run(f"--input={scan}", *probabilities, output="one/mine.nii.gz")[0] == 0
    assert (tmp_path / "one" / "mine_label-GM_probseg.nii.gz").is_file()
    for flags, output, sentence in (
        ([f"--input={scans}"], "x.nii.gz", "is one file, but there are 3 scans to label"),
        ([f"--input={scan}"], "x.hdr", "is of no format that is written, expected .nii.gz, .nii,"),
        (
            [f"--input={scan}", "--overwrite"],
            os.path.relpath(scan, tmp_path),
            "is an input file, expected another name",
        ),
    ):
        before = scan.read_bytes()
        status, paths, printed = run(*flags, output=output)
        assert (status, paths) == (1, []) and sentence in printed
        assert scan.read_bytes() == before


def test_mgz_on_demand(run: Run, scans: Path, tmp_path: Path) -> None:
    scan = scans / "sub-0/anat/sub-0_T1w.nii.gz"
    (nifti,) = run(f"--input={scan}")[1]
    (mgz,) = run(f"--input={scan}", "--format=mgz", "--probabilities=float32", output="mgz")[1]
    (named,) = run(f"--input={scan}", output="mine.mgz")[1]
    for path in (mgz, named):
        written = nib.MGHImage.from_filename(path)
        np.testing.assert_array_equal(written.dataobj, voxels(nifti))
    names = {path.name for path in (tmp_path / "mgz").glob("sub-0*")}
    maps = (f"label-{tissue}_probseg" for tissue in ("CSF", "GM", "WM"))
    assert {name for name in names if name.endswith(".mgz")} == {
        f"sub-0_T1w_{what}.mgz" for what in ("dseg", "desc-brain_mask", *maps)
    }
    table = (tmp_path / "mgz" / "tissue_volumes.tsv").read_text().splitlines()
    assert len(table) == 2 and "sub-0_T1w_dseg.mgz" in table[1]
    status, _, printed = run(f"--input={scan}", "--format=mgz", "--probabilities=uint8", output="x")
    assert status == 1 and "MGZ has no scale for probabilities as uint8" in printed
    status, _, printed = run(f"--input={scans}", "--format=mgz", output="x")
    assert status == 1 and "is none that a BIDS derivative may have" in printed


def test_a_list_of_scans(run: Run, scans: Path, tmp_path: Path) -> None:
    paths = sorted(scans.rglob("*.nii.gz"))
    listed = tmp_path / "scans.txt"
    listed.write_text("\n".join(map(str, paths[:2])))
    status, written, _ = run(f"--input=@{listed}", f"--input={paths[2]}")
    assert status == 0
    assert [Path(path).name for path in written] == [f"sub-{i}_T1w_dseg.nii.gz" for i in range(3)]


def test_a_single_scan_tells_its_stages(run: Run, scans: Path) -> None:
    scan = f"--input={scans / 'sub-0/anat/sub-0_T1w.nii.gz'}"
    printed = run(scan, "--refine", output="a.nii.gz")[2]
    where = [
        printed.index(word) for word in ("Reading", "Network", "refinement", "Writing", "1 of 1")
    ]
    assert where == sorted(where)
    assert "Reading" not in run(scan, "--quiet", output="b.nii.gz")[2]
    assert "Reading" not in run(f"--input={scans}")[2]


def test_several_checkpoints_are_averaged(run: Run, scans: Path, tmp_path: Path) -> None:
    scan = f"--input={scans / 'sub-0/anat/sub-0_T1w.nii.gz'}"
    maps = {}
    for output, further in (("a", ()), ("b", ()), ("both", ("--checkpoint=1",))):
        first = "1" if output == "b" else "0"
        options = (scan, "--probabilities=float32", "--nomirror", *further)
        assert run(*options, checkpoint=first, output=output)[0] == 0
        maps[output] = voxels(tmp_path / output / "sub-0_T1w_label-GM_probseg.nii.gz")
    np.testing.assert_allclose(maps["both"], (maps["a"] + maps["b"]) / 2, atol=1e-6)
    assert np.abs(maps["a"] - maps["b"]).max() > 1e-3
    # Which of them is given first changes nothing.
    status, _, printed = run(
        scan, "--probabilities=float32", "--checkpoint=0", checkpoint="1", output="both"
    )
    assert status == 0 and "1 skipped" in printed
    status, _, printed = run(scan, "--probabilities=float32", checkpoint="2", output="both")
    assert status == 1 and "was made by 0 (" in printed and ", not by 2 (" in printed


def test_refinement_is_a_setting(
    run: Run,
    networks: list[Predictor],
    scans: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It changes labels, is off unless a network's config or a person says so, and is recorded."""
    scan = f"--input={scans / 'sub-0/anat/sub-0_T1w.nii.gz'}"
    maps = {}
    for flag in ("", "--norefine", "--refine"):
        status, (path,), _ = run(scan, *filter(None, [flag]), output=f"out{flag}")
        assert status == 0
        maps[flag] = voxels(path)
    np.testing.assert_array_equal(maps[""], maps["--norefine"])
    assert np.mean(maps["--refine"] != maps[""]) > 0.001
    status, _, printed = run(scan, output="out--refine")
    assert status == 1 and "was made with Refine True, not False" in printed
    asked = replace(networks[0], refine=True)
    monkeypatch.setattr(loading, "open_predictor", lambda *_: asked)
    status, _, printed = run(scan, output="out--refine")
    assert status == 0 and "1 skipped" in printed


def test_values_of_another_schema(run: Run, scans: Path) -> None:
    scan = f"--input={scans / 'sub-0/anat/sub-0_T1w.nii.gz'}"
    status, (path,), _ = run(scan, "--schema=iseg", "--max_memory=2GB")
    ids = np.unique(voxels(path))
    assert status == 0 and len(ids) > 1 and set(ids) <= {0, 10, 150, 250}


def test_told_to_stop_it_says_how_to_go_on(
    run: Run, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment, seen = Predictor.segment, []

    def told(predictor, volume, mask=None):
        seen.append(volume.path)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return segment(predictor, volume, mask)

    monkeypatch.setattr(Predictor, "segment", told)
    before = signal.getsignal(signal.SIGTERM)
    status, _, printed = run(f"--input={scans}")
    assert status == 128 + signal.SIGTERM
    assert "Stopped: 1 of 3 label maps are in" in printed
    assert signal.getsignal(signal.SIGTERM) == before
    assert not list(tmp_path.rglob(".writing*"))
    status, paths, printed = run(f"--input={scans}")
    assert status == 0 and len(paths) == 3 and "2 written, 1 skipped" in printed


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4GB", 4 * 10**9), ("500 MiB", 500 * 2**20), ("1.5gib", 3 * 2**29), ("1000", 1000)],
)
def test_amounts_of_memory(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["much", "0GB", "-1GB", "4 potatoes", "1e9", "4IB"])
def test_what_is_no_amount_of_memory(text: str) -> None:
    with input_error(text, "4GB"):
        parse_bytes(text)


def test_stripping_names_no_table_since_there_is_none(
    run: Run, scans: Path, tmp_path: Path
) -> None:
    status, paths, printed = run(f"--input={scans}", command="strip")
    assert (status, len(paths)) == (0, 3)
    assert printed.splitlines()[-1] == "3 written, 0 skipped (already finished), 0 failed."
    assert not list(tmp_path.rglob("tissue_volumes.*"))
