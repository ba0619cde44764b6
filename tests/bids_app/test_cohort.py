"""A cohort on four machines, as `launch/slurm_cohort.sh` has it: four processes, one folder."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import pytest

from infant_seg_jax.config import default_config
from infant_seg_jax.data.phantom import render_phantom
from infant_seg_jax.data.prepared import ExpectedScans
from infant_seg_jax.data.preprocessing import Preparation
from infant_seg_jax.models.factory import make_model
from infant_seg_jax.models.variables import init_variables
from infant_seg_jax.store.model_folder import Model, write_model

REPOSITORY = Path(__file__).parents[2]
SHARDS, SCANS = 4, 8


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for number in range(SCANS):
        phantom = render_phantom(number, shape=(24, 28, 24))
        anat = tmp_path / "bids" / f"sub-{number}" / "anat"
        anat.mkdir(parents=True)
        image = nib.Nifti1Image(phantom.image, phantom.affine)
        nib.save(image, anat / f"sub-{number}_T1w.nii.gz")
    return tmp_path / "bids"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny network that never learned anything."""
    config = default_config()
    config.model.update(growth_rate=4, stem_features=4, block_layers=(1, 1))
    expects = ExpectedScans(("T1w",), Preparation(), ("brain",))
    variables = init_variables(make_model(config), 1, seed=0)
    write_model(tmp_path / "model", Model(config, variables, expects, {}))
    return tmp_path / "model"


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    program = tmp_path / "infant-seg-bids"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m infant_seg_jax.bids_app.app "$@"\n')
    program.chmod(0o755)
    here = {"PYTHONPATH": str(REPOSITORY), "INFANT_SEG_BIDS": str(program)}
    return {**os.environ, **here, "XLA_FLAGS": "", "SLURM_CPUS_PER_TASK": "1"}


def start(
    number: int, tree: Path, out: Path, model: Path, environment: Mapping[str, str]
) -> subprocess.Popen:
    script = REPOSITORY / "launch" / "slurm_cohort.sh"
    return subprocess.Popen(
        [script, str(SHARDS), str(tree), str(out), "--checkpoint", str(model)],
        env={**environment, "SLURM_ARRAY_TASK_ID": str(number)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_job_that_died_is_done_again_by_the_same_command(
    tree: Path, tmp_path: Path, model: Path, environment: Mapping[str, str]
) -> None:
    out = tmp_path / "out"
    jobs = {n: start(n, tree, out, model, environment) for n in range(1, SHARDS + 1)}
    while not list(out.rglob("*_dseg.nii.gz")):
        assert all(job.poll() in (None, 0) for job in jobs.values())
        time.sleep(0.05)
    jobs[2].send_signal(signal.SIGKILL)
    written = [line for job in jobs.values() for line in job.communicate()[0].splitlines()]
    statuses = {number: job.returncode for number, job in jobs.items()}
    assert {statuses[number] for number in (1, 3, 4)} == {0}
    assert len(written) == len(set(written)) >= SCANS - 2

    again = start(2, tree, out, model, environment)
    assert sorted({*written, *again.communicate()[0].splitlines()}) == [
        str(out / f"sub-{number}/anat/sub-{number}_desc-infantseg_dseg.nii.gz")
        for number in range(SCANS)
    ]
    assert again.returncode == 0
    with (out / "docs" / "tissue_volumes.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["participant_id"] for row in rows] == [f"sub-{number}" for number in range(SCANS)]
    assert len(list(out.rglob("*_mask.nii.gz"))) == SCANS
    assert not list(out.rglob(".writing*")) and not (out / "docs" / "report.html").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="runs a shell script")
def test_the_script_tells_how_to_be_used(environment: Mapping[str, str]) -> None:
    script = REPOSITORY / "launch" / "slurm_cohort.sh"
    without = {key: value for key, value in environment.items() if key != "SLURM_ARRAY_TASK_ID"}
    for arguments in ((), ("4", "bids", "out")):
        result = subprocess.run([script, *arguments], env=without, capture_output=True, text=True)
        assert result.returncode == 2 and "usage: sbatch --array=1-N" in result.stderr
