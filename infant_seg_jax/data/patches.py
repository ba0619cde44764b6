"""Batches of random patches, cut from memory-mapped prepared volumes."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import flax.struct
import numpy as np
from jaxtyping import Integer, Shaped, UInt8

from infant_seg_jax.data.formats.grid import times
from infant_seg_jax.data.labels import IGNORE
from infant_seg_jax.data.prepared import PreparedCase
from infant_seg_jax.errors import InputError

T = TypeVar("T")

TRIES = 100
"""How often a patch's center is drawn anew before the whole volume is searched."""


@flax.struct.dataclass
class PatchBatch:
    """Patches in RAS order, as NumPy arrays here and as JAX's in a step.

    Attributes:
        image: float32 `(n, x, y, z, c)`; with a leading axis of devices where it is sharded.
        labels: uint8 `(n, x, y, z)`, likewise.
        position: int32 `(n,)`, each patch's place in the whole batch of all devices.
        anatomy: `rendering.patches.AnatomyPatches`, where examples are to be rendered; else None.
    """

    image: Any
    labels: Any
    position: Any
    anatomy: Any = None


def check_patch_fits(cases: Sequence[PreparedCase], shape: tuple[int, int, int]) -> None:
    """Raise an InputError that names the first case smaller than the patch."""
    for case in cases:
        if any(extent < size for extent, size in zip(case.shape, shape, strict=True)):
            raise InputError(
                f"The patch is {times(shape)} voxels, more than {case.case_id}'s cropped volume "
                f"of {times(case.shape)} in {case.image_path.parent}: choose a smaller "
                "config.patch.shape."
            )


def patch_batch(
    cases: Sequence[PreparedCase],
    shape: tuple[int, int, int],
    size: int,
    seed: int,
    step: int,
    *,
    balanced: float = 0.0,
    positions: Sequence[int] | None = None,
) -> PatchBatch:
    """The batch of a step: each patch depends on the seed, the step and its position alone.

    A patch is centered, as far as its volume's borders let it, on a voxel of a random case. A share
    `balanced` of the patches (each with that chance) takes any voxel of a class, the class drawn
    evenly among those that the case has, background being one; the others take any voxel of the
    brain (not 0 in every channel). An ignored voxel is never a center.

    Of the `size` positions, `positions` are made, in their order, or all; so each of several hosts
    makes its own, and together they have the one host's batch.

    Raises:
        InputError: a case has no labels or no voxel to center a patch on, or a file is damaged.
    """
    positions = range(size) if positions is None else positions
    channels = cases[0].stored_image().shape[-1]
    images = np.empty((len(positions), *shape, channels), np.float32)
    labels = np.empty((len(positions), *shape), np.uint8)
    for number, position in enumerate(positions):
        random = _random(seed, step, position)
        images[number], labels[number] = _random_patch(cases, shape, balanced, random)
    return PatchBatch(images, labels, np.array(positions, np.int32))


def patch_cases(
    cases: Sequence[PreparedCase], size: int, seed: int, step: int
) -> tuple[PreparedCase, ...]:
    """The cases that the patches of `patch_batch` come from, with nothing read."""
    return tuple(_draw_case(cases, _random(seed, step, position)) for position in range(size))


def _random(seed: int, step: int, position: int) -> np.random.Generator:
    return np.random.default_rng([seed, step, position])


def _draw_case(cases: Sequence[PreparedCase], random: np.random.Generator) -> PreparedCase:
    return cases[int(random.integers(len(cases)))]


def _random_patch(
    cases: Sequence[PreparedCase],
    shape: tuple[int, int, int],
    balanced: float,
    random: np.random.Generator,
) -> tuple[Shaped[np.ndarray, "x y z c"], UInt8[np.ndarray, "x y z"]]:
    """A part of a case's image, as it is stored, and of its labels."""
    case = _draw_case(cases, random)
    fits, what = _in_brain, "the brain that is not ignored"
    if balanced and random.random() < balanced:
        voxels = case.voxels or {}
        classes = [index for index, count in enumerate(voxels.values()) if count]
        if classes:
            chosen = classes[int(random.integers(len(classes)))]
            fits, what = partial(_of_class, chosen), list(voxels)[chosen]
    image, labels = case.stored_image(), case.labels()
    center = draw_voxel(image, labels, fits, random)
    if center is None:
        raise InputError(
            f"{case.labels_path} and the image beside it have no voxel of {what}, expected one to "
            "center patches on: prepare the set again, and leave out this case if the problem "
            "remains."
        )
    box = patch_box(center, shape, case.shape)
    return image[box], labels[box]


# Both answer for a voxel as for a slab: `image` has the axis of channels more than `labels`.
def _in_brain(image: Any, labels: Any) -> Any:
    return image.any(axis=-1) & (labels != IGNORE)


def _of_class(index: int, _: Any, labels: Any) -> Any:
    return labels == index


def draw_voxel(
    image: Shaped[np.ndarray, "x y z *c"],
    labels: UInt8[np.ndarray, "x y z"],
    fits: Callable[[Any, Any], Any],
    random: np.random.Generator,
) -> Integer[np.ndarray, "3"] | None:
    """A voxel for which `fits(image, labels)`, each alike likely; None if there are none.

    Most are found within a few tries, which touch a few pages of the files. What is too rare for
    that is counted slab by slab, so that no more than a slab is in memory.
    """
    image, labels = np.asarray(image), np.asarray(labels)  # Voxels of a memory map are read slowly.
    for _ in range(TRIES):
        center = random.integers(labels.shape)
        x, y, z = (int(index) for index in center)
        if fits(image[x, y, z], labels[x, y, z]):
            return center
    counts = [int(fits(image[x], labels[x]).sum()) for x in range(len(labels))]
    totals = np.cumsum(counts)
    if not totals[-1]:
        return None
    rank = random.integers(totals[-1])
    x = int(np.searchsorted(totals, rank, side="right"))
    y, z = np.argwhere(fits(image[x], labels[x]))[rank - totals[x]]  # Counted from the last.
    return np.array([x, y, z])


def patch_box(
    center: Integer[np.ndarray, "3"], shape: tuple[int, int, int], volume: tuple[int, int, int]
) -> tuple[slice, slice, slice]:
    """The box of a patch around `center`, moved to lie inside the volume."""
    starts = np.clip(center - np.array(shape) // 2, 0, np.array(volume) - shape)
    x, y, z = (slice(int(a), int(a) + size) for a, size in zip(starts, shape, strict=True))
    return x, y, z


def prefetch(make: Callable[[int], T], steps: Sequence[int], ahead: int = 4) -> Iterator[T]:
    """Yield `make(step)` for each step in order, made `ahead` steps early in as many threads."""
    with ThreadPoolExecutor(ahead, "patches") as pool:
        waiting = deque(pool.submit(make, step) for step in steps[:ahead])
        try:
            for step in steps[ahead:]:
                yield waiting.popleft().result()
                waiting.append(pool.submit(make, step))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
