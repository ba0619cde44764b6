"""What label values mean: tables from a source's ids to our four classes, and back."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped, UInt8

from infant_seg_jax.errors import InputError

BACKGROUND, CSF, GM, WM = range(4)
IGNORE = 255
"""Voxels that losses, samplers and metrics leave out."""

CLASS_NAMES = ("background", "CSF", "GM", "WM")
TISSUES = CLASS_NAMES[1:]
TISSUE_COLOURS = dict(zip(TISSUES, ("#56B4E9", "#D55E00", "#F0E442"), strict=True))
"""In every figure and table; of the colour-blind safe palette of Okabe and Ito (2008)."""

_NAMES_OF_CLASSES = {**dict(enumerate(CLASS_NAMES)), IGNORE: "ignore"}
_FURTHER_NAMES = {
    BACKGROUND: ("bg", "none", "outside"),
    CSF: ("cerebrospinal fluid", "ventricles", "ventricular csf", "sulcal csf"),
    GM: (
        *("gray matter", "grey matter", "cortex", "cortical gm", "deep gm", "subcortical gm"),
        *("cortical gray matter", "deep gray matter", "subcortical gray matter", "cgm", "sgm"),
        *("cortical grey matter", "deep grey matter", "subcortical grey matter"),
    ),
    WM: ("white matter", "cerebral white matter"),
}

_LONGEST_TABLE = 2**16


@dataclass(frozen=True)
class LabelSchema:
    """A table from a source's label ids to `BACKGROUND`, `CSF`, `GM`, `WM` or `IGNORE`."""

    name: str
    table: Mapping[int, int]

    def to_classes(
        self, label_map: Shaped[np.ndarray, "*shape"], path: Path | str
    ) -> UInt8[np.ndarray, "*shape"]:
        """Translate a source's label map (integers, or floats that hold whole numbers).

        `path` is named in the error.

        Raises:
            InputError: a value is not in the table; the sentence lists such values with counts.
        """
        return self.translate(label_map, self.table, path)

    def translate(
        self, label_map: Shaped[np.ndarray, "*shape"], table: Mapping[int, int], path: Path | str
    ) -> UInt8[np.ndarray, "*shape"]:
        """As `to_classes`, but to what another `table` says of the schema's ids."""
        ids = np.array(sorted(self.table))
        targets = np.array([table[index] for index in ids.tolist()], np.uint8)
        low, high = int(ids[0]), int(ids[-1])
        if high - low < _LONGEST_TABLE and _are_integers_within(label_map, low, high):
            every = np.arange(low, high + 1)
            at = np.searchsorted(ids, every)
            steps = label_map.astype(np.intp) - low
            targets, unknown = targets[at][steps], (ids[at] != every)[steps]
        else:
            at = np.minimum(np.searchsorted(ids, label_map), len(ids) - 1)
            targets, unknown = targets[at], ids[at] != label_map
        if unknown.any():
            values, counts = np.unique(label_map[unknown], return_counts=True)
            found = (f"{value:.9g} ({n} voxels)" for value, n in zip(values, counts, strict=True))
            raise InputError(
                f"{path} holds label values outside the schema '{self.name}': {_some(found)}, "
                f"expected {self.describe()}; check that this is the label map and that the "
                "schema is the one it was drawn with."
            )
        return targets

    def to_ids(self, classes: UInt8[np.ndarray, "*shape"]) -> Integer[np.ndarray, "*shape"]:
        """Write classes in the source's ids: of several ids for a class, the table's first.

        The dtype is the smallest of uint8, int16, int32 and int64 that holds them.

        Raises:
            InputError: the label map holds a class for which the table has no id.
        """
        first = {target: source for source, target in reversed(list(self.table.items()))}
        found = np.flatnonzero(np.bincount(classes.ravel(), minlength=256)).tolist()
        missing = [
            _NAMES_OF_CLASSES.get(index, str(index)) for index in found if index not in first
        ]
        if missing:
            raise InputError(
                f"The schema '{self.name}' has no id for {', '.join(missing)}, expected one for "
                f"each class that is to be written: {self.describe()}."
            )
        ids = np.zeros(256, np.int64)
        ids[found] = [first[index] for index in found]
        fits = [np.dtype(name) for name in ("uint8", "int16", "int32", "int64")]
        dtype = next(d for d in fits if (ids == ids.astype(d)).all())
        return ids.astype(dtype)[classes]

    def changed(self, changes: Mapping[int, int]) -> "LabelSchema":
        """This schema with some ids meaning other classes, or further ids."""
        if not changes:
            return self
        said = ",".join(f"{source}:{name_of_class(target)}" for source, target in changes.items())
        return LabelSchema(f"{self.name} with {said}", {**self.table, **changes})

    def describe(self) -> str:
        """The table in words, as in '0 background, 1 CSF'."""
        entries = (f"{source} {name_of_class(target)}" for source, target in self.table.items())
        return _some(entries, 40)


def name_of_class(index: int) -> str:
    """`background`, `CSF`, `GM`, `WM` or `ignore`."""
    return _NAMES_OF_CLASSES[index]


def class_of_name(name: str) -> int | None:
    """The class that a label's name means in English, or None if it is none that we know.

    'CSF', 'Gray_Matter', 'deep grey matter', 'CGM' and the like; upper and lower case, spaces,
    hyphens and underscores are alike.
    """
    plain = name.strip().lower().replace("_", " ").replace("-", " ")
    for index, known in _NAMES_OF_CLASSES.items():
        if plain in (known.lower(), *_FURTHER_NAMES.get(index, ())):
            return index
    return None


def count_classes(label_map: Integer[np.ndarray, "*shape"]) -> dict[str, int]:
    """Voxels of each class, by name."""
    return {name: int(np.sum(label_map == index)) for index, name in enumerate(CLASS_NAMES)}


def _some(texts: Iterable[str], limit: int = 10) -> str:
    texts = list(texts)
    return ", ".join(texts[:limit]) + (", ..." if len(texts) > limit else "")


def _are_integers_within(label_map: Shaped[np.ndarray, "*shape"], low: int, high: int) -> bool:
    if label_map.dtype.kind not in "iu" or not label_map.size:
        return False
    return bool(low <= label_map.min() and label_map.max() <= high)
