"""Intensities: closed forms, order and range, fields that are smooth and positive."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infant_seg_jax.augmentation.intensity import (
    BIAS_SPACING,
    BLACK,
    apply_bias_field,
    bias_factor,
    change_gamma,
    draw_bias_field,
    draw_gain,
    draw_gamma,
    draw_offset,
    invert,
    scale,
    shift,
)
from infant_seg_jax.augmentation.splines import SmoothField
from infant_seg_jax.config import default_config

CHANNELS = 2


def brain(shape: tuple[int, int, int] = (6, 7, 8)) -> jax.Array:
    """Two channels of other intensities, with nothing in the first slices."""
    image = np.random.default_rng(0).normal(size=(*shape, CHANNELS)).astype(np.float32)
    image[..., 1] = 2 * image[..., 1] + 5
    image[:2] = 0
    return jnp.asarray(image)


def test_inversion_reverses_the_order_of_tissues() -> None:
    csf, gray, white = -2.0, 0.1, 0.9  # An adult's T1.
    image = jnp.array([csf, gray, white]).reshape(3, 1, 1, 1)
    inverted = np.asarray(invert(image)).ravel()
    assert inverted[0] > inverted[1] > inverted[2]
    np.testing.assert_array_equal(invert(invert(image)), image)


@pytest.mark.parametrize("exponent", [0.5, 0.9, 2.0])
def test_gamma_keeps_range_and_order(exponent: float) -> None:
    image = brain()
    inside = np.asarray(image)[2:].reshape(-1, CHANNELS)
    changed = np.asarray(change_gamma(image, jnp.full(CHANNELS, exponent)))[2:]
    changed = changed.reshape(-1, CHANNELS)
    for channel in range(CHANNELS):
        before, after = inside[:, channel], changed[:, channel]
        np.testing.assert_allclose(after.min(), before.min(), atol=1e-5)
        np.testing.assert_allclose(after.max(), before.max(), atol=1e-5)
        assert (np.diff(after[np.argsort(before)]) >= 0).all()
        share = (before - before.min()) / np.ptp(before)
        expected = before.min() + np.ptp(before) * share.astype(np.float64) ** exponent
        np.testing.assert_allclose(after, expected, atol=1e-5)


def test_gamma_of_each_channel_is_its_own() -> None:
    image = brain()
    changed = change_gamma(image, jnp.array([1.0, 3.0]))
    np.testing.assert_allclose(changed[2:, ..., 0], image[2:, ..., 0], atol=1e-5)
    assert np.mean(changed[2:, ..., 1]) < np.mean(image[2:, ..., 1]) - 1


@pytest.mark.parametrize("value", [0.0, 1.5])
def test_gamma_of_a_constant_or_empty_patch_is_that_patch(value: float) -> None:
    image = jnp.full((3, 3, 3, 1), value)
    np.testing.assert_array_equal(change_gamma(image, jnp.array([2.0])), image)


def test_gamma_is_drawn_evenly_on_both_sides_of_1() -> None:
    config = default_config().augmentation
    config.gamma_range = 1.0
    keys = jax.random.split(jax.random.key(0), 1000)
    exponents = np.asarray(jax.vmap(lambda key: draw_gamma(key, config, CHANNELS))(keys))
    assert exponents.shape == (1000, CHANNELS)
    assert 0.5 - 1e-5 <= exponents.min() < 0.51 and 1.98 < exponents.max() <= 2 + 1e-5
    assert abs(np.mean(exponents > 1) - 0.5) < 0.05
    assert abs(np.corrcoef(exponents.T)[0, 1]) < 0.1


def test_bias_field_is_smooth_and_positive() -> None:
    config = default_config().augmentation
    shape = (64, 48, 48)
    field = draw_bias_field(jax.random.key(0), config, shape, CHANNELS)
    factor = np.asarray(bias_factor(field, shape))
    assert factor.shape == (*shape, CHANNELS) and factor.min() > 0
    assert np.ptp(np.log(factor)) > config.bias_field_strength  # It is not just constant.
    for axis in range(3):
        steps = np.abs(np.diff(np.log(factor), axis=axis))
        assert steps.max() < 5 * config.bias_field_strength / BIAS_SPACING
    assert not np.allclose(factor[..., 0], factor[..., 1])


def test_bias_field_multiplies_the_signal() -> None:
    image = jnp.full((3, 3, 3, 1), 1.0)
    doubled = SmoothField(jnp.full((5, 5, 5, 1), jnp.log(2.0)), 3.0)
    signal = np.asarray(apply_bias_field(image, doubled)) - BLACK
    np.testing.assert_allclose(signal, 2 * (1.0 - BLACK), rtol=1e-5)
    # Where there is no signal there is nothing to multiply.
    black = jnp.full((3, 3, 3, 1), BLACK)
    np.testing.assert_allclose(apply_bias_field(black, doubled), black, rtol=1e-6)


def test_logarithm_of_the_bias_has_the_deviation_asked_for() -> None:
    config = default_config().augmentation
    config.bias_field_strength = 0.4
    keys = jax.random.split(jax.random.key(1), 500)

    @jax.jit
    @jax.vmap
    def corner(key: jax.Array) -> jax.Array:
        return bias_factor(draw_bias_field(key, config, (8, 8, 8), 1), (8, 8, 8))[0, 0, 0]

    assert float(jnp.std(jnp.log(corner(keys)))) == pytest.approx(0.4, rel=0.1)


def test_scale_and_shift_are_contrast_and_brightness() -> None:
    image = brain()
    gain, offset = jnp.array([1.5, 0.5]), jnp.array([0.25, -2.0])
    np.testing.assert_allclose(scale(image, gain), np.asarray(image) * gain, rtol=1e-6)
    np.testing.assert_allclose(shift(image, offset), np.asarray(image) + offset, rtol=1e-6)


def test_gains_and_offsets_fill_their_ranges() -> None:
    config = default_config().augmentation
    config.update({"gain": 0.1, "offset": 0.2})
    keys = jax.random.split(jax.random.key(0), 500)
    for make, middle, reach in ((draw_gain, 1.0, 0.1), (draw_offset, 0.0, 0.2)):
        values = jax.vmap(lambda key, make=make: make(key, config, CHANNELS))(keys)
        assert values.shape == (500, CHANNELS)
        distances = np.asarray((values - middle) / reach)
        assert np.abs(distances).max() <= 1 + 1e-5
        assert distances.min() < -0.98 and distances.max() > 0.98
        # Uniform, so a third of the squared reach; and each channel by itself.
        assert np.mean(distances**2) == pytest.approx(1 / 3, abs=0.05)
        assert abs(np.corrcoef(distances.T)[0, 1]) < 0.2
