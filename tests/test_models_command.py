"""`infant-seg models` as a person runs it, and installed models where others are named."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import infant_seg_jax
from infant_seg_jax.__main__ import main
from infant_seg_jax.data.phantom import render_phantom
from infant_seg_jax.files import sha256
from infant_seg_jax.store import installed
from tests.untrained import write_untrained_model


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(installed.VARIABLE, str(tmp_path / "installed"))
    return tmp_path / "installed"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_untrained_model(tmp_path / "tiny")


def infant_seg(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def test_a_model_is_installed_listed_and_used_by_name(
    model: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infant_seg("models", "get", model, "--name=mine") == 0
    printed = capsys.readouterr().out
    assert sha256(model / "model.json") in printed and "--checkpoint=mine" in printed
    assert infant_seg("models", "list") == 0
    _, bundled, mine = capsys.readouterr().out.splitlines()
    assert bundled.startswith("bundled ") and " any " in bundled
    assert mine.split()[:6] == ["mine", "CSF,", "GM,", "WM", "T1w", "0.0"]
    assert str(models / "mine") in mine

    phantom = render_phantom(0, shape=(24, 28, 24))
    scan = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(phantom.image, phantom.affine), scan)
    out = tmp_path / "labels.nii.gz"
    assert infant_seg("predict", "--checkpoint=mine", f"--input={scan}", f"--output={out}") == 0
    labels = infant_seg_jax.load("mine").segment(scan)
    np.testing.assert_array_equal(labels.array, nib.Nifti1Image.from_filename(out).dataobj)


def test_a_damaged_model_is_listed_as_such(
    model: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    infant_seg("models", "get", model)
    (models / "tiny" / "model.json").write_text("{")
    capsys.readouterr()
    assert infant_seg("models", "list") == 0
    assert "damaged" in capsys.readouterr().out.splitlines()[2]


@pytest.mark.parametrize("arguments", [["gat", "x"], ["get"], ["get", "a", "b"], ["list", "a"]])
def test_other_actions_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert infant_seg("models", *arguments) == 1
    assert repr(" ".join(arguments)) in capsys.readouterr().err
