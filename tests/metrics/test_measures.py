"""All that is measured of a pair: its units, what is ignored, what is empty, its properties."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from infant_seg_jax.data.labels import CSF, GM, IGNORE, TISSUES, WM
from infant_seg_jax.data.volumes import read_label_map
from infant_seg_jax.metrics.measures import METRICS, measure

SPACING = (0.7, 1.5, 1.1)
SHARES = [name for name, metric in METRICS.items() if not metric.unit]
DISTANCES = [name for name, metric in METRICS.items() if metric.unit == "mm"]


@st.composite
def label_maps(draw, count=2, ignore=True):
    shape = draw(array_shapes(min_dims=3, max_dims=3, max_side=5))
    classes = st.sampled_from([0, CSF, GM, WM] + [IGNORE] * ignore)
    return [draw(arrays(np.uint8, shape, elements=classes)) for _ in range(count)]


def boxes(prediction, truth, tissue=GM):
    """Two label maps with a box of one tissue each."""
    maps = np.zeros((2, 16, 16, 16), np.uint8)
    maps[0][prediction], maps[1][truth] = tissue, tissue
    return maps


BOX = np.s_[4:10, 4:10, 4:10]


def test_every_metric_of_every_tissue_in_order():
    found = measure(*boxes(BOX, BOX), spacing=SPACING)
    assert tuple(found) == TISSUES
    assert all(tuple(values) == tuple(METRICS) for values in found.values())
    assert all(type(value) is float for values in found.values() for value in values.values())


@given(label_maps(count=1))
def test_label_map_agrees_with_itself(maps):
    for values in measure(maps[0], maps[0], SPACING).values():
        for name, value in values.items():
            best = 1.0 if name in SHARES else 0.0
            assert value == best or math.isnan(value)


@given(label_maps())
def test_exchanging_the_two_exchanges_sensitivity_and_precision(maps):
    there, back = measure(*maps, spacing=SPACING), measure(*maps[::-1], spacing=SPACING)
    for tissue in TISSUES:
        expected = dict(back[tissue])
        expected["sensitivity"], expected["precision"] = (
            back[tissue]["precision"],
            back[tissue]["sensitivity"],
        )
        assert there[tissue] == pytest.approx(expected, nan_ok=True)


@given(label_maps(), st.tuples(*[st.tuples(st.integers(1, 3), st.integers(1, 3))] * 3))
def test_moving_both_within_a_larger_volume_changes_nothing(maps, margins):
    """With a margin around them already, or what is beyond the edge would be ignored or not."""
    maps = [np.pad(one, 1) for one in maps]
    moved = [np.pad(one, margins) for one in maps]
    for values, others in zip(
        measure(*maps, spacing=SPACING).values(),
        measure(*moved, spacing=SPACING).values(),
        strict=True,
    ):
        assert values == pytest.approx(others, nan_ok=True)


@given(label_maps(count=3))
def test_what_is_predicted_at_ignored_voxels_changes_nothing(maps):
    prediction, other, truth = maps
    changed = np.where(truth == IGNORE, other, prediction)
    for values, others in zip(
        measure(prediction, truth, SPACING).values(),
        measure(changed, truth, SPACING).values(),
        strict=True,
    ):
        np.testing.assert_equal(values, others)


@given(label_maps(), st.floats(0.25, 4.0))
def test_millimeters_and_milliliters_grow_with_the_voxels(maps, factor):
    x, y, z = SPACING
    grown = measure(*maps, spacing=(x * factor, y * factor, z * factor), tolerance=factor)
    for tissue, values in measure(*maps, spacing=SPACING, tolerance=1.0).items():
        for name, value in values.items():
            scale = {"": 1.0, "mm": factor, "ml": factor**3}[METRICS[name].unit]
            assert grown[tissue][name] == pytest.approx(value * scale, nan_ok=True)


@given(label_maps())
def test_values_lie_where_they_may(maps):
    for values in measure(*maps, spacing=SPACING).values():
        for name, value in values.items():
            assert math.isnan(value) or 0 <= value <= (1 if name in SHARES else math.inf)
        known = not math.isnan(values["dice"])
        assert known == (not math.isnan(values["volume_difference_ml"]))


def test_tissue_that_neither_has_has_no_values():
    found = measure(*boxes(BOX, BOX), spacing=SPACING)
    for tissue in ("CSF", "WM"):
        assert all(math.isnan(value) for value in found[tissue].values())


@pytest.mark.parametrize("exchange", [False, True])
def test_tissue_that_only_one_has_has_the_worst_values(exchange):
    maps = boxes(BOX, np.s_[:0])
    found = measure(*(maps[::-1] if exchange else maps), spacing=SPACING)["GM"]
    assert all(found[name] == 0 for name in SHARES)
    assert all(found[name] == math.inf for name in DISTANCES)
    assert found["volume_difference_ml"] == pytest.approx(6**3 * math.prod(SPACING) / 1000)


def test_tissue_that_only_ignored_voxels_have_is_not_there():
    prediction, truth = boxes(BOX, BOX)
    truth[BOX] = IGNORE
    assert all(math.isnan(value) for value in measure(prediction, truth, SPACING)["GM"].values())


def test_tissue_among_ignored_voxels_has_an_overlap_but_no_surface():
    prediction, truth = boxes(BOX, BOX)
    prediction[3:11, 3:11, 3:11] = IGNORE
    prediction[BOX] = GM
    found = measure(prediction, truth, SPACING)["GM"]
    assert found["dice"] == 1
    assert all(math.isnan(found[name]) for name in (*DISTANCES, "surface_dice"))


def test_of_nothing_but_background_or_ignored_voxels():
    empty = np.zeros((4, 5, 6), np.uint8)
    for one, other in ((empty, empty), (empty, np.full_like(empty, IGNORE))):
        found = measure(one, other, SPACING)
        assert all(math.isnan(v) for values in found.values() for v in values.values())


def test_of_a_box_that_was_moved():
    """Closed forms: a box of 6 x 6 x 6 moved by two voxels of 1.5 mm along y."""
    found = measure(*boxes(BOX, np.s_[4:10, 6:12, 4:10]), spacing=SPACING, tolerance=1.5)["GM"]
    assert found["dice"] == pytest.approx(4 / 6)
    assert found["jaccard"] == pytest.approx(4 / 8)
    assert found["sensitivity"] == found["precision"] == pytest.approx(4 / 6)
    assert found["volume_similarity"] == 1 and found["volume_difference_ml"] == 0
    assert found["hausdorff_mm"] == found["hausdorff95_mm"] == pytest.approx(3.0)


def test_tolerance_is_that_of_the_surface_dice():
    maps = boxes(BOX, np.s_[4:10, 6:12, 4:10])
    one, other = (
        measure(*maps, spacing=SPACING, tolerance=tolerance)["GM"] for tolerance in (1.0, 3.0)
    )
    assert one["surface_dice"] < 1 == other["surface_dice"]
    assert {**one, "surface_dice": 0} == {**other, "surface_dice": 0}


def test_region_that_is_ignored_is_as_if_it_were_not_there():
    """Balls that meet a plane, above which nothing counts, measure as their lower parts do."""
    x, y, z = np.ogrid[-12:13, -12:13, -12:13]
    away = np.sqrt(x**2 + y**2 + z**2)
    prediction, truth = ((away <= radius).astype(np.uint8) * WM for radius in (7.0, 9.0))
    whole = measure(prediction, truth, (1.0, 1.0, 1.0))["WM"]
    truth[:, :, 13:] = IGNORE
    half = measure(prediction, truth, (1.0, 1.0, 1.0))["WM"]
    for name in ("hausdorff_mm", "assd_mm", "modified_hausdorff_mm", "dice"):
        assert half[name] == pytest.approx(whole[name], rel=0.05)
    prediction[:, :, 13:] = 0  # no longer a ball, but that is ignored
    assert measure(prediction, truth, (1.0, 1.0, 1.0))["WM"] == half


def test_real_label_map_against_distance_transforms(real_data):
    """A whole scan with anisotropic voxels, by scipy's distance transform of the full volume."""
    path = real_data / "ibsr18" / "Validation_Set" / "IBSR_11" / "IBSR_11_seg.nii.gz"
    true = read_label_map(path)
    assert max(true.spacing) > 1.4 * min(true.spacing)
    truth = true.data.astype(np.uint8)
    prediction = np.roll(truth, (1, 1, 0), (0, 1, 2))
    found = measure(prediction, truth, true.spacing, 1.0)["WM"]
    one, other = ((m == WM) ^ ndimage.binary_erosion(m == WM) for m in (prediction, truth))
    away_from_one, away_from_other = (
        np.asarray(ndimage.distance_transform_edt(m == 0, sampling=true.spacing))
        for m in (one, other)
    )
    to_truth, to_prediction = away_from_other[one], away_from_one[other]
    both = np.concatenate([to_truth, to_prediction])
    assert found["hausdorff_mm"] == pytest.approx(both.max())
    assert found["assd_mm"] == pytest.approx(both.mean())
    assert found["modified_hausdorff_mm"] == pytest.approx(
        max(to_truth.mean(), to_prediction.mean())
    )
    percentiles = np.percentile(to_truth, 95), np.percentile(to_prediction, 95)
    assert found["hausdorff95_mm"] == pytest.approx(max(percentiles))
    assert found["surface_dice"] == pytest.approx(np.mean(both < 1.001))
