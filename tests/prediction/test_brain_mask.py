"""Brain masks of label maps, by closed forms and properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from infant_seg_jax.data.labels import CSF
from infant_seg_jax.data.phantom import render_phantom
from infant_seg_jax.data.volumes import spacing_of
from infant_seg_jax.prediction.brain_mask import brain_mask

MM = (1.0, 1.0, 1.0)


def ball(radius: float, size: int = 40) -> np.ndarray:
    at = np.indices((size,) * 3) - size // 2
    return (at**2).sum(axis=0) <= radius**2


@given(
    arrays(bool, st.tuples(*[st.integers(1, 9)] * 3)),
    st.tuples(*[st.sampled_from([0.5, 1.0, 3.0])] * 3),
)
def test_nothing_labeled_is_outside_and_nothing_enclosed(labeled, spacing):
    mask = brain_mask(labeled, spacing)
    assert mask.shape == labeled.shape and not (labeled & ~mask).any()
    assert mask.any() == labeled.any()
    again = brain_mask(mask, spacing)
    pieces = np.empty(mask.shape, np.int32)
    if ndimage.label(mask, output=pieces) == 1:  # of one piece, there is nothing to add
        np.testing.assert_array_equal(again, mask)


def test_a_ball_stays_and_its_hollows_and_furrows_are_filled():
    whole = ball(15)
    hollow = whole & ~ball(9)
    np.testing.assert_array_equal(brain_mask(hollow, MM), whole)
    furrowed = whole.copy()
    furrowed[:, 18:21, 22:] = False  # 3 mm wide, open at the top
    closed = brain_mask(furrowed, MM)
    assert not (closed & ~whole).any()
    assert np.count_nonzero(whole & ~closed) < 0.02 * np.count_nonzero(whole)
    wide = whole.copy()
    wide[:, 16:23, 22:] = False
    assert not brain_mask(wide, MM)[20, 19, 30]


def test_gaps_are_as_wide_in_millimeters_whatever_the_voxels():
    whole = np.zeros((30, 40, 20), bool)
    whole[4:26, 4:36, 3:17] = True
    for spacing, filled, left in (((1.0, 1.0, 1.0), 4, 5), ((0.5, 0.5, 2.0), 8, 9)):
        for gap, expected in ((filled, True), (left, False)):
            split = whole.copy()
            split[:, 12 : 12 + gap, :] = False
            assert brain_mask(split, spacing)[10, 13, 10] is np.bool_(expected)


def test_a_piece_apart_brings_none_of_its_surroundings():
    """It stays, since it is labeled, but its hole is none of the brain's."""
    labeled = ball(8, 60)
    apart = np.zeros_like(labeled)
    apart[2:9, 2:9, 2:9] = True
    apart[4:7, 4:7, 4:7] = False
    mask = brain_mask(labeled | apart, MM)
    np.testing.assert_array_equal(mask, labeled | apart)


def test_a_brain_at_the_border_does_not_grow_out_of_it():
    labeled = np.ones((6, 7, 8), bool)
    np.testing.assert_array_equal(brain_mask(labeled, MM), labeled)
    labeled[3] = False
    assert brain_mask(labeled, MM).all()


@pytest.mark.parametrize("seed", range(2))
def test_the_mask_of_a_phantom_is_its_brain(seed):
    """Of its true label map; and of one with no fluid, in whose stead there are furrows."""
    phantom = render_phantom(seed, shape=(48, 56, 48))
    truth = phantom.label_map != 0
    spacing = spacing_of(phantom.affine)
    for labeled in (truth, phantom.label_map > CSF):
        mask = brain_mask(labeled, spacing)
        assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.97
