"""A toy dataset of two modalities, for the tests of prepared sets."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from infant_seg_jax.data.labels import LabelSchema
from infant_seg_jax.data.prepared import PreparedSet
from infant_seg_jax.data.preparing import prepare
from infant_seg_jax.data.preprocessing import Preparation
from infant_seg_jax.data.sources import Dataset, SourceCase

SHAPE = (16, 14, 12)
SCHEMA = LabelSchema("toy", {0: 0, 10: 1, 150: 2, 250: 3, 99: 255})
AFFINE = np.array([[0.9, 0, 0, -20], [0, 1.5, 0.1, 3], [0, -0.1, 1.1, 5], [0, 0, 0, 1]])


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def brain(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An ellipsoid of noise, labeled in slabs along x; one voxel background, one ignored."""
    center, radii = np.reshape([7, 6.5, 6], (3, 1, 1, 1)), np.reshape([5, 3.6, 5], (3, 1, 1, 1))
    inside = (((np.indices(SHAPE) - center) / radii) ** 2).sum(axis=0) < 1
    scans = np.random.default_rng(seed).gamma(4, 25, (2, *SHAPE)) + 1
    slabs = np.repeat([0, 10, 150, 250, 0], [3, 3, 3, 3, 4])[:, None, None]
    labels = (slabs * inside).astype(np.int16)
    labels[7, 6, 6], labels[7, 6, 7] = 0, 99
    return (scans * inside).astype(np.float32), labels


def make_cases(folder: Path) -> list[SourceCase]:
    """Two sessions of one baby, one of two others, one of them without labels."""
    found = []
    for seed, (case_id, participant) in enumerate(
        [("a_1", "a"), ("a_2", "a"), ("b_1", "b"), ("c_1", "c")]
    ):
        scans, ids = brain(seed)
        own = folder / case_id
        images = (save(own / "T1w.nii.gz", scans[0]), save(own / "T2w.nii", scans[1]))
        labels = save(own / "labels.nii.gz", ids) if case_id != "c_1" else None
        found.append(SourceCase(case_id, participant, images, labels))
    return found


def prepare_toys(cases: list[SourceCase], output: Path, **changes: Any) -> PreparedSet:
    """Prepare them; their files lie in the folder `input` beside the output."""
    dataset = Dataset("toys", output.parent / "input", ("T1w", "T2w"), SCHEMA, tuple(cases))
    return prepare(dataset, output, **{"preparation": Preparation(margin_mm=2.0), **changes})
