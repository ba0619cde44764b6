"""The demo, at a size for tests: the whole path runs and what it writes agrees."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import matplotlib
import matplotlib.image
import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.demo import DemoSize, run_demo
from infant_seg_jax.report.report import write_report
from infant_seg_jax.store.run_folder import read_run
from tests.input_errors import input_error


@pytest.mark.slow
def test_demo_writes_scores_prediction_and_figure(tmp_path: Path) -> None:
    matplotlib.use("agg")
    whole = DemoSize()
    size = replace(
        whole,
        adults=replace(whole.adults, train=1, validation=1),
        infants=replace(whole.infants, train=1, validation=1, test=2),
        shape=(48, 48, 48),
        adult_steps=8,
        infant_steps=4,
    )
    result = run_demo(tmp_path / "demo", seed=1, size=size)

    scores = json.loads((tmp_path / "demo" / "results.json").read_text())
    for name, table in (("fine_tuned", result.fine_tuned), ("from_scratch", result.from_scratch)):
        assert len(table.subjects) == 2
        assert scores[name]["mean"] == pytest.approx(table.summary["dice"]["mean"].mean, abs=1e-4)
        with (tmp_path / "demo" / "scores" / name / "dice.csv").open() as file:
            assert [row["subject"] for row in csv.DictReader(file)] == list(table.subjects)

    runs = tmp_path / "demo" / "runs"
    tuned, scratch = (read_run(runs / name)[0] for name in ("fine_tuned", "from_scratch"))
    assert tuned.init.checkpoint == str(runs / "adult")
    scratch.init.checkpoint = tuned.init.checkpoint
    assert tuned.to_dict() == scratch.to_dict()  # They differ in nothing else.

    (prediction,) = (tmp_path / "demo" / "predictions").iterdir()
    subject = prediction.name.removesuffix("_dseg.nii.gz")
    assert subject in result.fine_tuned.subjects
    scan = nib.Nifti1Image.from_filename(
        tmp_path / "demo" / "scans" / "infant" / subject / f"{subject}_T1w.nii.gz"
    )
    np.testing.assert_array_equal(nib.Nifti1Image.from_filename(prediction).affine, scan.affine)
    assert nib.Nifti1Image.from_filename(prediction).shape == scan.shape

    picture = matplotlib.image.imread(result.figure)
    assert picture.shape[0] > 500 and picture[..., :3].std() > 0.05

    page = write_report([tmp_path / "demo"])
    assert page == tmp_path / "demo" / "report.html"
    text = page.read_text(encoding="utf-8")
    assert "fine_tuned: Mean Dice " in text and "<h2>Training</h2>" in text
    assert text.count('<img class="slices"') == 4  # The best and the worst of two, twice.
    assert 'class="notice"' not in text

    with input_error(tmp_path / "demo"):
        run_demo(tmp_path / "demo", size=size)
