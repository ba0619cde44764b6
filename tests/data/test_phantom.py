from dataclasses import replace
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from infant_seg_jax.data.labels import BACKGROUND, CSF, GM, WM
from infant_seg_jax.data.phantom import (
    ADULT,
    ADULT_T1,
    INFANT,
    INFANT_T1,
    Phantom,
    render_phantom,
    write_cohort,
)
from infant_seg_jax.data.sources import SOURCES
from tests.input_errors import input_error

COHORTS = {"adult": (ADULT_T1, ADULT), "infant": (INFANT_T1, INFANT)}
SMALL = (48, 48, 48)
MEDIUM = (60, 70, 60)
CLEAN_ADULT = replace(
    ADULT_T1,
    deep_gray=ADULT_T1.gm,
    myelination=0.0,
    variation=0.0,
    texture=0.0,
    noise=0.0,
    bias=0.0,
)


@pytest.fixture(scope="module", params=[(name, seed) for name in COHORTS for seed in (0, 1)])
def phantom(request: pytest.FixtureRequest) -> Phantom:
    name, seed = request.param
    return _rendered(seed, *COHORTS[name])


_rendered = cache(render_phantom)


def _pieces(mask: np.ndarray) -> np.ndarray:
    """Numbers the parts that hang together through faces, from 1."""
    numbers = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, output=numbers)
    return numbers


def _dilated(mask: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.binary_dilation(mask), bool)


def _eroded(mask: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.binary_erosion(mask, np.ones((3, 3, 3))), bool)


def _depth(mask: np.ndarray, spacing: float = 1.0) -> np.ndarray:
    """Distance of each voxel in the mask from the outside."""
    return np.asarray(ndimage.distance_transform_edt(mask, sampling=spacing), float)


def _ventricles(phantom: Phantom) -> np.ndarray:
    """The CSF in no contact with the outside, in pieces of 0.5 ml and more."""
    parts = _pieces(phantom.label_map == CSF)
    outside = np.unique(parts[_dilated(phantom.label_map == BACKGROUND)])
    sizes = np.bincount(parts.ravel()) * abs(np.linalg.det(phantom.affine)) / 1000
    return np.isin(parts, np.setdiff1d(np.flatnonzero(sizes >= 0.5), outside))


def test_geometry_and_kinds_of_arrays(phantom: Phantom) -> None:
    assert phantom.image.shape == phantom.label_map.shape == (80, 96, 80)
    assert (phantom.image.dtype, phantom.label_map.dtype) == (np.float32, np.uint8)
    np.testing.assert_array_equal(phantom.affine[:3, :3], np.diag([2.0, 2.0, 2.0]))
    center = phantom.affine @ [39.5, 47.5, 39.5, 1]
    np.testing.assert_allclose(center, [0, 0, 0, 1])


def test_every_class_with_plausible_volumes_within_the_field_of_view(phantom: Phantom) -> None:
    assert set(np.unique(phantom.label_map)) == {BACKGROUND, CSF, GM, WM}
    brain = phantom.label_map != BACKGROUND
    csf, gm, wm = (np.sum(phantom.label_map == tissue) / brain.sum() for tissue in (CSF, GM, WM))
    assert 0.08 < csf < 0.25
    assert 0.38 < gm < 0.55
    assert 0.25 < wm < 0.47
    assert 600 < brain.sum() * 2**3 / 1000 < 1700
    assert not brain[[0, -1]].any() and not brain[:, [0, -1]].any()
    assert not brain[:, :, [0, -1]].any()


def test_image_is_zero_exactly_outside_the_brain(phantom: Phantom) -> None:
    np.testing.assert_array_equal(phantom.image == 0, phantom.label_map == BACKGROUND)
    assert np.isfinite(phantom.image).all()
    assert _pieces(phantom.label_map == BACKGROUND).max() == 1


def test_white_matter_is_one_piece_wrapped_in_cortex(phantom: Phantom) -> None:
    white = phantom.label_map == WM
    parts = _pieces(white)
    assert np.bincount(parts.ravel())[1:].max() > 0.95 * white.sum()
    outside = _dilated(phantom.label_map == BACKGROUND)
    assert np.sum(white & outside) < 0.002 * white.sum()
    # Without a cortex between them, white matter would meet the sulci as often as gray does.
    csf = _dilated((phantom.label_map == CSF) & ~_ventricles(phantom))
    assert np.sum(white & csf) < 0.05 * np.sum((phantom.label_map == GM) & csf)


def test_ventricles_lie_inside_and_the_left_is_the_larger(phantom: Phantom) -> None:
    ventricles = _ventricles(phantom)
    volume = ventricles.sum() * 2**3 / 1000
    assert 12 < volume < 45
    edge = _dilated(ventricles) & ~ventricles
    assert np.mean(np.isin(phantom.label_map[edge], (GM, WM))) > 0.99
    # Axis 0 grows to the right, so a phantom that is flipped, or written flipped, fails here.
    left, right = ventricles[:38].sum(), ventricles[42:].sum()
    assert left > 1.2 * right


def test_gray_matter_lies_beside_the_ventricles(phantom: Phantom) -> None:
    cavity = _depth(~_ventricles(phantom))
    surface = _depth(phantom.label_map != BACKGROUND)
    deep = (phantom.label_map == GM) & (surface > 10) & (cavity < 5)
    parts = _pieces(deep)
    big = np.flatnonzero(np.bincount(parts.ravel()) > 60)[1:]
    places = [np.flatnonzero((parts == part).any((1, 2))).mean() for part in big]
    assert min(places) < 39.5 < max(places)


@pytest.mark.parametrize("cohort", COHORTS)
def test_cortex_has_its_thickness(cohort: str) -> None:
    """Measured on a coronal slab of 1 mm voxels, from white matter to the nearest CSF."""
    contrast, anatomy = COHORTS[cohort]
    slab = render_phantom(2, contrast, anatomy, (150, 24, 150), 1.0).label_map
    to_csf = _depth(np.isin(slab, (GM, WM)))
    beneath = (slab == WM) & _dilated(slab == GM)
    beneath &= to_csf < 8  # not at the deep gray matter
    beneath[:, :6] = beneath[:, -6:] = False  # the nearest CSF may lie beyond the slab
    beneath[67:83] = False  # the corpus callosum has no cortex
    thickness = to_csf[beneath] - 1  # centers of voxels lie one voxel further apart
    assert abs(np.median(thickness) - anatomy.thickness) < 0.5
    assert np.percentile(thickness, 10) > 1.4
    assert np.percentile(thickness, 90) < 5


def test_a_seed_is_an_individual() -> None:
    first, again, other = (render_phantom(seed, shape=SMALL) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.label_map, again.label_map)
    either = (first.label_map | other.label_map) > 0
    assert np.mean((first.label_map != other.label_map)[either]) > 0.25
    infant = render_phantom(3, INFANT_T1, shape=SMALL)
    np.testing.assert_array_equal(first.label_map, infant.label_map)
    assert not np.array_equal(first.image, infant.image)


def test_the_same_individual_at_any_spacing() -> None:
    coarse = render_phantom(3, shape=(48, 54, 48), spacing=4.0)
    fine = render_phantom(3, shape=(64, 72, 64), spacing=3.0)
    # Both grids cover the same box, so each block of 3x3x3 coarse voxels is one of 4x4x4 fine.
    coarse_share = (coarse.label_map > 0).reshape(16, 3, 18, 3, 16, 3).mean((1, 3, 5))
    fine_share = (fine.label_map > 0).reshape(16, 4, 18, 4, 16, 4).mean((1, 3, 5))
    assert np.mean(np.abs(coarse_share - fine_share)) < 0.01


def test_a_small_shape_holds_the_whole_brain() -> None:
    small = render_phantom(1, shape=SMALL)
    full = _rendered(1, ADULT_T1, ADULT)
    volumes = [
        np.sum(phantom.label_map > 0) * np.linalg.det(phantom.affine) for phantom in (small, full)
    ]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.02)


def test_tissues_are_as_bright_as_the_contrast_says() -> None:
    """Voxels whose neighbors are of the same tissue; deeper, so that none is mixed."""
    phantom = _rendered(0, CLEAN_ADULT)
    for tissue, intensity in ((CSF, ADULT_T1.csf), (GM, ADULT_T1.gm), (WM, ADULT_T1.wm)):
        pure = _eroded(phantom.label_map == tissue)
        assert pure.sum() > 100
        assert np.median(phantom.image[pure]) == pytest.approx(intensity, abs=1e-5)


def test_border_voxels_are_mixtures() -> None:
    phantom = _rendered(0, CLEAN_ADULT)
    values = np.array([ADULT_T1.csf, ADULT_T1.gm, ADULT_T1.wm])
    brain = phantom.label_map != BACKGROUND
    inside = phantom.image[brain]
    assert inside.min() >= values[0] - 1e-5 and inside.max() <= values[2] + 1e-5
    mixed = np.min(np.abs(inside[:, None] - values), axis=1) > 0.01
    pure_shares = [
        np.mean(~mixed[(phantom.label_map == tissue)[brain]]) for tissue in (CSF, GM, WM)
    ]
    assert 0.2 < mixed.mean() < 0.8
    assert pure_shares[0] < pure_shares[1] < pure_shares[2]  # sulci are thin, white matter is not
    # At its border to gray matter, white matter is darker than itself, and CSF is brighter.
    gray = _dilated(phantom.label_map == GM)
    for tissue, sign in ((WM, 1), (CSF, -1)):
        touching = phantom.image[gray & (phantom.label_map == tissue)]
        departure = sign * (values[tissue - 1] - touching)
        assert departure.min() > -1e-5
        assert 0.25 < np.mean(departure > 0.01) < 1


def test_adult_tissues_differ_and_infant_gray_and_white_nearly_meet() -> None:
    def separation(phantom: Phantom) -> float:
        """How far apart gray and white matter are, in standard deviations."""
        gray, white = (phantom.image[phantom.label_map == tissue] for tissue in (GM, WM))
        return abs(np.median(white) - np.median(gray)) / np.hypot(gray.std(), white.std())

    adult, infant = (_rendered(0, *COHORTS[cohort]) for cohort in ("adult", "infant"))
    medians = [np.median(adult.image[adult.label_map == tissue]) for tissue in (CSF, GM, WM)]
    assert medians == sorted(medians)
    assert separation(adult) > 1.2
    assert separation(infant) < 0.5
    dark, bright = (np.median(infant.image[infant.label_map == tissue]) for tissue in (CSF, GM))
    assert dark < 0.8 * bright


def test_infant_white_matter_ripens_from_the_depth() -> None:
    contrast = replace(INFANT_T1, variation=0.0, texture=0.0, noise=0.0, bias=0.0)
    infant = render_phantom(0, contrast, INFANT, MEDIUM)
    depth = _depth(infant.label_map != BACKGROUND, infant.affine[0, 0])
    white = _eroded(infant.label_map == WM)
    shallow = infant.image[white & (depth < 12)]
    deep = infant.image[white & (depth > 25)]
    assert np.median(shallow) < contrast.gm < np.median(deep)


def test_noise_and_bias_have_their_strengths() -> None:
    clean = render_phantom(0, CLEAN_ADULT, shape=MEDIUM).image
    noisy = render_phantom(0, replace(CLEAN_ADULT, noise=0.05), shape=MEDIUM).image
    white = clean > 0.99
    assert np.std((noisy - clean)[white]) == pytest.approx(0.05, rel=0.05)
    biased = render_phantom(0, replace(CLEAN_ADULT, bias=0.1), shape=MEDIUM).image
    ratio = np.log(biased[clean > 0] / clean[clean > 0])
    assert 0.03 < np.std(ratio) < 0.25
    field = np.ones_like(clean)
    field[clean > 0] = np.exp(ratio)
    brain = _eroded(clean > 0)
    assert np.abs(np.diff(field, axis=1))[brain[:, :-1]].max() < 0.05  # smooth


def test_cohort_is_found_by_its_source(tmp_path: Path) -> None:
    folder = tmp_path / "cohort"
    subjects = write_cohort(folder, (7, 8), INFANT_T1, INFANT, "infant", shape=SMALL)
    dataset = SOURCES["phantom"].open(folder)
    cases = dataset.cases
    assert [case.case_id for case in cases] == ["sub-infant007", "sub-infant008"]
    assert subjects == [case.images[0].parent for case in cases]
    phantom = render_phantom(8, INFANT_T1, INFANT, SMALL)
    assert cases[1].labels
    scan, labels = map(nib.Nifti1Image.from_filename, (*cases[1].images, cases[1].labels))
    np.testing.assert_array_equal(scan.get_fdata(dtype=np.float32), phantom.image)
    np.testing.assert_array_equal(np.asarray(labels.dataobj), phantom.label_map)
    assert labels.get_data_dtype() == np.uint8
    for image in (scan, labels):
        assert image.affine is not None
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        np.testing.assert_allclose(image.affine, phantom.affine, rtol=1e-6)
    classes = dataset.schema.to_classes(np.asarray(labels.dataobj), "labels")
    np.testing.assert_array_equal(classes, phantom.label_map)


def test_cohort_never_mixes_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with input_error(tmp_path):
        write_cohort(tmp_path, [0], shape=SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_interrupted_cohort_leaves_nothing(tmp_path: Path) -> None:
    def seeds():
        yield 0
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_cohort(tmp_path / "cohort", seeds(), shape=SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["T1w", "dseg"])
def test_source_names_the_missing_file(tmp_path: Path, missing: str) -> None:
    subject = tmp_path / "sub-001"
    subject.mkdir()
    for kind in {"T1w", "dseg"} - {missing}:
        (subject / f"sub-001_{kind}.nii.gz").touch()
    with input_error(f"sub-001_{missing}.nii.gz"):
        SOURCES["phantom"].open(tmp_path)


def test_source_refuses_folders_without_phantoms(tmp_path: Path) -> None:
    with input_error(tmp_path):
        SOURCES["phantom"].open(tmp_path)
    with input_error(tmp_path / "absent"):
        SOURCES["phantom"].open(tmp_path / "absent")
