"""What a step trains on: patches cut from scans or anatomies, and the examples drawn from them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Key, UInt8

from infant_seg_jax import augmentation
from infant_seg_jax.config import Config
from infant_seg_jax.data.patches import PatchBatch, patch_cases
from infant_seg_jax.data.prepared import PreparedCase, PreparedSet
from infant_seg_jax.errors import InputError
from infant_seg_jax.rendering.anatomies import AnatomySet
from infant_seg_jax.rendering.example import render_batch
from infant_seg_jax.rendering.patches import drawn_names

_RENDERING = 1
"""Folded into an example's key: apart from its augmentation and dropout, which are split off it."""


def training_cases(prepared: PreparedSet, config: Config) -> Sequence[PreparedCase]:
    """The cases that a config trains on: none if every example is rendered.

    Raises:
        InputError: there are none, although some are wanted.
    """
    if config.rendering.fraction == 1:
        return ()
    cases = prepared.split("train", config.data.fold)
    if not cases:
        raise InputError(f"{config.data.path} has no training subjects in fold {config.data.fold}.")
    return cases[: config.data.train_subjects] if config.data.train_subjects else cases


def example_names(
    cases: Sequence[PreparedCase], anatomies: AnatomySet | None, config: Config, step: int
) -> list[str]:
    """The case or the anatomy that each example of a step is of, with nothing read."""
    size = config.patch.batch_size
    rendered = drawn_names(anatomies, config, step) if anatomies else (None,) * size
    if all(rendered):
        return [name for name in rendered if name]
    real = patch_cases(cases, size, config.seed, step)
    return [name or case.case_id for name, case in zip(rendered, real, strict=True)]


def draw_examples(
    batch: PatchBatch, step: Array | int, config: Config
) -> tuple[Float[Array, "n x y z c"], UInt8[Array, "n x y z"], Key[Array, " n"]]:
    """Render and augment a step's patches, on the device: images, labels and keys for dropout.

    What is drawn for an example depends on `(seed, step, position in the whole batch)` alone.
    """
    step_key = jax.random.fold_in(jax.random.key(config.seed), step)
    keys = jax.vmap(lambda position: jax.random.fold_in(step_key, position))(batch.position)
    augment_keys, dropout_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    *shape, channels = batch.image.shape[1:]
    draws = jax.vmap(
        lambda key: augmentation.draw(key, config.augmentation, channels, tuple(shape))
    )(augment_keys)
    image, labels = _with_rendered(batch, keys, config)
    image, labels = jax.vmap(augmentation.apply)(draws, image, labels)
    return image, labels, dropout_keys


def _with_rendered(
    batch: PatchBatch, keys: Key[Array, " n"], config: Config
) -> tuple[Array, Array]:
    """The batch's images and labels, with those in place that are to be rendered."""
    if batch.anatomy is None:
        return jnp.asarray(batch.image), jnp.asarray(batch.labels)
    keys = jax.vmap(lambda key: jax.random.fold_in(key, _RENDERING))(keys)
    channels = batch.image.shape[-1]
    image, labels = render_batch(keys, batch.anatomy, config.rendering, channels)
    chosen = batch.anatomy.chosen[:, None, None, None]
    return (
        jnp.where(chosen[..., None], image, batch.image),
        jnp.where(chosen, labels, batch.labels),
    )
