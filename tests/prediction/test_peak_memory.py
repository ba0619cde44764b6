"""A large scan within a stated amount of memory, whatever way it is predicted."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.data.prepared import ExpectedScans
from infant_seg_jax.data.preprocessing import Preparation
from infant_seg_jax.data.volumes import read_image, write_label_map, write_volume
from infant_seg_jax.models.skip_densenet import SkipDenseNet3D
from infant_seg_jax.models.variables import init_variables
from infant_seg_jax.prediction.memory import peak_memory
from infant_seg_jax.prediction.predictor import Predictor

SIDE, GIB = 300, 2**30
WAYS = {
    "slabs": {},
    "mirrored": {"mirror": True},
    "refined": {"refine": True},
    "windows": {"windows_only": True, "overlap": 0.25},
    "overlapping windows": {"windows_only": True, "overlap": 0.5},
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_scan_of_300_cubed_takes_under_4_gib(tmp_path: Path, way: str) -> None:
    x, y, z = np.ogrid[:SIDE, :SIDE, :SIDE]
    ball = (x - 149.5) ** 2 + (y - 149.5) ** 2 + (z - 149.5) ** 2 < 149**2
    data = np.where(ball, 100 + (x + 2 * y + 3 * z) % 50, 0).astype(np.int16)
    # Voxels of half a millimeter: a brain of 1.7 liters, that fills the field of view.
    nib.save(nib.Nifti1Image(data, np.diag([0.5, 0.5, 0.5, 1.0])), tmp_path / "scan.nii")
    result = subprocess.run(
        [sys.executable, __file__, str(tmp_path), way],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
        cwd=Path(__file__).parents[2],
    )
    found = json.loads(result.stdout)
    assert found["label_map"] == [SIDE] * 3
    assert GIB < found["peak"] < 4 * GIB


def predict_and_write(folder: Path, way: str, width: int = 8) -> dict[str, object]:
    """The whole way from a file to files, in a process of its own."""
    model = SkipDenseNet3D(growth_rate=width // 2, stem_features=width)
    predictor = Predictor(
        model,
        jax.device_put(init_variables(model, 1, seed=0)),
        expects=ExpectedScans(("T1w",), Preparation(), ("brain",)),
        window=(96, 96, 96),
        overlap=0.5,
        batch_size=1,
        max_memory=4 * GIB,
    )
    volume = read_image(folder / "scan.nii")
    found = replace(predictor, **WAYS[way]).segment(volume)
    assert not set(found.notices) - set(found.confidence.unusual)  # A ball is no brain.
    write_label_map(folder / "dseg.nii", found.label_map, volume.native)
    for index in range(4):
        write_volume(folder / f"{index}.nii", found.probability(index), volume.native)
    # Not by getrusage, which knows what the process that started this one took before.
    return {"label_map": found.label_map.shape, "peak": max(peak_memory().values())}


if __name__ == "__main__":
    _, scan, chosen, *widths = sys.argv
    print(json.dumps(predict_and_write(Path(scan), chosen, *map(int, widths))))
