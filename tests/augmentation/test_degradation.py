"""Blur, thick slices, noise and missing modalities: closed forms and moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from infant_seg_jax.augmentation.degradation import (
    Noise,
    ThickSlices,
    add_gaussian_noise,
    add_rician_noise,
    blur,
    draw_blur,
    draw_channel,
    draw_noise,
    draw_thick_slices,
    drop_modality,
    slice_weights,
    thicken_slices,
)
from infant_seg_jax.augmentation.intensity import BLACK
from infant_seg_jax.config import default_config

CHANNELS = 2
compiled_blur, compiled_slices = jax.jit(blur), jax.jit(thicken_slices)
SHAPE = (12, 10, 8)


def random_image(shape: tuple[int, int, int] = SHAPE) -> jax.Array:
    """Brain throughout, in two channels."""
    image = np.random.default_rng(0).normal(size=(*shape, CHANNELS))
    return jnp.asarray(image, jnp.float32)


def slices(axis: int, thickness: float, start: float = 0.0) -> ThickSlices:
    return ThickSlices(*(jnp.full(CHANNELS, value) for value in (axis, thickness, start)))


def around_a_hole(value: float) -> jax.Array:
    """A constant brain, with a ventricle cut out and nothing on one side."""
    return jnp.full((*SHAPE, CHANNELS), value).at[4:7, 3:6, 2:5].set(0).at[:2].set(0)


def test_blur_equals_scipys_far_from_the_border() -> None:
    image = np.zeros((25, 25, 25, CHANNELS), np.float32) + 1
    image[10:15, 10:15, 10:15] = random_image((5, 5, 5)) + 3
    deviations = (0.7, 1.2)
    blurred = compiled_blur(jnp.asarray(image), jnp.array(deviations))
    for channel, deviation in enumerate(deviations):
        expected = image[..., channel].astype(np.float64)
        for axis in range(3):
            expected = gaussian_filter1d(expected, deviation, axis, truncate=8)
        np.testing.assert_allclose(blurred[..., channel], expected, atol=1e-4)


def test_blur_keeps_a_constant_up_to_the_brains_border() -> None:
    image = around_a_hole(1.7)
    np.testing.assert_allclose(compiled_blur(image, jnp.array([0.5, 2.0])), image, rtol=1e-5)


def test_blur_narrows_the_spread_of_noise_and_a_narrow_one_nothing() -> None:
    image = random_image()
    blurred = np.asarray(compiled_blur(image, jnp.array([0.0, 1.0])))
    np.testing.assert_allclose(blurred[..., 0], image[..., 0], rtol=1e-6)
    assert blurred[..., 1].std() < 0.4 * np.std(image[..., 1])


def test_blurs_are_drawn_up_to_the_configs() -> None:
    config = default_config().augmentation
    config.blur_deviation = 1.5
    keys = jax.random.split(jax.random.key(0), 500)
    drawn = np.asarray(jax.vmap(lambda key: draw_blur(key, config, CHANNELS))(keys))
    assert drawn.shape == (500, CHANNELS)
    assert 0 <= drawn.min() < 0.05 and 1.45 < drawn.max() <= 1.5
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.2


@pytest.mark.parametrize("axis", range(3))
def test_slices_of_whole_voxels_are_their_means(axis: int) -> None:
    image = np.asarray(random_image((12, 12, 12)))
    thick = compiled_slices(jnp.asarray(image), slices(axis, 4.0))
    groups = np.moveaxis(image, axis, 0).reshape(3, 4, 12, 12, CHANNELS)
    expected = np.repeat(groups.mean(1), 4, axis=0)
    np.testing.assert_allclose(np.moveaxis(np.asarray(thick), axis, 0), expected, atol=1e-5)


@pytest.mark.parametrize(("thickness", "start"), [(1.0, 0.5), (2.5, 0.0), (3.3, 0.9), (40.0, 0.3)])
def test_slices_keep_the_mean_and_cannot_add_contrast(thickness: float, start: float) -> None:
    image = random_image()
    thick = compiled_slices(image, slices(0, thickness, start))
    np.testing.assert_allclose(thick.mean((0, 1, 2)), image.mean((0, 1, 2)), atol=1e-5)
    assert (np.std(thick, axis=(0, 1, 2)) <= np.std(image, axis=(0, 1, 2))).all()
    weights = np.asarray(slice_weights(slices(0, thickness, start), 12))
    assert weights.shape == (CHANNELS, 12, 12) and weights.min() >= 0
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(weights.sum(2), 1, atol=1e-5)


def test_slices_of_one_voxel_change_nothing() -> None:
    image = random_image()
    np.testing.assert_allclose(compiled_slices(image, slices(1, 1.0)), image, atol=1e-6)


def test_slices_average_over_the_brain_alone() -> None:
    image = around_a_hole(1.7)
    np.testing.assert_allclose(compiled_slices(image, slices(2, 3.4, 0.2)), image, rtol=1e-5)


def test_each_channel_has_slices_of_its_own() -> None:
    image = random_image()
    both = ThickSlices(jnp.array([0, 2]), jnp.array([3.0, 2.0]), jnp.zeros(2))
    thick = np.asarray(compiled_slices(image, both))
    np.testing.assert_allclose(thick[0, ..., 0], thick[2, ..., 0], atol=1e-6)
    np.testing.assert_allclose(thick[:, :, 0, 1], thick[:, :, 1, 1], atol=1e-6)
    assert not np.allclose(thick[0, ..., 1], thick[2, ..., 1])


def test_slices_are_drawn_along_all_axes() -> None:
    config = default_config().augmentation
    keys = jax.random.split(jax.random.key(0), 500)
    drawn = jax.vmap(lambda key: draw_thick_slices(key, config, CHANNELS))(keys)
    assert np.bincount(np.asarray(drawn.axis).ravel(), minlength=3).min() > 250
    thickness, start = np.asarray(drawn.thickness), np.asarray(drawn.start)
    assert 1 <= thickness.min() < 1.05 and 3.95 < thickness.max() <= config.thickness
    assert 0 <= start.min() < 0.02 and 0.98 < start.max() <= 1


def noise(*deviations: float, seed: int = 0) -> Noise:
    return Noise(jnp.array(deviations), jax.random.key(seed))


def test_gaussian_noise_has_the_drawn_deviation() -> None:
    image = random_image((20, 20, 20))
    added = np.asarray(add_gaussian_noise(image, noise(0.1, 0.5)) - image).reshape(-1, CHANNELS)
    np.testing.assert_allclose(added.std(0), [0.1, 0.5], rtol=0.05)
    np.testing.assert_allclose(added.mean(0), 0, atol=0.02)
    assert abs(np.corrcoef(added.T)[0, 1]) < 0.05
    assert abs(np.corrcoef(added[1:, 0], added[:-1, 0])[0, 1]) < 0.05  # From voxel to voxel.


def test_rician_noise_is_gaussian_where_the_signal_is_strong() -> None:
    image = jnp.full((20, 20, 20, CHANNELS), 2.0)
    added = np.asarray(add_rician_noise(image, noise(0.1, 0.3)) - image).reshape(-1, CHANNELS)
    np.testing.assert_allclose(added.std(0), [0.1, 0.3], rtol=0.05)
    # The mean of a Rician variable is about signal + variance / (2 signal).
    np.testing.assert_allclose(added.mean(0), np.array([0.1, 0.3]) ** 2 / 12, atol=0.01)


def test_rician_noise_is_rayleigh_where_there_is_no_signal() -> None:
    image = jnp.full((20, 20, 20, CHANNELS), BLACK)
    magnitude = np.asarray(add_rician_noise(image, noise(0.1, 0.4))) - BLACK
    assert magnitude.min() >= -1e-6
    np.testing.assert_allclose(
        magnitude.mean((0, 1, 2)), np.array([0.1, 0.4]) * np.sqrt(np.pi / 2), rtol=0.03
    )
    below = add_rician_noise(image - 3, noise(0.1, 0.4))  # There is no less than no signal.
    np.testing.assert_allclose(below, magnitude + BLACK, atol=1e-6)


@pytest.mark.parametrize("add", [add_gaussian_noise, add_rician_noise])
def test_noise_of_no_strength_changes_nothing(add) -> None:
    image = random_image()
    np.testing.assert_allclose(add(image, noise(0.0, 0.0)), image, atol=1e-6)


def test_noise_is_drawn_up_to_the_configs_each_its_own() -> None:
    config = default_config().augmentation
    keys = jax.random.split(jax.random.key(0), 200)
    drawn = jax.vmap(lambda key: draw_noise(key, config, CHANNELS))(keys)
    deviations = np.asarray(drawn.deviation)
    assert 0 <= deviations.min() < 0.01 and 0.09 < deviations.max() <= config.noise_deviation
    assert len(np.unique(jax.vmap(jax.random.normal)(drawn.key))) == 200


def test_drop_takes_one_channel_and_leaves_the_others() -> None:
    image = random_image()
    for channel in range(CHANNELS):
        left = np.asarray(drop_modality(image, jnp.asarray(channel)))
        assert not left[..., channel].any()
        np.testing.assert_array_equal(left[..., 1 - channel], image[..., 1 - channel])


def test_every_channel_can_be_the_missing_one() -> None:
    keys = jax.random.split(jax.random.key(0), 300)
    drawn = np.asarray(jax.vmap(lambda key: draw_channel(key, 3))(keys))
    assert np.bincount(drawn, minlength=3).min() > 70
