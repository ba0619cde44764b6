from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from infant_seg_jax.data.cropping import crop_box
from infant_seg_jax.data.foreground import (
    BRAIN,
    HEAD,
    find_foreground,
    otsu_threshold,
    without_specks,
)
from infant_seg_jax.data.schemas import SYNTHSEG_SCHEMA
from infant_seg_jax.data.volumes import read_image, read_label_map

AIR, SCALP, SKULL, FLUID, GRAY, WHITE = range(6)
T1W = np.array([0, 1000, 50, 200, 650, 900])
T2W = np.array([0, 450, 50, 1000, 650, 500])
ADULT, INFANT = 1.0, 0.62  # of about 1,500 and 350 ml


def anatomy(size: float, spacing: float) -> np.ndarray:
    """Tissues of a head on a neck that ends with the volume, in voxels of `spacing` mm."""
    half = np.array([100, 115, 108]) * size
    grids = [np.arange(-width, width, spacing) for width in half]
    x, y, z = np.meshgrid(*grids, indexing="ij")

    def ellipsoid(a: float, b: float, c: float) -> np.ndarray:
        return (x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2 < size**2

    tissues = np.full(x.shape, AIR)
    tissues[(np.hypot(x, y) < 52 * size) & (z < 0)] = SCALP
    tissues[ellipsoid(82, 98, 76)] = SCALP
    tissues[ellipsoid(76, 92, 70)] = SKULL
    tissues[ellipsoid(70, 86, 64)] = FLUID
    tissues[ellipsoid(67, 83, 61)] = GRAY
    tissues[ellipsoid(60, 74, 54)] = WHITE
    tissues[ellipsoid(14, 34, 12)] = FLUID  # the ventricles
    return tissues


def scan(tissues: np.ndarray, contrast: np.ndarray, air: float = 0.0, noise: float = 0.0):
    """Intensities that vary within a tissue, except in the air; Rician noise everywhere."""
    rng = np.random.default_rng(0)
    texture = ndimage.gaussian_filter(rng.normal(0, 60, tissues.shape), 1)
    signal = np.where(tissues == AIR, 0, np.maximum(contrast[tissues] + texture, 1))
    if noise:
        real, imaginary = rng.normal(0, noise, (2, *signal.shape))
        signal = np.hypot(signal + real, imaginary)
    return (signal + air).astype(np.float32)[..., None]


def strip(tissues: np.ndarray) -> np.ndarray:
    """The same without scalp and skull, hence without a neck."""
    return np.where(tissues >= FLUID, tissues, AIR)


def brain_of(tissues: np.ndarray) -> np.ndarray:
    return tissues >= FLUID


def spacing_of(size: float) -> tuple[float, float, float]:
    return 4.0 * size, 4.0 * size, 4.0 * size


@pytest.mark.parametrize("size", [ADULT, INFANT])
@pytest.mark.parametrize("contrast", [T1W, T2W], ids=["T1w", "T2w"])
@pytest.mark.parametrize(
    "air, noise", [(0.0, 0.0), (-1024.0, 0.0), (40.0, 0.0), (0.0, 30.0), (0.0, 90.0)]
)
def test_whole_heads(size, contrast, air, noise):
    tissues = anatomy(size, 4.0 * size)
    found = find_foreground(scan(tissues, contrast, air, noise), spacing_of(size))
    assert found.extent == HEAD
    brain, head = brain_of(tissues), tissues != AIR
    assert found.mask[brain].mean() > 0.99
    assert found.mask[~head].mean() < 0.05


@pytest.mark.parametrize("size", [ADULT, INFANT])
def test_heads_in_a_frame_of_zeros_on_noise_and_beside_a_coil(size):
    tissues = anatomy(size, 4.0 * size)
    framed = np.pad(scan(tissues, T1W, noise=30), ((9, 9), (9, 9), (9, 9), (0, 0)))
    framed[2:5, 2:5, 2:5] = 800  # under 1% of the head
    found = find_foreground(framed, spacing_of(size))
    assert found.extent == HEAD
    assert found.mask[np.pad(brain_of(tissues), 9)].mean() > 0.99
    assert found.mask[np.pad(tissues == AIR, 9, constant_values=True)].mean() < 0.05


@pytest.mark.parametrize("size", [ADULT, INFANT])
@pytest.mark.parametrize("contrast", [T1W, T2W], ids=["T1w", "T2w"])
@pytest.mark.parametrize("air", [0.0, -3.0, 40.0])
@pytest.mark.parametrize("tight", [False, True])
def test_stripped_brains(size, contrast, air, tight):
    tissues = strip(anatomy(size, 4.0 * size))
    data, brain = scan(tissues, contrast, air), brain_of(tissues)
    if tight:
        box = crop_box(brain, 0.0, (1.0, 1.0, 1.0))
        data, brain = data[box], brain[box]
    found = find_foreground(data, spacing_of(size))
    assert found.extent == BRAIN
    np.testing.assert_array_equal(found.mask, brain)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("end", [0, 1])
def test_a_brain_that_is_cut_off_a_little_is_no_head(axis, end):
    """By a mask or the field of view, 4% of its extent: of a ball, that leaves a plane of 15%."""
    tissues = strip(anatomy(INFANT, 0.93))
    tissues = tissues[crop_box(brain_of(tissues), 0.0, (1.0, 1.0, 1.0))]
    off = round(0.04 * tissues.shape[axis])
    keep = slice(off, None) if end == 0 else slice(None, -off)
    tissues = tissues[(slice(None),) * axis + (keep,)]
    for padding in (0, 5):
        framed = np.pad(tissues, padding)
        found = find_foreground(scan(framed, T1W), (0.93, 0.93, 0.93))
        assert found.extent == BRAIN
        np.testing.assert_array_equal(found.mask, brain_of(framed))


def test_stripped_brain_in_thick_slices():
    tissues = strip(anatomy(INFANT, 2.0))
    found = find_foreground(scan(tissues, T1W)[:, :, ::4], (2.0, 2.0, 8.0))
    assert found.extent == BRAIN
    np.testing.assert_array_equal(found.mask, brain_of(tissues)[:, :, ::4])


@pytest.mark.parametrize("air", [0.0, -3.0])
def test_ventricles_with_the_air_s_value_are_in_and_specks_are_out(air):
    tissues = strip(anatomy(ADULT, 4.0))
    data = scan(tissues, T1W, air)
    middle = tuple(size // 2 for size in tissues.shape)
    data[middle] = air
    data[middle[0] - 2 : middle[0] + 2, middle[1] - 5 : middle[1] + 5, middle[2]] = air
    data[1, 1, 1] = data[-2, 1:3, 2] = 500
    found = find_foreground(data, (4.0, 4.0, 4.0))
    assert found.extent == BRAIN
    np.testing.assert_array_equal(found.mask, brain_of(tissues))


def test_more_than_a_brain_s_volume_is_a_head():
    data = scan(strip(anatomy(ADULT, 4.0)), T1W)
    assert find_foreground(data, (4.0, 4.0, 4.0)).extent == BRAIN
    assert find_foreground(data, (4.8, 4.8, 4.8)).extent == HEAD  # about 2,500 ml


def test_brain_that_only_a_channel_shows_and_head_that_only_a_channel_shows():
    tissues = anatomy(ADULT, 4.0)
    stripped = scan(strip(tissues), T1W)
    dark = stripped.copy()
    dark[:, :, : dark.shape[2] // 2] = 0
    dark[tissues == GRAY] = 0
    both = find_foreground(np.concatenate([dark, stripped], -1), (4.0, 4.0, 4.0))
    np.testing.assert_array_equal(both.mask, brain_of(tissues))
    mixed = np.concatenate([stripped, scan(tissues, T2W)], -1)
    assert find_foreground(mixed, (4.0, 4.0, 4.0)).extent == HEAD


@pytest.mark.parametrize("value", [0.0, -2.0])
def test_nothing_is_foreground_where_all_is_one_value(value):
    found = find_foreground(np.full((3, 4, 5, 2), value, np.float32), (1.0, 1.0, 1.0))
    assert found.extent == BRAIN and not found.mask.any()


def test_separate_parts_and_grooves_stay():
    mask = np.zeros((24, 20, 20), bool)
    mask[2:10, 4:16, 4:16] = mask[12:20, 4:16, 4:16] = True  # two hemispheres
    mask[4, 8, 8:] = False  # a groove that is open to the outside
    np.testing.assert_array_equal(without_specks(mask), mask)


def test_parts_below_one_percent_of_the_largest_are_dropped():
    mask = np.zeros((12, 12, 12), bool)
    mask[:, :, :5] = True  # 720 voxels
    mask[0, 0, 7:10] = mask[5, 5, 7] = True
    mask[0, 5, 7:] = mask[0, 6, 7:10] = True  # 8 voxels
    kept = without_specks(mask)
    assert kept[0, 5, 7] and kept.sum() == 720 + 8
    mask[5, 5, 2] = False  # a hole
    assert without_specks(mask).sum() == 720 + 8
    assert not without_specks(np.zeros((2, 3, 4), bool)).any()


@settings(deadline=None, max_examples=60)
@given(mask=arrays(bool, (6, 5, 4), elements=st.sampled_from((False, False, False, True))))
def test_holes_are_those_that_a_flood_from_outside_does_not_reach(mask):
    padded = np.pad(mask, 1)
    outside = np.zeros_like(padded)
    outside[0, 0, 0] = True
    while True:
        spread = ndimage.binary_dilation(outside) & ~padded
        if (spread == outside).all():
            break
        outside = spread
    # None of so few voxels is below 1% of the largest part.
    np.testing.assert_array_equal(without_specks(mask), ~outside[1:-1, 1:-1, 1:-1])


@settings(deadline=None)
@given(values=st.lists(st.integers(0, 30), min_size=2, max_size=60))
def test_threshold_parts_values_as_the_best_of_all_thresholds_would(values):
    values = np.array(values, np.float32)

    def between_class_variance(threshold: float) -> float:
        above = values[values > threshold]
        below = values[values <= threshold]
        if not (above.size and below.size):
            return 0.0
        return above.size * below.size * float(above.mean() - below.mean()) ** 2

    best = max(between_class_variance(t) for t in values)
    assert between_class_variance(otsu_threshold(values)) >= 0.97 * best


def test_threshold_does_not_see_one_voxel_that_wrapped():
    rng = np.random.default_rng(0)
    values = np.append(rng.normal(30, 5, 5000), rng.normal(600, 80, 3000)).astype(np.float32)
    wrapped = np.append(values, np.float32(65_535))
    # Nothing lies between the two, and the threshold is in the middle of the gap.
    for threshold in (otsu_threshold(values), otsu_threshold(wrapped)):
        assert threshold == pytest.approx((values[:5000].max() + values[5000:].min()) / 2, rel=0.1)


def test_infant_scan_with_a_stray_voxel(real_data):
    path = real_data / "infant_bids/sub-0002/ses-V01/anat/sub-0002_ses-V01_T1w.nii.gz"
    volume = read_image(path)
    found = find_foreground(volume.data, volume.spacing)
    parts: Any = ndimage.label(volume.data[..., 0] != 0), ndimage.label(found.mask)
    assert parts[0][1] > 1 and parts[1][1] == 1
    assert found.extent == BRAIN


@pytest.mark.slow
def test_real_stripped_scans(real_data):
    paths = [*real_data.glob("ibsr18/*/*/IBSR_??.nii.gz")]
    paths += real_data.glob("infant_bids/*/*/anat/*.nii.gz")
    assert len(paths) == 28
    for path in paths:
        volume = read_image(path)
        found = find_foreground(volume.data, volume.spacing)
        ml = found.mask.sum() * np.prod(volume.spacing) / 1000
        assert found.extent == BRAIN and 150 < ml < 1800, path
        # Nothing but specks is lost.
        differs = volume.data[..., 0] != 0
        assert found.mask[differs].mean() > 0.999, path


@pytest.mark.slow
def test_newborns_stripped_tightly_and_loosely(real_data):
    """Without fluid, with all of it, and with a rim of what is around; in slices of 1 and of 3 mm,
    and where the field of view ends 2% of the brain too early."""
    paths = [real_data / "newborn_label_map/newborn_label_map.nii.gz"]
    paths += [*real_data.glob("infant_label_maps/[12]mo_*"), *real_data.glob("*maps/sub001_*")]
    assert len(paths) == 4
    for path in paths:
        label_map = read_label_map(path)
        every = max(1, round(0.9 / label_map.spacing[0]))
        ids = label_map.data[::every, ::every, ::every]
        fluid = {"newborn": ids >= 37, "sub001_": ids == 1}
        tight = (ids > 0) & ~fluid.get(path.name[:7], np.isin(ids, (4, 14, 15, 24, 43)))
        loose = ndimage.binary_dilation(np.pad(ids > 0, 5), iterations=4)
        for mask in (tight, ids > 0, loose):
            whole = mask[crop_box(mask, 0.0, (1.0, 1.0, 1.0))]
            for axis in range(3):
                off = round(0.02 * whole.shape[axis])
                for part in (slice(off, None), slice(None, -off), slice(None)):
                    for thick in (1, 3):
                        at = (slice(None),) * axis
                        shown = whole[(*at, part)][(*at, slice(thick // 2, None, thick))]
                        found = find_foreground(
                            shown.astype(np.float32)[..., None], (1.0, 1.0, 1.0)
                        )
                        assert found.extent == BRAIN, (path, axis, part, thick)


@pytest.mark.slow
@pytest.mark.parametrize("contrast", [T1W, T2W], ids=["T1w", "T2w"])
@pytest.mark.parametrize("noise", [0.0, 60.0])
def test_heads_rendered_from_real_anatomies(real_data, contrast, noise):
    paths = sorted(Path(real_data, "adult_label_maps").glob("*.nii.gz"))
    assert len(paths) == 6
    for seed, path in enumerate(paths):
        ids = read_label_map(path).data[::2, ::2, ::2]
        rng = np.random.default_rng(seed)
        tissues = np.array([AIR, FLUID, GRAY, WHITE])[
            np.minimum(SYNTHSEG_SCHEMA.to_classes(ids, path), 3)
        ]
        tissues[ids > 500] = SCALP
        tissues[np.isin(ids, (515, 516))] = SKULL
        varied = contrast * rng.uniform(0.7, 1.3, contrast.shape)
        data = scan(tissues, varied, noise=noise)
        for spacing in (2.0, 1.2):  # and an infant's size
            found = find_foreground(data, (spacing, spacing, spacing))
            assert found.extent == HEAD, path
            assert found.mask[brain_of(tissues)].mean() > 0.99, path
            assert found.mask[ids == 0].mean() < 0.05, path


def test_test_heads_have_the_volumes_that_they_claim():
    for size, ml in ((ADULT, 1550), (INFANT, 370)):
        voxels = brain_of(anatomy(size, 4.0 * size)).sum()
        assert voxels * (4.0 * size) ** 3 / 1000 == pytest.approx(ml, rel=0.1)
