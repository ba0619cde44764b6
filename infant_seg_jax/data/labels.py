"""What label values mean: tables from a source's ids to the classes of a network, and back."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped, UInt8

from infant_seg_jax.errors import InputError, some_of

BACKGROUND, CSF, GM, WM = range(4)
IGNORE = 255
"""Voxels that losses, samplers and metrics leave out."""

_RESERVED = ("ignore", "mean", "brain", "intracranial")
"""Names that tables have for something else."""


@dataclass(frozen=True)
class Class:
    """One of the classes that a label map tells apart.

    Attributes:
        name: of letters and digits, as in `CSF`: for tables, flags and the names of files.
        full_name: as in `Cerebrospinal Fluid`.
        value: in label maps.
        tissue: `BACKGROUND`, `CSF`, `GM` or `WM`; `IGNORE` for what is of no single tissue, such as
            a cerebellum that is drawn as one.
        color: in every figure and table, as in `#56B4E9`.
        mapping: its number in BIDS' table of labels; None where that has none.

    Raises:
        ValueError: a field holds something else.
    """

    name: str
    full_name: str
    value: int
    tissue: int
    color: str
    mapping: int | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch("[A-Za-z][A-Za-z0-9]{0,39}", self.name) or self.name in _RESERVED:
            raise ValueError(
                f"a class is called {self.name!r}, expected at most 40 letters and digits, "
                f"starting with a letter, and none of {', '.join(_RESERVED)}"
            )
        if not 0 <= self.value < 2**31 or self.value == IGNORE:
            raise ValueError(
                f"{self.name} has the value {self.value}, expected 0 to {2**31 - 1} except {IGNORE}"
            )
        if self.tissue not in (BACKGROUND, CSF, GM, WM, IGNORE):
            raise ValueError(f"{self.name} has the tissue {self.tissue!r}")
        if not re.fullmatch("#[0-9A-Fa-f]{6}", self.color):
            raise ValueError(f"{self.name} has the color {self.color!r}, expected one like #56B4E9")
        if not self.full_name.isprintable() or not 0 < len(self.full_name) <= 100:
            raise ValueError(
                f"{self.name} has the full name {self.full_name!r}, expected 1 to 100 letters"
            )

    @property
    def abbreviation(self) -> str:
        """As in BIDS, whose background is `BG`."""
        return "BG" if self.name == "background" else self.name


@dataclass(frozen=True)
class ClassSet:
    """The classes that a label map tells apart, in the order of a network's outputs.

    In memory a voxel is the index of its class; in files it is the class's value.

    Attributes:
        name: as given to `--classes`.
        classes: 2 to 255 with names and values of their own; the first is `background`, and 0.

    Raises:
        ValueError: they are otherwise.
    """

    name: str = field(compare=False)
    classes: tuple[Class, ...]

    def __post_init__(self) -> None:
        if not self.name.isprintable() or not 0 < len(self.name) <= 100:
            raise ValueError(f"the classes are called {self.name!r}")
        first = self.classes[0] if self.classes else None
        if first is None or (first.name, first.value, first.tissue) != ("background", 0, 0):
            raise ValueError("the first class is not background with the value 0")
        if not 2 <= len(self.classes) <= IGNORE:
            raise ValueError(f"there are {len(self.classes)} classes, expected 2 to {IGNORE}")
        for what in ("name", "value"):
            found = [str(getattr(one, what)).lower() for one in self.classes]
            if doubles := [one for one in found if found.count(one) > 1]:
                raise ValueError(f"two classes have the {what} {doubles[0]}")

    def __len__(self) -> int:
        return len(self.classes)

    def __str__(self) -> str:
        return ", ".join(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all classes, in their order."""
        return tuple(one.name for one in self.classes)

    @property
    def foreground(self) -> dict[str, int]:
        """The index of each class but background, by its name."""
        return {name: index for index, name in enumerate(self.names) if index != BACKGROUND}

    @property
    def colors(self) -> dict[str, str]:
        """The color of each class but background, by its name."""
        return {one.name: one.color for one in self.classes[1:]}

    @property
    def tissues(self) -> tuple[int, ...]:
        """The tissue of each class."""
        return tuple(one.tissue for one in self.classes)

    def name_of(self, index: int) -> str:
        """The name of a class, or `ignore`."""
        return "ignore" if index == IGNORE else self.names[index]

    def convert(
        self, labels: UInt8[np.ndarray, "*shape"], to: "ClassSet"
    ) -> UInt8[np.ndarray, "*shape"]:
        """A label map of these classes as one of the same classes, or of tissues.

        What is of no single tissue becomes `IGNORE`.

        Raises:
            ValueError: it is wanted in other classes than these or tissues.
        """
        if to == self:
            return labels
        if to != TISSUE_CLASSES:
            raise ValueError(f"classes of '{self.name}' are none of '{to.name}'")
        table = np.full(256, IGNORE, np.uint8)
        table[: len(self)] = self.tissues
        return table[labels]


TISSUE_CLASSES = ClassSet(
    "tissues",
    (
        Class("background", "Background", 0, BACKGROUND, "#000000", 0),
        Class("CSF", "Cerebrospinal Fluid", 1, CSF, "#56B4E9", 3),
        Class("GM", "Gray Matter", 2, GM, "#D55E00", 1),
        Class("WM", "White Matter", 3, WM, "#F0E442", 2),
    ),
)
"""The default. Colors are of the color-blind safe palette of Okabe and Ito (2008)."""
TISSUES = tuple(TISSUE_CLASSES.foreground)

_FURTHER_NAMES = {
    BACKGROUND: ("bg", "none", "outside"),
    CSF: ("ventricles", "ventricular csf", "sulcal csf"),
    GM: (
        *("grey matter", "cortex", "cortical gm", "deep gm", "subcortical gm"),
        *("cortical gray matter", "deep gray matter", "subcortical gray matter", "cgm", "sgm"),
        *("cortical grey matter", "deep grey matter", "subcortical grey matter"),
    ),
    WM: ("cerebral white matter",),
}
"""Of background, whatever the other classes are, and of tissues."""

_LONGEST_TABLE = 2**16


@dataclass(frozen=True)
class LabelSchema:
    """A table from a source's label ids to the indices of classes, or `IGNORE`."""

    name: str
    table: Mapping[int, int]
    classes: ClassSet = TISSUE_CLASSES

    @classmethod
    def of(cls, classes: ClassSet) -> "LabelSchema":
        """The classes' own values."""
        return cls(classes.name, {one.value: i for i, one in enumerate(classes.classes)}, classes)

    def of_tissues(self) -> "LabelSchema":
        """The same ids by what tissue they are."""
        tissues = {
            index: self.classes.tissues[at] for index, at in self.table.items() if at != IGNORE
        }
        return LabelSchema(self.name, {**dict.fromkeys(self.table, IGNORE), **tissues})

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
                f"{path} has label values outside the schema '{self.name}': "
                f"{some_of(found, 10)}, expected {self.describe()}; check that this "
                "is the label map and that the schema is the right one."
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
        names = {**dict(enumerate(self.classes.names)), IGNORE: "ignore"}
        missing = [names.get(index, str(index)) for index in found if index not in first]
        if missing:
            raise InputError(
                f"The schema '{self.name}' has no id for {', '.join(missing)}, expected one for "
                f"each class to write: {self.describe()}."
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
        named = ((source, self.classes.name_of(target)) for source, target in changes.items())
        listed = ",".join(f"{source}:{name}" for source, name in named)
        return replace(self, name=f"{self.name} with {listed}", table={**self.table, **changes})

    def with_ignored(self) -> "LabelSchema":
        """This schema with `IGNORE` for what is to be left out, if it has no other meaning."""
        return replace(self, table={**self.table, IGNORE: self.table.get(IGNORE, IGNORE)})

    def describe(self) -> str:
        """The table in words, as in '0 background, 1 CSF'."""
        named = ((source, self.classes.name_of(target)) for source, target in self.table.items())
        return some_of((f"{source} {name}" for source, name in named), 40)


def class_of_name(name: str, classes: ClassSet = TISSUE_CLASSES) -> int | None:
    """The index of the class that a label's name means, or None if it is none that we know.

    Names and full names are known, and of background and of tissues some further ones in English:
    'bg', 'Gray_Matter', 'deep grey matter', 'CGM' and the like. Upper and lower case, spaces,
    hyphens and underscores are alike.
    """
    plain = _plain(name)
    for index, known in enumerate(classes.classes):
        alike = index == BACKGROUND or classes == TISSUE_CLASSES
        further = _FURTHER_NAMES[index] if alike else ()
        if plain in (_plain(known.name), _plain(known.full_name), *further):
            return index
    return IGNORE if plain == "ignore" else None


def count_classes(
    label_map: Integer[np.ndarray, "*shape"], classes: ClassSet = TISSUE_CLASSES
) -> dict[str, int]:
    """Voxels of each class, by name."""
    return {name: int(np.sum(label_map == index)) for index, name in enumerate(classes.names)}


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ").replace("-", " ")


def _are_integers_within(label_map: Shaped[np.ndarray, "*shape"], low: int, high: int) -> bool:
    if label_map.dtype.kind not in "iu" or not label_map.size:
        return False
    return bool(low <= label_map.min() and label_map.max() <= high)
