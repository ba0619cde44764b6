"""Random patches: where they lie, what they hold, what they depend on; and the prefetch thread."""

import gc
import itertools
import threading
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infant_seg_jax.data.schemas import TISSUE_SCHEMA
from infant_seg_jax.data.patches import check_patch_fits, patch_batch, patch_box, prefetch
from infant_seg_jax.data.preparing import prepare
from infant_seg_jax.data.preprocessing import Preparation
from infant_seg_jax.data.sources import Dataset, SourceCase
from infant_seg_jax.errors import InputError

PATCH = (8, 6, 4)
SIDE = st.tuples(*[st.integers(1, 20)] * 3)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Three prepared cases of several sizes, in whose brains no two voxels are alike."""
    folder = tmp_path_factory.mktemp("patches")
    found = []
    for seed, shape in enumerate([(20, 18, 14), (24, 15, 12), (18, 22, 16)]):
        rng = np.random.default_rng(seed)
        grid = np.indices(shape) - np.array(shape).reshape(3, 1, 1, 1) / 2
        brain = (np.abs(grid) < 6).all(axis=0) & (grid.sum(axis=0) < 8)
        images = []
        for modality in ("T1w", "T2w"):
            path = folder / f"case{seed}_{modality}.nii.gz"
            scan = np.where(brain, rng.uniform(1, 2, shape), 0).astype(np.float32)
            nib.save(nib.Nifti1Image(scan, np.eye(4)), path)
            images.append(path)
        labels = folder / f"case{seed}_dseg.nii.gz"
        classes = np.where(brain, rng.integers(1, 4, shape), 0).astype(np.uint8)
        nib.save(nib.Nifti1Image(classes, np.eye(4)), labels)
        found.append(SourceCase(f"case{seed}", f"case{seed}", tuple(images), labels))
    dataset = Dataset("toys", folder, ("T1w", "T2w"), TISSUE_SCHEMA, tuple(found))
    prepared = prepare(dataset, folder / "set", preparation=Preparation(margin_mm=3.0), workers=1)
    return prepared.cases


@pytest.fixture(scope="module")
def places(cases):
    """Where each intensity of a brain is, so that a patch says itself where it was cut."""
    found = {}
    for case in cases:
        image = case.image()[..., 0]
        for index in zip(*np.nonzero(image), strict=True):
            assert found.setdefault(float(image[index]), (case, index)) == (case, index)
    return found


def same(one, other) -> bool:
    return all(
        getattr(one, name).tobytes() == getattr(other, name).tobytes()
        for name in ("image", "labels", "position")
    )


def patches_of(cases, steps=20, size=4, seed=0):
    for step in range(steps):
        batch = patch_batch(cases, PATCH, size, seed, step)
        yield from zip(batch.image, batch.labels, strict=True)


def place(image, places):
    """The case of a patch, and the index of its first voxel."""
    inside = np.argwhere(image[..., 0])[0]
    case, index = places[float(image[tuple(inside)][0])]
    return case, np.array(index) - inside


def test_batch_is_ready_for_the_device(cases):
    batch = patch_batch(cases, PATCH, 3, 0, 0)
    assert batch.image.shape == (3, *PATCH, 2) and batch.image.dtype == np.float32
    assert batch.labels.shape == (3, *PATCH) and batch.labels.dtype == np.uint8
    np.testing.assert_array_equal(batch.position, [0, 1, 2])
    assert batch.position.dtype == np.int32


def test_patches_are_pieces_of_their_volumes(cases, places):
    met = set()
    for image, labels in patches_of(cases):
        assert image.any()
        case, start = place(image, places)
        assert (start >= 0).all() and (start + PATCH <= case.shape).all()
        box = tuple(slice(a, a + size) for a, size in zip(start, PATCH, strict=True))
        np.testing.assert_array_equal(image, case.image()[box])
        np.testing.assert_array_equal(labels, case.labels()[box])
        met.add(case.case_id)
    assert met == {case.case_id for case in cases}


def test_patches_are_centred_on_the_brain_where_the_border_lets_them(cases, places):
    free = 0
    for image, _ in patches_of(cases):
        case, start = place(image, places)
        if (start > 0).all() and (start + PATCH < case.shape).all():
            assert image[tuple(np.array(PATCH) // 2)].any()
            free += 1
    assert free > 20


def test_batch_depends_on_seed_and_step_alone(cases):
    order = [(0, 0), (0, 1), (5, 0), (0, 7), (2**31, 3)]
    first = {key: patch_batch(cases, PATCH, 2, *key) for key in order}
    np.random.default_rng(0).random()
    for key in reversed(order):
        assert same(patch_batch(cases, PATCH, 2, *key), first[key])
    for one, other in itertools.combinations(order, 2):
        assert not np.array_equal(first[one].image, first[other].image)


def test_steps_and_positions_do_not_share_their_draws(cases):
    drawn = {image.tobytes() for image, _ in patches_of(cases, steps=5, size=4)}
    assert len(drawn) >= 18  # Two may meet by chance among so few places.


def test_patch_does_not_depend_on_the_size_of_its_batch(cases):
    small, large = patch_batch(cases, PATCH, 2, 3, 11), patch_batch(cases, PATCH, 4, 3, 11)
    np.testing.assert_array_equal(large.image[:2], small.image)
    np.testing.assert_array_equal(large.labels[:2], small.labels)
    for one, other in itertools.combinations(large.image, 2):
        assert not np.array_equal(one, other)


def test_batch_is_no_view_of_the_mapped_file(cases):
    batch = patch_batch(cases[:1], cases[0].shape, 1, 0, 0)
    np.testing.assert_array_equal(batch.image[0], cases[0].image())
    assert batch.image.flags.writeable and not np.shares_memory(batch.image, cases[0].image())


def test_brain_of_one_voxel_does_not_stop_the_search(cases, tmp_path):
    shape = (30, 30, 30)
    image = np.zeros((*shape, 1), np.float32)
    image[3, 4, 5] = 1
    np.save(tmp_path / "image.npy", image)
    np.save(tmp_path / "labels.npy", np.zeros(shape, np.uint8))
    case = replace(
        cases[0],
        image_path=tmp_path / "image.npy",
        labels_path=tmp_path / "labels.npy",
        shape=shape,
        channels=1,
    )
    assert patch_batch([case], PATCH, 2, 0, 0).image.shape == (2, *PATCH, 1)


@given(SIDE, SIDE, st.data())
def test_box_is_centred_as_far_as_the_volume_lets_it(volume, patch, data):
    patch = tuple(map(min, patch, volume))
    centre = np.array([data.draw(st.integers(0, extent - 1)) for extent in volume])
    for side, size, extent, middle in zip(
        patch_box(centre, patch, volume), patch, volume, centre, strict=True
    ):
        assert 0 <= side.start and side.stop <= extent and side.stop - side.start == size
        assert side.start <= middle < side.stop
        if size // 2 <= middle <= extent - size + size // 2:
            assert side.start + size // 2 == middle


def test_patch_that_fits(cases):
    check_patch_fits(cases, PATCH)
    check_patch_fits(cases[:1], cases[0].shape)


def test_patch_larger_than_a_volume_is_one_sentence(cases):
    assert cases[0].shape == (17, 17, 14) and cases[1].shape == (17, 15, 12)
    with pytest.raises(InputError) as caught:
        check_patch_fits(cases, (17, 16, 8))
    assert str(caught.value) == (
        "The patch is 17x16x8 voxels, more than case1's cropped volume of 17x15x12 in "
        f"{cases[1].image_path.parent}: choose a smaller config.patch.shape."
    )


def patch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("patches")]


@pytest.mark.parametrize("ahead", [1, 2, 5, 50])
def test_prefetch_keeps_the_order(ahead):
    made = []

    def make(step):
        made.append((step, threading.current_thread().name))
        return step**2

    assert list(prefetch(make, range(3, 20), ahead)) == [step**2 for step in range(3, 20)]
    assert [step for step, _ in made] == list(range(3, 20))
    assert all(name.startswith("patches") for _, name in made)
    assert not patch_threads()


def test_prefetch_of_no_steps():
    assert list(prefetch(lambda step: step, range(4, 4))) == []


def test_prefetch_works_ahead_and_not_further():
    made = [threading.Event() for _ in range(10)]
    batches = prefetch(lambda step: made[step].set(), range(10), ahead=3)
    for step in range(7):
        next(batches)
        # Nobody asked for these two yet.
        assert made[step + 1].wait(60) and made[step + 2].wait(60)
        assert not made[step + 3].is_set()


def test_prefetch_hands_on_an_exception_in_its_turn():
    def make(step):
        if step == 3:
            raise InputError("The scan is gone.")
        return step

    batches = prefetch(make, range(10))
    assert [next(batches) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(InputError, match="The scan is gone"):
        next(batches)
    assert not patch_threads()
    with pytest.raises(StopIteration):
        next(batches)


def test_prefetch_that_is_abandoned_stops_its_thread():
    made = []

    def make(step):
        made.append(step)
        return step

    for batch in prefetch(make, range(1000)):
        if batch == 2:
            break
    gc.collect()
    assert not patch_threads()
    assert len(made) < 10
