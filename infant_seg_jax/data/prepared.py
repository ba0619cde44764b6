"""Prepared sets: what training reads. A folder that holds

- `manifest.json`: what each case is, where it came from and how it was prepared;
- `splits.json`: a list of folds, each `{"train": [ids], "validation": [ids], "test": [ids]}`,
  which a person may edit;
- `CASE/image.npy` (float16, `(x, y, z, c)`; float32 in older sets) and, where the case has labels,
  `CASE/labels.npy` (uint8 classes, `(x, y, z)`), which are memory-mapped; `CASE/case.json`, its
  part of the manifest.

`infant_seg_jax.data.preparing` writes them.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt8

from infant_seg_jax.data.ages import Age
from infant_seg_jax.data.class_sets import classes_in, to_record
from infant_seg_jax.data.cropping import Box
from infant_seg_jax.data.formats.grid import Affine, Shape
from infant_seg_jax.data.labels import TISSUE_CLASSES, ClassSet, LabelSchema
from infant_seg_jax.data.preprocessing import Preparation, preparation_from_record
from infant_seg_jax.data.splits import SPLITS, Fold, check_folds, read_folds
from infant_seg_jax.data.volumes import spacing_of
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import read_json

ANY_MODALITY = "any"
"""What a set calls images of which each has a contrast of its own, and so a network of such."""

FORMAT, CLASSES_FORMAT = 2, 3
"""Of sets with tissues, and with other classes, which version 0.1 would take for tissues."""
MANIFEST, SPLITS_FILE = "manifest.json", "splits.json"


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """One case of a prepared set.

    Attributes:
        case_id, participant: as in the source.
        age: at the scan, where it is known.
        extent: `"brain"` or `"head"`, what the image shows.
        image_path, labels_path: the arrays; `labels_path` is None for a case without labels.
        shape: voxels along x, y, z.
        channels: how many modalities.
        affine: voxel indices of the image to RAS+ millimeters.
        box: where the crop lies in the scan's RAS+ volume, in voxels of that.
        native_shape, native_affine: the grid of the scan's own file.
        sources: the files it came from (relative to the input folder, if they lay below it), each
            with its SHA-256.
        voxels: labeled voxels by the names of all classes, in their order; None without labels.
    """

    case_id: str
    participant: str
    age: Age | None
    extent: str
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
        """The normalized scan, read whole.

        Raises:
            InputError: as `stored_image`.
        """
        return np.array(self.stored_image(), np.float32)

    def stored_image(self) -> Float[np.ndarray, "x y z c"]:
        """The normalized scan as it is stored, in half precision, memory-mapped, read-only.

        Raises:
            InputError: the file is missing or damaged or is not what the manifest says.
        """
        shape = (*self.shape, self.channels)
        return map_array(self.image_path, shape, np.float16, np.float32)

    def labels(self) -> UInt8[np.ndarray, "x y z"]:
        """The classes, memory-mapped, read-only.

        Raises:
            InputError: as `stored_image`, or the case has no labels.
        """
        if self.labels_path is None:
            raise InputError(f"The case {self.case_id} beside {self.image_path} has no labels.")
        return map_array(self.labels_path, self.shape, np.uint8)


@dataclass(frozen=True)
class ExpectedScans:
    """What a network's training scans and labels were, and so what it makes of another scan.

    Attributes:
        modalities: the images of a subject, in this order.
        preparation: what the scans went through.
        extents: what they showed: `"brain"`, `"head"` or both.
        classes: what their labels told apart.
    """

    modalities: tuple[str, ...]
    preparation: Preparation
    extents: tuple[str, ...]
    classes: ClassSet = TISSUE_CLASSES

    def record(self) -> dict[str, Any]:
        """JSON that `expected_scans_from_record` reads."""
        return {
            "classes": to_record(self.classes),
            "modalities": self.modalities,
            "preparation": asdict(self.preparation),
            "extents": self.extents,
        }


def expected_scans_from_record(record: Mapping[str, Any]) -> ExpectedScans:
    """What a record of a run or a model has of its scans; tissues where it has no classes.

    Raises:
        KeyError, TypeError, ValueError: it holds something else.
    """
    return ExpectedScans(
        _strings(record["modalities"]),
        preparation_from_record(record["preparation"]),
        _strings(record["extents"]),
        classes_in(record),
    )


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

    @property
    def extents(self) -> tuple[str, ...]:
        """What the images show: `("brain",)`, `("head",)` or both."""
        return tuple(sorted({case.extent for case in self.cases}))

    @property
    def classes(self) -> ClassSet:
        """What the labels tell apart."""
        return self.schema.classes

    @property
    def expected_scans(self) -> ExpectedScans:
        """What a network that trains on this set expects of a scan."""
        return ExpectedScans(self.modalities, self.preparation, self.extents, self.classes)

    def split(self, name: str, fold: int = 0) -> tuple[PreparedCase, ...]:
        """The cases of `train`, `validation` or `test` in one fold, in the order of `cases`.

        Raises:
            InputError: there is no such split or fold.
        """
        if name not in SPLITS or not 0 <= fold < len(self.folds):
            raise InputError(
                f"{self.folder / SPLITS_FILE} has no split '{name}' in fold {fold}, expected one "
                f"of {', '.join(SPLITS)} in a fold from 0 to {len(self.folds) - 1}."
            )
        return tuple(case for case in self.cases if case.case_id in self.folds[fold][name])


def open_prepared(folder: Path) -> PreparedSet:
    """Open a prepared set, and check all of it but the voxels.

    Raises:
        InputError: the manifest or splits are missing, damaged or of another format; an array is
            not what the manifest says or lies outside the folder; a split names an unknown or
            unlabeled case, or a participant is in more than one split of a fold.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(
            f"{folder} is not a prepared set: it contains no {MANIFEST}, expected the output "
            "folder of `infant-seg prepare`."
        )
    manifest = read_json(path)
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found not in (FORMAT, CLASSES_FORMAT):
        raise InputError(
            f"{path} has the format {found!r}, expected {FORMAT}: prepare the set again with this "
            "version of the software."
        )
    folds = read_folds(folder / SPLITS_FILE)
    try:
        table = {int(key): int(value) for key, value in manifest["schema"]["table"].items()}
        classes = classes_in(manifest)
        modalities = tuple(str(name) for name in manifest["modalities"])
        prepared = PreparedSet(
            folder=folder,
            source=str(manifest["source"]),
            schema=LabelSchema(str(manifest["schema"]["name"]), table, classes),
            modalities=modalities,
            preparation=preparation_from_record(manifest["preparation"]),
            cases=tuple(
                _parse_case(entry, folder, len(modalities), classes) for entry in manifest["cases"]
            ),
            folds=folds,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged ({type(error).__name__}: {error}): prepare the set again."
        ) from error
    for case in prepared.cases:
        case.stored_image()
        if case.labels_path:
            case.labels()
    check_folds(
        prepared.folds,
        folder / SPLITS_FILE,
        participants={case.case_id: case.participant for case in prepared.cases},
        labeled={case.case_id for case in prepared.cases if case.labels_path},
    )
    return prepared


def _parse_case(entry: Any, folder: Path, channels: int, classes: ClassSet) -> PreparedCase:
    labels, voxels, age = entry["labels"], entry["voxels"], entry["age"]
    x, y, z = (slice(int(start), int(stop)) for start, stop in entry["box"])
    return PreparedCase(
        case_id=str(entry["id"]),
        participant=str(entry["participant"]),
        age=age and Age(float(age["value"]), str(age["unit"])),
        extent=str(entry["extent"]),
        image_path=_inside(folder, entry["image"]),
        labels_path=None if labels is None else _inside(folder, labels),
        shape=_parse_shape(entry["shape"]),
        channels=channels,
        affine=_parse_affine(entry["affine"]),
        box=(x, y, z),
        native_shape=_parse_shape(entry["native_shape"]),
        native_affine=_parse_affine(entry["native_affine"]),
        sources={str(path): str(digest) for path, digest in entry["sources"].items()},
        voxels=voxels and {name: int(voxels.get(name, 0)) for name in classes.names},
    )


def _strings(content: Any) -> tuple[str, ...]:
    if not isinstance(content, list) or not all(isinstance(part, str) for part in content):
        raise ValueError(f"expected a list of names, not {content!r}")
    return tuple(content)


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
        raise ValueError(f"it names {relative}, which is outside its folder")
    return path


def map_array(path: Path, shape: tuple[int, ...], *dtypes: type) -> np.ndarray:
    """An array of a prepared set, memory-mapped, read-only.

    Raises:
        InputError: the file is missing or damaged or is not of this shape and one of these types.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # damaged headers fail in NumPy's parser in more ways than it lists
        raise InputError(f"{path} cannot be read ({error}): prepare the set again.") from error
    if array.shape != shape or array.dtype not in dtypes or not math.prod(shape):
        raise InputError(
            f"{path} has {array.dtype} of the shape {array.shape}, expected "
            f"{np.dtype(dtypes[0])} of the shape {shape} by {MANIFEST}: prepare the set again."
        )
    return array
