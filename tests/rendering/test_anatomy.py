"""Sulcal CSF where none was drawn, and white matter by depth."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.data.schemas import FREESURFER_SCHEMA, TISSUE_SCHEMA
from infant_seg_jax.rendering.anatomy import CSF_GAP_MM, DEEP_MM, complete, read_anatomy
from infant_seg_jax.rendering.structures import Structure
from tests.input_errors import input_error

SPACINGS = [(1.0, 1.0, 1.0), (0.8, 1.2, 2.0)]


def radii(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> np.ndarray:
    axes = [(np.arange(n) - (n - 1) / 2) * size for n, size in zip(shape, spacing, strict=True)]
    grid = np.meshgrid(*axes, indexing="ij")
    return np.sqrt(np.sum(np.square(grid), axis=0))


def ball(spacing: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """White matter of 16 mm radius in a cortex of 4 mm, and each voxel's distance to the center."""
    x, y, z = (int(56 / size) | 1 for size in spacing)
    r = radii((x, y, z), spacing)
    cortex = np.where(r <= 20, np.uint8(Structure.CORTEX), np.uint8(Structure.OUTSIDE))
    return np.where(r <= 16, np.uint8(Structure.WHITE), cortex), r


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_ball_gets_a_shell_of_fluid_as_thick_as_said(spacing: tuple[float, float, float]) -> None:
    structures, r = ball(spacing)
    found = complete(structures, spacing)
    fluid = found == Structure.SULCAL_CSF
    assert fluid.any()
    tolerance = max(spacing)
    assert r[fluid].max() <= 20 + CSF_GAP_MM + tolerance
    assert fluid[(r > 20) & (r <= 20 + CSF_GAP_MM - tolerance)].all()


@pytest.mark.parametrize("spacing", SPACINGS)
def test_white_matter_is_deep_by_its_distance_to_gray(spacing: tuple[float, float, float]) -> None:
    structures, r = ball(spacing)
    found = complete(structures, spacing)
    deep, white = found == Structure.DEEP_WHITE, found == Structure.WHITE
    assert np.array_equal(deep | white, structures == Structure.WHITE)
    tolerance = max(spacing)
    assert deep[r <= 16 - DEEP_MM - tolerance].all()
    assert r[deep].max() <= 16 - DEEP_MM + tolerance


def test_narrow_gaps_are_sulci_and_wide_ones_are_not() -> None:
    structures = np.zeros((40, 60, 40), np.uint8)
    structures[8:32, :20, 8:32] = Structure.CORTEX
    structures[8:32, 26:34, 8:32] = Structure.CORTEX  # after 6 mm
    structures[8:32, 50:, 8:32] = Structure.CORTEX  # after 16 mm
    found = complete(structures, (1.0, 1.0, 1.0))
    assert (found[20, 20:26, 20] == Structure.SULCAL_CSF).all()
    assert (found[20, 37:47, 20] == Structure.OUTSIDE).all()


def test_drawn_sulcal_fluid_is_left_as_it_is() -> None:
    structures, r = ball((1.0, 1.0, 1.0))
    structures[(r > 20) & (r < 21.5)] = Structure.SULCAL_CSF
    found = complete(structures, (1.0, 1.0, 1.0))
    assert np.array_equal(found == Structure.SULCAL_CSF, structures == Structure.SULCAL_CSF)


def test_the_input_is_not_changed() -> None:
    structures, _ = ball((1.0, 1.0, 1.0))
    before = structures.copy()
    complete(structures, (1.0, 1.0, 1.0))
    assert np.array_equal(structures, before)


def test_a_label_map_without_white_matter_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gray.nii.gz"
    nib.save(nib.Nifti1Image(np.full((4, 4, 4), 3, np.uint8), np.eye(4)), path)
    with input_error(path, "white", "'freesurfer'"):
        read_anatomy(path, FREESURFER_SCHEMA)


@pytest.mark.slow
def test_real_maps_without_sulcal_fluid_gain_a_tenth_of_the_brain(real_data: Path) -> None:
    path = real_data / "infant_label_maps" / "6mo_aseg_acpc.nii.gz"
    anatomy = read_anatomy(path, FREESURFER_SCHEMA)
    counts = np.bincount(anatomy.structures.ravel(), minlength=len(Structure))
    brain = counts[1:].sum() - counts[Structure.SULCAL_CSF]
    # Around an infant's brain there is about a tenth to a quarter of its volume in fluid.
    assert 0.08 < counts[Structure.SULCAL_CSF] / brain < 0.3


@pytest.mark.slow
def test_real_maps_with_sulcal_fluid_keep_their_tissues(real_data: Path) -> None:
    path = next((real_data / "infant_tissue_maps").glob("*.nii.gz"))
    anatomy = read_anatomy(path, TISSUE_SCHEMA)
    drawn = np.asanyarray(nib.as_closest_canonical(nib.Nifti1Image.from_filename(path)).dataobj)
    assert np.array_equal(anatomy.structures == Structure.SULCAL_CSF, drawn == 1)
