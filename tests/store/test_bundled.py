"""The network that comes along: it is whole, it is what predict takes, and it knows tissue."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.__main__ import main
from infant_seg_jax.config import default_config
from infant_seg_jax.data.class_sets import BRAIN_CLASSES
from infant_seg_jax.data.phantom import render_phantom
from infant_seg_jax.data.prepared import ANY_MODALITY
from infant_seg_jax.store.array_files import read_safetensors
from infant_seg_jax.store.loading import BUNDLED, model_path, open_model, read_start
from infant_seg_jax.store.model_folder import BRAIN_FINDER, WEIGHTS, check_shapes


def test_it_is_small_and_takes_any_contrast_with_or_without_a_skull() -> None:
    folder = model_path(BUNDLED)
    assert folder.name == "contrast_agnostic"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 5e6
    model = open_model(folder)
    finder = model.brain_finder
    assert finder is not None
    for where, one in ((folder, model), (folder / BRAIN_FINDER, finder)):
        arrays = read_safetensors(where / WEIGHTS)
        assert {array.dtype for name, array in arrays.items() if name.endswith("/kernel")} == {
            np.dtype(np.float16)
        }
        check_shapes(arrays, one.config, one.expects, where)  # which opening it leaves out
        assert one.expects.modalities == (ANY_MODALITY,)
    assert set(finder.expects.extents) == {"brain", "head"}
    assert finder.expects.classes == BRAIN_CLASSES
    assert len(model.reference.entropy) >= 3


def test_it_is_opened_without_what_only_training_and_charts_take() -> None:
    code = (
        "import sys\n"
        "import infant_seg_jax.commands.predict, infant_seg_jax.report.report\n"
        "import infant_seg_jax.labeling.inputs, infant_seg_jax.labeling.labeling\n"
        "from infant_seg_jax.store import loading\n"
        "loading.open_predictor(loading.model_path(loading.BUNDLED))\n"
        "slow = {'matplotlib', 'optax', 'orbax', 'scipy.stats', 'tensorboardX', 'torch'}\n"
        "assert not slow & sys.modules.keys(), slow & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_training_may_start_from_it() -> None:
    init = default_config().init
    init.checkpoint = BUNDLED
    variables, which = read_start(init)
    assert set(variables) == {"params", "batch_stats"} and which.startswith("a model folder")


def test_a_folder_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert model_path(BUNDLED).is_dir()
    Path(BUNDLED).mkdir()
    assert model_path(BUNDLED) == Path(BUNDLED)
    assert model_path("runs/mine") == Path("runs/mine")


def _predict(scan: Path, output: Path) -> None:
    try:
        main(["predict", f"--input={scan}", f"--output={output}", "--noreport", "--quiet"])
    except SystemExit as stop:
        assert not stop.code


@pytest.mark.slow
def test_predict_takes_it_where_no_other_is_named(tmp_path: Path) -> None:
    phantom = render_phantom(0, shape=(56, 64, 56), spacing=2.5)
    scan = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(phantom.image, phantom.affine), scan)
    _predict(scan, tmp_path / "out")
    sidecar = json.loads((tmp_path / "out" / "scan_dseg.json").read_text())
    assert [model["Name"] for model in sidecar["Models"]] == ["contrast_agnostic"]
    found = np.asarray(nib.Nifti1Image.from_filename(tmp_path / "out" / "scan_dseg.nii.gz").dataobj)
    brain = phantom.label_map > 0
    assert 2 * ((found > 0) & brain).sum() / ((found > 0).sum() + brain.sum()) > 0.85


@pytest.mark.slow
def test_it_finds_the_tissues_of_an_adult_that_it_has_never_seen(
    real_data: Path, tmp_path: Path
) -> None:
    folder = real_data / "ibsr18" / "Validation_Set" / "IBSR_11"
    _predict(folder / "IBSR_11.nii.gz", tmp_path)
    found, truth = (
        np.asarray(nib.Nifti1Image.from_filename(path).dataobj).squeeze()
        for path in (tmp_path / "IBSR_11_dseg.nii.gz", folder / "IBSR_11_seg.nii.gz")
    )
    for label, least in ((2, 0.75), (3, 0.88)):
        overlap = 2 * ((found == label) & (truth == label)).sum()
        assert overlap / ((found == label).sum() + (truth == label).sum()) > least
    assert (found[truth == 1] == 1).mean() > 0.85  # Its truth calls the ventricles alone CSF.
