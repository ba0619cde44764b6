"""Which way a brain lies, of brains that were turned and mirrored on purpose."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from infant_seg_jax.data.average_brain import SIDE, template
from infant_seg_jax.data.formats import Grid
from infant_seg_jax.data.orientation import (
    Orientation,
    find_orientation,
    orientation_of,
    turned,
    turned_volume,
)
from infant_seg_jax.data.volumes import Volume, spacing_of

SIGNED_PERMUTATIONS = [
    np.eye(3, dtype=int)[:, list(axes)] * signs
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
MIRROR = np.diag([-1, 1, 1])
FRONT_TO_BACK = np.diag([-1, -1, 1])
SIZE = 10.0


def average_brain(fluid: float = 0.3, gray: float = 0.6, white: float = 1.0):
    """A scan of the average brain, a little noisy, with its mask, in voxels of 10 mm."""
    outline, *tissues = template()
    levels = np.array([fluid, gray, white])
    image = np.tensordot(levels, np.stack(tissues), axes=1)
    image = image + np.random.default_rng(0).normal(0, 0.02, image.shape)
    return image.astype(np.float32), outline > 0.5


def lying(array: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The array as it lies where its axes go by the columns of `where`, mirrored or not."""
    return np.ascontiguousarray(turned(array, where.T))


def as_volume(image: np.ndarray, spacing=(SIZE, SIZE, SIZE)) -> Volume:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-7, 11, 3)
    x, y, z = image.shape
    return Volume(image[..., None], affine, Grid((x, y, z), affine), Path("scan.nii"))


def check(where: np.ndarray) -> None:
    image, mask = average_brain()
    found = find_orientation(lying(image, where), lying(mask, where), (SIZE, SIZE, SIZE))
    expected = where if np.linalg.det(where) > 0 else where @ MIRROR
    np.testing.assert_array_equal(found.turn, expected)
    assert found.margin > 0.3
    assert found.contradicts_header == (not np.array_equal(expected, np.eye(3)))


@pytest.mark.parametrize("where", SIGNED_PERMUTATIONS[::7])
def test_front_and_top_are_found(where: np.ndarray) -> None:
    check(where)


@pytest.mark.slow
@pytest.mark.parametrize("where", SIGNED_PERMUTATIONS)
def test_front_and_top_are_found_in_all_48(where: np.ndarray) -> None:
    check(where)


@pytest.mark.parametrize("levels", [(1.0, 0.6, 0.3), (0.3, 1.0, 0.6), (0.5, 0.2, 0.5)])
def test_any_contrast_will_do(levels) -> None:
    image, mask = average_brain(*levels)
    found = find_orientation(image[:, ::-1], mask[:, ::-1], (SIZE, SIZE, SIZE))
    np.testing.assert_array_equal(found.turn, FRONT_TO_BACK)
    assert found.contradicts_header


def test_a_coil_changes_little() -> None:
    image, mask = average_brain()
    at = np.linspace(-1, 1, SIDE, dtype=np.float32)
    field = np.exp(at[:, None, None] - at[:, None] + 0.5 * at)
    found = find_orientation(image * field, mask, (SIZE, SIZE, SIZE))
    np.testing.assert_array_equal(found.turn, np.eye(3))
    assert found.margin > 0.1


def test_a_brain_without_one_half_is_not_symmetric() -> None:
    image, mask = average_brain()
    whole = find_orientation(image, mask, (SIZE, SIZE, SIZE))
    assert whole.symmetry > 0.95
    half = mask.copy()
    half[: SIDE // 2] = False
    assert find_orientation(image, half, (SIZE, SIZE, SIZE)).symmetry < 0.8


def test_what_is_no_brain_contradicts_no_header() -> None:
    at = np.stack(np.meshgrid(*[np.linspace(-1, 1, 30)] * 3, indexing="ij"))
    noise = np.random.default_rng(0).normal(1, 0.3, (30, 30, 30)).astype(np.float32)
    ball = np.linalg.norm(at, axis=0) < 0.8
    egg = np.linalg.norm(at / np.array([0.8, 1.0, 0.7])[:, None, None, None], axis=0) < 0.9
    for mask in (ball, egg):
        for image in (noise, np.ones_like(noise)):
            found = find_orientation(image, mask, (5.0, 5.0, 5.0))
            assert not found.contradicts_header
            assert found.fit < 1.15


def test_of_a_head_nothing_is_said() -> None:
    image, mask = average_brain()
    head = np.random.default_rng(1).uniform(0.1, 0.2, image.shape).astype(np.float32)
    volume = as_volume(np.where(mask, image, head))
    assert orientation_of(volume) is None
    found = orientation_of(volume, mask)
    assert found is not None and not found.contradicts_header
    assert orientation_of(volume, np.zeros_like(mask)) is None


def test_scans_in_fine_voxels_are_judged_in_coarse_ones() -> None:
    image, _ = average_brain()
    fine = ndimage.zoom(image, (5, 4, 7), order=1)
    shown = ndimage.zoom(template()[0], (5, 4, 7), order=1) > 0.3
    brain = np.where(shown, fine, 0)[:, ::-1].copy()
    volume = as_volume(brain, (SIZE / 5, SIZE / 4, SIZE / 7))
    found = orientation_of(volume)
    assert found is not None and found.contradicts_header
    np.testing.assert_array_equal(found.turn, FRONT_TO_BACK)


@pytest.mark.parametrize(
    "turn", [where for where in SIGNED_PERMUTATIONS if np.linalg.det(where) > 0]
)
def test_turning_is_undone_and_moves_nothing_but_the_world(turn: np.ndarray) -> None:
    random = np.random.default_rng(0)
    volume = as_volume(random.normal(size=(3, 4, 5)).astype(np.float32), (1.0, 2.0, 3.0))
    oblique = volume.affine.copy()
    oblique[:3, :3] += random.normal(0, 0.1, (3, 3))
    volume = replace(volume, affine=oblique)
    right = turned_volume(volume, turn)
    np.testing.assert_array_equal(turned(right.data, turn.T), volume.data)
    assert right.native is volume.native
    axes = np.abs(turn).argmax(axis=0)
    np.testing.assert_allclose(right.spacing, np.array(spacing_of(oblique))[axes])
    # Each voxel's place, turned back, is where the same brightness was.
    for index in np.ndindex(*right.shape):
        place = turn @ (right.affine @ [*index, 1])[:3]
        before = np.linalg.inv(oblique) @ [*place, 1]
        x, y, z = np.rint(before[:3]).astype(int)
        np.testing.assert_allclose(before[:3], [x, y, z], atol=1e-6)
        assert volume.data[x, y, z, 0] == right.data[(*index, 0)]


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        (FRONT_TO_BACK, ("posterior", "superior", "180", "vertical", "front to back")),
        (np.diag([-1, 1, -1]), ("anterior", "inferior", "180", "front-back", "top to bottom")),
        (np.diag([1, -1, -1]), ("posterior", "inferior", "180", "left-right", "all three")),
        (np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]), ("superior", "posterior", "90")),
        (np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]]), ("superior", "right", "changed places")),
    ],
)
def test_words_say_where_front_and_top_are(turn: np.ndarray, expected: tuple[str, ...]) -> None:
    words = Orientation(turn, 1.5, 0.2, 180.0, 1.0).in_words()
    assert [words.count(word) >= 1 for word in expected] == [True] * len(expected)


def test_what_is_unsure_or_aslant_contradicts_nothing() -> None:
    sure = Orientation(FRONT_TO_BACK, 1.5, 0.2, 180.0, 1.0)
    assert sure.contradicts_header
    assert not replace(sure, margin=0.01).contradicts_header
    assert not replace(sure, degrees=50.0).contradicts_header
    assert not replace(sure, turn=np.eye(3, dtype=int)).contradicts_header
