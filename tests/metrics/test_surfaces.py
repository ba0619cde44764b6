"""Surfaces and their distances against brute force, SimpleITK and bodies of known distance."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from infant_seg_jax.metrics.surfaces import (
    average_symmetric_distance,
    hausdorff,
    hausdorff95,
    modified_hausdorff,
    surface,
    surface_dice,
    surface_distances,
)

SHAPES = array_shapes(min_dims=3, max_dims=3, max_side=6)
SPACINGS = st.tuples(*[st.floats(0.2, 5.0)] * 3)
FACES = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]


@st.composite
def pairs(draw):
    """Two surfaces that are not empty, and a voxel size."""
    shape = draw(SHAPES)
    masks = [draw(arrays(bool, shape)) for _ in range(2)]
    assume(all(mask.any() for mask in masks))
    return *masks, draw(SPACINGS)


def ball(radius, spacing=(1.0, 1.0, 1.0), center=(0.0, 0.0, 0.0), reach=14.0):
    """A ball in mm, in a cube of twice the `reach`."""
    axes = [np.arange(-round(reach / side), round(reach / side) + 1) * side for side in spacing]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    away = [axis - middle for axis, middle in zip((x, y, z), center, strict=True)]
    return np.sqrt(sum(one**2 for one in away)) <= radius


def surface_of(tissue):
    return surface(tissue, np.zeros_like(tissue))


def slow_surface(tissue, ignored):
    """Voxel by voxel, as the definition says it."""
    found = np.zeros_like(tissue)
    for index in zip(*np.nonzero(tissue), strict=True):
        for step in FACES:
            near = tuple(i + s for i, s in zip(index, step, strict=True))
            inside = all(0 <= i < size for i, size in zip(near, tissue.shape, strict=True))
            if not inside or not (tissue[near] or ignored[near]):
                found[index] = True
    return found


def slow_distances(one, other, spacing):
    """Every voxel against every other."""
    a, b = (np.argwhere(mask) * np.array(spacing) for mask in (one, other))
    apart = np.linalg.norm(a[:, None] - b[None], axis=-1)
    return apart.min(axis=1), apart.min(axis=0)


@given(SHAPES.flatmap(lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))))
def test_surface_is_what_the_definition_says(masks):
    tissue, ignored = masks[0] & ~masks[1], masks[1]
    np.testing.assert_array_equal(surface(tissue, ignored), slow_surface(tissue, ignored))


def test_surface_of_a_solid_box_is_its_outer_layer():
    box = np.zeros((9, 8, 7), bool)
    box[1:8, 1:7, 1:6] = True
    assert surface_of(box).sum() == 7 * 6 * 5 - 5 * 4 * 3


def test_volume_ends_where_the_tissue_does():
    assert surface_of(np.ones((5, 5, 5), bool)).sum() == 5**3 - 3**3


def test_ignored_region_cuts_no_surface():
    whole = ball(9.0)
    ignored = np.zeros_like(whole)
    ignored[:, :, 17:] = True  # as a plane through the ball, above its middle
    cut = surface(whole & ~ignored, ignored)
    np.testing.assert_array_equal(cut, surface_of(whole) & ~ignored)
    assert surface_of(whole & ~ignored).sum() > cut.sum() + 100  # what it would have made


@given(pairs())
def test_distances_are_those_of_brute_force(pair):
    for found, expected in zip(surface_distances(*pair), slow_distances(*pair), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@given(pairs(), st.floats(0, 10))
def test_statistics_are_those_of_brute_force(pair, tolerance):
    a, b = slow_distances(*pair)
    found = surface_distances(*pair)
    assert hausdorff(*found) == pytest.approx(max(a.max(), b.max()))
    assert modified_hausdorff(*found) == pytest.approx(max(np.mean(a), np.mean(b)))
    assert average_symmetric_distance(*found) == pytest.approx(np.concatenate([a, b]).mean())
    assert hausdorff95(*found) == pytest.approx(max(rank95(a), rank95(b)))
    assume(not np.isclose(np.concatenate([a, b]), tolerance, atol=1e-3).any())
    share = np.mean(np.concatenate([a, b]) <= tolerance)
    assert surface_dice(*found, tolerance) == pytest.approx(share)


def rank95(values):
    """The 95th percentile by its definition, between the two ranks around it."""
    ordered = sorted(values)
    place = 0.95 * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.9, 1.5, 0.7)])
def test_hausdorff_equals_that_of_simpleitk(spacing):
    sitk = pytest.importorskip("SimpleITK")
    rng = np.random.default_rng(0)
    masks = [ball(8.0, spacing) ^ (rng.random(ball(8.0, spacing).shape) < 0.02) for _ in range(2)]
    layers = [surface_of(mask) for mask in masks]
    found = surface_distances(*layers, spacing=spacing)
    measures = sitk.HausdorffDistanceImageFilter()
    images = []
    for layer in layers:
        images.append(sitk.GetImageFromArray(layer.astype(np.uint8)))
        images[-1].SetSpacing(spacing[::-1])  # whose arrays are z, y, x
    measures.Execute(*images)
    assert hausdorff(*found) == pytest.approx(measures.GetHausdorffDistance(), rel=1e-5)
    both = np.mean([one.mean() for one in found])
    assert both == pytest.approx(measures.GetAverageHausdorffDistance(), rel=1e-5)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.8, 1.25)])
@pytest.mark.parametrize("radii", [(6.0, 10.0), (9.0, 11.5)])
def test_balls_within_balls_are_as_far_apart_as_their_radii(spacing, radii):
    layers = [surface_of(ball(radius, spacing)) for radius in radii]
    found = surface_distances(*layers, spacing=spacing)
    apart = radii[1] - radii[0]
    half = max(spacing) / 2
    for statistic in (average_symmetric_distance, modified_hausdorff):
        assert statistic(*found) == pytest.approx(apart, abs=half)
    for statistic in (hausdorff95, hausdorff):
        assert statistic(*found) == pytest.approx(apart, abs=2 * half)
    assert surface_dice(*found, apart - 2 * half) < 0.5 < surface_dice(*found, apart + half)


@pytest.mark.parametrize(("axis", "steps"), [(0, 3), (1, 2), (2, 1)])
def test_box_that_was_moved_is_as_far_as_it_was_moved(axis, steps):
    spacing = (0.5, 1.5, 4.0)
    box = np.zeros((20, 20, 20), bool)
    box[4:12, 4:12, 4:12] = True
    layers = surface_of(box), surface_of(np.roll(box, steps, axis))
    found = surface_distances(*layers, spacing=spacing)
    assert hausdorff(*found) == pytest.approx(steps * spacing[axis])


@given(pairs())
def test_exchanging_the_two_exchanges_the_distances(pair):
    one, other, spacing = pair
    there, back = surface_distances(one, other, spacing), surface_distances(other, one, spacing)
    for a, b in zip(there, back[::-1], strict=True):
        np.testing.assert_array_equal(a, b)


@given(pairs())
def test_surface_is_at_no_distance_from_itself(pair):
    found = surface_distances(pair[0], pair[0], pair[2])
    assert all(not distances.any() for distances in found)
    assert surface_dice(*found, 0.0) == 1


@given(pairs())
def test_order_of_the_statistics(pair):
    found = surface_distances(*pair)
    assert average_symmetric_distance(*found) <= modified_hausdorff(*found) + 1e-12
    assert modified_hausdorff(*found) <= hausdorff(*found) + 1e-12
    assert hausdorff95(*found) <= hausdorff(*found)
    shares = [surface_dice(*found, tolerance) for tolerance in (0.0, 0.5, 1.0, 2.0, 4.0)]
    assert shares == sorted(shares)
    assert surface_dice(*found, hausdorff(*found)) == 1


@given(pairs(), st.permutations([0, 1, 2]), st.tuples(*[st.booleans()] * 3))
def test_turning_both_changes_nothing(pair, axes, flips):
    one, other, spacing = pair
    turned = [np.flip(mask, tuple(i for i in range(3) if flips[i])) for mask in (one, other)]
    turned = [mask.transpose(axes) for mask in turned]
    x, y, z = (spacing[axis] for axis in axes)
    there, here = (
        surface_distances(one, other, spacing),
        surface_distances(*turned, spacing=(x, y, z)),
    )
    for a, b in zip(there, here, strict=True):
        np.testing.assert_allclose(np.sort(a), np.sort(b), rtol=1e-12, atol=1e-12)


@given(pairs(), st.floats(0.1, 10))
def test_distances_grow_with_the_voxels(pair, factor):
    one, other, (x, y, z) = pair
    grown = surface_distances(one, other, (x * factor, y * factor, z * factor))
    for a, b in zip(surface_distances(*pair), grown, strict=True):
        np.testing.assert_allclose(a * factor, b, rtol=1e-9)


@pytest.mark.parametrize("side", [1.0, 1.0000001, 0.99999994])
def test_voxel_is_within_the_tolerance_of_its_size(side):
    one, other = np.zeros((2, 4, 4, 4), bool)
    one[1], other[2] = True, True
    found = surface_distances(one, other, (side, 1.0, 1.0))
    assert surface_dice(*found, 1.0) == 1
    assert surface_dice(*found, 0.99) == 0


def test_pooled_statistics_count_voxels_alike():
    """Closed forms where the two surfaces differ in size: 4 voxels against 1."""
    one, other = np.zeros((2, 6, 1, 1), bool)
    one[[0, 1, 2, 5]], other[0] = True, True
    found = surface_distances(one, other, (2.0, 1.0, 1.0))
    assert [list(distances) for distances in found] == [[0.0, 2.0, 4.0, 10.0], [0.0]]
    assert average_symmetric_distance(*found) == pytest.approx(16 / 5)
    assert modified_hausdorff(*found) == pytest.approx(16 / 4)
    assert hausdorff95(*found) == pytest.approx(4.0 + 0.85 * 6.0)
    assert surface_dice(*found, 2.0) == pytest.approx(3 / 5)


def test_every_pair_of_single_voxels():
    for index in itertools.product(range(3), repeat=3):
        one, other = np.zeros((2, 3, 3, 3), bool)
        one[0, 0, 0], other[index] = True, True
        expected = np.sqrt(np.sum((np.array(index) * (1.0, 2.0, 3.0)) ** 2))
        assert hausdorff(*surface_distances(one, other, (1.0, 2.0, 3.0))) == pytest.approx(expected)
