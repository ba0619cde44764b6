"""The interface for Nipype, run by Nipype."""

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.api import load
from infant_seg_jax.data.phantom import render_phantom
from tests.untrained import write_untrained_model

os.environ.setdefault("NIPYPE_NO_ET", "1")  # or it looks for a newer version of itself
pytest.importorskip("nipype.interfaces.base", reason="needs the extra nipype")

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """In a folder whose name a shell would take apart."""
    phantom = render_phantom(0, shape=(24, 28, 24))
    path = tmp_path / "my scans; $HOME" / "scan.nii.gz"
    path.parent.mkdir()
    nib.save(nib.Nifti1Image(phantom.image, phantom.affine), path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny network that never learned anything."""
    return write_untrained_model(tmp_path / "tiny model")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`infant-seg` on the PATH, of this repository."""
    path = tmp_path / "bin" / "infant-seg"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m infant_seg_jax "$@"\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))


def test_every_input_is_a_flag_of_predict(scan: Path, model: Path) -> None:
    from absl import flags

    from infant_seg_jax.commands.computing import define_computing
    from infant_seg_jax.commands.predict_flags import define_flags
    from infant_seg_jax.nipype import Predict

    values = flags.FlagValues()
    define_flags(values)
    define_computing(values)
    given: dict[str, Any] = {
        "in_files": [str(scan), str(scan)],
        "checkpoint": [str(model), "bundled"],
        "mask": str(scan),
        "out_dir": "my labels",
        "schema": "iseg",
        "mirror": True,
        "refine": False,
        "fix_orientation": True,
        "remove_islands": 0.25,
        "probabilities": "uint8",
        "max_memory": "4GB",
        "num_threads": 2,
    }
    interface: Any = Predict(**given)
    own = {"args", "environ"}
    assert set(interface.inputs.get()) - own == set(given)
    _, command, *arguments = shlex.split(interface.cmdline)
    assert command == "predict"
    quiet = arguments.index("--quiet")
    assert values(["", *arguments[:quiet], *arguments[quiet + 1 :]]) == [""]
    assert values.input == [f"{scan},{scan}"] and values.output == "my labels"
    assert values.checkpoint == given["checkpoint"] and values.mask == str(scan)
    assert (values.mirror, values.refine, values.fix_orientation) == (True, False, True)
    assert (values.remove_islands, values.probabilities) == (0.25, "uint8")
    assert (values.max_memory, values.threads, values.schema) == ("4GB", 2, "iseg")


@pytest.mark.slow
def test_a_node_labels_a_scan_as_the_python_interface_does(
    scan: Path, model: Path, program: None, tmp_path: Path
) -> None:
    del program
    from nipype.pipeline.engine import Node

    from infant_seg_jax.nipype import Predict

    node: Any = Node(
        Predict(in_files=str(scan), checkpoint=str(model), probabilities="uint8"),
        name="labels",
        base_dir=str(tmp_path / "work"),
    )
    outputs = node.run().outputs
    labels = load(model).segment(scan)
    written = nib.Nifti1Image.from_filename(outputs.label_map)
    np.testing.assert_array_equal(np.asarray(written.dataobj), labels.array)
    mask = np.asarray(nib.Nifti1Image.from_filename(outputs.brain_mask).dataobj)
    assert (mask[labels.array > 0] == 1).all()
    assert [Path(path).name for path in outputs.probability_maps] == [
        f"scan_label-{tissue}_probseg.nii.gz" for tissue in ("CSF", "GM", "WM")
    ]
    assert "GM_ml" in Path(outputs.volumes).read_text() and Path(outputs.sidecar).is_file()


@pytest.mark.slow
def test_a_scan_that_cannot_be_labeled_fails_with_the_sentence(
    scan: Path, model: Path, program: None
) -> None:
    del program
    from infant_seg_jax.nipype import Predict

    scan.write_bytes(b"no scan")
    with pytest.raises(RuntimeError, match="scan.nii.gz"):
        Predict(in_files=str(scan), checkpoint=str(model)).run(cwd=str(scan.parent))
