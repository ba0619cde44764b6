"""Batches of random patches, cut from memory-mapped prepared volumes."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import flax.struct
import numpy as np
from jaxtyping import Float, Integer, UInt8

from infant_seg_jax.data.labels import IGNORE
from infant_seg_jax.data.prepared import PreparedCase
from infant_seg_jax.errors import InputError

T = TypeVar("T")

TRIES = 100
"""How often a patch's centre is drawn anew before one outside the brain, or ignored, is taken."""


@flax.struct.dataclass
class PatchBatch:
    """Patches in RAS order, as NumPy arrays here and as JAX's in a step.

    Attributes:
        image: float32 `(n, x, y, z, c)`; with a leading axis of devices where it is sharded.
        labels: uint8 `(n, x, y, z)`, likewise.
        position: int32 `(n,)`, each patch's place in the whole batch of all devices.
    """

    image: Any
    labels: Any
    position: Any


def check_patch_fits(cases: Sequence[PreparedCase], shape: tuple[int, int, int]) -> None:
    """Raise an InputError that names the first case smaller than the patch."""
    for case in cases:
        if any(extent < size for extent, size in zip(case.shape, shape, strict=True)):
            raise InputError(
                f"The patch is {_times(shape)} voxels, more than {case.case_id}'s cropped volume "
                f"of {_times(case.shape)} in {case.image_path.parent}: choose a smaller "
                "config.patch.shape."
            )


def patch_batch(
    cases: Sequence[PreparedCase], shape: tuple[int, int, int], size: int, seed: int, step: int
) -> PatchBatch:
    """The batch of a step: each patch depends on the seed, the step and its position alone.

    A patch is centred on a random voxel of the brain of a random case, one that has a class and is
    not ignored, as far as the volume's borders let it.
    """
    patches = [
        _random_patch(cases, shape, np.random.default_rng([seed, step, position]))
        for position in range(size)
    ]
    images, labels = zip(*patches, strict=True)
    return PatchBatch(np.stack(images), np.stack(labels), np.arange(size, dtype=np.int32))


def _random_patch(
    cases: Sequence[PreparedCase], shape: tuple[int, int, int], random: np.random.Generator
) -> tuple[Float[np.ndarray, "x y z c"], UInt8[np.ndarray, "x y z"]]:
    case = cases[int(random.integers(len(cases)))]
    image, labels = case.image(), case.labels()
    centre = random.integers(case.shape)
    for _ in range(TRIES):
        x, y, z = (int(index) for index in centre)
        if image[x, y, z].any() and labels[x, y, z] != IGNORE:
            break
        centre = random.integers(case.shape)
    box = patch_box(centre, shape, case.shape)
    return np.array(image[box]), np.array(labels[box])


def patch_box(
    centre: Integer[np.ndarray, "3"], shape: tuple[int, int, int], volume: tuple[int, int, int]
) -> tuple[slice, slice, slice]:
    """The box of a patch around `centre`, moved to lie inside the volume."""
    starts = np.clip(centre - np.array(shape) // 2, 0, np.array(volume) - shape)
    x, y, z = (slice(int(a), int(a) + size) for a, size in zip(starts, shape, strict=True))
    return x, y, z


def prefetch(make: Callable[[int], T], steps: Sequence[int], ahead: int = 2) -> Iterator[T]:
    """Yield `make(step)` for each step in order, made `ahead` steps early in a thread."""
    with ThreadPoolExecutor(1, "patches") as pool:
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


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
