"""Each check against scans and label maps that were made sound, or spoilt in one way."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from infant_seg_jax.data.ages import Age
from infant_seg_jax.data.labels import CSF, GM, TISSUES, WM
from infant_seg_jax.data.orientation import Orientation
from infant_seg_jax.prediction.checks import (
    LEAST_FIT,
    check_air,
    check_contrast,
    check_detail,
    check_labeled,
    check_orientation,
    check_pieces,
    check_shape,
    check_volumes,
    detail,
    ends_in_plane,
)

PATH = Path("sub-1_T1w.nii.gz")
MM = (1.0, 1.0, 1.0)
AT = np.stack(np.meshgrid(*[np.arange(40) - 19.5] * 3, indexing="ij"))
RADIUS = np.linalg.norm(AT, axis=0)
BALL = RADIUS < 17
LABELS = np.select([RADIUS < 4, RADIUS < 10, BALL], [CSF, WM, GM], 0).astype(np.uint8)
BRIGHTNESS = np.array([0.0, 0.3, 0.6, 1.0], np.float32)
RANDOM = np.random.default_rng(0)
IMAGE = np.where(BALL, BRIGHTNESS[LABELS] + RANDOM.normal(0, 0.03, BALL.shape), 0)
IMAGE = IMAGE.astype(np.float32)
SOUND = Orientation(np.eye(3, dtype=int), 1.5, 0.3, 5.0, 0.97)
TURNED = replace(SOUND, turn=np.diag([-1, -1, 1]), degrees=178.0)


def test_a_header_is_told_of_only_when_it_is_surely_wrong() -> None:
    assert not check_orientation(SOUND, PATH, fixed=False).sentence
    assert not check_orientation(replace(TURNED, margin=0.01), PATH, fixed=False).sentence
    asked = check_orientation(TURNED, PATH, fixed=True).sentence
    offered = check_orientation(TURNED, PATH, fixed=False).sentence
    assert "--fix_orientation" in offered and "--fix_orientation" not in asked
    assert "posterior" in asked and "posterior" in offered


def test_what_no_average_brain_fits_is_told_of() -> None:
    assert not check_shape(SOUND, PATH).sentence
    assert check_shape(replace(SOUND, fit=LEAST_FIT - 0.01), PATH).sentence
    assert check_shape(replace(SOUND, symmetry=0.6), PATH).sentence


@pytest.mark.parametrize("size", [0.5, 1.0])
def test_blur_and_noise_are_told_from_detail(size: float) -> None:
    """A checkerboard of 4 mm with some noise has detail, at any voxel size."""
    side = round(40 / size)
    at = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij")) * size
    brain = np.linalg.norm(at - 20, axis=0) < 17
    board = ((at // 4).sum(axis=0) % 2).astype(np.float32) + at[0].astype(np.float32) / 10
    blurred = ndimage.gaussian_filter(board, 6 / size)
    noise = RANDOM.normal(size=board.shape).astype(np.float32)
    spacing = (size, size, size)
    assert not check_detail(board, brain, spacing, PATH).sentence
    assert "blurred" in check_detail(blurred, brain, spacing, PATH).sentence
    assert "noise" in check_detail(noise, brain, spacing, PATH).sentence


def test_detail_is_a_share_of_the_variance() -> None:
    """Of white noise a Gaussian with an SD of s voxels leaves 1 / (4 pi s^2)^(3/2) in 3D, nearly.

    What goes is 1 - 2 h(0) + that, h(0) being the filter's own middle.
    """
    noise = RANDOM.normal(size=(60, 60, 60)).astype(np.float32)
    s = 1.5
    middle = 1 / (2 * np.pi * s**2) ** 1.5
    expected = 1 - 2 * middle + 1 / (4 * np.pi * s**2) ** 1.5
    found = detail(noise, np.ones(noise.shape, bool), MM)
    assert found == pytest.approx(expected, rel=0.02)
    assert detail(3 * noise + 7, np.ones(noise.shape, bool), MM) == pytest.approx(found, rel=1e-3)
    assert detail(np.ones_like(noise), np.ones(noise.shape, bool), MM) == 0


def test_air_is_dark() -> None:
    assert not check_air(IMAGE, BALL, PATH).sentence
    assert check_air(1 - IMAGE, BALL, PATH).sentence
    # A stripped scan of mean 0 and SD 1, around which there is 0.
    standard = np.where(BALL, (IMAGE - IMAGE[BALL].mean()) / IMAGE[BALL].std(), 0)
    assert not check_air(standard.astype(np.float32), BALL, PATH).sentence
    everywhere = np.ones_like(BALL)
    assert not check_air(IMAGE, everywhere, PATH).sentence


def test_fluid_is_dark_in_t1w_and_bright_in_t2w() -> None:
    labels = np.where(RADIUS < 7, CSF, LABELS)
    dark = BRIGHTNESS[labels]
    inverted = 1.2 - dark
    t2w = Path("sub-1_T2w.nii.gz")
    for image, path, wrong in (
        (dark, PATH, False),
        (inverted, PATH, True),
        (dark, t2w, True),
        (inverted, t2w, False),
    ):
        found = check_contrast(image, labels, path)
        assert found is not None and bool(found.sentence) == wrong
    assert check_contrast(IMAGE, LABELS, Path("scan.nii")) is None
    assert check_contrast(IMAGE, np.zeros_like(LABELS), PATH) is None


@pytest.mark.parametrize(
    ("volumes", "age", "odd"),
    [
        ((300, 700, 500), None, ()),
        ((300, 700, 500), Age(30.0, "years"), ()),
        ((300, 700, 500), Age(0.0, "months"), ("GM 700 ml", "at 0 months")),
        ((0, 700, 500), None, ("CSF 0.0%",)),
        ((200, 0, 1000), None, ("GM 0 ml",)),
        ((900, 5000, 4000), None, ("brain",)),
    ],
)
def test_volumes_are_those_of_a_brain(volumes, age, odd) -> None:
    by_name = {str(name): float(ml) for name, ml in zip(TISSUES, volumes, strict=True)}
    found = check_volumes(by_name, age, PATH).sentence
    assert all(part in found for part in odd) and bool(found) == bool(odd)


def test_most_of_a_stripped_brain_is_tissue() -> None:
    assert not check_labeled(LABELS, BALL, PATH).sentence
    assert check_labeled(np.where(RADIUS < 10, LABELS, 0), BALL, PATH).sentence


def test_a_brain_is_of_one_piece() -> None:
    assert not check_pieces(LABELS, MM, PATH).sentence
    apart = LABELS.copy()
    apart[18:21] = 0
    assert "pieces" in check_pieces(apart, MM, PATH).sentence
    speck = LABELS.copy()
    speck[0, 0, 0] = GM
    assert not check_pieces(speck, MM, PATH).sentence
    assert not check_pieces(np.zeros_like(LABELS), MM, PATH).sentence


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("beyond", [False, True])
def test_a_brain_does_not_end_in_a_plane(axis: int, beyond: bool) -> None:
    """Whether the field of view ends there, or what is beyond was blanked."""
    parts = np.split(np.moveaxis(LABELS, axis, 0), [12])
    cut = np.concatenate([np.zeros_like(parts[0]), parts[1]]) if beyond else parts[1]
    cut = np.moveaxis(cut, 0, axis)
    assert "plane" in check_pieces(cut, MM, PATH).sentence
    cut = np.pad(cut, 2)
    cut[(20,) * axis + (slice(None),) + (20,) * (2 - axis)] = GM  # some voxels beyond the plane
    assert "plane" in check_pieces(cut, MM, PATH).sentence


@pytest.mark.parametrize("size", [0.5, 1.0, 3.0])
def test_a_ball_ends_in_no_plane_in_voxels_of_any_size(size: float) -> None:
    assert not ends_in_plane(BALL, (size, size, size))
    assert not ends_in_plane(BALL[::3], (3 * size, size, size))
