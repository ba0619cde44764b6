"""Prepared sets: what training reads. A folder that holds

- `manifest.json`: what each case is, where it came from and how it was prepared;
- `splits.json`: a list of folds, each `{"train": [ids], "validation": [ids], "test": [ids]}`,
  which a person may edit;
- `CASE/image.npy` (float32, `(x, y, z, c)`) and, where the case has labels, `CASE/labels.npy`
  (uint8 classes, `(x, y, z)`), which are memory-mapped.

The same inputs give the same bytes.
"""

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from infant_seg_jax.data.labels import CLASS_NAMES, LabelSchema, count_classes
from infant_seg_jax.data.nifti import Affine, Shape
from infant_seg_jax.data.preprocessing import Box, Preparation, prepare_volume
from infant_seg_jax.data.sources import SourceCase
from infant_seg_jax.data.splits import SPLITS, Fold, check_folds, make_fold, read_folds
from infant_seg_jax.data.volumes import (
    check_same_grid,
    read_images,
    read_label_map,
    spacing_of,
)
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import atomic_folder, read_json, sha256, write_json
from infant_seg_jax.progress import progress

FORMAT = 1

_MANIFEST, _SPLITS_FILE = "manifest.json", "splits.json"


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """One case of a prepared set.

    Attributes:
        case_id, participant: as in the source.
        image_path, labels_path: the arrays; `labels_path` is None for a case without labels.
        shape: voxels of the crop along x, y, z.
        channels: how many modalities.
        affine: voxel indices of the crop to RAS+ millimetres.
        box: where the crop lies in the scan's RAS+ volume.
        native_shape, native_affine: the grid of the scan's own file.
        sources: the files it came from (relative to the input folder, if they lay below it), each
            with its SHA-256.
        voxels: labelled voxels in the crop by class name; None without labels.
    """

    case_id: str
    participant: str
    image_path: Path
    labels_path: Path | None
    shape: Shape
    channels: int
    affine: Affine
    box: Box
    native_shape: Shape
    native_affine: Affine
    sources: Mapping[str, str]
    voxels: Mapping[str, int] | None

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along x, y, z in mm."""
        return spacing_of(self.affine)

    def image(self) -> Float32[np.ndarray, "x y z c"]:
        """The normalised scan, memory-mapped, read-only.

        Raises:
            InputError: the file is missing or damaged or is not what the manifest says.
        """
        return _map_array(self.image_path, (*self.shape, self.channels), np.float32)

    def labels(self) -> UInt8[np.ndarray, "x y z"]:
        """The classes, memory-mapped, read-only.

        Raises:
            InputError: as `image`, or the case has no labels.
        """
        if self.labels_path is None:
            raise InputError(f"The case {self.case_id} beside {self.image_path} has no labels.")
        return _map_array(self.labels_path, self.shape, np.uint8)


@dataclass(frozen=True, eq=False)
class PreparedSet:
    """A prepared set that was found to be sound."""

    folder: Path
    source: str
    schema: LabelSchema
    modalities: tuple[str, ...]
    preparation: Preparation
    cases: tuple[PreparedCase, ...]
    folds: tuple[Fold, ...]

    def split(self, name: str, fold: int = 0) -> tuple[PreparedCase, ...]:
        """The cases of `train`, `validation` or `test` in one fold, in the order of `cases`.

        Raises:
            InputError: there is no such split or fold.
        """
        if name not in SPLITS or not 0 <= fold < len(self.folds):
            raise InputError(
                f"{self.folder / _SPLITS_FILE} has no split '{name}' in fold {fold}, expected one "
                f"of {', '.join(SPLITS)} in a fold from 0 to {len(self.folds) - 1}."
            )
        return tuple(case for case in self.cases if case.case_id in self.folds[fold][name])


def prepare(
    cases: Sequence[SourceCase],
    output: Path,
    *,
    source: str,
    schema: LabelSchema,
    modalities: tuple[str, ...],
    preparation: Preparation = Preparation(),  # noqa: B008 (frozen)
    input_folder: Path | None = None,
    seed: int = 0,
    workers: int | None = None,
) -> PreparedSet:
    """Prepare a source's cases into the new folder `output`, all or nothing.

    Args:
        cases: what was found; those without labels can be predicted, not trained on.
        output: is made; must not exist, or be empty.
        source: the source's name, for the manifest.
        schema: what the values of the label maps mean.
        modalities: the names of the channels, one per image of a case.
        preparation: its parameters.
        input_folder: paths in the manifest are relative to it.
        seed: draws the split where the source has none.
        workers: subjects prepared at a time (threads: decompression and NumPy release the lock).

    Raises:
        InputError: two cases share an id, a case lacks a modality, or a file cannot be used; the
            sentence names it.
    """
    _check_cases(cases, modalities)
    one = partial(_prepare_case, schema=schema, preparation=preparation, input_folder=input_folder)
    with (
        atomic_folder(output) as folder,
        ThreadPoolExecutor(workers or min(4, os.cpu_count() or 1)) as pool,
        progress("preparing", len(cases), unit="subject") as bar,
    ):
        entries = []
        try:
            for entry in pool.map(lambda case: one(case, folder / case.case_id), cases):
                entries.append(entry)
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        manifest = {
            "format": FORMAT,
            "software": f"infant_seg_jax {version('infant_seg_jax')}",
            "source": source,
            "schema": {"name": schema.name, "table": {str(k): v for k, v in schema.table.items()}},
            "class_names": list(CLASS_NAMES),
            "modalities": list(modalities),
            "preparation": asdict(preparation),
            "cases": entries,
        }
        write_json(folder / _MANIFEST, manifest)
        write_json(folder / _SPLITS_FILE, [make_fold(cases, seed)])
    return open_prepared(output)


def open_prepared(folder: Path) -> PreparedSet:
    """Open a prepared set, and check all of it but the voxels.

    Raises:
        InputError: the manifest or splits are missing, damaged or of another format; an array is
            not what the manifest says or lies outside the folder; a split names an unknown or
            unlabelled case, or a participant is in more than one split of a fold.
    """
    folder = Path(folder)
    path = folder / _MANIFEST
    if not path.is_file():
        raise InputError(
            f"{folder} is not a prepared set: it holds no {_MANIFEST}, expected the output folder "
            "of `infant-seg prepare`."
        )
    manifest = read_json(path)
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise InputError(
            f"{path} has the format {found!r}, expected {FORMAT}: prepare the set again with this "
            "version of the software."
        )
    try:
        table = {int(key): int(value) for key, value in manifest["schema"]["table"].items()}
        modalities = tuple(str(name) for name in manifest["modalities"])
        prepared = PreparedSet(
            folder=folder,
            source=str(manifest["source"]),
            schema=LabelSchema(str(manifest["schema"]["name"]), table),
            modalities=modalities,
            preparation=Preparation(**manifest["preparation"]),
            cases=tuple(_parse_case(entry, folder, len(modalities)) for entry in manifest["cases"]),
            folds=read_folds(folder / _SPLITS_FILE),
        )
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged ({type(error).__name__}: {error}): prepare the set again."
        ) from error
    for case in prepared.cases:
        case.image()
        if case.labels_path:
            case.labels()
    check_folds(
        prepared.folds,
        folder / _SPLITS_FILE,
        participants={case.case_id: case.participant for case in prepared.cases},
        labelled={case.case_id for case in prepared.cases if case.labels_path},
    )
    return prepared


def _check_cases(cases: Sequence[SourceCase], modalities: tuple[str, ...]) -> None:
    ids = [case.case_id for case in cases]
    for case in cases:
        if ids.count(case.case_id) > 1:
            raise InputError(f"Two cases share the id {case.case_id}, expected one id for each.")
        if not case.case_id or Path(case.case_id).name != case.case_id:
            raise InputError(f"The case id {case.case_id!r} cannot name a folder: rename the case.")
        if len(case.images) != len(modalities):
            raise InputError(
                f"The case {case.case_id} has {len(case.images)} images, expected "
                f"{len(modalities)}: {', '.join(modalities)}."
            )


def _prepare_case(
    case: SourceCase,
    folder: Path,
    *,
    schema: LabelSchema,
    preparation: Preparation,
    input_folder: Path | None,
) -> dict[str, Any]:
    """Write the arrays of one case and return its entry in the manifest."""
    volume = read_images(case.images)
    prepared = prepare_volume(volume, preparation)
    folder.mkdir()
    np.save(folder / "image.npy", prepared.image)
    voxels = None
    if case.labels is not None:
        label_map = read_label_map(case.labels)
        check_same_grid(label_map, volume)
        classes = schema.to_classes(label_map.data, case.labels)[prepared.box]
        voxels = count_classes(classes)
        if not any(voxels[name] for name in CLASS_NAMES[1:]):
            raise InputError(
                f"{case.labels} labels no tissue within the brain of {case.images[0]}, expected "
                "CSF, GM or WM."
            )
        np.save(folder / "labels.npy", np.ascontiguousarray(classes))
    files = [*case.images, *([case.labels] if case.labels else [])]
    return {
        "id": case.case_id,
        "participant": case.participant,
        "image": f"{case.case_id}/image.npy",
        "labels": None if case.labels is None else f"{case.case_id}/labels.npy",
        "shape": list(prepared.image.shape[:3]),
        "spacing_mm": list(volume.spacing),
        "affine": prepared.affine.tolist(),
        "box": [[side.start, side.stop] for side in prepared.box],
        "native_shape": list(volume.native.shape),
        "native_affine": volume.native.affine.tolist(),
        "sources": {_relative(path, input_folder): sha256(path) for path in files},
        "voxels": voxels,
    }


def _relative(path: Path, folder: Path | None) -> str:
    path = Path(os.path.abspath(path))
    root = Path(os.path.abspath(folder)) if folder else None
    return (path.relative_to(root) if root and path.is_relative_to(root) else path).as_posix()


def _parse_case(entry: Any, folder: Path, channels: int) -> PreparedCase:
    labels, voxels = entry["labels"], entry["voxels"]
    x, y, z = (slice(int(start), int(stop)) for start, stop in entry["box"])
    return PreparedCase(
        case_id=str(entry["id"]),
        participant=str(entry["participant"]),
        image_path=_inside(folder, entry["image"]),
        labels_path=None if labels is None else _inside(folder, labels),
        shape=_parse_shape(entry["shape"]),
        channels=channels,
        affine=_parse_affine(entry["affine"]),
        box=(x, y, z),
        native_shape=_parse_shape(entry["native_shape"]),
        native_affine=_parse_affine(entry["native_affine"]),
        sources={str(path): str(digest) for path, digest in entry["sources"].items()},
        voxels=voxels and {str(name): int(count) for name, count in voxels.items()},
    )


def _parse_shape(sizes: Any) -> Shape:
    x, y, z = (int(size) for size in sizes)
    return x, y, z


def _parse_affine(rows: Any) -> Affine:
    affine = np.array(rows, np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise ValueError(f"an affine of the shape {affine.shape}, expected 4 x 4 finite numbers")
    return affine


def _inside(folder: Path, relative: str) -> Path:
    path = folder / relative
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"{folder / _MANIFEST} names {relative}, which lies outside its folder: a prepared set "
            "holds its own arrays."
        )
    return path


def _map_array(path: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # damaged headers fail in NumPy's parser in more ways than it lists
        raise InputError(f"{path} cannot be read ({error}): prepare the set again.") from error
    if array.shape != shape or array.dtype != dtype or not math.prod(shape):
        raise InputError(
            f"{path} holds {array.dtype} of the shape {array.shape}, expected {np.dtype(dtype)} of "
            f"the shape {shape} by {_MANIFEST}: prepare the set again."
        )
    return array
