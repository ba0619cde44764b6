"""Networks that are asked together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infant_seg_jax.data.class_sets import DRAWEM9_CLASSES
from infant_seg_jax.data.formats.grid import Grid
from infant_seg_jax.data.phantom import render_phantom
from infant_seg_jax.data.prepared import ANY_MODALITY
from infant_seg_jax.data.preprocessing import Preparation, prepare_volume
from infant_seg_jax.data.volumes import Volume, spacing_of
from infant_seg_jax.errors import InputError
from infant_seg_jax.prediction.ensemble import Ensemble
from infant_seg_jax.prediction.predictor import Predictor
from infant_seg_jax.prediction.refinement import refine
from tests.input_errors import input_error
from tests.untrained import expecting, untrained_predictor


@pytest.fixture(scope="module")
def predictors() -> list[Predictor]:
    return [untrained_predictor(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def volume() -> Volume:
    phantom = render_phantom(3, shape=(32, 36, 30))
    grid = Grid(phantom.image.shape, phantom.affine)
    return Volume(phantom.image[..., None], phantom.affine, grid, Path("phantom.nii"))


def test_probabilities_are_the_mean(predictors: list[Predictor], volume: Volume) -> None:
    image = prepare_volume(volume, Preparation()).image
    alone = [predictor.probabilities(image).astype(np.float64) for predictor in predictors]
    assert np.abs(alone[0] - alone[1]).max() > 0.1
    for count in (1, 2, 3):
        found = Ensemble(predictors[:count]).segment(volume)
        expected = np.mean(alone[:count], axis=0)
        np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
        inside = found.label_map[prepare_volume(volume, Preparation()).box]
        np.testing.assert_array_equal(inside, found.probabilities.argmax(axis=-1))
    # The networks themselves are as they were.
    np.testing.assert_array_equal(predictors[0].probabilities(image), alone[0].astype(np.float32))


def test_agreement_is_the_networks_mean(predictors: list[Predictor], volume: Volume) -> None:
    mirrored = Ensemble([replace(one, mirror=True) for one in predictors[:2]])
    expected = [predictor.segment(volume).confidence.agreement for predictor in mirrored.predictors]
    assert mirrored.segment(volume).confidence.agreement == pytest.approx(np.mean(expected))
    assert np.isnan(Ensemble(predictors[:2]).segment(volume).confidence.agreement)


def test_networks_must_have_been_trained_alike(predictors: list[Predictor]) -> None:
    first = predictors[0]
    assert Ensemble(predictors).expects.modalities == ("T1w",)
    assert Ensemble(predictors).expects.preparation == Preparation()
    with pytest.raises(InputError) as error:
        Ensemble([first, expecting(first, classes=DRAWEM9_CLASSES)])
    assert "trained with the classes background, CSF, CGM" in str(error.value)
    with pytest.raises(InputError) as error:
        Ensemble([first, expecting(first, modalities=("T2w",))])
    assert str(error.value) == (
        "Network 2 of the ensemble was trained with the modalities ('T2w',), the first with "
        "('T1w',): expected the same: predict with each network separately."
    )
    with input_error("Network 3", "margin_mm=3.0"):
        Ensemble(
            [
                first,
                first,
                replace(
                    first, expects=replace(first.expects, preparation=Preparation(margin_mm=3.0))
                ),
            ]
        )
    with input_error():
        Ensemble([])


def test_several_images_of_a_network_of_any_modality_are_averaged(volume: Volume) -> None:
    predictor = expecting(untrained_predictor(), modalities=(ANY_MODALITY,))
    other = np.flip(volume.data, 0) * (volume.data > 0) + (volume.data > 0)
    both = replace(volume, data=np.concatenate([volume.data, other], axis=-1))
    images = prepare_volume(both, Preparation()).image
    alone = [predictor.probabilities(images[..., [channel]]) for channel in range(2)]
    assert np.abs(alone[0] - alone[1]).max() > 0.1
    found, swapped = (
        predictor.segment(replace(both, data=data)) for data in (both.data, both.data[..., ::-1])
    )
    np.testing.assert_allclose(found.probabilities, np.mean(alone, axis=0), atol=1e-6)
    np.testing.assert_allclose(swapped.probabilities, found.probabilities, atol=1e-6)
    with pytest.raises(InputError):
        expecting(predictor, modalities=("T1w",)).segment(both)


def test_refinement_takes_all_images_together(volume: Volume) -> None:
    predictor = replace(expecting(untrained_predictor(), modalities=(ANY_MODALITY,)), refine=True)
    both = replace(volume, data=np.concatenate([volume.data, volume.data**2], axis=-1))
    prepared = prepare_volume(both, Preparation())
    alone = [predictor.probabilities(prepared.image[..., [channel]]) for channel in range(2)]
    mean = np.mean(alone, axis=0, dtype=np.float32)
    expected = refine(mean, prepared.image, prepared.mask, spacing_of(prepared.affine))
    np.testing.assert_allclose(predictor.segment(both).probabilities, expected, atol=1e-4)
