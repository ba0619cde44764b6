"""Heads grown around a ball: layers in their order, and nothing of the brain changed."""

import numpy as np

from infant_seg_jax.rendering.anatomy import is_brain
from infant_seg_jax.rendering.heads import (
    BONE_MM,
    MENINGES_MM,
    SCALP_MM,
    VARIATION,
    grow_head,
    smooth_noise,
)
from infant_seg_jax.rendering.structures import BRAIN, Structure

SHAPE = (90, 96, 88)
CENTER = np.array([45, 48, 50])


def ball() -> tuple[np.ndarray, np.ndarray]:
    """A ball of white matter in cortex and fluid, and each voxel's distance to its center."""
    grid = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    r = np.sqrt(sum((axis - middle) ** 2 for axis, middle in zip(grid, CENTER, strict=True)))
    found = np.zeros(SHAPE, np.uint8)
    for radius, structure in (
        (20, Structure.SULCAL_CSF),
        (18, Structure.CORTEX),
        (15, Structure.WHITE),
    ):
        found[r <= radius] = structure
    return found, r


def grown(seed: int = 0) -> np.ndarray:
    return grow_head(ball()[0], 1.0, np.random.default_rng(seed))


def test_the_brain_stays_and_all_else_is_of_the_head() -> None:
    structures, _ = ball()
    head = grown()
    brain = is_brain(structures)
    assert np.array_equal(head[brain], structures[brain])
    assert ((head[~brain] >= BRAIN) | (head[~brain] == Structure.OUTSIDE)).all()


def test_upwards_there_are_meninges_bone_scalp_and_air() -> None:
    for seed in range(3):
        line = grown(seed)[CENTER[0], CENTER[1], CENTER[2] + 20 :]
        runs = [structure for i, structure in enumerate(line) if not i or structure != line[i - 1]]
        assert runs[0] == Structure.SULCAL_CSF
        assert Structure.BONE in runs
        assert runs[-2:] == [Structure.FAT, Structure.OUTSIDE]


def test_the_top_of_the_head_is_as_thick_as_its_layers() -> None:
    _, r = ball()
    head = grown()
    above = np.arange(SHAPE[2]) > CENTER[2] + 10
    thickness = r[(head >= BRAIN) & above].max() - 20
    low, high = (MENINGES_MM[i] + BONE_MM[i] + SCALP_MM[i] for i in (0, 1))
    varies = np.exp(2 * VARIATION)
    assert low / varies - 1 <= thickness <= high * varies + 1


def test_a_face_lies_in_front_and_below_and_nothing_as_far_above() -> None:
    _, r = ball()
    head = grown()
    layers = MENINGES_MM[1] + BONE_MM[1] + SCALP_MM[1]
    far = (head >= BRAIN) & (r > 21 + layers * np.exp(2 * VARIATION))
    z = np.nonzero(far)[2]
    assert len(z)
    assert z.max() < CENTER[2] + 10


def test_a_seed_grows_the_same_head_and_another_seed_another() -> None:
    assert np.array_equal(grown(4), grown(4))
    assert not np.array_equal(grown(4), grown(5))


def test_noise_is_smooth_and_of_unit_deviation() -> None:
    noise = smooth_noise((40, 50, 60), 10.0, np.random.default_rng(0))
    assert noise.shape == (40, 50, 60)
    assert abs(noise.std() - 1) < 1e-3
    # From one voxel to the next it changes by about a tenth of what it does over a wave.
    assert np.abs(np.diff(noise, axis=1)).mean() < 0.3
