"""Scans whose headers turn the brain, labeled as if the header were right."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from infant_seg_jax.data.orientation import turned
from infant_seg_jax.data.preprocessing import Preparation, prepare_volume
from infant_seg_jax.prediction.brain_finding import brain_to_show
from infant_seg_jax.prediction.predictor import Prediction, Predictor
from tests.data.test_orientation import SIGNED_PERMUTATIONS, SIZE, as_volume, average_brain, lying
from tests.untrained import expecting, untrained_predictor

PREDICTOR = expecting(untrained_predictor(), preparation=Preparation(margin_mm=SIZE))


def scan(where: np.ndarray):
    image, mask = average_brain()
    brain = np.where(mask, image + 1, 0)
    x, y, z = np.abs(where) @ (10.0, 9.0, 11.0)
    return as_volume(lying(brain, where), (float(x), float(y), float(z))), lying(mask, where)


def predictor(**changes) -> Predictor:
    return replace(PREDICTOR, **changes)


@pytest.mark.parametrize("masked", [False, True])
def test_a_right_header_is_believed(masked: bool) -> None:
    volume, mask = scan(np.eye(3, dtype=int))
    given = mask if masked else None
    plain = predictor().segment(volume, given)
    fixed = predictor(fix_orientation=True).segment(volume, given)
    np.testing.assert_array_equal(plain.label_map, fixed.label_map)
    assert not [notice for notice in plain.notices if "front" in notice]
    assert plain.notices == fixed.notices


@pytest.mark.parametrize("where", SIGNED_PERMUTATIONS[9::11])
@pytest.mark.parametrize("resampled", [False, True])
def test_a_turned_scan_is_labeled_as_the_right_one_is(where: np.ndarray, resampled: bool) -> None:
    preparation = Preparation(margin_mm=SIZE, spacing_mm=8.0 * resampled)
    ours = expecting(predictor(fix_orientation=True), preparation=preparation)
    right, mask = scan(np.eye(3, dtype=int))
    wrong, wrong_mask = scan(where)
    found = ours.segment(wrong, wrong_mask)
    # Which side is left is not known: a mirrored scan is labeled as the mirrored right one is.
    if np.linalg.det(where) < 0:
        right, mask = replace(right, data=right.data[::-1].copy()), mask[::-1].copy()
        where = where @ np.diag([-1, 1, 1])
    expected = ours.segment(right, mask)
    assert found.label_map.shape == wrong.shape
    np.testing.assert_array_equal(turned(found.label_map, where), expected.label_map)
    for index in range(4):
        np.testing.assert_allclose(
            turned(found.probability(index), where), expected.probability(index), atol=1e-5
        )
    assert len(found.notices) == len(expected.notices) + 1
    assert "front" in found.notices[0] and found.notices[0] == found.confidence.unusual[0]


@pytest.mark.parametrize("fix", [False, True])
def test_a_brain_is_looked_for_as_if_the_header_were_right(fix: bool) -> None:
    """What is found of the turned scan is what is found of the right one, turned."""
    finder = expecting(PREDICTOR, modalities=("any",))
    images: list[np.ndarray] = []

    @dataclass(frozen=True, eq=False)
    class Half(Predictor):
        def predict(self, image: Any, of: Any = "") -> Prediction:
            images.append(image)
            back = np.arange(image.shape[1])[None, :, None] < image.shape[1] // 2
            share = np.broadcast_to(back, image.shape[:3]).astype(np.float32)
            return Prediction(np.stack([share, 1 - share], -1), 0.0, float("nan"), ())

    half = Half(**{name: getattr(finder, name) for name in finder.__dataclass_fields__})
    where = np.diag([-1, -1, 1])
    right, wrong = (scan(turn)[0] for turn in (np.eye(3, dtype=int), where))
    ours = predictor(brain_finder=half, fix_orientation=fix)
    prepared = prepare_volume(right, finder.expects.preparation)
    shown = brain_to_show(prepared, half.predict(prepared.image).probabilities[..., 0], right.shape)
    assert shown is not None
    for volume, turn in ((right, np.eye(3, dtype=int)), (wrong, where)):
        found = ours.segment(volume)
        np.testing.assert_array_equal(images[-1], images[0])
        mask = np.ascontiguousarray(turned(shown, turn.T))
        expected = predictor(fix_orientation=fix).segment(volume, mask)
        np.testing.assert_array_equal(found.label_map, expected.label_map)


def test_without_being_asked_a_turned_scan_is_told_of_and_labeled_as_it_is() -> None:
    volume, _ = scan(np.diag([1, -1, 1]))
    found = predictor().segment(volume)
    assert "--fix_orientation" in found.notices[0] and "posterior" in found.notices[0]
    right, _ = scan(np.eye(3, dtype=int))
    front_to_back = replace(right, data=right.data[:, ::-1].copy())
    np.testing.assert_array_equal(found.label_map, predictor().segment(front_to_back).label_map)
