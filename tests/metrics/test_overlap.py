"""Overlap against sets of voxels, SimpleITK, bodies whose overlap is known, and its properties."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from infant_seg_jax.data.labels import CSF, GM, IGNORE, TISSUES, WM
from infant_seg_jax.metrics.overlap import (
    Overlap,
    dice_per_tissue,
    mean_dice,
    overlap_per_tissue,
)

INDICES: dict[str, int] = {"CSF": CSF, "GM": GM, "WM": WM}


@st.composite
def label_maps(draw, count=2, ignore=False):
    """Label maps of one shape, with ignored voxels if asked for."""
    shape = draw(array_shapes(min_dims=3, max_dims=3, max_side=5))
    classes = st.integers(0, 3)
    maps = [draw(arrays(np.uint8, shape, elements=classes)) for _ in range(count)]
    for label_map in maps if ignore else []:
        label_map[draw(arrays(bool, shape))] = IGNORE
    return maps


def voxels(label_map, value):
    return {index for index in np.ndindex(label_map.shape) if label_map[index] == value}


@given(label_maps(ignore=True), st.sampled_from([np.uint8, np.int16, np.int64]))
def test_equals_arithmetic_on_sets_of_voxels(maps, dtype):
    prediction, truth = (label_map.astype(dtype) for label_map in maps)
    dice = dice_per_tissue(prediction, truth)
    assert tuple(dice) == TISSUES
    left_out = voxels(truth, IGNORE) | voxels(prediction, IGNORE)
    for name, index in INDICES.items():
        ours, theirs = (voxels(label_map, index) - left_out for label_map in (prediction, truth))
        if ours or theirs:
            expected = 2 * len(ours & theirs) / (len(ours) + len(theirs))
            assert dice[name] == pytest.approx(expected)
        else:
            assert math.isnan(dice[name])


@given(label_maps())
def test_is_symmetric(maps):
    first, second = maps
    np.testing.assert_equal(dice_per_tissue(first, second), dice_per_tissue(second, first))


@given(label_maps(count=1))
def test_of_a_label_map_and_itself_is_one(maps):
    for name, dice in dice_per_tissue(maps[0], maps[0]).items():
        assert dice == 1 if (maps[0] == INDICES[name]).any() else math.isnan(dice)


@given(label_maps(count=1))
def test_of_disjoint_label_maps_is_zero(maps):
    (truth,) = maps
    assume((truth != 0).any())
    prediction = np.where(truth == 0, 0, truth % 3 + 1).astype(np.uint8)
    known = [value for value in dice_per_tissue(prediction, truth).values() if value == value]
    assert known and not any(known)


@given(label_maps(count=3, ignore=True))
def test_what_is_predicted_at_ignored_voxels_is_left_out(maps):
    prediction, other, truth = maps
    changed = np.where(truth == IGNORE, other, prediction)
    np.testing.assert_equal(dice_per_tissue(changed, truth), dice_per_tissue(prediction, truth))


def test_of_boxes_that_overlap_by_half():
    prediction, truth = np.zeros((2, 8, 6, 5), np.uint8)
    prediction[0:4, 1:5, 1:4] = GM
    truth[2:6, 1:5, 1:4] = GM
    dice = dice_per_tissue(prediction, truth)
    assert dice["GM"] == 0.5
    assert math.isnan(dice["CSF"]) and math.isnan(dice["WM"])
    assert mean_dice(dice) == 0.5


@pytest.mark.parametrize("distance", [0.0, 3.5, 9.0, 16.0, 30.0])
def test_of_balls_equals_the_volume_of_their_lens(distance):
    radius = 12.0
    x, y, z = np.ogrid[-26:27, -13:14, -13:14]

    def ball(center):
        return np.where((x - center) ** 2 + y**2 + z**2 <= radius**2, WM, 0)

    lens = math.pi * (4 * radius + distance) * max(2 * radius - distance, 0) ** 2 / 12
    expected = lens / (4 / 3 * math.pi * radius**3)
    dice = dice_per_tissue(ball(-distance / 2), ball(distance / 2))
    assert dice["WM"] == pytest.approx(expected, abs=0.01)


def test_of_label_maps_without_tissue_is_not_a_number():
    empty = np.zeros((2, 3, 4), np.uint8)
    ignored = np.full_like(empty, IGNORE)
    for dice in (dice_per_tissue(empty, empty), dice_per_tissue(np.full_like(empty, WM), ignored)):
        assert all(math.isnan(value) for value in dice.values())
        assert math.isnan(mean_dice(dice))


def test_missed_tissue_is_zero_and_counts_in_the_mean():
    truth = np.array([CSF, GM, WM, WM], np.uint8)
    prediction = np.array([CSF, WM, WM, WM], np.uint8)
    dice = dice_per_tissue(prediction, truth)
    assert dice == {"CSF": 1.0, "GM": 0.0, "WM": pytest.approx(0.8)}
    assert mean_dice(dice) == pytest.approx(0.6)
    assert mean_dice({"CSF": math.nan, "GM": 0.25, "WM": 0.75}) == 0.5


@given(label_maps(ignore=True))
def test_counts_are_the_sizes_of_sets_of_voxels(maps):
    prediction, truth = maps
    left_out = voxels(truth, IGNORE) | voxels(prediction, IGNORE)
    for name, counts in overlap_per_tissue(prediction, truth).items():
        ours, theirs = (voxels(m, INDICES[name]) - left_out for m in maps)
        assert counts == Overlap(len(ours & theirs), len(ours), len(theirs))


@given(label_maps())
def test_ratios_equal_those_of_simpleitk(maps):
    sitk = pytest.importorskip("SimpleITK")
    for name, counts in overlap_per_tissue(*maps).items():
        if not counts.predicted or not counts.true:
            continue
        prediction, truth = (sitk.GetImageFromArray(m) for m in maps)
        measures = sitk.LabelOverlapMeasuresImageFilter()
        measures.Execute(prediction, truth)
        assert counts.dice == pytest.approx(measures.GetDiceCoefficient(INDICES[name]))
        assert counts.jaccard == pytest.approx(measures.GetJaccardCoefficient(INDICES[name]))
        similarity = measures.GetVolumeSimilarity(INDICES[name])  # with a sign, from -2 to 2
        assert counts.volume_similarity == pytest.approx(1 - abs(similarity) / 2)
        missed = measures.GetFalseNegativeError(INDICES[name])
        assert counts.sensitivity == pytest.approx(1 - missed)
        measures.Execute(truth, prediction)
        assert counts.precision == pytest.approx(1 - measures.GetFalseNegativeError(INDICES[name]))


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_ratios_agree_with_one_another(both, more_predicted, more_true):
    counts = Overlap(both, both + more_predicted, both + more_true)
    assume(both)
    assert counts.jaccard == pytest.approx(counts.dice / (2 - counts.dice))
    harmonic = 2 / (1 / counts.sensitivity + 1 / counts.precision)
    assert counts.dice == pytest.approx(harmonic)
    assert counts.jaccard <= counts.dice <= counts.volume_similarity <= 1


RATIOS = ("dice", "jaccard", "sensitivity", "precision", "volume_similarity")


@pytest.mark.parametrize("ratio", RATIOS)
def test_what_neither_has_is_not_a_number_and_what_one_has_is_zero(ratio):
    assert math.isnan(getattr(Overlap(0, 0, 0), ratio))
    assert getattr(Overlap(0, 5, 0), ratio) == 0
    assert getattr(Overlap(0, 0, 5), ratio) == 0
    assert getattr(Overlap(5, 5, 5), ratio) == 1
