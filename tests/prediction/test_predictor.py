"""From a scan on disk to a label map on the scan's own grid, for every orientation."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy import ndimage

from infant_seg_jax.data.phantom import render_phantom
from infant_seg_jax.data.preprocessing import Preparation, prepare_labels, prepare_volume
from infant_seg_jax.data.volumes import read_image, read_images, write_label_map
from infant_seg_jax.metrics.overlap import dice_per_tissue, mean_dice
from infant_seg_jax.prediction import execution
from infant_seg_jax.prediction import predictor as predictor_module
from infant_seg_jax.prediction.ensemble import Ensemble
from infant_seg_jax.prediction.execution import execute, execute_or_shrink
from infant_seg_jax.prediction.planning import WholePlan, WindowPlan, plan_bytes
from infant_seg_jax.prediction.predictor import Prediction, Predictor
from infant_seg_jax.prediction.refinement import refine
from tests.input_errors import input_error
from tests.untrained import expecting, untrained_predictor

ORIENTATIONS = [
    "".join(codes)
    for order in itertools.permutations(("RL", "AP", "SI"))
    for codes in itertools.product(*order)
]


@pytest.fixture(autouse=True)
def without_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An untrained network's label maps are unlike a brain's; the checks have their own tests."""
    monkeypatch.setattr(predictor_module, "check_segmentation", lambda *_, **__: ())


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return untrained_predictor()


def test_a_refined_segmentation(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a network says of voxels of 4 mm is refined in the scan's own of 2 mm; not its entropy.

    The expected probabilities go to those voxels one class at a time, as the maps of probabilities
    do that are written.
    """
    phantom = render_phantom(3, shape=(80, 88, 76), spacing=2.0)
    volume = read_image(save(tmp_path / "scan.nii.gz", phantom.image, phantom.affine))
    coarse = replace(
        predictor, expects=replace(predictor.expects, preparation=Preparation(spacing_mm=4.0))
    )
    truth = prepare_labels(phantom.label_map, prepare_volume(volume, coarse.expects.preparation))
    predicted = ndimage.gaussian_filter(np.eye(4, dtype=np.float32)[truth], (1, 1, 1, 0))
    predicted /= predicted.sum(axis=-1, keepdims=True)
    monkeypatch.setattr(
        Predictor, "predict", lambda *_: Prediction(predicted.copy(), 0.5, float("nan"), ())
    )
    plain = coarse.segment(volume)
    fine = prepare_volume(volume, Preparation(clip_percentiles=(0.5, 99.5)))
    before = np.stack([plain.probability(index)[fine.box] for index in range(4)], axis=-1)
    expected = refine(before, fine.image, fine.mask, (2.0, 2.0, 2.0))
    found = replace(coarse, refine=True).segment(volume)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-3)
    assert np.abs(found.probabilities - before).max() > 0.01
    np.testing.assert_array_equal(found.label_map[fine.box], found.probabilities.argmax(axis=-1))
    written = np.stack([found.probability(index) for index in range(4)], axis=-1)
    np.testing.assert_allclose(written[fine.box], found.probabilities, atol=1e-6)
    assert found.confidence.entropy == plain.confidence.entropy
    dice = [
        mean_dice(dice_per_tissue(each.label_map, phantom.label_map)) for each in (plain, found)
    ]
    assert dice[1] > dice[0] + 0.05


def save(path: Path, array: np.ndarray, affine: np.ndarray, codes: str = "RAS") -> Path:
    image = nib.Nifti1Image(array, affine)
    transform: Any = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes)
    )
    nib.save(image.as_reoriented(transform), path)
    return path


@pytest.fixture(scope="module")
def labeled(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The label map of a phantom that is stored in RAS order."""
    phantom = render_phantom(3, shape=(32, 36, 30))
    path = tmp_path_factory.mktemp("ras") / "scan.nii.gz"
    label_map = predictor.segment(read_image(save(path, phantom.image, phantom.affine))).label_map
    assert len(np.unique(label_map)) > 1
    return label_map


@pytest.mark.parametrize(
    "codes",
    [
        pytest.param(codes, marks=() if codes in ("RAS", "PSL", "IRA") else pytest.mark.slow)
        for codes in ORIENTATIONS
    ],
)
def test_a_label_map_lies_where_the_scan_lies(
    predictor: Predictor, labeled: np.ndarray, tmp_path: Path, codes: str
) -> None:
    phantom = render_phantom(3, shape=(32, 36, 30))
    scan = save(tmp_path / "scan.nii.gz", phantom.image, phantom.affine, codes)
    volume = read_image(scan)
    write_label_map(tmp_path / "out.nii.gz", predictor.segment(volume).label_map, volume.native)
    written, original = (
        nib.Nifti1Image.from_filename(tmp_path / "out.nii.gz"),
        nib.Nifti1Image.from_filename(scan),
    )
    assert written.shape == original.shape
    assert nib.aff2axcodes(written.affine) == tuple(codes)
    assert np.asarray(written.affine).tobytes() == np.asarray(original.affine).tobytes()
    back = nib.as_closest_canonical(written)
    np.testing.assert_array_equal(np.asarray(back.dataobj), labeled)


def test_everything_outside_the_crop_is_background(predictor: Predictor, tmp_path: Path) -> None:
    phantom = render_phantom(3, shape=(32, 32, 32))
    small = read_image(save(tmp_path / "small.nii.gz", phantom.image, phantom.affine))
    affine = phantom.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ [20, 10, 5]
    large_image = np.pad(phantom.image, np.array([(20, 20), (10, 40), (5, 5)]))
    large = read_image(save(tmp_path / "large.nii.gz", large_image, affine))
    # The crop's margin reaches as far in the larger volume as it can in the smaller one only
    # where there is room, so compare what both crops hold: the brain and what is around it.
    label_map = predictor.segment(large).label_map
    assert label_map.shape == large_image.shape
    assert not label_map[:8].any() and not label_map[:, 60:].any()
    assert predictor.segment(small).label_map.any()


@pytest.mark.parametrize("codes", ["RAS", "PSL", "IRA"])
def test_prediction_at_another_voxel_size_comes_back(
    predictor: Predictor, tmp_path: Path, codes: str
) -> None:
    phantom = render_phantom(3, shape=(32, 36, 30))
    scan = save(tmp_path / "scan.nii.gz", phantom.image, phantom.affine, codes)
    volume = read_image(scan)
    coarse = replace(
        predictor, expects=replace(predictor.expects, preparation=Preparation(spacing_mm=1.25))
    )
    found = coarse.segment(volume).label_map
    assert found.shape == volume.shape
    # Its own grid differs, so the nonsense does; but it is where the brain is, in the same space.
    prepared = prepare_volume(volume, coarse.expects.preparation)
    probabilities = coarse.probabilities(prepared.image)
    center = np.argwhere(found).mean(axis=0)
    expected = np.argwhere(probabilities.argmax(-1)).mean(axis=0)
    np.testing.assert_allclose(
        apply_affine(volume.affine, center), apply_affine(prepared.affine, expected), atol=1.0
    )


def test_head_is_noticed_by_a_network_that_knows_brains(
    predictor: Predictor, tmp_path: Path
) -> None:
    phantom = render_phantom(3, shape=(32, 32, 32))
    air = np.random.default_rng(0).rayleigh(20.0, phantom.image.shape).astype(np.float32)
    path = save(tmp_path / "head.nii.gz", phantom.image + air, phantom.affine)
    head = read_image(path)
    (notice,) = predictor.segment(head).notices
    assert notice == (
        f"{path} looks like a head, but the network was trained on skull-stripped scans: expect "
        "errors, and strip the skull first, or give a brain mask with --mask."
    )
    assert expecting(predictor, extents=("brain", "head")).segment(head).notices == ()
    # With its mask, the head is the stripped scan again.
    brain = read_image(save(tmp_path / "brain.nii.gz", phantom.image, phantom.affine))
    mask = phantom.image != 0
    blanked = predictor.segment(brain, mask)
    assert blanked.notices == ()
    noisy = replace(head, data=np.where(mask[..., None], brain.data, head.data))
    np.testing.assert_array_equal(predictor.segment(noisy, mask).label_map, blanked.label_map)
    (notice,) = expecting(predictor, extents=("head",)).segment(brain).notices
    assert "looks like a brain, but the network was trained on whole heads" in notice


def test_a_mirrored_scan_gives_the_mirrored_prediction(predictor: Predictor) -> None:
    """Predicted with mirroring, also where the volume is padded for the network, at one end."""
    image = render_phantom(3, shape=(34, 36, 30)).image[..., None]
    mirroring = replace(predictor, mirror=True)
    plain, found = predictor.predict(image), mirroring.predict(image)
    flipped = mirroring.predict(image[::-1])
    np.testing.assert_allclose(flipped.probabilities[::-1], found.probabilities, atol=1e-6)
    assert flipped.agreement == pytest.approx(found.agreement)
    # It is the mean of two predictions that do differ.
    other = predictor.probabilities(image[::-1])[::-1]
    np.testing.assert_allclose(found.probabilities, (plain.probabilities + other) / 2, atol=1e-6)
    assert np.abs(plain.probabilities - other).max() > 0.1
    assert np.isnan(plain.agreement) and 0 < found.agreement < 1


def test_memory_decides_how_and_not_what(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = render_phantom(3, shape=(90, 36, 30)).image[..., None]
    whole = predictor.predict(image)
    assert whole.notices == ()
    plans = []

    def noting(*arguments: Any) -> Any:
        plans.append(arguments[3])
        return execute_or_shrink(*arguments)

    monkeypatch.setattr(predictor_module, "execute_or_shrink", noting)
    need = plan_bytes(predictor.model, (90, 36, 30), 1, WholePlan((92, 46, 23)))
    monkeypatch.setattr(predictor_module, "available_memory", lambda limit: limit or 2**40)
    slabs = replace(predictor, max_memory=need // 2).predict(image)
    assert isinstance(plans[-1], WholePlan) and min(plans[-1].cores) < 23
    assert slabs.notices == ()
    np.testing.assert_allclose(slabs.probabilities, whole.probabilities, atol=1e-6)
    least = WindowPlan((16, 16, 16), 0.25, 1)
    need = plan_bytes(predictor.model, (90, 36, 30), 1, least)
    windows = replace(predictor, max_memory=need).predict(image)
    assert plans[-1] == least
    (notice,) = windows.notices
    assert notice == (
        "There was too little memory to predict the scan at once, so overlapping windows of "
        "16x16x16 voxels were blended: this takes longer, and voxels at tissue borders may "
        "differ."
    )
    chosen = replace(predictor, windows_only=True).predict(image)
    assert plans[-1] == WindowPlan((32, 32, 32), 0.25, 2) and chosen.notices == ()
    expected = replace(predictor, windows_only=True, window=(16, 16, 16)).predict(image)
    np.testing.assert_allclose(windows.probabilities, expected.probabilities, atol=1e-6)


def test_running_out_of_memory_is_said(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phantom = render_phantom(3, shape=(32, 36, 30))
    path = save(tmp_path / "scan.nii.gz", phantom.image, phantom.affine)
    volume = read_image(path)
    expected = predictor.segment(volume)

    def limited(*arguments: Any) -> Any:
        if arguments[-1].cores[0] > 20:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return execute(*arguments)

    monkeypatch.setattr(execution, "execute", limited)
    found = predictor.segment(volume)
    (notice,) = found.notices
    assert notice == (
        f"{path}: Memory ran out with slabs of 28 voxels, so the scan was predicted in slabs of 8 "
        "voxels, which takes longer: close other programs, or set a lower --max_memory."
    )
    np.testing.assert_array_equal(found.label_map, expected.label_map)


def test_a_network_that_overflows_labels_nothing(predictor: Predictor, tmp_path: Path) -> None:
    phantom = render_phantom(2, shape=(32, 36, 32))
    volume = read_image(save(tmp_path / "scan.nii.gz", phantom.image, phantom.affine))
    huge = jax.tree.map(lambda leaf: np.full_like(leaf, 3e38), predictor.variables)
    overflowing = replace(predictor, variables=huge, name="models/broken")
    for one in (overflowing, replace(overflowing, windows_only=True)):
        with input_error(volume.path, "models/broken"):
            one.segment(volume)
    with input_error(volume.path, "models/broken"):
        Ensemble([predictor, overflowing]).segment(volume)
    with input_error("sub-1", "models/broken"):
        overflowing.label_map(prepare_volume(volume, Preparation()).image, "sub-1")


def test_a_scan_without_any_tissue_is_flagged(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phantom = render_phantom(2, shape=(32, 36, 32))
    volume = read_image(save(tmp_path / "scan.nii.gz", phantom.image, phantom.affine))
    shape = prepare_volume(volume, Preparation()).shape
    nothing = np.zeros((*shape, 4), np.float32)
    nothing[..., 0] = 1
    found = Prediction(nothing, 0.0, float("nan"), ())
    monkeypatch.setattr(Predictor, "predict", lambda *_: found)
    (notice,) = predictor.segment(volume).notices
    assert f"{volume.path} was labeled without any tissue" in notice


def test_another_number_of_modalities_is_refused(predictor: Predictor, tmp_path: Path) -> None:
    phantom = render_phantom(3, shape=(32, 32, 32))
    paths = [save(tmp_path / f"{i}.nii.gz", phantom.image, phantom.affine) for i in range(2)]
    with input_error("2 image(s)", "1 (T1w)"):
        predictor.segment(read_images(paths))


@pytest.mark.slow
def test_real_infants_keep_their_grid(
    predictor: Predictor, real_data: Path, tmp_path: Path
) -> None:
    """Two real scans of other orientations and headers than ours, through the whole path."""
    for subject, modality in (("sub-0006", "T1w"), ("sub-0009", "T2w")):
        folder = real_data / "infant_bids" / subject / "ses-V01" / "anat"
        scan = folder / f"{subject}_ses-V01_{modality}.nii.gz"
        volume = read_image(scan)
        label_map = replace(predictor, window=(96, 96, 96), overlap=0.0).segment(volume).label_map
        write_label_map(tmp_path / "out.nii.gz", label_map, volume.native)
        written = nib.Nifti1Image.from_filename(tmp_path / "out.nii.gz")
        original = nib.Nifti1Image.from_filename(scan)
        assert written.shape == original.shape
        assert np.asarray(written.affine).tobytes() == np.asarray(original.affine).tobytes()
        labeled = np.asarray(written.dataobj) > 0
        assert labeled.any()
        # Labels lie within the crop: the box around what is not 0, and its margin.
        brain = np.asarray(original.dataobj) != 0
        for axis, spacing in enumerate(original.header.get_zooms()[:3]):
            others = tuple(other for other in range(3) if other != axis)
            inside = np.flatnonzero(brain.any(axis=others))
            found = np.flatnonzero(labeled.any(axis=others))
            margin = predictor.expects.preparation.margin_mm / float(spacing) + 1
            assert inside[0] - margin <= found[0] and found[-1] <= inside[-1] + margin
