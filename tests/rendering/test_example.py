"""Rendered examples are normalized, stripped and labeled as their anatomy says."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infant_seg_jax.augmentation.spatial import AffineMotion
from infant_seg_jax.augmentation.splines import SmoothField
from infant_seg_jax.config import Config, default_config
from infant_seg_jax.data.class_sets import BRAIN_CLASSES
from infant_seg_jax.data.labels import BACKGROUND, IGNORE
from infant_seg_jax.data.preprocessing import normalize
from infant_seg_jax.rendering import example, image
from infant_seg_jax.rendering.anatomies import STEPS_PER_MM
from infant_seg_jax.rendering.anatomy import is_brain
from infant_seg_jax.rendering.patches import MARGIN, AnatomyPatches
from infant_seg_jax.rendering.structures import BRAIN, Structure, classes_of_structures

SHAPE = (16, 16, 16)
LARGE = tuple(n + 2 * MARGIN for n in SHAPE)


def config(**values: Any) -> Config:
    found = default_config().rendering
    for key, value in {"noise": 0.0, "bias": 0.0, "partial_volume": 0.0, **values}.items():
        found[key] = value
    return found


def head() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blocks of tissue in a ball with fluid, bone, fat and air around it; distances; census."""
    grid = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in LARGE), indexing="ij")
    r = np.sqrt(sum(np.square(axis) for axis in grid))
    random = np.random.default_rng(0)
    blocks = random.integers(2, BRAIN, tuple(n // 4 for n in LARGE)).astype(np.uint8)
    structures = np.kron(blocks, np.ones((4, 4, 4), np.uint8))
    for radius, structure in (
        *((5, Structure.SULCAL_CSF), (6, Structure.BONE), (7, Structure.FAT)),
        (8, Structure.OUTSIDE),
    ):
        structures[r > radius] = structure
    distances = np.where(r > 5, np.minimum(STEPS_PER_MM * (r - 5), 255), 0).astype(np.uint8)
    census = np.zeros((len(Structure), 256), np.int32)
    np.add.at(census, (structures.ravel(), distances.ravel()), 1)
    return structures, distances, census


def still(drawn: example.DrawnExample) -> example.DrawnExample:
    """The same example, neither moved nor deformed nor with wandering borders."""
    zero, one = jnp.zeros(3), jnp.ones(3)

    def flat(field: SmoothField) -> SmoothField:
        return SmoothField(jnp.zeros_like(field.coefficients), field.spacing)

    return replace(
        drawn,
        motion=AffineMotion(zero, one, zero, zero),
        displacement=flat(drawn.displacement),
        variant=replace(drawn.variant, wander=flat(drawn.variant.wander)),
    )


def draw(seed: int = 0, /, **values: Any) -> example.DrawnExample:
    return still(example.draw(jax.random.key(seed), config(**values), SHAPE, 1.0))


def render(drawn: example.DrawnExample) -> tuple[np.ndarray, np.ndarray]:
    found, labels = _apply(drawn, *map(jnp.asarray, head()))
    return np.asarray(found), np.asarray(labels)


_apply = jax.jit(example.apply, static_argnums=4)


def middle(volume: np.ndarray) -> np.ndarray:
    return volume[MARGIN:-MARGIN, MARGIN:-MARGIN, MARGIN:-MARGIN]


@pytest.mark.parametrize("stripped", [0.0, 1.0])
def test_a_whole_anatomy_is_normalized_as_a_prepared_scan(stripped: float) -> None:
    values = {"tight": 0.0, "loose": 0.0, "thin_cortex": 0.0, "more_fluid": 0.0, "texture": 0.0}
    drawn = draw(stripped=stripped, maturation=0.0, **values)
    found, labels = render(drawn)
    structures = middle(head()[0])
    shown = (structures != Structure.OUTSIDE) & ((structures < BRAIN) | (stripped == 0))
    scan = np.asarray(drawn.image.contrast.means, np.float32)[structures]
    np.testing.assert_allclose(found, normalize(scan, shown), atol=1e-4)
    assert np.array_equal(labels, np.where(shown, classes_of_structures()[structures], BACKGROUND))


def test_of_a_brain_it_is_all_one_class_and_of_a_head_around_it_none() -> None:
    drawn = draw(stripped=0.0, thin_cortex=0.0, more_fluid=0.0)
    scan, labels = _apply(drawn, *map(jnp.asarray, head()), BRAIN_CLASSES)
    np.testing.assert_array_equal(np.asarray(scan), render(drawn)[0])
    np.testing.assert_array_equal(np.asarray(labels), is_brain(middle(head()[0])))


def test_texture_bias_and_noise_hardly_change_the_normalization() -> None:
    """Mixing does, here, where the blocks of a tissue are hardly larger than what is mixed."""
    usual = default_config().rendering
    for seed in range(4):
        found, _ = render(draw(seed, noise=usual.noise, bias=usual.bias))
        values = found[found != 0]
        assert abs(values.mean()) < 0.5
        assert 0.5 < values.std() < 1.5


VARIANTS = [
    {"stripped": 0.0},
    {"stripped": 1.0, "tight": 1.0},
    {"stripped": 1.0, "tight": 0.0, "loose": 1.0},
    {"stripped": 1.0, "tight": 0.0, "loose": 0.0, "more_fluid": 1.0, "thin_cortex": 1.0},
]


@pytest.mark.parametrize("values", VARIANTS)
def test_what_a_census_says_is_shown_is_what_voxels_show(values: dict[str, float]) -> None:
    variant = draw(**values).variant
    structures, distances, census = head()
    varied, shown = example.vary(
        variant, jnp.asarray(structures), jnp.asarray(distances, jnp.float32) / STEPS_PER_MM
    )
    expected = np.bincount(np.asarray(varied)[np.asarray(shown)], minlength=len(Structure))
    found = np.asarray(example.shown_counts(variant, jnp.asarray(census)))
    assert np.array_equal(found, expected)


def variant(**values: float) -> example.Variant:
    far = {"cortex": 1e3, "fluid": -1e3, "inner": 1e3, "outer": -1e3}
    return replace(
        draw().variant, **{key: jnp.float32(value) for key, value in {**far, **values}.items()}
    )


S = Structure
ROW = [S.WHITE, S.CORTEX, S.CORTEX, S.SULCAL_CSF, S.SULCAL_CSF, S.BONE, S.FAT, S.OUTSIDE]
MM = [0.0, 1.0, 3.0, 1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize(
    ("values", "structures", "shown"),
    [
        ({}, ROW, "11111000"),
        ({"outer": 1e3}, ROW, "11111110"),
        ({"inner": 1.5}, ROW, "11110000"),
        ({"outer": 3.5}, ROW, "11111100"),
        ({"cortex": 2.0}, [*ROW[:2], S.SULCAL_CSF, *ROW[3:]], "11111000"),
        ({"cortex": 2.0, "inner": 1.5}, [*ROW[:2], S.SULCAL_CSF, *ROW[3:]], "11110000"),
        ({"fluid": 3.5}, [*ROW[:5], S.SULCAL_CSF, *ROW[6:]], "11111100"),
        ({"fluid": 9.0, "outer": 1e3}, [*ROW[:5], *[S.SULCAL_CSF] * 2, S.OUTSIDE], "11111110"),
    ],
)
def test_a_row_from_white_matter_to_air(
    values: dict[str, float], structures: list[Structure], shown: str
) -> None:
    found, kept = example.vary(variant(**values), jnp.array(ROW, jnp.uint8), jnp.array(MM))
    assert found.tolist() == structures
    assert "".join(str(int(one)) for one in kept) == shown


def test_around_what_is_shown_the_image_is_zero_and_the_labels_background() -> None:
    found, labels = render(still(example.draw(jax.random.key(3), config(stripped=1.0), SHAPE, 1.0)))
    outside = found[..., 0] == 0
    assert outside.any() and not outside.all()
    assert (labels[outside] == BACKGROUND).all()


def test_what_comes_from_beyond_the_patch_is_ignored() -> None:
    drawn = draw()
    away = replace(drawn, motion=replace(drawn.motion, translation=jnp.array([20.0, 0.0, 0.0])))
    _, labels = render(away)
    # By 20 voxels, of which the margin has 12.
    assert (labels[:8] == IGNORE).all()
    assert (labels[8:] == BACKGROUND).all()  # the margin is air here


def test_labels_move_with_the_image() -> None:
    drawn = draw(stripped=0.0)
    moved = replace(drawn, motion=replace(drawn.motion, translation=jnp.array([0.0, 3.0, -2.0])))
    (first, labels), (second, other) = render(drawn), render(moved)
    assert np.array_equal(labels[:, :-3, 2:], other[:, 3:, :-2])
    assert np.array_equal(first[:, :-3, 2:] != 0, second[:, 3:, :-2] != 0)


def test_a_batch_equals_its_examples_one_by_one() -> None:
    keys = jax.random.split(jax.random.key(2), 3)
    structures, distances, census = (np.stack([part] * 3) for part in head())
    patches = AnatomyPatches(structures, distances, census, np.ones(3, bool), 1.0)
    settings = default_config().rendering
    found, labels = jax.jit(lambda keys: example.render_batch(keys, patches, settings, 2))(keys)
    draw_one = jax.jit(lambda key: example.draw(key, settings, SHAPE, 1.0, 2))
    assert found.shape == (3, *SHAPE, 2)
    for i in range(3):
        one, its = _apply(draw_one(keys[i]), *map(jnp.asarray, head()))
        np.testing.assert_allclose(found[i], one, atol=1e-3)
        assert np.array_equal(labels[i], its)
    assert (found[0] != found[1]).any()


def test_the_config_is_the_prior_and_the_quality() -> None:
    section = config(ages=(0.0, 3.0, 5.0, 7.0), modality="T2w", unordered=0.2, noise=0.5)
    prior = example.prior_of(section)
    assert (prior.modality, prior.youngest, prior.oldest) == ("T2w", 0.0, 3.0)
    assert prior.further == ((5.0, 7.0),)
    assert prior.unordered == 0.2
    assert example.quality_of(section).noise == 0.5
    assert example.quality_of(section).bias_mm == image.GOOD.bias_mm
