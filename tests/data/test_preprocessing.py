from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nibabel.affines import apply_affine
from scipy import ndimage

from infant_seg_jax.data.formats import Grid
from infant_seg_jax.data.preprocessing import (
    Preparation,
    brain_mask,
    crop_box,
    normalise,
    prepare_volume,
    uncrop,
)
from infant_seg_jax.data.volumes import Volume, read_image, read_label_map
from infant_seg_jax.errors import InputError

AFFINE = np.array([[0.0, 1.5, 0.1, -9], [0.9, 0, 0, 4], [0.1, 0, 1.1, 2], [0, 0, 0, 1]])


def volume_of(data, affine=AFFINE, path="scan.nii.gz"):
    return Volume(data, affine, Grid(data.shape[:3], affine), Path(path))


def ball(shape, centre, radius) -> np.ndarray:
    offsets = np.indices(shape) - np.reshape(centre, (3, 1, 1, 1))
    return (offsets**2).sum(axis=0) < radius**2


def parts_of(mask) -> int:
    labelled: Any = ndimage.label(mask)
    return labelled[1]


def brain(shape=(30, 34, 28), channels=2, seed=0):
    """A ball of positive noise, 0 around it."""
    rng = np.random.default_rng(seed)
    data = rng.gamma(4, 25, (*shape, channels)) + 1
    return (data * ball(shape, (14, 18, 13), 9)[..., None]).astype(np.float32)


def test_mask_is_the_foreground_with_its_holes_filled_and_without_specks():
    data = brain(channels=2)
    head = data.any(-1)
    data[14, 18, 13] = 0  # a ventricle whose fluid is exactly 0
    data[13:16, 17:20, 12:15, 0] = 0  # dark in one channel only
    data[1, 1, 1] = 5  # a speck
    np.testing.assert_array_equal(brain_mask(data), head)


def test_mask_keeps_large_separate_parts_and_grooves():
    data = np.zeros((24, 20, 20, 1), np.float32)
    data[2:10, 4:16, 4:16] = data[12:20, 4:16, 4:16] = 1  # two hemispheres
    data[4, 8, 8:] = 0  # a groove that is open to the outside
    np.testing.assert_array_equal(brain_mask(data), data[..., 0] != 0)


def test_mask_sees_negative_intensities_and_whole_volumes():
    assert brain_mask(np.full((3, 4, 5, 1), -2, np.float32)).all()
    assert not brain_mask(np.zeros((3, 4, 5, 2), np.float32)).any()


@settings(deadline=None, max_examples=40)
@given(
    data=arrays(np.float32, (6, 5, 4, 1), elements=st.sampled_from((0.0, 0.0, 0.0, 7.0))),
)
def test_mask_against_plain_flood_fill(data):
    """The cropped fill equals that of the whole volume, whatever the shape of the foreground."""
    foreground = data[..., 0] != 0
    filled: Any = ndimage.binary_fill_holes(np.pad(foreground, 1))
    filled = filled[1:-1, 1:-1, 1:-1]
    # None of so few voxels is below 1% of the largest part.
    np.testing.assert_array_equal(brain_mask(data), filled)


def test_normalised_channels_have_zero_mean_and_unit_variance():
    data = brain() * np.array([1, 1000], np.float32) + np.array(
        [0, 3e4], np.float32
    )  # float32 sums would drift here
    mask = brain_mask(brain())
    normal = normalise(data, mask)
    assert normal.dtype == np.float32 and normal.shape == data.shape
    inside = normal[mask].astype(np.float64)
    np.testing.assert_allclose(inside.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(inside.var(0), 1, rtol=1e-6)
    assert not normal[~mask].any()
    # Channels do not mix, and order within a channel is kept.
    np.testing.assert_array_equal(normal[..., :1], normalise(data[..., :1], mask))
    for channel in range(2):
        correlation = np.corrcoef(normal[mask][:, channel], data[mask][:, channel])[0, 1]
        assert correlation == pytest.approx(1, abs=1e-6)


@settings(deadline=None)
@given(
    scale=st.floats(0.01, 1e4),
    shift=st.floats(-1e3, 1e3),
)
def test_normalisation_forgets_scale_and_shift(scale, shift):
    data = brain(channels=1, seed=1)
    mask = data[..., 0] != 0
    changed = (data.astype(np.float64) * scale + shift).astype(np.float32)
    # float32 holds `changed` to this, in units of the scan's own spread.
    tolerance = 2e-7 * (np.abs(changed).max() / changed[mask].std()) + 2e-6
    np.testing.assert_allclose(normalise(changed, mask), normalise(data, mask), atol=tolerance)


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


def test_prepared_volume_is_the_cropped_normalised_scan_in_its_place():
    data = brain()
    volume = volume_of(data)
    prepared = prepare_volume(volume, Preparation(margin_mm=3.0))
    whole = normalise(data, brain_mask(data))
    np.testing.assert_array_equal(prepared.image, whole[prepared.box])
    np.testing.assert_array_equal(prepared.mask, brain_mask(data)[prepared.box])
    assert prepared.image.flags.c_contiguous and prepared.image.dtype == np.float32
    # The ball of radius 9 around (14, 18, 13) spans 17 voxels; the margin is 3 mm, rounded up, of
    # the spacing along each axis.
    margins = [int(np.ceil(3 / size)) for size in volume.spacing]
    assert prepared.image.shape[:3] == tuple(17 + 2 * margin for margin in margins)
    # A voxel of the crop is where it was in the scan.
    start = [side.start for side in prepared.box]
    index = np.array([3, 5, 2])
    np.testing.assert_allclose(
        apply_affine(prepared.affine, index), apply_affine(AFFINE, index + start), atol=1e-12
    )
    restored = uncrop(prepared.image, prepared.box, volume.shape)
    np.testing.assert_array_equal(restored, whole)
    labels = uncrop(prepared.mask.astype(np.uint8), prepared.box, volume.shape)
    assert labels.dtype == np.uint8 and np.array_equal(labels, brain_mask(data))
    # The scan itself is left alone.
    np.testing.assert_array_equal(volume.data, brain())


def test_scan_without_a_brain_or_contrast_is_one_sentence():
    empty = volume_of(np.zeros((4, 4, 4, 1), np.float32), path="/data/empty.nii")
    with pytest.raises(InputError, match="/data/empty.nii is empty: every voxel is 0"):
        prepare_volume(empty, Preparation())
    mask = (brain(channels=1) != 0).astype(np.float32)
    with pytest.raises(InputError, match=r"/data/mask.nii is constant over the brain: all \d+ vox"):
        prepare_volume(volume_of(mask, path="/data/mask.nii"), Preparation())
    both = np.concatenate([brain(channels=1), mask * 7], -1)
    with pytest.raises(InputError, match=r"brain in channel 2: all \d+ voxels are 7, expected"):
        prepare_volume(volume_of(both), Preparation())


@pytest.mark.parametrize("margin", [-1.0, float("nan"), float("inf")])
def test_margin_is_a_length(margin):
    with pytest.raises(InputError, match=f"is {margin} mm, expected"):
        Preparation(margin_mm=margin)


def test_crop_of_real_scans_holds_all_that_was_drawn(real_data):
    for subject in ("Training_Set/IBSR_09/IBSR_09", "Validation_Set/IBSR_13/IBSR_13"):
        volume = read_image(real_data / "ibsr18" / f"{subject}.nii.gz")
        drawn = read_label_map(real_data / "ibsr18" / f"{subject}_seg.nii.gz").data > 0
        prepared = prepare_volume(volume, Preparation())
        assert drawn[prepared.box].sum() == drawn.sum()
        # The stripping of these scans took some of the drawn cortex with it, at most 2.2%.
        assert (drawn[prepared.box] & prepared.mask).sum() > 0.975 * drawn.sum()
        # The ventricles are in, and the brain's volume is that of an adult (ml).
        assert 900 < prepared.mask.sum() * np.prod(volume.spacing) / 1000 < 1800


def test_infant_scan_with_a_stray_voxel(real_data):
    path = real_data / "infant_bids/sub-0002/ses-V01/anat/sub-0002_ses-V01_T1w.nii.gz"
    assert parts_of(nib.Nifti1Image.from_filename(path).get_fdata() != 0) > 1  # what this is for
    prepared = prepare_volume(read_image(path), Preparation())
    assert parts_of(prepared.mask) == 1
