"""Sets of anatomies, from which training renders its examples. A set is a folder with

- `manifest.json`: the anatomies and where they came from;
- `splits.json`: one fold, as in a prepared set; you may edit it;
- `ANATOMY/structures.npy` (uint8 `Structure`, `(x, y, z)`) and `ANATOMY/distances.npy` (uint8,
  quarters of a mm), both memory-mapped, and `ANATOMY/case.json`, its part of the manifest;
- `scans/`: rendered scans of the held-out anatomies, with their label maps;
- `held_out/`: a prepared set of these scans, for validation.

`infant_seg_jax.rendering.preparing` writes such a folder.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

from infant_seg_jax.data.class_sets import classes_in
from infant_seg_jax.data.formats.grid import Affine, Shape
from infant_seg_jax.data.labels import TISSUE_CLASSES, ClassSet
from infant_seg_jax.data.prepared import MANIFEST, SPLITS_FILE, map_array
from infant_seg_jax.data.splits import check_folds, read_folds
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import read_json
from infant_seg_jax.rendering.structures import Structure

FORMAT = 1
HELD_OUT, SCANS = "held_out", "scans"
STEPS_PER_MM = 4
"""Distances are kept in quarters of a mm, up to 63.75 mm."""


@dataclass(frozen=True, eq=False)
class PreparedAnatomy:
    """One anatomy of a set: a brain with the head around it.

    Attributes:
        name: the name of its label map.
        folder: the folder of its arrays.
        shape: voxels along x, y, z, in RAS+ order.
    """

    name: str
    folder: Path
    shape: Shape

    def structures(self) -> UInt8[np.ndarray, "x y z"]:
        """The `Structure` of each voxel, including the head around the brain; memory-mapped.

        Raises:
            InputError: the file is missing or damaged, or does not match the manifest.
        """
        return map_array(self.folder / "structures.npy", self.shape, np.uint8)

    def distances(self) -> UInt8[np.ndarray, "x y z"]:
        """Distances in quarters of a mm; memory-mapped.

        Superficial fluid and everything outside the brain have the distance to the nearest brain
        tissue. Cortex that may be thinned has the distance to white matter. All else has 0.

        Raises:
            InputError: as `structures`.
        """
        return map_array(self.folder / "distances.npy", self.shape, np.uint8)

    @cached_property
    def census(self) -> Int32[np.ndarray, "s 256"]:
        """The number of voxels of each structure at each distance."""
        where = self.structures().astype(np.int32) * 256 + self.distances()
        counts = np.bincount(where.ravel(), minlength=256 * len(Structure))
        return counts.reshape(len(Structure), 256).astype(np.int32)


@dataclass(frozen=True, eq=False)
class AnatomySet:
    """A valid set of anatomies.

    Attributes:
        folder: where it is.
        spacing_mm: the size of the voxels.
        training: the anatomies to train on.
        classes: the classes of rendered examples.
    """

    folder: Path
    spacing_mm: float
    training: tuple[PreparedAnatomy, ...]
    classes: ClassSet = TISSUE_CLASSES


def open_anatomies(folder: Path) -> AnatomySet:
    """Open a set of anatomies, and check everything but the voxels.

    Raises:
        InputError: the folder is not a set, is damaged or has another format, or no anatomy is for
            training.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    manifest = read_json(path) if path.is_file() else None
    if not isinstance(manifest, dict) or "anatomies" not in manifest:
        raise InputError(
            f"{folder} is not a set of anatomies, expected the output folder of "
            "`infant-seg prepare-anatomies`."
        )
    if manifest.get("format") != FORMAT:
        raise InputError(
            f"{path} has the format {manifest.get('format')!r}, expected {FORMAT}: prepare the "
            "anatomies again with this version of the software."
        )
    try:
        spacing = float(manifest["spacing_mm"])
        classes = classes_in(manifest)
        found = {}
        for entry in manifest["anatomies"]:
            x, y, z = (int(size) for size in entry["shape"])
            name = str(entry["id"])
            if Path(name).name != name:
                raise ValueError(f"{name!r} names no folder")
            found[name] = PreparedAnatomy(name, folder / name, (x, y, z))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged ({type(error).__name__}: {error}): prepare the anatomies again."
        ) from error
    folds = read_folds(folder / SPLITS_FILE)
    check_folds(folds, folder / SPLITS_FILE, {name: name for name in found}, set(found))
    training = tuple(found[name] for name in folds[0]["train"])
    if not training:
        raise InputError(
            f"{folder / SPLITS_FILE} has no anatomy to train on, expected at least one."
        )
    for anatomy in training:
        anatomy.structures()
        anatomy.distances()
    return AnatomySet(folder, spacing, training, classes)


def affine_of(shape: Shape, spacing_mm: float) -> Affine:
    """The RAS+ affine of an anatomy's grid, with the origin at its center."""
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = -spacing_mm * (np.array(shape) - 1) / 2
    return affine
