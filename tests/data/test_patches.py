"""Random patches: where they lie, what they hold, what they depend on; and the prefetch threads."""

import gc
import itertools
import math
import threading
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infant_seg_jax.data.labels import IGNORE, count_classes
from infant_seg_jax.data.patches import (
    check_patch_fits,
    patch_batch,
    patch_box,
    patch_cases,
    prefetch,
)
from infant_seg_jax.data.preparing import prepare
from infant_seg_jax.data.preprocessing import Preparation
from infant_seg_jax.data.schemas import TISSUE_SCHEMA
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
    for number, case in enumerate(prepared.cases):  # Half precision would have some alike.
        image = case.image()
        inside = image[..., 0] != 0
        image[inside, 0] = 1 + 10_000 * number + np.arange(np.count_nonzero(inside))
        np.save(case.image_path, image)
    return prepared.cases


@pytest.fixture(scope="module")
def make_case(cases, tmp_path_factory):
    """A case of given labels, in whose brain, where it has no more than given, all is 1."""

    def make(labels, brain=None):
        folder = tmp_path_factory.mktemp("case")
        image = np.ones(labels.shape) if brain is None else brain
        np.save(folder / "image.npy", image[..., None].astype(np.float32))
        np.save(folder / "labels.npy", labels.astype(np.uint8))
        return replace(
            cases[0],
            image_path=folder / "image.npy",
            labels_path=folder / "labels.npy",
            shape=labels.shape,
            channels=1,
            voxels=count_classes(labels),
        )

    return make


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


def test_patches_are_centered_on_the_brain_where_the_border_lets_them(cases, places):
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


def test_brain_of_one_voxel_is_found(make_case):
    brain = np.zeros((30, 30, 30))
    brain[13, 4, 25] = 1
    batch = patch_batch([make_case(np.zeros(brain.shape, int), brain)], (3, 3, 3), 5, 0, 0)
    assert (batch.image[:, 1, 1, 1] == 1).all()


def centers(cases, count, balanced):
    """The labels of the voxels that patches are centered on, for they are no larger."""
    return patch_batch(cases, (1, 1, 1), count, 0, 0, balanced=balanced).labels.ravel()


def assert_share(found, share):
    """Within five standard errors of what so many draws of this chance give."""
    assert abs(found.mean() - share) < 5 * math.sqrt(share * (1 - share) / found.size)


def uneven_labels():
    """Much background, less CSF and GM, little WM (0.15 %), a tenth ignored."""
    shares = [0.6, 0.2485, 0.05, 0.0015, 0.1]
    return np.random.default_rng(0).choice([0, 1, 2, 3, IGNORE], (20, 20, 20), p=shares)


def test_balanced_patches_are_centered_on_each_class_alike(make_case):
    found = centers([make_case(uneven_labels())], 1000, 1.0)
    for index in range(4):
        assert_share(found == index, 1 / 4)


def test_classes_that_a_case_lacks_are_not_drawn(make_case):
    labels = uneven_labels()
    labels[(labels == 0) | (labels == 2)] = IGNORE
    found = centers([make_case(labels)], 500, 1.0)
    assert set(found) == {1, 3}
    assert_share(found == 1, 1 / 2)


def test_cases_are_balanced_each_by_itself(make_case):
    one, other = np.full((9, 9, 9), 1), np.full((9, 9, 9), 2)
    other[4, 4, 4] = 3
    found = centers([make_case(one), make_case(other)], 1000, 1.0)
    for index, share in ((1, 1 / 2), (2, 1 / 4), (3, 1 / 4)):
        assert_share(found == index, share)


def test_a_mixture_balances_its_share_of_the_patches(make_case):
    labels = uneven_labels()
    brain = (np.indices(labels.shape).sum(axis=0) % 2 == 0) & (labels != 0)
    inside = labels[brain & (labels != IGNORE)]
    found = centers([make_case(labels, brain)], 1000, 0.4)
    for index in range(4):
        assert_share(found == index, 0.4 / 4 + 0.6 * np.mean(inside == index))


@pytest.mark.parametrize("balanced", [0.0, 0.5, 1.0])
def test_ignored_voxels_are_never_centers(make_case, balanced):
    labels = np.full((16, 16, 16), IGNORE)
    labels[3, 4, 5], labels[8, 8, 8] = 1, 2
    assert set(centers([make_case(labels)], 50, balanced)) == {1, 2}


@pytest.mark.parametrize("balanced", [0.0, 1.0])
@pytest.mark.parametrize(("count", "draws"), [(3, 300), (400, 1200)])
def test_every_voxel_that_fits_is_drawn_alike(make_case, balanced, count, draws):
    # Of 8000 voxels, 3 are found by the search, 400 mostly by tries.
    rng = np.random.default_rng(1)
    chosen = rng.permutation(8000)[:count]
    labels = np.full(8000, IGNORE)
    labels[chosen] = 2
    names = np.arange(1, 8001).reshape(20, 20, 20)
    case = make_case(labels.reshape(20, 20, 20), names)
    batch = patch_batch([case], (1, 1, 1), draws, 0, 0, balanced=balanced)
    found = np.bincount(batch.image.ravel().astype(int) - 1, minlength=8000)
    assert found[chosen].sum() == draws
    expected = draws / count
    # Chi squared has a mean of count - 1 and a variance of twice that.
    chi_squared = ((found[chosen] - expected) ** 2 / expected).sum()
    assert chi_squared < count - 1 + 5 * math.sqrt(2 * (count - 1))


def test_balanced_batches_depend_on_seed_step_and_position_alone(cases):
    order = [(0, 0), (0, 1), (5, 0)]
    first = {key: patch_batch(cases, PATCH, 4, *key, balanced=0.5) for key in order}
    for key in reversed(order):
        assert same(patch_batch(cases, PATCH, 4, *key, balanced=0.5), first[key])
        fewer = patch_batch(cases, PATCH, 2, *key, balanced=0.5)
        np.testing.assert_array_equal(fewer.image, first[key].image[:2])
    for one, other in itertools.combinations(order, 2):
        assert not np.array_equal(first[one].image, first[other].image)


@pytest.mark.parametrize("balanced", [0.0, 0.5])
def test_patch_cases_are_those_that_the_patches_come_from(cases, places, balanced):
    for step in range(5):
        batch = patch_batch(cases, PATCH, 4, 1, step, balanced=balanced)
        named = patch_cases(cases, 4, 1, step)
        for image, case in zip(batch.image, named, strict=True):
            assert not image.any() or place(image, places)[0] is case


@settings(max_examples=20, deadline=None)
@given(hosts=st.lists(st.integers(0, 2), min_size=6, max_size=6), balanced=st.sampled_from([0, 1]))
def test_hosts_make_together_the_one_hosts_batch(cases, hosts, balanced):
    described = {"shape": PATCH, "size": 6, "seed": 3, "step": 11, "balanced": 0.5 * balanced}
    whole = patch_batch(cases, **described)
    for host in set(hosts):
        own = [position for position in range(6) if hosts[position] == host]
        part = patch_batch(cases, **described, positions=own)
        np.testing.assert_array_equal(part.position, own)
        assert part.position.dtype == np.int32
        np.testing.assert_array_equal(part.image, whole.image[own])
        np.testing.assert_array_equal(part.labels, whole.labels[own])


@pytest.mark.parametrize(
    ("balanced", "what"), [(0.0, "the brain that is not ignored"), (1.0, "WM")]
)
def test_no_voxel_to_center_on_is_one_sentence(make_case, balanced, what):
    case = make_case(np.full((4, 4, 4), 3))
    np.save(case.labels_path, np.full((4, 4, 4), IGNORE, np.uint8))
    with pytest.raises(InputError) as caught:
        patch_batch([case], (2, 2, 2), 1, 0, 0, balanced=balanced)
    assert str(caught.value) == (
        f"{case.labels_path} and the image beside it have no voxel of {what}, expected one to "
        "center patches on: prepare the set again, and leave out this case if the problem remains."
    )


@given(SIDE, SIDE, st.data())
def test_box_is_centered_as_far_as_the_volume_lets_it(volume, patch, data):
    patch = tuple(map(min, patch, volume))
    center = np.array([data.draw(st.integers(0, extent - 1)) for extent in volume])
    for side, size, extent, middle in zip(
        patch_box(center, patch, volume), patch, volume, center, strict=True
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
    assert sorted(step for step, _ in made) == list(range(3, 20))
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


def test_prefetch_makes_several_at_the_same_time():
    together = threading.Barrier(3)
    assert len(list(prefetch(lambda step: together.wait(60), range(9), ahead=3))) == 9


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


def test_prefetch_that_is_abandoned_stops_its_threads():
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
