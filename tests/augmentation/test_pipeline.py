"""All augmentations together: by key alone, batch, jit and devices alike, brain only."""

from collections.abc import Callable
from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infant_seg_jax.augmentation import (
    AUGMENTATIONS,
    Drawn,
    Draws,
    apply,
    degradation,
    draw,
    intensity,
    spatial,
)
from infant_seg_jax.config import Config, default_config, sections
from infant_seg_jax.data.labels import IGNORE

NAMES = tuple(one.name for one in AUGMENTATIONS)
RANGES = tuple(one.name for one in AUGMENTATIONS if one.in_every_patch)
CHANNELS = 2
SHAPE = (12, 10, 8)
COUNT = 8
MOTIONS = ("affine", "elastic")


def settings(chance: float, *names: str) -> Config:
    """The augmentations named, or else all, have this chance, or reach a tenth of it."""
    config = default_config().augmentation
    config.update({name: 0.1 * chance if name in RANGES else chance for name in names or NAMES})
    config.translation = 2.0
    return config


def example(seed: int = 0) -> tuple[jax.Array, jax.Array]:
    """A brain with nothing around it, and labels that say where it is."""
    image = np.random.default_rng(seed).normal(size=(*SHAPE, CHANNELS)).astype(np.float32)
    image[:3], image[:, :, 6:] = 0, 0
    labels = np.where(image[..., 0] == 0, 0, 2 + (image[..., 0] > 0)).astype(np.uint8)
    return jnp.asarray(image), jnp.asarray(labels)


def examples() -> tuple[jax.Array, jax.Array, jax.Array]:
    """Keys, images and labels of a batch."""
    images, labels = map(jnp.stack, zip(*map(example, range(COUNT)), strict=True))
    return jax.random.split(jax.random.key(7), COUNT), images, labels


def augment(config: Config) -> Callable[..., tuple[jax.Array, jax.Array]]:
    def one(key: jax.Array, image: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        return apply(draw(key, config, CHANNELS, SHAPE), image, labels)

    return one


# Compiled once for all tests; every augmentation is on, with half a chance.
draw_one = jax.jit(lambda key: draw(key, settings(0.5), CHANNELS, SHAPE))
draw_batch = jax.jit(jax.vmap(lambda key: draw(key, settings(0.5), CHANNELS, SHAPE)))
apply_one, apply_batch = jax.jit(apply), jax.jit(jax.vmap(apply))


def assert_same(found: tuple, expected: tuple) -> None:
    """Compilers round differently, which may move a voxel across a tie between two labels."""
    same = np.asarray(found[1]) == np.asarray(expected[1])
    assert same.mean() > 0.999
    np.testing.assert_allclose(
        np.asarray(found[0])[same], np.asarray(expected[0])[same], rtol=1e-3, atol=1e-3
    )


def is_key(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def leaves(drawn: Draws | Drawn) -> list[np.ndarray]:
    """What was drawn, as numbers; keys as the numbers that they hold."""
    return [
        np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
        for leaf in jax.tree.leaves(drawn)
    ]


def test_batch_equals_its_examples_one_by_one() -> None:
    keys, images, labels = examples()
    drawn = draw_batch(keys)
    together = apply_batch(drawn, images, labels)
    for i in range(COUNT):
        alone = apply_one(draw_one(keys[i]), images[i], labels[i])
        assert_same((together[0][i], together[1][i]), alone)
    assert all(0 < np.sum(drawn[name].chosen) < COUNT for name in ("flip", *MOTIONS))


@pytest.mark.parametrize("name", NAMES)
def test_jit_equals_eager(name: str) -> None:
    config = settings(1.0, name)
    key, (image, labels) = jax.random.key(0), example()
    eager = augment(config)(key, image, labels)
    assert_same(jax.jit(augment(config))(key, image, labels), eager)
    assert not np.array_equal(eager[0], image)  # It did something.
    assert eager[0].dtype == np.float32 and eager[1].dtype == np.uint8


@pytest.mark.slow
def test_four_devices_equal_one() -> None:
    assert jax.local_device_count() == 4
    keys, images, labels = examples()
    one = apply_batch(draw_batch(keys), images, labels)
    shards = (part.reshape(4, 2, *part.shape[1:]) for part in (keys, images, labels))
    four = jax.pmap(jax.vmap(augment(settings(0.5))))(*shards)
    assert_same(tuple(part.reshape(COUNT, *part.shape[2:]) for part in four), one)


def test_nothing_is_even_traced_by_default() -> None:
    config = default_config().augmentation
    keys, images, labels = examples()
    assert draw(keys[0], config, CHANNELS, SHAPE) == {}
    assert not jax.make_jaxpr(jax.vmap(augment(config)))(keys, images, labels).eqns
    unchanged = jax.vmap(augment(config))(keys, images, labels)
    for result, original in zip(unchanged, (images, labels), strict=True):
        np.testing.assert_array_equal(result, original)


def test_what_is_on_is_drawn_as_if_it_were_alone() -> None:
    key = jax.random.key(3)
    among = draw_one(key)
    assert set(among) == set(NAMES)
    for name in NAMES:
        alone = draw(key, settings(0.5, name), CHANNELS, SHAPE)
        assert set(alone) == {name}
        for one, other in zip(leaves(alone[name]), leaves(among[name]), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_draws_depend_on_the_key_alone() -> None:
    keys, _, _ = examples()
    forth, back = draw_batch(keys), draw_batch(keys[::-1])
    for one, other, alone in zip(
        leaves(forth), leaves(back), leaves(draw_one(keys[2])), strict=True
    ):
        np.testing.assert_array_equal(one, other[::-1])
        np.testing.assert_allclose(one[2], alone, rtol=1e-5, atol=1e-6)
    assert len(np.unique(forth["gain"].values)) == COUNT * CHANNELS


def test_what_is_not_chosen_changes_no_bit() -> None:
    keys, images, labels = examples()
    drawn = {
        name: replace(values, chosen=jnp.zeros(COUNT, bool))
        for name, values in draw_batch(keys).items()
    }
    found, found_labels = apply_batch(drawn, images, labels)
    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(found_labels, labels)


@pytest.mark.parametrize(
    ("chance", "low", "high"), [(0.2, 70, 130), (0.5, 210, 290), (1.0, 500, 500)]
)
def test_chances(chance: float, low: int, high: int) -> None:
    names = ("flip", "inversion", "drop_modality")
    config = settings(chance, *names)
    keys = jax.random.split(jax.random.key(0), 500)
    drawn = jax.jit(jax.vmap(lambda key: draw(key, config, CHANNELS, SHAPE)))(keys)
    chosen = np.stack([np.asarray(drawn[name].chosen) for name in names])
    assert ((low <= chosen.sum(1)) & (chosen.sum(1) <= high)).all()
    if chance < 1:  # Each by itself.
        assert np.abs(np.corrcoef(chosen) - np.eye(len(names))).max() < 0.2


def test_a_reach_befalls_every_patch() -> None:
    keys, _, _ = examples()
    drawn = draw_batch(keys)
    assert all(np.asarray(drawn[name].chosen).all() for name in RANGES)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"flip", *MOTIONS}))
def test_outside_the_brain_stays_zero_and_labels_stay(name: str) -> None:
    config = settings(1.0, name)
    config.update({"noise_deviation": 3.0, "blur_deviation": 3.0})
    keys, images, labels = examples()
    found, found_labels = jax.jit(jax.vmap(augment(config)))(keys, images, labels)
    outside = np.asarray(labels) == 0
    assert outside.any() and not np.asarray(found)[outside].any()
    if name != "drop_modality":
        assert np.asarray(found)[~outside].all()
    np.testing.assert_array_equal(found_labels, labels)


def test_the_brain_is_where_its_labels_are_whatever_is_drawn() -> None:
    keys, images, labels = examples()
    drawn = draw_batch(keys)
    drawn["drop_modality"] = replace(drawn["drop_modality"], chosen=jnp.zeros(COUNT, bool))
    found, found_labels = apply_batch(drawn, images, labels)
    brain = np.isin(found_labels, [2, 3])
    np.testing.assert_array_equal(
        np.asarray(found) != 0, np.broadcast_to(brain[..., None], found.shape)
    )
    assert np.isfinite(found).all()
    assert set(np.unique(found_labels)) == {0, 2, 3, IGNORE}


def test_flip_comes_before_the_motion() -> None:
    """Both together are the motion of the mirrored patch."""
    keys, images, labels = examples()
    drawn = draw_batch(keys)
    yes, no = jnp.ones(COUNT, bool), jnp.zeros(COUNT, bool)
    drawn = {name: replace(drawn[name], chosen=yes if name in MOTIONS else no) for name in NAMES}
    moved = apply_batch(drawn, images[:, ::-1], labels[:, ::-1])
    assert_same(apply_batch({**drawn, "flip": Drawn(yes, ())}, images, labels), moved)


def test_what_moves_is_then_deformed() -> None:
    """With displacements the same everywhere, and a turn by 90 degrees, the order shows."""
    config = settings(1.0, *MOTIONS)
    drawn = draw(jax.random.key(0), config, 1, (9, 9, 9))
    affine, elastic = (drawn[name].values for name in MOTIONS)
    still = {"scale": jnp.ones(3), "shear": jnp.zeros(3), "translation": jnp.zeros(3)}
    turn = replace(affine, rotation=jnp.array([0.0, 0.0, 90.0]), **still)
    away = jnp.broadcast_to(jnp.array([2.0, 0.0, 0.0]), elastic.coefficients.shape)
    drawn["affine"] = replace(drawn["affine"], values=turn)
    drawn["elastic"] = replace(drawn["elastic"], values=replace(elastic, coefficients=away))
    labels = jnp.zeros((9, 9, 9), jnp.uint8).at[6, 4, 4].set(3)
    _, found = apply_one(drawn, jnp.ones((9, 9, 9, 1)), labels)
    # Turned, it lies at (4, 6, 4); each voxel then looks two voxels to its right.
    assert np.argwhere(np.asarray(found) == 3).tolist() == [[2, 6, 4]]


def test_drop_keeps_at_least_one_modality() -> None:
    config = settings(1.0, "drop_modality")
    keys, images, labels = examples()
    found, _ = jax.jit(jax.vmap(augment(config)))(keys, images, labels)
    present = np.asarray(found).any((1, 2, 3))
    assert (present.sum(1) == CHANNELS - 1).all() and present.any(0).all()
    assert draw(keys[0], config, 1, SHAPE) == {}  # The only one cannot be missing.


def test_each_augmentation_is_declared_and_switched_by_a_key_of_its_own() -> None:
    declared = {entry.name for entry in fields(sections.Augmentation)}
    modules = (spatial, intensity, degradation)
    implemented = [one.name for module in modules for one in module.AUGMENTATIONS]
    assert sorted(implemented) == sorted(NAMES) and set(NAMES) <= declared
    assert all(default_config().augmentation[name] == 0 for name in NAMES)
