"""Smooth fields: against SciPy's splines, and their statistics."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import BSpline

from infant_seg_jax.augmentation.splines import SmoothField, draw_field, evaluate_field

SHAPE = (17, 9, 12)


def line(values: np.ndarray, spacing: float) -> SmoothField:
    """A field of one component that changes along x alone."""
    coefficients = np.tile(values[:, None, None, None], (1, 20, 20, 1))
    return SmoothField(jnp.asarray(coefficients, jnp.float32), spacing)


@pytest.mark.parametrize("spacing", [1.0, 3.5, 8.0])
def test_equals_scipys_cubic_spline(spacing: float) -> None:
    coefficients = np.random.default_rng(0).normal(size=22)
    # SciPy's coefficient k belongs to the four spans from knot k on, whose middle is knot k + 2.
    spline = BSpline(spacing * (np.arange(26) - 3), coefficients, k=3)
    found = evaluate_field(line(coefficients, spacing), (16, 2, 3))
    np.testing.assert_allclose(found[:, 0, 0, 0], spline(np.arange(16)), atol=1e-5)
    np.testing.assert_allclose(found[:, 1, 2, 0], found[:, 0, 0, 0], atol=1e-6)


@pytest.mark.parametrize("spacing", [1.0, 4.0, 5.7, 40.0])
def test_equal_coefficients_make_a_constant_field(spacing: float) -> None:
    """So the grid covers the patch: beyond it the weights would not sum to 1."""
    field = draw_field(jax.random.key(0), SHAPE, spacing, 2, 1.0)
    flat = SmoothField(jnp.full_like(field.coefficients, 1.5), spacing)
    np.testing.assert_allclose(evaluate_field(flat, SHAPE), np.full((*SHAPE, 2), 1.5), rtol=1e-6)


def test_deviation_is_the_one_asked_for_at_grid_points() -> None:
    keys = jax.random.split(jax.random.key(1), 300)
    draw = jax.vmap(
        lambda key: evaluate_field(draw_field(key, (13, 13, 13), 4.0, 2, 3.0), (13, 13, 13))
    )
    values = np.asarray(jax.jit(draw)(keys))
    at_points = values[:, ::4, ::4, ::4]
    assert at_points.std() == pytest.approx(3.0, rel=0.03)
    assert abs(at_points.mean()) < 0.1
    between = values[:, 2::4, 2::4, 2::4]
    assert 0.8 * 3 < between.std() < 3  # The field has no bumps where the points are.
    assert abs(np.corrcoef(at_points[..., 0].ravel(), at_points[..., 1].ravel())[0, 1]) < 0.05


def test_field_is_smooth() -> None:
    """It changes little from voxel to voxel, by as much as its spacing allows."""
    shape = (33, 33, 33)
    draw = partial(draw_field, jax.random.key(2), shape, components=1, deviation=1.0)
    steps = {}
    for spacing in (8.0, 16.0):
        field = np.asarray(evaluate_field(draw(spacing), shape))
        steps[spacing] = np.sqrt(np.mean(np.diff(field, axis=0) ** 2))
        second = np.sqrt(np.mean(np.diff(field, n=2, axis=0) ** 2))
        assert second < 0.5 * steps[spacing] < 0.1
    assert 1.5 < steps[8.0] / steps[16.0] < 2.7
