"""Motion: closed forms, image and labels together, and what is not known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from infant_seg_jax.augmentation.spatial import (
    AffineMotion,
    affine_matrix,
    affine_points,
    draw_affine,
    draw_elastic,
    elastic_points,
    mirror,
    resample,
    voxel_points,
)
from infant_seg_jax.augmentation.splines import SmoothField, evaluate_field
from infant_seg_jax.config import default_config
from infant_seg_jax.data.labels import IGNORE

SHAPE = (9, 8, 7)


def motion(
    rotation: tuple = (0.0, 0.0, 0.0),
    scale: tuple = (1.0, 1.0, 1.0),
    shear: tuple = (0.0, 0.0, 0.0),
    translation: tuple = (0.0, 0.0, 0.0),
) -> AffineMotion:
    return AffineMotion(*(jnp.array(values) for values in (rotation, scale, shear, translation)))


def random_patch(shape: tuple[int, int, int] = SHAPE) -> tuple[jax.Array, jax.Array]:
    """A patch that is brain throughout, in two channels, and labels of all kinds."""
    random = np.random.default_rng(0)
    image = random.normal(size=(*shape, 2)).astype(np.float32)
    labels = random.choice(np.array([0, 1, 2, 3, IGNORE], np.uint8), shape)
    return jnp.asarray(image), jnp.asarray(labels)


@jax.jit
def move(image: jax.Array, labels: jax.Array, by: AffineMotion) -> tuple[jax.Array, jax.Array]:
    x, y, z = labels.shape
    return resample(image, labels, affine_points(by, voxel_points((x, y, z)), (x, y, z)))


def test_mirror_exchanges_left_and_right_exactly() -> None:
    image, labels = random_patch()
    mirrored, mirrored_labels = mirror(image, labels)
    np.testing.assert_array_equal(mirrored, np.flip(image, 0))
    np.testing.assert_array_equal(mirrored_labels, np.flip(labels, 0))
    for twice, once in zip(mirror(mirrored, mirrored_labels), (image, labels), strict=True):
        np.testing.assert_array_equal(twice, once)


@pytest.mark.parametrize(
    ("rotation", "turns", "axes"),
    [
        ((0.0, 0.0, 90.0), 1, (0, 1)),
        ((90.0, 0.0, 0.0), 1, (1, 2)),
        ((0.0, 90.0, 0.0), 1, (2, 0)),
        ((0.0, 0.0, 180.0), 2, (0, 1)),
        ((0.0, -90.0, 0.0), 3, (2, 0)),
    ],
)
@pytest.mark.parametrize("size", [6, 7])
def test_right_angles_equal_rot90(
    rotation: tuple, turns: int, axes: tuple[int, int], size: int
) -> None:
    image, labels = random_patch((size, size, size))
    turned, turned_labels = move(image, labels, motion(rotation))
    np.testing.assert_allclose(turned, np.rot90(image, turns, axes), atol=1e-5)
    np.testing.assert_array_equal(turned_labels, np.rot90(labels, turns, axes))


@pytest.mark.parametrize("by", [(1, 0, 0), (0, -2, 0), (3, 1, -1)])
def test_whole_translation_equals_a_roll_and_the_rest_is_unknown(by: tuple[int, int, int]) -> None:
    image, labels = random_patch()
    moved, moved_labels = move(image, labels, motion(translation=tuple(map(float, by))))
    source = np.moveaxis(np.indices(SHAPE), 0, -1) - by
    known = np.all((source >= 0) & (source < SHAPE), axis=-1, keepdims=True)
    assert known.any() and not known.all()
    rolled = np.roll(image, by, (0, 1, 2))
    np.testing.assert_allclose(moved, np.where(known, rolled, 0), atol=1e-5)
    np.testing.assert_array_equal(
        moved_labels, np.where(known[..., 0], np.roll(labels, by, (0, 1, 2)), IGNORE)
    )


def test_scale_makes_things_larger() -> None:
    image, labels = random_patch((9, 9, 9))
    larger, larger_labels = move(image, labels, motion(scale=(2.0, 1.0, 1.0)))
    np.testing.assert_allclose(larger[::2], image[2:7], atol=1e-5)
    np.testing.assert_allclose(larger[1], (image[2] + image[3]) / 2, atol=1e-5)
    np.testing.assert_array_equal(larger_labels[::2], labels[2:7])


def test_shear_moves_x_by_y() -> None:
    image, labels = random_patch((7, 7, 7))
    sheared, _ = move(image, labels, motion(shear=(1.0, 0.0, 0.0)))
    for y in range(7):
        expected = np.roll(image[:, y], y - 3, axis=0)
        known = slice(max(0, y - 3), 7 + min(0, y - 3))
        np.testing.assert_allclose(sheared[known, y], expected[known], atol=1e-5)


def test_matrix_shears_then_scales_then_rotates() -> None:
    by = motion((10.0, -20.0, 30.0), (1.1, 0.9, 1.2), (0.1, -0.2, 0.05))
    angles = np.deg2rad([10.0, -20.0, 30.0])
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        about = np.eye(3)
        about[i, i] = about[j, j] = np.cos(angle)
        about[j, i], about[i, j] = np.sin(angle), -np.sin(angle)
        rotation = about @ rotation
    shear = np.array([[1, 0.1, -0.2], [0, 1, 0.05], [0, 0, 1]])
    expected = rotation @ np.diag([1.1, 0.9, 1.2]) @ shear
    np.testing.assert_allclose(affine_matrix(by), expected, atol=1e-6)


def test_points_are_the_inverse_of_the_motion() -> None:
    by = motion((10.0, -20.0, 30.0), (1.1, 0.9, 1.2), (0.1, -0.2, 0.05), (1.0, 2.0, -3.0))
    origins = affine_points(by, voxel_points(SHAPE), SHAPE)
    center = (np.array(SHAPE) - 1) / 2
    there = (np.asarray(origins) - center) @ np.asarray(affine_matrix(by)).T + center
    np.testing.assert_allclose(there + np.array([1, 2, -3]), voxel_points(SHAPE), atol=1e-4)


def test_resampling_equals_scipys() -> None:
    """Within the patch and the brain; elsewhere SciPy has other conventions."""
    image, labels = random_patch()
    random = np.random.default_rng(1)
    points = random.uniform(0, np.array(SHAPE) - 1, (*SHAPE, 3)).astype(np.float32)
    found, found_labels = jax.jit(resample)(image, labels, jnp.asarray(points))
    coordinates = np.moveaxis(points, -1, 0)
    for channel in range(2):
        expected = map_coordinates(np.asarray(image[..., channel]), coordinates, order=1)
        np.testing.assert_allclose(found[..., channel], expected, atol=1e-4)
    expected = map_coordinates(np.asarray(labels), coordinates, order=0)
    np.testing.assert_array_equal(found_labels, expected)


def test_the_brains_border_stays_as_sharp_as_its_labels() -> None:
    """No rim of 0 within, and nothing of the brain without, at any share of a voxel."""
    image = np.zeros((9, 5, 5, 1), np.float32)
    image[:5] = 2.0
    labels = np.where(image[..., 0] != 0, 3, 0).astype(np.uint8)
    for shift in (0.2, 0.4, 0.6, 0.8):
        moved, moved_labels = move(
            jnp.asarray(image), jnp.asarray(labels), motion(translation=(shift, 0.0, 0.0))
        )
        known = np.asarray(moved_labels) != IGNORE
        np.testing.assert_array_equal(
            np.asarray(moved[..., 0])[known], np.where(moved_labels == 3, 2.0, 0.0)[known]
        )
        assert (np.asarray(moved_labels) == 3).sum() == 5 * 25


def blob(shape: tuple[int, int, int], at: tuple[int, int, int]) -> tuple[jax.Array, jax.Array]:
    """One ball that the image and the labels both show."""
    distance = np.linalg.norm(np.moveaxis(np.indices(shape), 0, -1) - np.array(at), axis=-1)
    labels = np.where(distance < 4, 3, 1).astype(np.uint8)
    return jnp.asarray(labels[..., None] - 2.0, jnp.float32), jnp.asarray(labels)


@pytest.mark.parametrize("seed", range(2))
def test_image_and_labels_move_together(seed: int) -> None:
    shape, at = (24, 22, 20), (14, 9, 11)
    image, labels = blob(shape, at)
    config = default_config().augmentation

    @jax.jit
    def move_and_deform(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        affine, elastic = jax.random.split(key)
        points = elastic_points(draw_elastic(elastic, config, shape), voxel_points(shape))
        points = affine_points(draw_affine(affine, config), points, shape)
        return resample(image, labels, points)

    moved, moved_labels = move_and_deform(jax.random.key(seed))
    known = np.asarray(moved_labels) != IGNORE
    # A voxel of the ball or of its surroundings is one in both, but for the averages between.
    value = np.asarray(moved[..., 0])
    agree = np.where(moved_labels == 3, value > -1e-4, value < 1e-4)
    assert agree[known].mean() > 0.99 and not value[~known].any()
    found = np.stack(np.nonzero(moved_labels == 3)).mean(1)
    assert np.linalg.norm(found - np.array(at)) > 0.3  # It did move.
    seen = np.stack(np.nonzero(value > 0.5)).mean(1)
    np.testing.assert_allclose(seen, found, atol=0.3)


@pytest.mark.parametrize("seed", range(3))
def test_labels_stay_within_those_there_were(seed: int) -> None:
    image, labels = random_patch()
    config = default_config().augmentation
    by = draw_affine(jax.random.key(seed), config)
    assert set(np.unique(move(image, labels, by)[1])) <= set(np.unique(labels)) | {IGNORE}
    few = jnp.where(labels == IGNORE, 2, labels % 2 * 2).astype(jnp.uint8)
    assert set(np.unique(move(image, few, by)[1])) <= {0, 2, IGNORE}


def test_ignored_voxels_move_along() -> None:
    image = jnp.ones((9, 9, 9, 1))
    labels = jnp.ones((9, 9, 9), jnp.uint8).at[4, 4, 4].set(IGNORE)
    moved = np.asarray(move(image, labels, motion(translation=(2.0, 0.0, 0.0)))[1])
    assert moved[6, 4, 4] == IGNORE and moved[4, 4, 4] == 1
    assert (moved[2:] == IGNORE).sum() == 1 and (moved[:2] == IGNORE).all()


def test_equal_displacements_are_a_translation() -> None:
    image, labels = random_patch((10, 10, 10))
    config = default_config().augmentation
    drawn = draw_elastic(jax.random.key(0), config, (10, 10, 10))
    constant = SmoothField(
        jnp.broadcast_to(jnp.array([2.0, 0.0, -1.0]), drawn.coefficients.shape), drawn.spacing
    )
    points = elastic_points(constant, voxel_points((10, 10, 10)))
    moved, moved_labels = jax.jit(resample)(image, labels, points)
    expected, expected_labels = move(image, labels, motion(translation=(-2.0, 0.0, 1.0)))
    np.testing.assert_allclose(moved, expected, atol=1e-4)
    np.testing.assert_array_equal(moved_labels, expected_labels)


def test_default_deformations_hardly_fold() -> None:
    """A fold is where the Jacobian of the displaced points is not positive."""
    shape = (48, 48, 48)
    config = default_config().augmentation

    @jax.jit
    @jax.vmap
    def displaced(key: jax.Array) -> jax.Array:
        return elastic_points(draw_elastic(key, config, shape), voxel_points(shape))

    points = np.asarray(displaced(jax.random.split(jax.random.key(0), 10)))
    gradients = np.stack([np.diff(points, axis=1 + a)[:, :47, :47, :47] for a in range(3)], -1)
    assert np.mean(np.linalg.det(gradients) <= 0) < 0.002
    offsets = points - np.asarray(voxel_points(shape))
    assert offsets.std() == pytest.approx(config.elastic_displacement, rel=0.15)


def test_displacement_is_read_in_voxels_of_the_patch() -> None:
    config = default_config().augmentation
    drawn = draw_elastic(jax.random.key(3), config, SHAPE)
    difference = elastic_points(drawn, voxel_points(SHAPE)) - voxel_points(SHAPE)
    np.testing.assert_allclose(difference, evaluate_field(drawn, SHAPE), atol=1e-5)


def test_affine_draws_fill_their_ranges() -> None:
    config = default_config().augmentation
    config.update({"rotation": 20.0, "scale": 0.2, "shear": 0.1, "translation": 5.0})
    drawn = jax.vmap(lambda key: draw_affine(key, config))(jax.random.split(jax.random.key(0), 400))
    for values, middle, reach in (
        (drawn.rotation, 0, 20),
        (drawn.scale, 1, 0.2),
        (drawn.shear, 0, 0.1),
        (drawn.translation, 0, 5),
    ):
        distances = np.asarray((values - middle) / reach)
        assert distances.shape == (400, 3)
        assert np.abs(distances).max() <= 1 + 1e-5
        assert (distances.min(0) < -0.95).all() and (distances.max(0) > 0.95).all()
        assert np.abs(np.corrcoef(distances.T) - np.eye(3)).max() < 0.2
