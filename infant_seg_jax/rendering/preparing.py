"""Prepare label maps as a set of anatomies, with heads and with scans for validation."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from infant_seg_jax.data.class_sets import classes_record
from infant_seg_jax.data.cropping import crop_affine, crop_box
from infant_seg_jax.data.formats import Affine, Grid
from infant_seg_jax.data.labels import TISSUE_CLASSES, ClassSet, LabelSchema, count_classes
from infant_seg_jax.data.prepared import ANY_MODALITY
from infant_seg_jax.data.preparing import prepare
from infant_seg_jax.data.preprocessing import Preparation
from infant_seg_jax.data.resampling import grid_with_spacing, resample_labels
from infant_seg_jax.data.resuming import Entry, begin, end, finish_all, finish_part, versions
from infant_seg_jax.data.sources import Dataset, SourceCase
from infant_seg_jax.data.volumes import spacing_of, write_label_map, write_volume
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import legible, sha256
from infant_seg_jax.rendering import image
from infant_seg_jax.rendering.anatomies import (
    FORMAT,
    HELD_OUT,
    SCANS,
    STEPS_PER_MM,
    AnatomySet,
    affine_of,
    open_anatomies,
)
from infant_seg_jax.rendering.anatomy import (
    Anatomy,
    LabelMapFile,
    distance_to,
    is_brain,
    is_near,
    read_anatomy,
)
from infant_seg_jax.rendering.cohort import BRIGHTNESS
from infant_seg_jax.rendering.contrast import Prior
from infant_seg_jax.rendering.heads import grow_head
from infant_seg_jax.rendering.structures import Structure, to_classes

MARGIN_MM = 40.0
"""Width of the head around the brain."""

HEAD_MM = 1.0
"""Heads are grown in voxels of this size at most: their layers are thin."""

SURFACE_MM = 6.0
"""Fluid deeper in the brain than this is always shown, however closely a brain is stripped."""

_LIBRARIES = ("infant_seg_jax", "jax", "nibabel", "numpy", "scipy")
_HELD_OUT_SHARE = 0.2
_WHITE = (Structure.WHITE, Structure.DEEP_WHITE)


@dataclass(frozen=True)
class View:
    """How a held-out anatomy is rendered: modality, age in months, with or without its head."""

    modality: str
    months: float
    head: bool = False

    @property
    def name(self) -> str:
        """Such as `T1w6head`."""
        return f"{self.modality}{self.months:g}{'head' * self.head}"


VIEWS = (View("T1w", 0.0), View("T2w", 0.0), View("T1w", 6.0), View("T1w", 60.0))
HEAD_VIEW = View("T1w", 12.0, head=True)
"""For one held-out anatomy only, because whole heads take long to predict."""


def prepare_anatomies(
    label_maps: Sequence[LabelMapFile],
    output: Path,
    spacing_mm: float = 1.0,
    held_out: Sequence[str] = (),
    seed: int = 0,
    workers: int | None = None,
    classes: ClassSet = TISSUE_CLASSES,
) -> AnatomySet:
    """Prepare label maps to render from.

    Each anatomy is written to a temporary folder that is then renamed. After an interruption, the
    same call continues with the missing anatomies; label maps that have changed are prepared again.
    The same inputs give the same bytes.

    Args:
        label_maps: the label maps; one file in several sizes gives several anatomies.
        output: a new folder, or one with an unfinished set of the same parameters.
        spacing_mm: the voxel size of the set, and of the scans that its networks are trained on.
        held_out: patterns of the names of anatomies that are not for training; without any, a
            random fifth is held out.
        seed: determines which are held out, and the heads.
        workers: number of label maps prepared at a time.
        classes: the classes of examples and of the scans to validate on.

    Raises:
        InputError: as `read_anatomy`, two label maps have the same name, a name is reserved, a
            pattern matches no name, all anatomies are held out, or the folder contains something
            else, such as a set with other parameters.
    """
    _check_names(label_maps)
    names = [label_map.name for label_map in label_maps]
    validation = _held_out(names, held_out, seed)
    training = [name for name in names if name not in validation]
    parameters = _parameters(label_maps, sorted(validation), spacing_mm, seed, classes)
    begin(output, parameters)
    views = _views_of([name for name in names if name in validation])
    one = partial(
        _finish_anatomy,
        output=output,
        spacing_mm=spacing_mm,
        seed=seed,
        views=views,
        classes=classes,
    )
    entries = finish_all(output, label_maps, one, unit="label map", workers=workers)
    cases = [_case(output, name, view) for name, shown in views.items() for view in shown]
    _prepare_scans(cases, output, spacing_mm, workers, classes)
    splits = [{"train": training, "validation": sorted(validation), "test": []}]
    end(output, splits, {**parameters, "anatomies": entries})
    return open_anatomies(output)


def _check_names(label_maps: Sequence[LabelMapFile]) -> None:
    paths = {label_map.name: label_map.path for label_map in label_maps}
    if len(paths) < len(label_maps):
        names = [label_map.name for label_map in label_maps]
        double = next(name for name in names if names.count(name) > 1)
        raise InputError(
            f"Two label maps have the name {double}, expected different names: rename one."
        )
    if taken := paths.keys() & {HELD_OUT, SCANS}:
        raise InputError(
            f"{paths[taken.pop()]} has a reserved name, expected another one: rename it."
        )


def _parameters(
    label_maps: Sequence[LabelMapFile],
    validation: Sequence[str],
    spacing_mm: float,
    seed: int,
    classes: ClassSet,
) -> dict[str, Any]:
    """Everything that determines a set, except the voxels of its label maps."""
    return {
        "format": FORMAT,
        "software": versions(_LIBRARIES),
        "spacing_mm": spacing_mm,
        "seed": seed,
        "structures": [structure.name for structure in Structure],
        "class_names": list(classes.names),
        **classes_record(classes),
        "schemas": {
            one.schema.name: {str(source): target for source, target in one.schema.table.items()}
            for one in label_maps
        },
        "label_maps": [f"{one.schema.name}:{one.name}" for one in label_maps],
        "held_out": list(validation),
    }


def _views_of(validation: Sequence[str]) -> dict[str, tuple[View, ...]]:
    first = validation[0]
    return {name: (*VIEWS, HEAD_VIEW) if name == first else VIEWS for name in validation}


def _finish_anatomy(
    label_map: LabelMapFile,
    *,
    output: Path,
    spacing_mm: float,
    seed: int,
    views: Mapping[str, Sequence[View]],
    classes: ClassSet,
) -> Entry:
    """The anatomy's entry in the manifest. The anatomy and its scans are written if missing."""
    name, path, schema = label_map.name, label_map.path, label_map.schema
    identity = {"id": name, "sources": {path.name: sha256(path)}, "schema": schema.name}

    def write(folder: Path) -> dict[str, Any]:
        anatomy = read_anatomy(path, schema, head=True, size=label_map.size)
        random = np.random.default_rng([seed, zlib.crc32(legible(name).encode())])
        structures, distances = to_arrays(anatomy, spacing_mm, random)
        np.save(folder / "structures.npy", structures)
        np.save(folder / "distances.npy", distances)
        # Scans are in another folder. They are complete before the anatomy appears.
        _write_views(output, name, structures, spacing_mm, seed, views.get(name, ()), classes)
        return {
            "shape": list(structures.shape),
            "voxels": count_classes(to_classes(structures, classes), classes),
        }

    return finish_part(output / name, identity, write)


def to_arrays(
    anatomy: Anatomy, spacing_mm: float, random: np.random.Generator
) -> tuple[UInt8[np.ndarray, "x y z"], UInt8[np.ndarray, "x y z"]]:
    """Structures and distances with voxels of `spacing_mm` and `MARGIN_MM` around the brain.

    A brain without a head gets a random one. Distances are as in `PreparedAnatomy.distances`.
    """
    structures, affine = anatomy.structures, anatomy.affine
    spacing = spacing_of(affine)
    box = crop_box(is_brain(structures), MARGIN_MM, spacing)
    structures, affine = structures[box], crop_affine(affine, box)
    fine_mm = min(spacing_mm, HEAD_MM)
    structures = _resampled(structures, affine, fine_mm)
    structures = _with_margin(structures, int(np.ceil(MARGIN_MM / fine_mm)))
    if not (structures >= Structure.BONE).any():
        structures = grow_head(structures, fine_mm, random)
    x, y, z = structures.shape
    structures = _resampled(structures, affine_of((x, y, z), fine_mm), spacing_mm)
    return structures, measure(structures, spacing_mm, anatomy.grown)


def _resampled(
    structures: UInt8[np.ndarray, "X Y Z"], affine: Affine, spacing_mm: float
) -> UInt8[np.ndarray, "x y z"]:
    """The nearest structures in voxels of `spacing_mm`, which they may have already."""
    if np.allclose(spacing_of(affine), spacing_mm, rtol=1e-3):
        return structures
    x, y, z = structures.shape
    shape, to_affine = grid_with_spacing((x, y, z), affine, (spacing_mm, spacing_mm, spacing_mm))
    return resample_labels(structures, affine, shape, to_affine)


def measure(
    structures: UInt8[np.ndarray, "x y z"], spacing_mm: float, thin_cortex: bool
) -> UInt8[np.ndarray, "x y z"]:
    """Distances as in `PreparedAnatomy.distances`; those of cortex only if it may be thinned.

    Fluid more than `SURFACE_MM` beneath the surface has 0: it is in the ventricles, which a tissue
    map does not separate from sulci, or so deep in a fissure that no stripping removes it.
    """
    size = (spacing_mm, spacing_mm, spacing_mm)
    brain, fluid = is_brain(structures), structures == Structure.SULCAL_CSF
    distance = distance_to(brain & ~fluid, size)
    distance[fluid & ~is_near(~brain, SURFACE_MM, fluid, size)] = 0
    if thin_cortex:
        box = crop_box(brain, 0.0, size)
        cortex, white = structures[box] == Structure.CORTEX, np.isin(structures[box], _WHITE)
        distance[box][cortex] = distance_to(white, size)[cortex]
    return np.minimum(np.round(STEPS_PER_MM * distance), 255).astype(np.uint8)


def _with_margin(structures: UInt8[np.ndarray, "X Y Z"], margin: int) -> UInt8[np.ndarray, "x y z"]:
    """Pad with `OUTSIDE` until there are at least `margin` voxels on each side of the brain."""
    occupied = [
        np.flatnonzero(is_brain(structures).any(axis=tuple({0, 1, 2} - {axis})))
        for axis in range(3)
    ]
    missing = [
        (max(margin - int(at[0]), 0), max(margin - (n - 1 - int(at[-1])), 0))
        for at, n in zip(occupied, structures.shape, strict=True)
    ]
    return np.pad(structures, missing, constant_values=Structure.OUTSIDE)


def _held_out(names: Sequence[str], patterns: Sequence[str], seed: int) -> set[str]:
    if not patterns:
        count = max(round(_HELD_OUT_SHARE * len(names)), 1)
        found = set(np.random.default_rng(seed).permutation(sorted(names))[:count].tolist())
    else:
        fitting = {p: {name for name in names if fnmatchcase(name, p)} for p in patterns}
        if useless := next((pattern for pattern in patterns if not fitting[pattern]), None):
            raise InputError(
                f"No label map has the name {useless}, to hold out, expected one of "
                f"{', '.join(sorted(names))}."
            )
        found = set().union(*fitting.values())
    if len(found) == len(names):
        raise InputError(
            f"All {len(names)} label map(s) would be held out of training, expected some for "
            "training: give more, or hold out fewer."
        )
    return found


def _write_views(
    output: Path,
    name: str,
    structures: UInt8[np.ndarray, "x y z"],
    spacing: float,
    seed: int,
    views: Sequence[View],
    classes: ClassSet,
) -> None:
    x, y, z = structures.shape
    grid = Grid((x, y, z), affine_of((x, y, z), spacing))
    for number, view in enumerate(views):
        prior = Prior(view.modality, view.months, view.months)
        key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(legible(name).encode()) + number)
        drawn = image.draw(key, prior, image.GOOD, (x, y, z), spacing)
        shown = np.ones_like(structures, bool) if view.head else is_brain(structures)
        scan = _apply(drawn, structures, shown)
        path, labels_path = _scan_paths(output, name, view)
        write_volume(path, np.asarray(BRIGHTNESS * scan[..., 0], np.float32), grid)
        write_label_map(labels_path, to_classes(structures, classes), grid)


def _scan_paths(output: Path, name: str, view: View) -> tuple[Path, Path]:
    """The paths of a held-out anatomy's rendered scan and of its label map."""
    folder, scan = output / SCANS, f"{name}_{view.name}"
    return folder / f"{scan}_image.nii.gz", folder / f"{scan}_dseg.nii.gz"


def _case(output: Path, name: str, view: View) -> SourceCase:
    path, labels_path = _scan_paths(output, name, view)
    return SourceCase(f"{name}_{view.name}", name, (path,), labels_path, split="validation")


def _prepare_scans(
    cases: Sequence[SourceCase],
    folder: Path,
    spacing_mm: float,
    workers: int | None,
    classes: ClassSet,
) -> None:
    schema = LabelSchema.of(classes).with_ignored()
    dataset = Dataset("rendered", folder, (ANY_MODALITY,), schema, tuple(cases))
    preparation = Preparation(spacing_mm=spacing_mm)
    prepare(dataset, folder / HELD_OUT, preparation=preparation, workers=workers)


_apply = jax.jit(image.apply)
