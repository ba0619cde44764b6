"""Label maps lie where ITK says, by which 3D Slicer and ITK-SNAP read them."""

from pathlib import Path

import numpy as np
import pytest
from nibabel.affines import apply_affine

from infant_seg_jax.data.volumes import read_label_map, write_label_map
from tests.data.volume_files import save

sitk = pytest.importorskip("SimpleITK")

LPS = np.diag([-1.0, -1.0, 1.0])
"""From RAS+, which NIfTI has, to ITK's axes."""


def oblique(angle: float = 0.3) -> np.ndarray:
    """Of a tilted scan with sagittal slices, left-handed, of voxels of 0.8 x 1 x 1.5 mm."""
    turned = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    axes = np.array([[0.0, 0, -1], [1, 0, 0], [0, 1, 0]])
    affine = np.eye(4)
    affine[:3, :3] = turned @ axes @ np.diag([0.8, 1.0, 1.5]) @ np.diag([1.0, -1, 1])
    affine[:3, 3] = (-20.5, 31.0, 7.25)
    return affine


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_itk_reads_the_same_labels_at_the_same_places(tmp_path: Path, ending: str) -> None:
    random = np.random.default_rng(0)
    own = random.integers(0, 4, (7, 9, 5)).astype(np.uint8)
    found = read_label_map(save(tmp_path / "theirs.nii.gz", own, oblique()))
    path = tmp_path / f"labels{ending}"
    write_label_map(path, found.data, found.native)
    image = sitk.ReadImage(str(path))
    assert image.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, own)
    for index in [(0, 0, 0), (6, 0, 0), (0, 8, 0), (0, 0, 4), (3, 5, 2)]:
        place = apply_affine(oblique(), index)
        np.testing.assert_allclose(
            image.TransformIndexToPhysicalPoint(index), LPS @ place, atol=1e-4
        )
