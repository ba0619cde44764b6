"""The sheet of augmentations: every one is on it, says what was drawn, and shows that."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from infant_seg_jax.augmentation import AUGMENTATIONS, Drawn, draw
from infant_seg_jax.augmentation.degradation import ThickSlices
from infant_seg_jax.augmentation.spatial import AffineMotion
from infant_seg_jax.config import default_config
from infant_seg_jax.data.labels import IGNORE, TISSUE_CLASSES
from infant_seg_jax.report.drawing.augmentation_sheet import (
    TELLING_REACH,
    UNKNOWN_COLOR,
    describe,
    painter,
    sheet_rows,
)
from infant_seg_jax.report.drawing.slices import rgb

NAMES = tuple(one.name for one in AUGMENTATIONS)


def chosen(values: object) -> Drawn:
    return Drawn(jnp.asarray(True), values)


def test_each_row_has_one_augmentation_and_the_last_has_all() -> None:
    config = default_config().augmentation
    config.gain = 0.1
    *alone, together = sheet_rows(config, channels=2)
    assert [row.name for row in alone] == [name.replace("_", " ") for name in NAMES]
    for row, name in zip(alone, NAMES, strict=True):
        assert set(draw(jax.random.key(0), row.config, 2, (8, 8, 8))) == {name}
    strengths = {row.name: row.config for row in alone}
    assert strengths["gain"].gain == 0.1 and strengths["offset"].offset == TELLING_REACH
    assert strengths["flip"].flip == 1.0
    assert together.name == "as configured" and together.config == config
    assert config.flip == 0 and config.offset == 0  # Itself it stays as it was.


def test_a_config_without_augmentation_shows_all_there_are() -> None:
    *_, together = sheet_rows(default_config().augmentation, channels=1)
    assert together.name == "all together"
    names = set(NAMES) - {"drop_modality"}  # The only one cannot be missing.
    assert set(draw(jax.random.key(0), together.config, 1, (8, 8, 8))) == names


def test_description_says_what_was_drawn_and_chosen() -> None:
    drawn = {
        "affine": chosen(
            AffineMotion(
                rotation=jnp.array([5.0, -10.2, -0.1]),
                scale=jnp.array([0.9, 1.0, 1.1]),
                shear=jnp.zeros(3),
                translation=jnp.array([1.0, 2.0, -3.0]),
            )
        ),
        "thick_slices": chosen(
            ThickSlices(jnp.array([2, 0]), jnp.array([3.0, 2.5]), jnp.array([0.1, 0.2]))
        ),
        "gamma": Drawn(jnp.asarray(False), jnp.array([0.5])),
        "drop_modality": chosen(jnp.asarray(1)),
    }
    title = describe(drawn, (8, 8, 8)).replace("\n", " ")
    assert "turned 5, -10, 0 degrees" in title and "moved 1.0, 2.0, -3.0" in title
    assert "3.0, 2.5 voxels thick along z, x" in title
    assert "without modality 2" in title and "gamma" not in title


def test_every_augmentation_can_be_described() -> None:
    *_, together = sheet_rows(default_config().augmentation, channels=2)
    drawn = draw(jax.random.key(0), together.config, 2, (8, 8, 8))
    words = [describe({name: drawn[name]}, (8, 8, 8)) for name in NAMES]
    assert all(words) and len(set(words)) == len(NAMES)


def test_picture_shows_brain_unknown_and_tissue_apart() -> None:
    image = np.zeros((20, 20, 20, 2), np.float32)
    image[5:15, 5:15, 5:15] = np.random.default_rng(0).normal(size=(10, 10, 10, 2))
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[5:15, 5:15, 5:15], labels[:3] = 2, IGNORE
    axes = Figure().subplots()
    painter(image, (1.0, 2.0, 1.0), TISSUE_CLASSES)(axes, image, labels)
    (shown,) = axes.images
    pixels = np.asarray(shown.get_array())
    height, width = pixels.shape[:2]
    assert width == pytest.approx(height, abs=2)  # Two modalities side by side, half as wide.
    assert (pixels[0, 0] == 0).all()  # Around the brain it is black.
    # The left of the subject, x below 3, is on the right of each picture.
    for modality in np.split(pixels, 2, axis=1):
        unknown = (modality == rgb(UNKNOWN_COLOR)).all(axis=-1)
        edge = round(17 / 20 * unknown.shape[1])
        assert unknown[:, edge + 1 :].all() and not unknown[:, : edge - 1].any()
        outline = (modality == rgb(TISSUE_CLASSES.colors["GM"])).all(axis=-1)
        assert 0.01 < outline.mean() < 0.1  # One tissue has an outline.
