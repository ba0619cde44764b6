import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine

from infant_seg_jax.data.cropping import box_shape, crop_affine, crop_box, uncrop

AFFINE = np.array([[0.0, 1.5, 0.1, -9], [0.9, 0, 0, 4], [0.1, 0, 1.1, 2], [0, 0, 0, 1]])
BOX = slice(2, 7), slice(0, 9), slice(5, 6)


@settings(deadline=None)
@given(
    corner=st.tuples(*[st.integers(0, 7)] * 3),
    size=st.tuples(*[st.integers(1, 5)] * 3),
    margin=st.integers(0, 200).map(lambda tenths: tenths / 10),
    spacing=st.tuples(*[st.floats(0.3, 3)] * 3),
)
def test_box_is_the_smallest_with_its_margin(corner, size, margin, spacing):
    mask = np.zeros((12, 12, 12), bool)
    stop = [c + s for c, s in zip(corner, size, strict=True)]
    # Two opposite corners are enough to span the box.
    mask[corner] = mask[tuple(s - 1 for s in stop)] = True
    for axis, side in enumerate(crop_box(mask, margin, spacing)):
        below = (corner[axis] - side.start) * spacing[axis]
        above = (side.stop - stop[axis]) * spacing[axis]
        enough, voxel = margin - 2e-3 * spacing[axis], spacing[axis]
        assert below >= enough or side.start == 0
        assert above >= enough or side.stop == 12
        assert 0 <= below < margin + voxel and 0 <= above < margin + voxel


def test_spacing_that_is_short_of_the_margin_by_rounding_alone_adds_no_voxel():
    mask = np.zeros((9, 9, 9), bool)
    mask[4, 4, 4] = True
    box = crop_box(mask, 1.6, (0.8, 0.79999, 0.79))
    assert [(side.start, side.stop) for side in box] == [(2, 7), (2, 7), (1, 8)]


def test_shape_of_a_box():
    assert box_shape(BOX) == np.empty((10, 9, 8))[BOX].shape == (5, 9, 1)


def test_voxels_of_a_crop_stay_where_they_were():
    index = np.array([[0, 0, 0], [4, 8, 0], [1, 3, 0]])
    start = [side.start for side in BOX]
    before = AFFINE.copy()
    np.testing.assert_allclose(
        apply_affine(crop_affine(AFFINE, BOX), index),
        apply_affine(AFFINE, index + start),
        atol=1e-12,
    )
    np.testing.assert_array_equal(AFFINE, before)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_uncropping_puts_a_crop_back_among_zeros(dtype, channels):
    shape = (10, 9, 8)
    whole = np.random.default_rng(0).integers(1, 200, (*shape, *channels)).astype(dtype)
    restored = uncrop(whole[BOX], BOX, shape)
    assert restored.shape == whole.shape and restored.dtype == dtype
    np.testing.assert_array_equal(restored[BOX], whole[BOX])
    assert np.count_nonzero(restored) == whole[BOX].size
