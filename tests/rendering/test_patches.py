"""Which examples of a batch are rendered, from where, by the seed, the step and position alone."""

import numpy as np
import pytest

from infant_seg_jax.config import Config, default_config
from infant_seg_jax.data.patches import patch_batch
from infant_seg_jax.data.phantom import write_cohort
from infant_seg_jax.data.prepared import PreparedCase
from infant_seg_jax.data.preparing import prepare
from infant_seg_jax.data.sources.phantom import PHANTOM
from infant_seg_jax.rendering.anatomies import AnatomySet, PreparedAnatomy
from infant_seg_jax.rendering.patches import MARGIN, cut, drawn_names, make_batch
from infant_seg_jax.rendering.structures import BRAIN, Structure, classes_of_structures

SHAPE = (24, 20, 28)
SIZE = 16


@pytest.fixture(scope="module")
def anatomies(tmp_path_factory: pytest.TempPathFactory) -> AnatomySet:
    """Two anatomies of random voxels, within some air."""
    folder, found = tmp_path_factory.mktemp("anatomies"), []
    for seed, name in enumerate(("one", "two")):
        random = np.random.default_rng(seed)
        structures = np.pad(random.integers(1, len(Structure), SHAPE).astype(np.uint8), 2)
        (folder / name).mkdir()
        np.save(folder / name / "structures.npy", structures)
        np.save(folder / name / "distances.npy", random.permutation(structures))
        x, y, z = structures.shape
        found.append(PreparedAnatomy(name, folder / name, (x, y, z)))
    return AnatomySet(folder, 1.0, tuple(found))


def config(fraction: float, balanced: float = 0.0) -> Config:
    found = default_config()
    found.patch.shape = (8, 8, 8)
    found.patch.batch_size = SIZE
    found.patch.balanced = balanced
    found.rendering.fraction = fraction
    return found


@pytest.mark.parametrize("center", [(0, 0, 0), (12, 10, 14), (23, 19, 27), (1, 19, 13)])
@pytest.mark.parametrize("size", [(7, 8, 9), (40, 3, 60)])
def test_a_cut_is_a_part_of_the_padded_volume(
    center: tuple[int, ...], size: tuple[int, ...]
) -> None:
    volume = np.random.default_rng(0).integers(0, 9, SHAPE).astype(np.uint8)
    padded = np.pad(volume, 80, constant_values=99)
    starts = [80 + c - n // 2 for c, n in zip(center, size, strict=True)]
    expected = padded[tuple(slice(a, a + n) for a, n in zip(starts, size, strict=True))]
    assert np.array_equal(cut(volume, np.array(center), np.array(size), 99), expected)


def test_a_census_counts_structures_at_their_distances(anatomies: AnatomySet) -> None:
    anatomy = anatomies.training[0]
    pairs = zip(anatomy.structures().ravel(), anatomy.distances().ravel(), strict=True)
    expected = np.zeros((len(Structure), 256), np.int64)
    for structure, distance in pairs:
        expected[structure, distance] += 1
    assert np.array_equal(anatomy.census, expected)


def test_an_example_depends_on_its_position_alone(anatomies: AnatomySet) -> None:
    whole = make_batch((), 1, anatomies, config(1.0, 0.5), 7, range(SIZE)).anatomy
    part = make_batch((), 1, anatomies, config(1.0, 0.5), 7, range(4, 6)).anatomy
    assert whole.structures.shape == (SIZE, *(8 + 2 * MARGIN,) * 3)
    for name in ("structures", "distances", "census", "chosen"):
        assert np.array_equal(getattr(whole, name)[4:6], getattr(part, name))
    other = make_batch((), 1, anatomies, config(1.0, 0.5), 8, range(SIZE)).anatomy
    assert not np.array_equal(whole.structures, other.structures)


def test_structures_and_distances_are_of_the_same_place(anatomies: AnatomySet) -> None:
    batch = make_batch((), 1, anatomies, config(1.0), 0, range(SIZE)).anatomy
    padded = {
        anatomy.name: [
            np.pad(array, 40, constant_values=value)
            for array, value in ((anatomy.structures(), 0), (anatomy.distances(), 255))
        ]
        for anatomy in anatomies.training
    }
    names = drawn_names(anatomies, config(1.0), 0)
    assert set(names) == {"one", "two"}
    for i, name in enumerate(names):
        assert name is not None
        structures, distances = padded[name]
        windows = np.lib.stride_tricks.sliding_window_view(structures, batch.structures[i].shape)
        middle = MARGIN + 4
        at = np.argwhere(windows[..., middle, middle, middle] == batch.structures[i][(middle,) * 3])
        found = [tuple(a) for a in at if np.array_equal(windows[tuple(a)], batch.structures[i])]
        assert len(found) == 1
        box = tuple(slice(a, a + n) for a, n in zip(found[0], windows.shape[3:], strict=True))
        assert np.array_equal(distances[box], batch.distances[i])


def centers(anatomies: AnatomySet, balanced: float) -> np.ndarray:
    found = [
        make_batch((), 1, anatomies, config(1.0, balanced), step, range(SIZE)).anatomy.structures
        for step in range(12)
    ]
    middle = MARGIN + 4
    return np.concatenate(found)[:, middle, middle, middle]


def test_centers_are_brain_or_balanced_over_classes(anatomies: AnatomySet) -> None:
    brain = centers(anatomies, 0.0)
    assert ((brain > 0) & (brain < BRAIN)).all()
    balanced = centers(anatomies, 1.0)
    assert (balanced > 0).all()
    shares = np.bincount(classes_of_structures()[balanced], minlength=4)[:4] / len(balanced)
    assert np.abs(shares - 0.25).max() < 4 * np.sqrt(0.25 * 0.75 / len(balanced))


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> tuple[PreparedCase, ...]:
    folder = tmp_path_factory.mktemp("phantoms")
    write_cohort(folder / "scans", range(3), shape=(32, 32, 32))
    return prepare(PHANTOM.open(folder / "scans"), folder / "prepared").split("train")


def test_real_patches_stay_as_they_are_without_rendered_ones(
    anatomies: AnatomySet, cases: tuple[PreparedCase, ...]
) -> None:
    plain = patch_batch(cases, (8, 8, 8), SIZE, 0, 3)
    mixed = make_batch(cases, 1, anatomies, config(0.5), 3, range(SIZE))
    assert np.array_equal(plain.image, mixed.image)
    assert np.array_equal(plain.labels, mixed.labels)
    assert plain.anatomy is None


def test_the_fraction_is_rendered(anatomies: AnatomySet, cases: tuple[PreparedCase, ...]) -> None:
    chosen = np.concatenate(
        [
            make_batch(cases, 1, anatomies, config(0.25), step, range(SIZE)).anatomy.chosen
            for step in range(20)
        ]
    )
    assert abs(chosen.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / len(chosen))
    assert make_batch((), 1, anatomies, config(1.0), 0, range(SIZE)).anatomy.chosen.all()
    assert len(drawn_names(anatomies, config(1.0), 0)) == SIZE
