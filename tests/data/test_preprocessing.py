import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine

from infant_seg_jax.data.bias import correct_bias
from infant_seg_jax.data.cropping import uncrop
from infant_seg_jax.data.foreground import find_foreground
from infant_seg_jax.data.formats import Grid
from infant_seg_jax.data.labels import IGNORE
from infant_seg_jax.data.preprocessing import (
    Preparation,
    limit_outliers,
    normalize,
    preparation_from_record,
    prepare_labels,
    prepare_volume,
    restore_label_map,
    to_half,
)
from infant_seg_jax.data.volumes import Volume, read_image, read_label_map, spacing_of
from infant_seg_jax.errors import InputError

AFFINE = np.array([[0.0, 1.5, 0.1, -9], [0.9, 0, 0, 4], [0.1, 0, 1.1, 2], [0, 0, 0, 1]])
SHAPE = (30, 34, 28)


def volume_of(data, affine=AFFINE, path="scan.nii.gz"):
    return Volume(data, affine, Grid(data.shape[:3], affine), Path(path))


def ball(center=(14, 18, 13), radius=9.0, shape=SHAPE) -> np.ndarray:
    offsets = np.indices(shape) - np.reshape(center, (3, 1, 1, 1))
    return (offsets**2).sum(axis=0) < radius**2


def brain(channels=2, seed=0):
    """A ball of positive noise, 0 around it."""
    data = np.random.default_rng(seed).gamma(4, 25, (*SHAPE, channels)) + 1
    return (data * ball()[..., None]).astype(np.float32)


def error_of(function, *args) -> str:
    with pytest.raises(InputError) as caught:
        function(*args)
    return str(caught.value)


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def test_normalized_channels_have_zero_mean_and_unit_variance():
    data = brain() * np.array([1, 1000], np.float32) + np.array(
        [0, 3e4], np.float32
    )  # float32 sums would drift here
    mask = ball()
    normal = normalize(data, mask)
    assert normal.dtype == np.float32 and normal.shape == data.shape
    inside = normal[mask].astype(np.float64)
    np.testing.assert_allclose(inside.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(inside.var(0), 1, rtol=1e-6)
    assert not normal[~mask].any()
    # Channels do not mix, and order within a channel is kept.
    np.testing.assert_array_equal(normal[..., :1], normalize(data[..., :1], mask))
    for channel in range(2):
        correlation = np.corrcoef(normal[mask][:, channel], data[mask][:, channel])[0, 1]
        assert correlation == pytest.approx(1, abs=1e-6)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_half_precision_is_near_and_zero_where_the_image_is(values):
    image = np.array(values, np.float32).reshape(-1, 1, 1, 1)
    stored = to_half(image).astype(np.float64)
    assert np.array_equal(stored == 0, image == 0) and np.isfinite(stored).all()
    expected = np.clip(image.astype(np.float64), -65504, 65504)
    assert (np.abs(stored - expected) <= 2**-11 * np.abs(expected) + 2**-24).all()
    assert np.array_equal(np.sign(stored), np.sign(image))


@settings(deadline=None)
@given(scale=st.floats(0.01, 1e4), shift=st.floats(-1e3, 1e3))
def test_normalization_forgets_scale_and_shift(scale, shift):
    data = brain(channels=1, seed=1)
    mask = data[..., 0] != 0
    changed = (data.astype(np.float64) * scale + shift).astype(np.float32)
    # float32 holds `changed` to this, in units of the scan's own spread.
    tolerance = 2e-7 * (np.abs(changed).max() / changed[mask].std()) + 2e-6
    np.testing.assert_allclose(normalize(changed, mask), normalize(data, mask), atol=tolerance)


def test_clipping_is_to_percentiles_of_the_brain_s_intensities():
    data, mask = brain(), ball()
    low, high = np.percentile(data[mask], (5, 80), axis=0)
    clipped = np.where(mask[..., None], np.clip(data, low, high), 0).astype(np.float32)
    expected = normalize(clipped, mask)
    np.testing.assert_allclose(normalize(data, mask, (5.0, 80.0)), expected, atol=1e-5)


def test_one_wrapped_voxel_does_not_darken_the_rest():
    data, mask = brain(channels=1), ball()
    wrapped = data.copy()
    wrapped[14, 18, 13] = 65_500
    rest = mask.copy()
    rest[14, 18, 13] = False

    def change(clip):
        apart = normalize(wrapped, mask, clip)[rest] - normalize(data, mask, clip)[rest]
        return np.abs(apart).max()

    assert change((0.0, 100.0)) > 1
    assert change((0.5, 99.5)) < 0.1


def test_percentiles_that_collapse_are_not_applied():
    data, mask = brain(), ball()
    data[..., 1] = np.where(mask, 7, 0)
    data[14, 18, 13, 1] = 9  # all but this one are 7
    normal = normalize(data, mask, (1.0, 99.0))
    assert np.isfinite(normal).all()
    np.testing.assert_array_equal(normal[..., 1:], normalize(data[..., 1:], mask))
    np.testing.assert_array_equal(normal[..., :1], normalize(data[..., :1], mask, (1.0, 99.0)))


def test_prepared_volume_is_the_cropped_normalized_scan_in_its_place():
    data = brain()
    volume = volume_of(data)
    prepared = prepare_volume(volume, Preparation(margin_mm=3.0))
    whole = normalize(data, ball())
    np.testing.assert_array_equal(prepared.image, whole[prepared.box])
    np.testing.assert_array_equal(prepared.mask, ball()[prepared.box])
    assert prepared.extent == "brain" and not prepared.resampled
    assert prepared.image.flags.c_contiguous and prepared.image.dtype == np.float32
    # The ball of radius 9 around (14, 18, 13) spans 17 voxels; the margin is 3 mm, rounded up, of
    # the spacing along each axis.
    margins = [int(np.ceil(3 / size)) for size in volume.spacing]
    assert prepared.shape == tuple(17 + 2 * margin for margin in margins)
    # A voxel of the crop is where it was in the scan.
    start = [side.start for side in prepared.box]
    index = np.array([3, 5, 2])
    np.testing.assert_allclose(
        apply_affine(prepared.affine, index), apply_affine(AFFINE, index + start), atol=1e-12
    )
    np.testing.assert_array_equal(uncrop(prepared.image, prepared.box, volume.shape), whole)
    # The scan itself is left alone.
    np.testing.assert_array_equal(volume.data, brain())


def test_given_mask_is_the_brain_and_blanks_the_outside():
    data = brain() + np.float32(50)  # a head, as far as anyone can tell
    mask = ball((16, 16, 12), 6.0)
    prepared = prepare_volume(volume_of(data), Preparation(margin_mm=2.0), mask)
    assert prepared.extent == "brain"
    np.testing.assert_array_equal(uncrop(prepared.mask, prepared.box, SHAPE), mask)
    whole = uncrop(prepared.image, prepared.box, SHAPE)
    np.testing.assert_array_equal(whole, normalize(data, mask))
    assert not whole[~mask].any() and whole[mask].all()


def test_head_is_prepared_as_a_head():
    noise = np.random.default_rng(0).rayleigh(10, (*SHAPE, 1)).astype(np.float32)
    prepared = prepare_volume(volume_of(np.hypot(noise, brain(channels=1) * 10)), Preparation())
    assert prepared.extent == "head"
    assert dice(uncrop(prepared.mask, prepared.box, SHAPE), ball()) > 0.9


@pytest.mark.parametrize("spacing", [0.8, 1.3])
def test_resampled_volume_has_the_spacing_and_lies_where_the_scan_does(spacing):
    ramp = apply_affine(AFFINE, np.moveaxis(np.indices(SHAPE), 0, -1)) @ [3.0, 1.0, -2.0] + 200
    data = (ramp * ball())[..., None].astype(np.float32)
    prepared = prepare_volume(volume_of(data), Preparation(spacing_mm=spacing))
    assert prepared.resampled and prepared.image.shape[:3] == prepared.shape == prepared.mask.shape
    assert spacing_of(prepared.affine) == pytest.approx((spacing,) * 3)
    assert prepared.image.dtype == np.float32 and not prepared.image[~prepared.mask].any()
    # The brain has its volume, and its intensities their place: a ramp in mm is one still.
    ml = prepared.mask.sum() * spacing**3, ball().sum() * abs(np.linalg.det(AFFINE))
    assert ml[0] == pytest.approx(ml[1], rel=0.03)
    index = np.argwhere(prepared.mask)
    center, origin = apply_affine(prepared.affine, index), apply_affine(AFFINE, (14, 18, 13))
    deep = (np.abs(np.linalg.solve(AFFINE[:3, :3], (center - origin).T)) < 4).all(0)
    expected = center @ [3.0, 1.0, -2.0] + 200
    found = prepared.image[prepared.mask][:, 0]
    slope, _ = np.polyfit(expected[deep], found[deep], 1)
    fitted = np.polyval(np.polyfit(expected[deep], found[deep], 1), expected[deep])
    assert slope > 0
    np.testing.assert_allclose(found[deep], fitted, atol=1e-3)


def shells():
    """Classes of smooth shape, with a patch to be ignored."""
    classes = np.zeros(SHAPE, np.uint8)
    for index, radius in ((1, 9.0), (2, 7.5), (3, 5.0)):
        classes[ball(radius=radius)] = index
    classes[12:16, 16:20, 5:7] = IGNORE
    return classes


@pytest.mark.parametrize("spacing, least", [(0.0, 1.0), (0.6, 0.96), (0.9, 0.95), (1.4, 0.85)])
def test_labels_go_to_the_prepared_grid_and_back(spacing, least):
    classes = shells()
    prepared = prepare_volume(volume_of(brain()), Preparation(margin_mm=2.0, spacing_mm=spacing))
    labels = prepare_labels(classes, prepared)
    assert labels.shape == prepared.shape and labels.dtype == np.uint8
    assert set(np.unique(labels)) == {0, 1, 2, 3, IGNORE}
    probabilities = np.stack([labels == index for index in range(4)], -1).astype(np.float32)
    restored = restore_label_map(probabilities, prepared, SHAPE)
    assert restored.shape == SHAPE and restored.dtype == np.uint8
    known = classes != IGNORE
    for index in (1, 2, 3):
        assert dice((restored == index)[known], (classes == index)[known]) >= least
    if not spacing:
        np.testing.assert_array_equal(restored[known], classes[known])
        assert labels.flags.c_contiguous and not np.shares_memory(labels, classes)
    outside = np.ones(SHAPE, bool)
    outside[prepared.box] = False
    assert not restored[outside].any()


def test_probabilities_are_weighed_before_the_choice():
    """The border between two classes is where their probabilities meet, between voxels too."""
    prepared = prepare_volume(volume_of(brain()), Preparation(spacing_mm=0.7))
    probabilities = np.zeros((*prepared.shape, 4), np.float32)
    probabilities[..., 2] = 0.45
    probabilities[..., 3] = np.linspace(0, 1, prepared.shape[1])[:, None]
    restored = restore_label_map(probabilities, prepared, SHAPE)[prepared.box]
    # The border lies where 0.45 is passed, along the axis of the ramp, to half a voxel.
    border = 0.45 * (prepared.shape[1] - 1)
    y = apply_affine(
        np.linalg.inv(prepared.affine) @ prepared.crop_affine,
        np.moveaxis(np.indices(restored.shape), 0, -1),
    )[..., 1]
    inner = (slice(2, -2),) * 3
    np.testing.assert_array_equal(
        restored[inner][np.abs(y[inner] - border) > 0.01],
        np.where(y > border, 3, 2)[inner][np.abs(y[inner] - border) > 0.01],
    )


def test_bias_correction_comes_first():
    pytest.importorskip("SimpleITK")
    field = np.exp(np.linspace(-0.5, 0.5, SHAPE[0]))[:, None, None, None]
    data = ((brain(channels=1) * 0.1 + 100 * ball()[..., None]) * field).astype(np.float32)
    prepared = prepare_volume(volume_of(data), Preparation(bias_correction=True))
    plain = prepare_volume(volume_of(data), Preparation())
    spacing = spacing_of(AFFINE)
    corrected = correct_bias(data[plain.box], plain.mask, spacing, "scan.nii.gz")
    np.testing.assert_array_equal(prepared.image, normalize(corrected, plain.mask))

    def slope(image):
        return abs(np.corrcoef(np.nonzero(plain.mask)[0], image[plain.mask][:, 0])[0, 1])

    assert slope(plain.image) > 0.9 and slope(prepared.image) < 0.3


def test_scan_without_a_brain_or_contrast_is_one_sentence():
    empty = volume_of(np.full((4, 4, 4, 1), -3, np.float32), path="/data/empty.nii")
    assert error_of(prepare_volume, empty, Preparation()) == (
        "/data/empty.nii is empty: no voxel differs from the air around it, expected a scan of a "
        "brain."
    )
    mask = (brain(channels=1) != 0).astype(np.float32)
    for preparation in (Preparation(), Preparation(bias_correction=True, spacing_mm=1.0)):
        assert error_of(prepare_volume, volume_of(mask, path="/data/mask.nii"), preparation) == (
            f"/data/mask.nii is constant over the brain: all {ball().sum()} voxels are 1, expected "
            "a scan and not a mask."
        )
    both = np.concatenate([brain(channels=1), mask * 7], -1)
    message = error_of(prepare_volume, volume_of(both), Preparation())
    assert "over the brain in channel 2: all" in message and "are 7, expected" in message


def test_grids_that_no_memory_holds_or_that_hold_no_brain_are_one_sentence():
    huge = volume_of(brain(), np.diag([900.0, 900.0, 900.0, 1.0]), "/data/huge.nii")
    assert error_of(prepare_volume, huge, Preparation(spacing_mm=0.5), ball()) == (
        "/data/huge.nii would have 34200x34200x34200 voxels of 0.5 mm, expected at most 536870912: "
        "resample to larger voxels."
    )
    tiny = volume_of(brain(), np.diag([0.1, 0.1, 0.1, 1.0]), "/data/tiny.nii")
    assert error_of(prepare_volume, tiny, Preparation(spacing_mm=4.0)) == (
        "/data/tiny.nii has no brain left in voxels of 4 mm: resample to smaller voxels."
    )


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"margin_mm": -1.0}, "The margin around the brain is -1.0 mm, expected >= 0."),
        ({"margin_mm": np.nan}, "The margin around the brain is nan mm, expected >= 0."),
        ({"margin_mm": np.inf}, "The margin around the brain is inf mm, expected >= 0."),
        *(
            (
                {"spacing_mm": size},
                f"The voxel size to resample to is {size} mm, expected 0.1 to 10, or 0 to keep the "
                "scans' own.",
            )
            for size in (-1.0, 0.05, 10.5, np.nan)
        ),
        *(
            (
                {"clip_percentiles": (low, high)},
                f"The percentiles to clip to are {low} and {high}, expected two numbers from 0 to "
                "100, the first below the second.",
            )
            for low, high in ((-1.0, 99.0), (0.0, 101.0), (60.0, 40.0), (5.0, 5.0), (np.nan, 9.0))
        ),
    ],
)
def test_parameters_out_of_range_are_one_sentence(changes, sentence):
    assert error_of(lambda: Preparation(**changes)) == sentence
    record = json.loads(json.dumps(asdict(Preparation()) | changes))
    assert error_of(preparation_from_record, record) == sentence


def test_preparation_survives_json():
    unusual = Preparation(3.5, 0.8, (0.5, 99.5), True, False)
    assert len(set(asdict(unusual)) - set(asdict(Preparation()))) == 0
    assert all(getattr(unusual, name) != value for name, value in asdict(Preparation()).items())
    for preparation in (Preparation(), unusual):
        assert preparation_from_record(json.loads(json.dumps(asdict(preparation)))) == preparation


@pytest.mark.parametrize(
    "changes",
    [
        *({"margin_mm": value} for value in ("8", None, True, 8)),
        *({"bias_correction": value} for value in (0, "yes")),
        *({"clip_percentiles": value} for value in ((0.0,), (0.0, 1.0, 2.0), "ab", 5.0, None)),
    ],
)
def test_damaged_records_are_refused(changes):
    with pytest.raises((TypeError, ValueError)):
        preparation_from_record(asdict(Preparation()) | changes)


def test_records_with_other_keys_say_which():
    with pytest.raises(TypeError, match="further"):
        preparation_from_record(asdict(Preparation()) | {"further": 1})
    for name in asdict(Preparation()):
        record = {key: value for key, value in asdict(Preparation()).items() if key != name}
        with pytest.raises(KeyError, match=name):
            preparation_from_record(record)


def test_crop_of_real_scans_holds_all_that_was_drawn(real_data):
    for subject in ("Training_Set/IBSR_09/IBSR_09", "Validation_Set/IBSR_13/IBSR_13"):
        volume = read_image(real_data / "ibsr18" / f"{subject}.nii.gz")
        drawn = read_label_map(real_data / "ibsr18" / f"{subject}_seg.nii.gz").data > 0
        prepared = prepare_volume(volume, Preparation())
        assert prepared.extent == "brain"
        assert drawn[prepared.box].sum() == drawn.sum()
        # The stripping of these scans took some of the drawn cortex with it, at most 2.2%.
        assert (drawn[prepared.box] & prepared.mask).sum() > 0.975 * drawn.sum()
        # The ventricles are in, and the brain's volume is that of an adult (ml).
        assert 900 < prepared.mask.sum() * np.prod(volume.spacing) / 1000 < 1800


def test_real_scan_with_wrapped_voxels(real_data):
    path = real_data / "infant_bids/sub-0008/ses-V01/anat/sub-0008_ses-V01_T1w.nii.gz"
    volume = read_image(path)
    wrapped = volume.data[..., 0] > 10_000
    assert 0 < wrapped.sum() < 100  # what this is for
    mask = find_foreground(volume.data, volume.spacing).mask
    mended = replace(volume, data=np.where(wrapped[..., None], 2000, volume.data))

    def change(clip):
        preparation = Preparation(clip_percentiles=clip)
        images = [prepare_volume(v, preparation, mask).image for v in (volume, mended)]
        return np.abs(images[0] - images[1])[~wrapped[box]].max()

    box = prepare_volume(volume, Preparation(), mask).box

    assert change((0.1, 99.9)) < 0.01 and change((0.0, 100.0)) < 0.01


@settings(max_examples=10, deadline=None)
@given(st.floats(3e3, 1e30), st.booleans())
def test_a_voxel_out_of_all_proportion_changes_no_other(far: float, dark: bool) -> None:
    shape = (60, 60, 60)
    data = np.random.default_rng(0).gamma(4, 25, shape).astype(np.float32) + 1
    data = (data * ball((30, 30, 30), 26.0, shape))[..., None]
    hot = data.copy()
    hot[30, 30, 30] = -far if dark else far
    plain, prepared = (prepare_volume(volume_of(array), Preparation()) for array in (data, hot))
    assert prepared.box == plain.box and not prepared.notices
    others = np.ones(plain.shape, bool)
    others[tuple(30 - side.start for side in plain.box)] = False
    np.testing.assert_allclose(prepared.image[others], plain.image[others], rtol=0.01, atol=0.03)


def test_an_image_without_such_voxels_is_left_as_it_is() -> None:
    data = brain()
    found, count = limit_outliers(data, ball())
    assert found is data and count == 0
    two = ball().astype(np.float32)[..., None] * np.where(np.indices(SHAPE)[0] % 2, 1, 2)[..., None]
    assert limit_outliers(two.astype(np.float32), ball())[1] == 0  # of two values neither is far


def test_many_such_voxels_are_mentioned() -> None:
    data = brain(1)
    data[12:16, 17:19, 13] = 1e6
    (notice,) = prepare_volume(volume_of(data), Preparation()).notices
    assert "has 8 voxels" in notice


def test_of_real_infants_single_voxels_are_limited_and_none_is_mentioned(real_data: Path) -> None:
    counts = []
    for path in sorted(real_data.glob("infant_bids/sub-*/ses-*/anat/*_T?w.nii.gz")):
        volume = read_image(path)
        prepared = prepare_volume(volume, Preparation())
        counts.append(limit_outliers(volume.data[prepared.box], prepared.mask)[1])
        assert not prepared.notices
    assert len(counts) == 10 and sum(counts) == 2 and max(counts) == 1
