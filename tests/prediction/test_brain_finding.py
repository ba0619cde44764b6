"""The brain of a head is found before tissues are, unless a person says where it is."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jaxtyping import Bool

from infant_seg_jax.__main__ import main
from infant_seg_jax.config import default_config
from infant_seg_jax.data.orientation import orientation_of, turned_volume
from infant_seg_jax.data.prepared import ANY_MODALITY, ExpectedScans
from infant_seg_jax.data.preprocessing import Preparation, prepare_volume
from infant_seg_jax.data.resampling import resample_image
from infant_seg_jax.data.schemas import FREESURFER_SCHEMA, SYNTHSEG_SCHEMA
from infant_seg_jax.data.volumes import Volume, read_image, volume_of
from infant_seg_jax.errors import InputError
from infant_seg_jax.labeling.provenance import identify
from infant_seg_jax.models.factory import make_model
from infant_seg_jax.models.variables import init_variables
from infant_seg_jax.prediction import brain_finding
from infant_seg_jax.prediction import predictor as predictor_module
from infant_seg_jax.prediction.brain_finding import KEPT_MM, brain_to_show
from infant_seg_jax.prediction.predictor import Prediction, Predictor
from infant_seg_jax.rendering.anatomy import is_brain, read_anatomy
from infant_seg_jax.rendering.cohort import render
from infant_seg_jax.rendering.contrast import MODALITIES, Prior
from infant_seg_jax.rendering.image import GOOD
from infant_seg_jax.rendering.preparing import to_arrays
from infant_seg_jax.rendering.structures import Structure
from infant_seg_jax.store.averaging import average_models
from infant_seg_jax.store.loading import open_predictor
from infant_seg_jax.store.model_folder import BRAIN_FINDER, Model, read_model, write_model
from tests.untrained import expecting, untrained_predictor

SHAPE, CENTER, RADIUS = (72, 80, 64), (34.0, 41.0, 31.0), 22.0
COARSE = Preparation(spacing_mm=3.0)


def ball(radius: float, center: tuple[float, ...] = CENTER) -> Bool[np.ndarray, "x y z"]:
    axes = np.ogrid[tuple(slice(size) for size in SHAPE)]
    squares: Any = sum((axis - at) ** 2 for axis, at in zip(axes, center, strict=True))
    return squares <= radius**2


def scan(shown: Bool[np.ndarray, "x y z"], air: float = 0.0) -> Volume:
    """Noise where a scan shows something, in voxels of 1 mm."""
    random = np.random.default_rng(0)
    image = np.where(shown, random.uniform(80, 120, SHAPE), air * random.random(SHAPE))
    return volume_of(image.astype(np.float32), np.eye(4))


@dataclass(frozen=True, eq=False)
class Finder(Predictor):
    """It finds what it is given, on the scan's grid."""

    brain: Any = None

    def predict(self, image: Any, of: Any = "") -> Prediction:
        assert self.brain is not None, "nobody asked for a brain"
        volume = self.brain
        prepared = prepare_volume(volume[0], self.expects.preparation)
        share = volume[1][prepared.box].astype(np.float32)[..., None]
        found = resample_image(share, prepared.crop_affine, prepared.shape, prepared.affine)
        assert image.shape == found.shape
        return Prediction(np.concatenate([1 - found, found], axis=-1), 0.1, float("nan"), ())


def finder(volume: Volume | None = None, brain: Any = None) -> Finder:
    plain = expecting(untrained_predictor(), modalities=(ANY_MODALITY,), preparation=COARSE)
    fields = {name: getattr(plain, name) for name in plain.__dataclass_fields__}
    return Finder(**fields, brain=None if volume is None else (volume, brain))


@pytest.fixture
def predictor(monkeypatch: pytest.MonkeyPatch) -> Predictor:
    monkeypatch.setattr(predictor_module, "check_segmentation", lambda *_, **__: ())
    return untrained_predictor()


@pytest.mark.parametrize("air", [0.0, 5.0], ids=["stripped too widely", "head"])
def test_what_is_shown_is_the_brain_and_a_little_around_it(air: float) -> None:
    """Of a ball in a ball: all of it, and nothing further away than a voxel more than is kept."""
    volume = scan(ball(30.0), air)
    prepared = prepare_volume(volume, COARSE)
    background = 1 - finder(volume, ball(RADIUS)).predict(prepared.image).probabilities[..., 1]
    shown = brain_to_show(prepared, background, volume.shape)
    assert shown is not None
    assert shown[ball(RADIUS)].all()
    assert not shown[~ball(RADIUS + KEPT_MM + 1.5)].any()
    missing = np.count_nonzero(ball(RADIUS + KEPT_MM - 1.5) & ~shown)
    assert missing < 0.01 * np.count_nonzero(shown)


def test_of_several_pieces_the_largest_is_the_brain_and_has_no_holes() -> None:
    volume = scan(ball(34.0), 5.0)
    brain = (ball(18.0) & ~ball(6.0)) | ball(4.0, (34.0, 41.0, 58.0))
    prepared = prepare_volume(volume, COARSE)
    background = 1 - finder(volume, brain).predict(prepared.image).probabilities[..., 1]
    shown = brain_to_show(prepared, background, volume.shape)
    assert shown is not None
    assert shown[ball(17.0)].all()
    assert not shown[ball(4.0, (34.0, 41.0, 58.0))].any()


def test_a_stripped_brain_is_used_as_it_is_and_so_is_a_scan_without_any() -> None:
    volume = scan(ball(RADIUS))
    prepared = prepare_volume(volume, COARSE)
    none = np.ones(prepared.shape, np.float32)
    assert brain_to_show(prepared, none, volume.shape) is None
    found = prepared.mask
    assert brain_to_show(prepared, 1 - found.astype(np.float32), volume.shape) is None
    half = found & (np.arange(prepared.shape[0]) < prepared.shape[0] // 2)[:, None, None]
    assert brain_to_show(prepared, 1 - half.astype(np.float32), volume.shape) is not None


def test_labels_are_those_of_the_mask_that_was_found(predictor: Predictor) -> None:
    volume = scan(ball(30.0), 5.0)
    found = replace(predictor, brain_finder=finder(volume, ball(RADIUS))).segment(volume)
    prepared = prepare_volume(volume, COARSE)
    background = 1 - finder(volume, ball(RADIUS)).predict(prepared.image).probabilities[..., 1]
    mask = brain_to_show(prepared, background, volume.shape)
    assert mask is not None
    expected = predictor.segment(volume, mask)
    np.testing.assert_array_equal(found.label_map, expected.label_map)
    assert found.label_map.any()
    assert len(found.notices) == len(expected.notices) + 1  # that it was found


def test_a_mask_that_is_given_is_believed(predictor: Predictor) -> None:
    volume = scan(ball(30.0), 5.0)
    given = replace(predictor, brain_finder=finder()).segment(volume, ball(20.0))
    np.testing.assert_array_equal(given.label_map, predictor.segment(volume, ball(20.0)).label_map)


def make(seed: int, modality: str = ANY_MODALITY, spacing_mm: float = 0.0) -> Model:
    config = default_config()
    config.model.growth_rate, config.model.stem_features = 4, 4
    config.model.block_layers = (1, 1)
    config.inference.window = (16, 16, 16)
    variables = init_variables(make_model(config), 1, seed)
    expects = ExpectedScans((modality,), Preparation(spacing_mm=spacing_mm), ("brain", "head"))
    return Model(config, variables, expects, {})


def test_a_model_brings_its_brain_finder_along(tmp_path: Path) -> None:
    for name, model in (("tissues", make(1)), ("brains", make(2, spacing_mm=3.0))):
        write_model(tmp_path / name, model)
    names = [str(tmp_path / name) for name in ("tissues", "both", "brains", "again", "third")]
    for command in (
        ["export-model", f"--brain_finder={names[2]}", *names[:2]],
        ["export-model", "--float16", names[1], names[3]],
        ["export-model", f"--brain_finder={names[1]}", names[0], names[4]],
    ):
        with pytest.raises(SystemExit) as stop:
            main(command)
        assert not stop.value.code
    plain, both, again, third = (
        open_predictor(tmp_path / name) for name in ("tissues", "both", "again", "third")
    )
    assert plain.brain_finder is None
    for found in (both, again, third):
        assert found.brain_finder is not None
        assert found.brain_finder.expects.preparation.spacing_mm == 3.0
    assert identify(plain, tmp_path).sha256 != identify(both, tmp_path).sha256
    mean = average_models([read_model(tmp_path / "both"), make(3)], [0.5, 0.5])
    assert mean.brain_finder is not None


def test_a_network_that_cannot_find_brains_for_another_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "model", replace(make(1), brain_finder=make(2)))
    write_model(tmp_path / "T1w", make(2, "T1w"))
    nested = tmp_path / "model" / BRAIN_FINDER / BRAIN_FINDER
    (tmp_path / "T1w").rename(nested)
    with pytest.raises(InputError, match=BRAIN_FINDER):
        read_model(tmp_path / "model")
    nested.rename(tmp_path / "T1w")
    for path in (tmp_path / "model" / BRAIN_FINDER).iterdir():
        path.unlink()
    (tmp_path / "model" / BRAIN_FINDER).rmdir()
    (tmp_path / "T1w").rename(tmp_path / "model" / BRAIN_FINDER)
    with pytest.raises(InputError, match="T1w"):
        read_model(tmp_path / "model")


@pytest.mark.slow
@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize(
    ("name", "months"),
    [("adult_label_maps/training_seg_06", 60.0), ("infant_label_maps/2mo_aseg_acpc", 2.0)],
)
def test_the_bundled_model_finds_the_brain_in_heads_it_was_not_trained_on(
    real_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    months: float,
    modality: str,
) -> None:
    """Alone it is the brain; with what is kept around it, next to no tissue is lost."""
    schema = SYNTHSEG_SCHEMA if "adult" in name else FREESURFER_SCHEMA
    anatomy = read_anatomy(real_data / f"{name}.nii.gz", schema, head=True)
    structures, _ = to_arrays(anatomy, 1.0, np.random.default_rng(0))
    whole = replace(anatomy, structures=structures, affine=np.eye(4))
    head = render(whole, Prior(modality, months, months), GOOD, seed=0).image
    finder = open_predictor(Path("bundled")).brain_finder
    assert finder is not None
    prepared = prepare_volume(volume_of(head, np.eye(4)), finder.expects.preparation)
    background = finder.predict(prepared.image).probabilities[..., 0]
    shown = brain_to_show(prepared, background, head.shape)
    assert shown is not None
    tissue = is_brain(structures) & (structures != Structure.SULCAL_CSF)
    assert np.count_nonzero(tissue & ~shown) < 0.01 * np.count_nonzero(tissue)
    monkeypatch.setattr(brain_finding, "KEPT_MM", 0.0)
    found, truth = brain_to_show(prepared, background, head.shape), is_brain(structures)
    assert found is not None
    dice = 2 * np.count_nonzero(found & truth) / (found.sum() + truth.sum())
    assert dice > 0.9


def test_stripped_infants_are_shown_as_they_are(real_data: Path) -> None:
    """T1w whose headers turn the brain, and a fetus; all stripped."""
    finder = open_predictor(Path("bundled")).brain_finder
    assert finder is not None
    for path in sorted((real_data / "infant_bids").rglob("*_T?w.nii.gz"))[::3]:
        volume = read_image(path)
        orientation = orientation_of(volume)
        assert orientation is not None
        right = turned_volume(volume, orientation.turn)
        prepared = prepare_volume(right, finder.expects.preparation)
        background = finder.predict(prepared.image).probabilities[..., 0]
        assert brain_to_show(prepared, background, right.shape) is None
