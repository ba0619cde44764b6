"""Images are what was drawn: means, mixing, fields and noise, each against a second way."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from infant_seg_jax.rendering.contrast import Contrast, Prior
from infant_seg_jax.rendering.image import GOOD, DrawnImage, Quality, apply, draw, statistics
from infant_seg_jax.rendering.structures import Structure

SHAPE = (20, 18, 16)
CLEAN = replace(GOOD, maturation=0.0, partial_volume=0.0, bias=0.0, noise=0.0)
PRIOR = Prior("T1w", 6.0, 6.0, texture=0.0)


def structures(seed: int = 0) -> Any:
    """Every structure in random voxels, inside a box with nothing around it."""
    rng = np.random.default_rng(seed)
    found = rng.integers(1, len(Structure), SHAPE).astype(np.uint8)
    found[:3], found[:, :, 13:] = 0, 0
    return jnp.asarray(found)


def drawn(
    quality: Quality = CLEAN, prior: Prior = PRIOR, seed: int = 1, channels: int = 2
) -> DrawnImage:
    return draw(jax.random.key(seed), prior, quality, SHAPE, 1.0, channels)


def test_without_anything_else_the_image_is_the_means() -> None:
    what = drawn()
    found = apply(what, structures())
    assert np.allclose(found, np.asarray(what.contrast.means)[np.asarray(structures())], atol=1e-6)


def test_outside_is_exactly_zero_and_inside_is_not() -> None:
    found = np.asarray(apply(drawn(GOOD, replace(PRIOR, texture=0.2)), structures()))
    outside = np.asarray(structures()) == Structure.OUTSIDE
    assert (found[outside] == 0).all()
    assert (found[~outside] > 0).all()


def test_mixing_is_a_gaussian_with_fluid_around_the_brain() -> None:
    what = replace(drawn(), blur=jnp.array([0.5, 0.9]))
    labels = np.asarray(structures())
    means = np.array(what.contrast.means)
    means[Structure.OUTSIDE] = means[Structure.SULCAL_CSF]
    found = np.asarray(apply(what, structures()))
    for channel, deviation in enumerate((0.5, 0.9)):
        expected = ndimage.gaussian_filter(
            means[labels][..., channel], deviation, mode="nearest", radius=3
        )
        inside = labels != Structure.OUTSIDE
        assert np.allclose(found[inside, channel], expected[inside], atol=1e-5)


def test_texture_has_each_structures_deviation() -> None:
    contrast = drawn().contrast
    deviations = jnp.linspace(0.0, 0.05, len(Structure))[:, None] * jnp.ones((1, 2))
    what = replace(drawn(), contrast=Contrast(contrast.means, deviations))
    found, labels = np.asarray(apply(what, structures())), np.asarray(structures())
    for structure in list(Structure)[1:]:
        values = found[labels == structure, 0]
        assert np.std(values) == pytest.approx(float(deviations[structure, 0]), rel=0.2, abs=1e-6)


def test_noise_is_rician() -> None:
    labels = jnp.full((40, 40, 40), Structure.CORTEX, jnp.uint8)
    what = draw(jax.random.key(0), PRIOR, CLEAN, (40, 40, 40), 1.0)
    what = replace(what, noise=jnp.array([0.3]))
    found = np.asarray(apply(what, labels), np.float64)
    signal = float(what.contrast.means[Structure.CORTEX, 0])
    # E[M^2] = A^2 + 2 sigma^2 (Gudbjartsson and Patz, 1995)
    assert np.mean(found**2) == pytest.approx(signal**2 + 2 * 0.3**2, rel=0.01)
    assert found.mean() > signal


def test_the_bias_field_is_smooth_and_of_the_drawn_strength() -> None:
    labels = jnp.full(SHAPE, Structure.CORTEX, jnp.uint8)
    what = drawn(replace(CLEAN, bias=0.3, bias_mm=8.0))
    logarithm = np.log(np.asarray(apply(what, labels))[..., 0])
    assert 0.01 < logarithm.std() < 0.6
    assert np.abs(np.diff(logarithm, axis=0)).max() < 0.5 * np.ptp(logarithm)


def test_only_white_matter_matures_unevenly() -> None:
    what = drawn(replace(CLEAN, maturation=0.2, maturation_mm=8.0))
    plain = replace(drawn(), contrast=what.contrast)
    moved = np.asarray(apply(what, structures()) != apply(plain, structures())).any(axis=-1)
    labels = np.asarray(structures())
    assert set(np.unique(labels[moved])) == {Structure.WHITE, Structure.DEEP_WHITE}


def test_regions_are_of_gray_and_white_matter_and_go_no_further_than_drawn() -> None:
    what = drawn(replace(CLEAN, regions=0.2, regions_mm=6.0))
    plain = replace(what, region_depths=jnp.zeros(4))
    change = np.array(apply(what, structures()) - apply(plain, structures()))
    labels = np.asarray(structures())
    for tissues, depths in (
        ((Structure.CORTEX, Structure.DEEP_GRAY), what.region_depths[:2]),
        ((Structure.WHITE, Structure.DEEP_WHITE), what.region_depths[2:]),
    ):
        found = np.abs(change[np.isin(labels, tissues)]).max(axis=0)
        assert (found > 0.5 * depths).all() and (found <= depths + 1e-6).all()
        change[np.isin(labels, tissues)] = 0
    assert np.abs(change).max() < 1e-6


def test_statistics_are_those_of_an_image_before_mixing() -> None:
    prior = replace(PRIOR, texture=0.1)
    labels = structures()
    what = drawn(prior=prior)
    found = np.asarray(apply(what, labels), np.float64)[np.asarray(labels) != 0]
    counts = np.bincount(np.asarray(labels).ravel(), minlength=len(Structure))
    mean, deviation = statistics(what.contrast, counts)
    assert np.allclose(mean, found.mean(axis=0), atol=0.01)
    assert np.allclose(deviation, found.std(axis=0), rtol=0.05)


def test_a_batch_equals_its_images_one_by_one() -> None:
    keys = jax.random.split(jax.random.key(5), 3)
    labels = jnp.stack([structures(seed) for seed in range(3)])

    def one(key: jax.Array, labels: jax.Array) -> jax.Array:
        return apply(draw(key, Prior(unordered=0.5), GOOD, SHAPE, 1.0), labels)

    batch = jax.jit(jax.vmap(one))(keys, labels)
    for i in range(3):
        assert np.allclose(batch[i], one(keys[i], labels[i]), atol=1e-5)
