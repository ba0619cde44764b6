"""Augmentation: each example by its own key, brain only, image and labels together."""

from functools import partial
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infant_seg_jax.config import Config, default_config
from infant_seg_jax.data.augmentation import Augmentation, apply, draw

CHANNELS = 2


def settings(**changes) -> Config:
    config = default_config().augmentation
    config.update({"flip": 0.5, "gain": 0.1, "offset": 0.2, **changes})
    return config


def draws(config: Config, count: int, seed: int = 0) -> Augmentation:
    keys = jax.random.split(jax.random.key(seed), count)
    return jax.vmap(partial(draw, config=config, channels=CHANNELS))(keys)


def example(seed: int = 0) -> tuple[jax.Array, jax.Array]:
    """A brain with nothing around it, and labels that its intensities tell."""
    image = np.random.default_rng(seed).normal(size=(6, 4, 5, CHANNELS)).astype(np.float32)
    image[0], image[:, :, 3:] = 0, 0
    labels = np.where(image[..., 0] == 0, 0, 2 + (image[..., 0] > 0)).astype(np.uint8)
    return jnp.asarray(image), jnp.asarray(labels)


def mirror() -> Augmentation:
    return Augmentation(jnp.asarray(True), jnp.ones(CHANNELS), jnp.zeros(CHANNELS))


def test_batch_equals_its_examples_one_by_one():
    keys = jax.random.split(jax.random.key(7), 5)
    images, labels = map(jnp.stack, zip(*map(example, range(5)), strict=True))

    def augment(key, image, labels):
        return apply(draw(key, settings(), CHANNELS), image, labels)

    batch_images, batch_labels = jax.vmap(augment)(keys, images, labels)
    flipped = 0
    for i in range(5):
        image, label_map = augment(keys[i], images[i], labels[i])
        np.testing.assert_allclose(batch_images[i], image, rtol=1e-6)
        np.testing.assert_array_equal(batch_labels[i], label_map)
        flipped += not np.array_equal(label_map, labels[i])
    assert 0 < flipped < 5  # Both kinds of examples were compared.


def test_flip_mirrors_left_and_right_of_image_and_labels():
    image, labels = example()
    mirrored, mirrored_labels = apply(mirror(), image, labels)
    np.testing.assert_array_equal(mirrored, np.flip(image, 0))
    np.testing.assert_array_equal(mirrored_labels, np.flip(labels, 0))
    assert mirrored_labels.dtype == np.uint8
    assert not np.array_equal(mirrored_labels, labels)


def test_flip_twice_is_the_identity():
    once = apply(mirror(), *example())
    for result, original in zip(apply(mirror(), *once), example(), strict=True):
        np.testing.assert_array_equal(result, original)


def test_intensities_are_scaled_and_shifted_in_the_brain_alone():
    image, labels = example()
    gain, offset = jnp.array([1.5, 0.5]), jnp.array([0.25, -2.0])
    changed, same = apply(Augmentation(jnp.asarray(False), gain, offset), image, labels)
    brain = np.asarray(image) != 0
    np.testing.assert_allclose(changed, np.where(brain, image * gain + offset, 0), rtol=1e-6)
    assert not np.asarray(changed)[~brain].any() and (~brain).any()
    np.testing.assert_array_equal(same, labels)


def test_zero_outside_the_brain_stays_zero_whatever_is_drawn():
    image, labels = example()
    drawn = draws(settings(offset=3.0), 20)
    images, label_maps = jax.vmap(apply, in_axes=(0, None, None))(drawn, image, labels)
    np.testing.assert_array_equal(np.asarray(images)[..., 0] == 0, np.asarray(label_maps) == 0)


def test_gains_and_offsets_fill_their_ranges():
    drawn = draws(settings(), 500)
    for values, middle, reach in ((drawn.gain, 1.0, 0.1), (drawn.offset, 0.0, 0.2)):
        assert values.shape == (500, CHANNELS)
        distances = np.asarray((values - middle) / reach)
        assert np.abs(distances).max() <= 1 + 1e-5
        assert distances.min() < -0.98 and distances.max() > 0.98
        # Uniform, so a third of the squared reach; and each channel by itself.
        assert np.mean(distances**2) == pytest.approx(1 / 3, abs=0.05)
        assert abs(np.corrcoef(distances.T)[0, 1]) < 0.2
    assert (
        abs(np.corrcoef(np.asarray(drawn.gain[:, 0]), np.asarray(drawn.offset[:, 0]))[0, 1]) < 0.2
    )


@pytest.mark.parametrize(("flip", "low", "high"), [(0.0, 0, 0), (0.2, 70, 130), (1.0, 500, 500)])
def test_chance_of_a_flip(flip, low, high):
    assert low <= int(draws(settings(flip=flip), 500).flip.sum()) <= high


def test_nothing_is_changed_by_default():
    drawn = draws(default_config().augmentation, 10)
    images, labels = jax.vmap(apply, in_axes=(0, None, None))(drawn, *example())
    for result, original in zip((images, labels), example(), strict=True):
        np.testing.assert_array_equal(result, np.broadcast_to(original, result.shape))


def test_draws_depend_on_the_key_alone():
    config = settings()
    keys = jax.random.split(jax.random.key(3), 4)
    together = jax.vmap(partial(draw, config=config, channels=CHANNELS))(keys[::-1])
    for i, key in enumerate(keys):
        alone = draw(key, config, CHANNELS)
        for one, other in zip(
            jax.tree.leaves(alone),
            jax.tree.leaves(jax.tree.map(itemgetter(-1 - i), together)),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)
    assert len(np.unique(together.gain)) == 4 * CHANNELS
