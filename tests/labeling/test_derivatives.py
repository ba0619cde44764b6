"""What lies beside label maps, and that other people's things there are left alone."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.data.labels import BACKGROUND, CSF, GM, WM, LabelSchema
from infant_seg_jax.data.schemas import TISSUE_SCHEMA
from infant_seg_jax.errors import InputError
from infant_seg_jax.labeling.derivatives import start_output
from infant_seg_jax.labeling.inputs import find_inputs
from infant_seg_jax.labeling.label_tables import TABLES
from infant_seg_jax.labeling.stripping import Stripper
from infant_seg_jax.report.report import write_report
from tests.data.volume_files import ramp
from tests.labeling.fake_network import labeler


def start(output: Path, dataset: Path | None, schema=TISSUE_SCHEMA, overwrite=False) -> None:
    start_output(output, dataset, schema, overwrite=overwrite)


def test_a_derivative_says_what_it_is_of_whom(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "dataset_description.json").write_text('{"Name": "Infants", "BIDSVersion": "1.0.2"}')
    for output, link in ((raw / "derivatives/infantseg", "../.."), (tmp_path / "out", "raw")):
        start(output, raw)
        content = json.loads((output / "dataset_description.json").read_text())
        assert content["DatasetType"] == "derivative"
        assert content["GeneratedBy"][0]["Name"] == "infant_seg_jax"
        assert content["Name"] == "Tissues of the brain in Infants"
        assert (output / content["DatasetLinks"]["raw"]).resolve() == raw
        assert content["DatasetLinks"]["raw"].endswith(link)
        # Again is no trouble, and what a person wrote since then stays.
        (output / "README.md").write_text("mine")
        start(output, raw)
        assert (output / "README.md").read_text() == "mine"


def test_only_label_values_are_said_of_other_scans(tmp_path: Path) -> None:
    start(tmp_path / "out", None)
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(TABLES)


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    raw, other = tmp_path / "raw", tmp_path / "other"
    for folder in (raw, other):
        folder.mkdir()
        (folder / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')

    def sentence(output: Path, dataset: Path, **further) -> str:
        before = sorted(path.read_bytes() for path in output.rglob("*.*"))
        with pytest.raises(InputError) as caught:
            start(output, dataset, **further)
        assert sorted(path.read_bytes() for path in output.rglob("*.*")) == before
        return str(caught.value)

    # Least of all are the scans' own descriptions replaced.
    assert "describes a dataset that was not made by this software" in sentence(raw, raw)
    assert str(raw / "derivatives" / "infantseg") in sentence(raw, raw, overwrite=True)
    (other / "dataset_description.json").write_text("[1]")
    assert "not made by this software" in sentence(other, raw)

    start(tmp_path / "out", raw)
    assert "belong to the scans in ../raw, not in ../other" in sentence(tmp_path / "out", other)
    changed = LabelSchema("other", {0: BACKGROUND, 10: CSF, 2: GM, 3: WM})
    assert "have other values" in sentence(tmp_path / "out", raw, schema=changed)
    start(tmp_path / "out", raw, changed, overwrite=True)
    assert "\n10\tCerebrospinal Fluid\t" in (tmp_path / "out" / "dseg.tsv").read_text()


def test_what_version_0_1_wrote_into_a_derivative_is_moved_to_where_it_is_now(
    tmp_path: Path,
) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    start(out, raw)
    (out / "docs").rename(tmp_path / "kept")
    old = {name: name.encode() for name in ("tissue_volumes.tsv", "report.html")}
    for name, text in old.items():
        (out / name).write_bytes(text)
    start(out, raw)
    assert {path.name for path in out.iterdir()} == {
        *("README.md", "dataset_description.json", "dseg.tsv", "docs")
    }
    new = {path.name: path.read_bytes() for path in (tmp_path / "kept").iterdir()}
    assert {path.name: path.read_bytes() for path in (out / "docs").iterdir()} == old | new


@pytest.mark.slow
def test_bids_validators_find_nothing(tmp_path: Path) -> None:
    """With the scans' own tree and without. Needs the package bids-validator-deno."""
    validator = shutil.which("bids-validator-deno", path=str(Path(sys.executable).parent))
    validator = validator or shutil.which("bids-validator-deno")
    if validator is None:
        pytest.skip("the package bids-validator-deno is not installed")
    raw = tmp_path / "raw"
    output = raw / "derivatives" / "infantseg"
    for name in ("sub-1/ses-a/anat/sub-1_ses-a_acq-x_run-1_T1w", "sub-2/anat/sub-2_T1w"):
        (raw / name).parent.mkdir(parents=True)
        image = nib.Nifti1Image(ramp((8, 9, 10)), np.diag([-1.0, 1, 1, 1]))
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, raw / f"{name}.nii.gz")
    described = {"Name": "x", "BIDSVersion": "1.10.0", "Authors": ["A B", "C D"]}
    (raw / "dataset_description.json").write_text(json.dumps(described))
    found = find_inputs([str(raw)], output, ["T1w"])
    assert len(list(labeler(probabilities="uint8").label(found, output))) == 2
    write_report([output])
    brains = raw / "derivatives" / "brains"
    like = labeler(label_ids={"brain": 1})
    found = find_inputs([str(raw)], brains, ["T1w"])
    stripper = Stripper(like.segment, like.models, like.settings)
    assert len(list(stripper.label(found, brains))) == 2

    def issues(folder: Path, *flags: str) -> set[tuple[str, str, str]]:
        """Of our datasets: code, key, and file; but for what no table of labels can have."""
        result = subprocess.run(
            [validator, "--format", "json", *flags, str(folder)], capture_output=True, text=True
        )
        answer = json.loads(result.stdout)
        datasets = answer["derivativesSummary"].values() if flags else [answer]
        return {
            (issue["code"], issue.get("subCode", ""), issue["location"])
            for dataset in datasets
            for issue in dataset["issues"]["issues"]
            if (issue["code"], issue["location"]) != ("SIDECAR_KEY_RECOMMENDED", "/dseg.tsv")
        }

    assert issues(output) == issues(brains) == issues(raw, "-r") == set()
    (output / "sub-2" / "anat" / "sub-2_tissues.nii.gz").touch()
    assert issues(output) and issues(raw, "-r")  # so it does look
