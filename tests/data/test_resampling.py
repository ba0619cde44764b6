import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from scipy import ndimage
from scipy.spatial.transform import Rotation

from infant_seg_jax.data.labels import CSF, GM, IGNORE, WM
from infant_seg_jax.data.resampling import (
    grid_with_spacing,
    resample_image,
    resample_labels,
    resample_votes,
)
from infant_seg_jax.data.volumes import read_label_map


def affine_of(spacing, origin=(0.0, 0.0, 0.0), degrees=(0.0, 0.0, 0.0)):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() * spacing
    affine[:3, 3] = origin
    return affine


def world(shape, affine):
    """Millimeters of every voxel center, shape (x, y, z, 3)."""
    return apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))


def sources(shape, affine, to_shape, to_affine):
    """Where each new voxel's center lies among the old voxels, shape (3, X, Y, Z)."""
    return np.moveaxis(apply_affine(np.linalg.inv(affine), world(to_shape, to_affine)), -1, 0)


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


OLD = (14, 17, 12), affine_of((1.2, 0.8, 1.5), (-7.0, 3.0, 20.0), (10.0, -20.0, 5.0))
GRIDS = {
    "finer": ((25, 21, 28), affine_of((0.7, 0.7, 0.7), (-7.5, 2.6, 19.8), (10.0, -20.0, 5.0))),
    "coarser": ((8, 7, 9), affine_of((2.0, 2.0, 2.0), (-7.0, 3.0, 20.0), (10.0, -20.0, 5.0))),
    "oblique": ((15, 15, 15), affine_of((1.1, 1.3, 0.9), (-5.0, 0.0, 22.0), (40.0, 10.0, -30.0))),
    "flipped": (
        (17, 14, 12),
        OLD[1] @ np.array([[0, -1.0, 0, 13], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    ),
    "elsewhere": ((5, 6, 7), affine_of((1.0, 1.0, 1.0), (500.0, 0.0, 0.0))),
}
on_every_grid = pytest.mark.parametrize("to_shape, to_affine", GRIDS.values(), ids=GRIDS)


def inside(shape, affine, to_shape, to_affine, by=0.0):
    """The new voxels whose centers lie between old ones, and `by` voxels within."""
    where = sources(shape, affine, to_shape, to_affine)
    return np.all([(0 + by <= w) & (w <= n - 1 - by) for w, n in zip(where, shape, strict=True)], 0)


@settings(deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    old=st.tuples(*[st.floats(0.3, 3)] * 3),
    new=st.tuples(*[st.floats(0.3, 3)] * 3),
    degrees=st.tuples(*[st.floats(-180, 180)] * 3),
)
def test_grid_of_a_spacing_covers_the_same_field_of_view(shape, old, new, degrees):
    affine = affine_of(old, (-30.0, 12.0, 5.0), degrees)
    to_shape, to_affine = grid_with_spacing(shape, affine, new)
    np.testing.assert_allclose(np.linalg.norm(to_affine[:3, :3], axis=0), new, rtol=1e-9)
    np.testing.assert_allclose(
        to_affine[:3, :3] / new, affine[:3, :3] / old, atol=1e-9
    )  # directions
    np.testing.assert_allclose(  # centers
        apply_affine(to_affine, (np.array(to_shape) - 1) / 2),
        apply_affine(affine, (np.array(shape) - 1) / 2),
        atol=1e-9,
    )
    for axis in range(3):
        grown = to_shape[axis] * new[axis] - shape[axis] * old[axis]
        assert abs(grown) <= new[axis] / 2 + 1e-9 or to_shape[axis] == 1


def test_grid_of_its_own_spacing_is_itself():
    shape, affine = OLD
    to_shape, to_affine = grid_with_spacing(shape, affine, (1.2, 0.8, 1.5))
    assert to_shape == shape
    np.testing.assert_allclose(to_affine, affine, atol=1e-12)


@on_every_grid
def test_ramps_and_constants_are_kept_exactly(to_shape, to_affine):
    """What is linear in millimeters stays so: each feature stays where it is in the world."""
    shape, affine = OLD
    slopes = np.array([0.7, -1.1, 0.4])
    ramp = world(shape, affine) @ slopes + 50
    image = np.stack([ramp, np.full(shape, 7.0)], -1).astype(np.float32)
    resampled = resample_image(image, affine, to_shape, to_affine)
    assert resampled.dtype == np.float32 and resampled.shape == (*to_shape, 2)
    within = inside(shape, affine, to_shape, to_affine, by=1e-3)
    expected = world(to_shape, to_affine) @ slopes + 50
    # Voxel positions are rounded to a ten-thousandth.
    np.testing.assert_allclose(resampled[within][:, 0], expected[within], atol=1e-3)
    np.testing.assert_allclose(resampled[within][:, 1], 7, rtol=1e-6)
    beyond = ~inside(shape, affine, to_shape, to_affine, by=-1.001)
    assert not resampled[beyond].any()
    assert within.any() != (to_affine[0, 3] == 500)


@on_every_grid
def test_images_against_a_second_implementation(to_shape, to_affine):
    shape, affine = OLD
    image = np.random.default_rng(0).normal(0, 100, (*shape, 2)).astype(np.float32)
    padded = np.pad(image, ((1, 1), (1, 1), (1, 1), (0, 0)))
    resampled = resample_image(image, affine, to_shape, to_affine)
    where = np.clip(sources(shape, affine, to_shape, to_affine) + 1, -0.5, np.max(shape) + 1.5)
    for channel in range(2):
        expected = ndimage.map_coordinates(padded[..., channel], where, order=1, cval=0)
        np.testing.assert_allclose(resampled[..., channel], expected, atol=0.1)  # 1e-4 voxels


@on_every_grid
def test_whole_voxel_shifts_and_flips_copy_values(to_shape, to_affine):
    image = np.random.default_rng(0).normal(0, 100, (*OLD[0], 1)).astype(np.float32)
    there = resample_image(image, OLD[1], OLD[0], OLD[1])
    np.testing.assert_array_equal(there, image)
    shape, affine = GRIDS["flipped"]
    np.testing.assert_array_equal(
        resample_image(image, OLD[1], shape, affine), np.flip(image.swapaxes(0, 1), 1)
    )


def votes(label_map, affine, to_shape, to_affine):
    """The label with the largest trilinear share and by how much it leads, in plain NumPy."""
    where = sources(label_map.shape, affine, to_shape, to_affine)
    low = np.floor(where).astype(int)
    ids = np.union1d(label_map, [0])
    shares = np.zeros((len(ids), *to_shape))
    for corner in np.ndindex(2, 2, 2):
        weight = np.ones(to_shape)
        index, valid = [], np.ones(to_shape, bool)
        for axis, step in enumerate(corner):
            part = where[axis] - low[axis]
            weight = weight * (part if step else 1 - part)
            at = low[axis] + step
            valid &= (at >= 0) & (at < label_map.shape[axis])
            index.append(np.clip(at, 0, label_map.shape[axis] - 1))
        found = np.where(valid, label_map[tuple(index)], 0)
        for number, value in enumerate(ids):
            shares[number] += weight * (found == value)
    ordered = np.sort(shares, axis=0)
    lead = ordered[-1] - ordered[-2] if len(ids) > 1 else np.ones(to_shape)
    return ids[shares.argmax(0)], lead


@on_every_grid
@pytest.mark.parametrize(
    "ids, dtype",
    [((0, 1, 2, 3, IGNORE), np.uint8), ((-2, 5, 1030), np.int16), ((2, 3), np.int32)],
)
def test_labels_against_brute_force(to_shape, to_affine, ids, dtype):
    shape, affine = OLD
    label_map = np.random.default_rng(1).choice(ids, shape).astype(dtype)
    resampled = resample_labels(label_map, affine, to_shape, to_affine)
    assert resampled.dtype == dtype and set(np.unique(resampled)) <= {0, *ids}
    expected, lead = votes(label_map, affine, to_shape, to_affine)
    clear = lead > 1e-3
    assert clear.mean() > 0.8  # the coarser grid's voxels lie half-way between two now and then
    np.testing.assert_array_equal(resampled[clear], expected[clear])


def test_of_equal_shares_the_smallest_id_wins():
    label_map = np.array([3, 1], np.uint8).reshape(2, 1, 1)
    grid = (1, 1, 1), affine_of((1.0, 1.0, 1.0), (0.5, 0.0, 0.0))
    assert resample_labels(label_map, np.eye(4), *grid).item() == 1
    assert resample_labels(label_map + np.uint8(6), np.eye(4), *grid).item() == 7


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**16), size=st.floats(0.4, 3.0), ids=st.sets(st.integers(0, 255)))
def test_no_label_appears_that_was_not_there(seed, size, ids):
    label_map = np.random.default_rng(seed).choice([*ids, 0], (7, 6, 5)).astype(np.uint8)
    to = grid_with_spacing(label_map.shape, np.eye(4), (size, size, size))
    assert set(np.unique(resample_labels(label_map, np.eye(4), *to))) <= {*ids, 0}


def test_votes_of_probabilities_weigh_them():
    """One neighbor is sure of a class and the other less so of another: sums decide, no count."""
    probabilities = np.array([[0.1, 0.9, 0.0], [0.0, 0.4, 0.6]]).reshape(2, 1, 1, 3)
    at = (3, 1, 1), affine_of((0.25, 1.0, 1.0), (0.5, 0.0, 0.0))

    def chosen(background):
        winners = resample_votes(
            lambda index: probabilities[..., index], 3, background, np.eye(4), *at
        )
        return winners.ravel().tolist()

    assert chosen(0) == [1, 1, 2]
    beyond = (2, 1, 1), affine_of((1.0, 1.0, 1.0), (5.0, 0.0, 0.0))
    for background in range(3):
        winners = resample_votes(
            lambda index: probabilities[..., index], 3, background, np.eye(4), *beyond
        )
        assert (winners == background).all()


def test_thin_sheets_survive_where_the_nearest_neighbor_loses_them():
    """CSF one voxel thick between banks of gray matter, at 0.5 mm, brought to 1 mm and back."""
    fine = affine_of((0.5, 0.5, 0.5))
    coarse_shape, coarse = grid_with_spacing((24, 24, 24), fine, (1.0, 1.0, 1.0))
    by_vote, by_nearest = [], []
    for place in range(8, 16):
        sheet = np.full((24, 24, 24), GM, np.uint8)
        sheet[place] = CSF
        middle = (slice(2, -2),) * 3
        small = resample_labels(sheet, fine, coarse_shape, coarse)
        back = resample_labels(small, coarse, sheet.shape, fine)
        by_vote.append(dice((sheet == CSF)[middle], (back == CSF)[middle]))
        where = np.round(sources(sheet.shape, fine, coarse_shape, coarse) - 1e-6).astype(int)
        small = sheet[tuple(where)]
        where = np.round(sources(small.shape, coarse, sheet.shape, fine)).astype(int)
        back = small[tuple(np.clip(where, 0, 11))]
        by_nearest.append(dice((sheet == CSF)[middle], (back == CSF)[middle]))
    assert min(by_nearest) == 0  # every second place is one that it does not look at
    assert min(by_vote) > 0.6


def test_memory_does_not_grow_with_the_number_of_labels():
    rng = np.random.default_rng(0)

    def peak_of(labels):
        label_map = rng.integers(0, labels, (48, 48, 48)).astype(np.uint8)
        tracemalloc.start()
        resample_labels(label_map, np.eye(4), (60, 60, 60), np.diag([0.8, 0.8, 0.8, 1]))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    few, many = peak_of(3), peak_of(90)
    assert many < 1.2 * few
    # Two float32 volumes, and what a comparison of them takes.
    assert many < 5 * 4 * 60**3


@pytest.mark.parametrize("size, least", [(0.8, 0.99), (1.0, 0.98), (1.5, 0.92)])
def test_real_labels_there_and_back(real_data, size, least):
    path = real_data / "ibsr18/Training_Set/IBSR_09/IBSR_09_seg.nii.gz"
    label_map = read_label_map(path)
    box = tuple(slice(start, start + 70) for start in (90, 30, 90))
    labels = label_map.data[box].astype(np.uint8)
    assert set(np.unique(labels)) == {0, CSF, GM, WM}
    to = grid_with_spacing(labels.shape, label_map.affine, (size, size, size))
    there = resample_labels(labels, label_map.affine, *to)
    back = resample_labels(there, to[1], labels.shape, label_map.affine)
    for tissue in (CSF, GM, WM):
        assert dice(labels == tissue, back == tissue) > least
        ml = [
            np.count_nonzero(grid == tissue) * abs(np.linalg.det(affine)) / 1000
            for grid, affine in ((labels, label_map.affine), (there, to[1]))
        ]
        assert ml[1] == pytest.approx(ml[0], rel=0.1)
