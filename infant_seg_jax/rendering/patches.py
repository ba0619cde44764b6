"""Patches of anatomies, for the rendered examples of a batch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import flax.struct
import numpy as np
from jaxtyping import Integer, Shaped, UInt8

from infant_seg_jax.config import Config
from infant_seg_jax.data.labels import TISSUE_CLASSES, ClassSet
from infant_seg_jax.data.patches import PatchBatch, draw_voxel, patch_batch
from infant_seg_jax.data.prepared import PreparedCase
from infant_seg_jax.errors import InputError
from infant_seg_jax.rendering.anatomies import STEPS_PER_MM, AnatomySet, PreparedAnatomy
from infant_seg_jax.rendering.structures import BRAIN, Structure, classes_of_structures

MARGIN = 12
"""Voxels around a patch that its deformation may need."""

NEAR_MM = 15
"""The largest distance of a patch's center from the brain, so that no stripped patch is empty."""

_RENDERED = 1
"""Separates these draws from those of real patches, which stay the same with and without them."""


@flax.struct.dataclass
class AnatomyPatches:
    """What the examples of a batch are rendered from.

    Attributes:
        structures: uint8 `(n, x, y, z)`, `MARGIN` voxels larger on each side than the patches.
        distances: uint8, of the same shape.
        census: int32 `(n, s, 256)`, the census of each example's anatomy.
        chosen: bool `(n,)`, whether the example is rendered.
        spacing: voxel size in mm.
        classes: the classes of the examples' labels.
    """

    structures: Any
    distances: Any
    census: Any
    chosen: Any
    spacing: float = flax.struct.field(pytree_node=False)
    classes: ClassSet = flax.struct.field(pytree_node=False, default=TISSUE_CLASSES)


def make_batch(
    cases: Sequence[PreparedCase],
    channels: int,
    anatomies: AnatomySet | None,
    config: Config,
    step: int,
    positions: Sequence[int],
) -> PatchBatch:
    """The patches of a step: real ones and, with `anatomies`, ones to be rendered.

    `config.rendering.fraction` is the chance that an example is rendered. If it is 1, no real patch
    is read, and its image and labels are 0. Each example depends only on the seed, the step and its
    position.

    Raises:
        InputError: as `patch_batch`, or an anatomy's file is damaged.
    """
    patch, fraction = config.patch, config.rendering.fraction
    shape = tuple(patch.shape)
    if anatomies is None or fraction < 1:
        batch = patch_batch(
            cases,
            shape,
            patch.batch_size,
            config.seed,
            step,
            balanced=patch.balanced,
            positions=positions,
        )
    else:
        batch = PatchBatch(
            np.zeros((len(positions), *shape, channels), np.float32),
            np.zeros((len(positions), *shape), np.uint8),
            np.array(positions, np.int32),
        )
    if anatomies is None:
        return batch
    parts = []
    for position in positions:
        random = _random(config.seed, step, position)
        chosen = bool(random.random() < fraction)
        parts.append((*_random_patch(anatomies, shape, patch.balanced, random), chosen))
    structures, distances, census, chosen = (np.stack(part) for part in zip(*parts, strict=True))
    anatomy = AnatomyPatches(
        structures, distances, census, chosen, anatomies.spacing_mm, anatomies.classes
    )
    return replace(batch, anatomy=anatomy)


def drawn_names(anatomies: AnatomySet, config: Config, step: int) -> tuple[str | None, ...]:
    """The names of the anatomies of `make_batch`, None for real examples; no array is read."""
    names: list[str | None] = []
    for position in range(config.patch.batch_size):
        random = _random(config.seed, step, position)
        chosen = random.random() < config.rendering.fraction
        names.append(_draw_anatomy(anatomies.training, random).name if chosen else None)
    return tuple(names)


def _random(seed: int, step: int, position: int) -> np.random.Generator:
    return np.random.default_rng([seed, step, position, _RENDERED])


def _draw_anatomy(
    anatomies: Sequence[PreparedAnatomy], random: np.random.Generator
) -> PreparedAnatomy:
    return anatomies[int(random.integers(len(anatomies)))]


def _random_patch(
    anatomies: AnatomySet,
    shape: tuple[int, ...],
    balanced: float,
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A patch centered on any tissue or, if balanced, on a random class.

    For the class background, the center is in the head near the brain.
    """
    anatomy = _draw_anatomy(anatomies.training, random)
    wanted = np.arange(len(Structure)) < BRAIN
    if balanced and random.random() < balanced:
        table = classes_of_structures(anatomies.classes)
        wanted = table == random.integers(len(anatomies.classes))
    wanted[Structure.OUTSIDE] = False
    structures, distances = anatomy.structures(), anatomy.distances()

    def fits(structure: Any, distance: Any) -> Any:
        return wanted[structure] & (distance <= STEPS_PER_MM * NEAR_MM)

    center = draw_voxel(structures, distances, fits, random)
    if center is None:
        raise InputError(
            f"{anatomy.folder} has no voxel of a class to center patches on, expected a brain with "
            "its head: prepare the anatomies again."
        )
    size = np.array(shape) + 2 * MARGIN
    return (
        cut(structures, center, size, Structure.OUTSIDE),
        cut(distances, center, size, 255),
        anatomy.census,
    )


def cut(
    volume: UInt8[np.ndarray, "x y z"],
    center: Integer[np.ndarray, "3"],
    size: Shaped[np.ndarray, "3"],
    beyond: int,
) -> UInt8[np.ndarray, "X Y Z"]:
    """The box of `size` around `center`; voxels outside the volume are `beyond`."""
    patch = np.full(size, beyond, volume.dtype)
    starts = center - size // 2
    box = [
        slice(max(int(a), 0), min(int(a + n), whole))
        for a, n, whole in zip(starts, size, volume.shape, strict=True)
    ]
    into = [
        slice(side.start - int(a), side.stop - int(a)) for side, a in zip(box, starts, strict=True)
    ]
    patch[tuple(into)] = volume[tuple(box)]
    return patch
