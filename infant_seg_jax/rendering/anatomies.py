"""Sets of anatomies: what training renders from. A folder that holds

- `manifest.json`: what each anatomy is and where it came from;
- `splits.json`: as a prepared set's, one fold, which a person may edit;
- `ANATOMY/structures.npy` (uint8 `Structure`, `(x, y, z)`) and `ANATOMY/distances.npy` (uint8,
  quarters of a mm), which are memory-mapped, and `ANATOMY/case.json`, its part of the manifest;
- `scans/`: scans rendered of the anatomies held out of training, with their label maps, and
  `held_out/`: a prepared set of them, to validate on.

`infant_seg_jax.rendering.preparing` writes them.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

from infant_seg_jax.data.formats.grid import Affine, Shape
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
    """One head of a set.

    Attributes:
        name: of its label map.
        folder: where its arrays are.
        shape: voxels along x, y, z, in RAS+ order.
    """

    name: str
    folder: Path
    shape: Shape

    def structures(self) -> UInt8[np.ndarray, "x y z"]:
        """A `Structure` for each voxel, with the head around the brain; memory-mapped.

        Raises:
            InputError: the file is missing or damaged or is not what the manifest says.
        """
        return map_array(self.folder / "structures.npy", self.shape, np.uint8)

    def distances(self) -> UInt8[np.ndarray, "x y z"]:
        """Quarters of a mm: of superficial fluid and all beyond to the nearest tissue of the brain,
        of cortex that may be thinned to white matter, 0 elsewhere; memory-mapped.

        Raises:
            InputError: as `structures`.
        """
        return map_array(self.folder / "distances.npy", self.shape, np.uint8)

    @cached_property
    def census(self) -> Int32[np.ndarray, "s 256"]:
        """How many voxels there are of each structure at each distance."""
        where = self.structures().astype(np.int32) * 256 + self.distances()
        counts = np.bincount(where.ravel(), minlength=256 * len(Structure))
        return counts.reshape(len(Structure), 256).astype(np.int32)


@dataclass(frozen=True, eq=False)
class AnatomySet:
    """A set of anatomies that was found to be sound; `spacing_mm` is their voxels'."""

    folder: Path
    spacing_mm: float
    training: tuple[PreparedAnatomy, ...]


def open_anatomies(folder: Path) -> AnatomySet:
    """Open a set of anatomies, and check all of it but the voxels.

    Raises:
        InputError: it is none, or is damaged or of another format, or none of it is to train on.
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
    return AnatomySet(folder, spacing, training)


def affine_of(shape: Shape, spacing_mm: float) -> Affine:
    """The RAS+ affine of an anatomy's grid, about its middle."""
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = -spacing_mm * (np.array(shape) - 1) / 2
    return affine
