"""The class sets that have names, and those that a person writes in a small file or a record has.

A record is what a manifest, a run and a model hold of their classes: rows with the columns of BIDS'
`dseg.tsv` and one for the tissue. Of tissues it is their names alone, as version 0.1 wrote them.
"""

import colorsys
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infant_seg_jax.data.bids.tables import read_table
from infant_seg_jax.data.labels import (
    BACKGROUND,
    CSF,
    GM,
    IGNORE,
    TISSUE_CLASSES,
    WM,
    Class,
    ClassSet,
    class_of_name,
)
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import read_json

DRAWEM9_CLASSES = ClassSet(
    "drawem9",
    (
        TISSUE_CLASSES.classes[BACKGROUND],
        TISSUE_CLASSES.classes[CSF],
        Class("CGM", "Cortical Gray Matter", 2, GM, "#D55E00", 8),
        TISSUE_CLASSES.classes[WM],
        Class("VENT", "Ventricles", 5, CSF, "#0072B2", 3),
        Class("CBM", "Cerebellum", 6, IGNORE, "#009E73", 11),
        Class("SGM", "Deep Gray Matter", 7, GM, "#E69F00", 9),
        Class("BS", "Brainstem", 8, IGNORE, "#A6761D", 10),
        Class("HA", "Hippocampi and Amygdala", 9, GM, "#AA4499", 1),
    ),
)
"""The nine tissues of dHCP's DrawEM (Makropoulos et al., NeuroImage 173, 2018), in its values."""

BRAIN_CLASSES = ClassSet(
    "brain",
    (
        TISSUE_CLASSES.classes[BACKGROUND],
        Class("Inside", "Brain and Surrounding Fluid", 1, IGNORE, "#D55E00"),
    ),
)
"""What is within the skull, and what is not."""

CLASS_SETS = {classes.name: classes for classes in (TISSUE_CLASSES, DRAWEM9_CLASSES, BRAIN_CLASSES)}

_COLUMNS = ("index", "name", "abbreviation", "color", "mapping", "tissue")
_MIXED = "mixed"
"""Of no single tissue."""
_TISSUES = {**{n.lower(): index for index, n in enumerate(TISSUE_CLASSES.names)}, _MIXED: IGNORE}
_GOLDEN_RATIO = 0.618034


def find_classes(name: str) -> ClassSet:
    """A class set by its name, or from a `.tsv` or `.json` file.

    The file has a row for each class, background first, with `index` (the value in label maps) and
    `name`. It may have `abbreviation` (letters and digits, for tables and files' names), `color`,
    `mapping` (the number in BIDS' table) and `tissue`: background, CSF, GM, WM, or mixed for what
    is of no single one; only names that we know do without. In JSON they are a list, right away or
    below `classes`.

    Raises:
        InputError: there is no such name or file, or the file holds something else.
    """
    if name in CLASS_SETS:
        return CLASS_SETS[name]
    path = Path(name)
    if not path.is_file():
        raise InputError(
            f"There are no classes '{name}', expected {' or '.join(CLASS_SETS)}, or a .tsv or "
            ".json file with a row for each class, like dseg.tsv."
        )
    if path.suffix.lower() == ".tsv":
        rows: Any = read_table(path, _COLUMNS[:2], _COLUMNS[2:])
    else:
        content = read_json(path)
        rows = content.get("classes") if isinstance(content, dict) else content
    try:
        return _parse(path.stem, rows)
    except ValueError as error:
        raise InputError(
            f"{path} cannot be used as classes ({error}): write a row for each class with "
            f"{', '.join(_COLUMNS)}, background first."
        ) from error


def to_record(classes: ClassSet) -> list[str] | dict[str, Any]:
    """JSON that `from_record` reads."""
    if classes == TISSUE_CLASSES:
        return list(classes.names)
    rows = [
        {
            "index": one.value,
            "name": one.full_name,
            "abbreviation": one.name,
            "color": one.color,
            "mapping": one.mapping,
            "tissue": _MIXED if one.tissue == IGNORE else TISSUE_CLASSES.name_of(one.tissue),
        }
        for one in classes.classes
    ]
    return {"name": classes.name, "classes": rows}


def from_record(record: Any) -> ClassSet:
    """The classes of a record.

    Raises:
        ValueError: it holds something else.
    """
    if record == list(TISSUE_CLASSES.names):
        return TISSUE_CLASSES
    if not isinstance(record, Mapping) or not isinstance(record.get("name"), str):
        raise ValueError(f"the classes are {record}, not {list(TISSUE_CLASSES.names)}")
    return _parse(record["name"], record.get("classes"))


def classes_in(content: Mapping[str, Any], key: str = "classes") -> ClassSet:
    """The classes whose record is under this key; tissues where there is none, as of version 0.1.

    Raises:
        ValueError: it holds something else.
    """
    return from_record(content[key]) if key in content else TISSUE_CLASSES


def classes_record(classes: ClassSet, key: str = "classes") -> dict[str, Any]:
    """What `classes_in` reads: the record under this key, or nothing of tissues."""
    return {} if classes == TISSUE_CLASSES else {key: to_record(classes)}


def _parse(name: str, rows: Any) -> ClassSet:
    if not isinstance(rows, list) or not 0 < len(rows) <= IGNORE:
        raise ValueError(f"expected a list of 2 to {IGNORE} classes")
    return ClassSet(name, tuple(_parse_row(row, at) for at, row in enumerate(rows)))


def _parse_row(row: Any, at: int) -> Class:
    if not isinstance(row, Mapping) or not set(row) <= set(_COLUMNS):
        raise ValueError(f"class {at} lacks some of the columns {', '.join(_COLUMNS)}")
    cells = {key: str(value) for key, value in row.items() if value not in (None, "", "n/a")}
    full = cells.get("name", "")
    short = cells.get("abbreviation") or re.sub("[^A-Za-z0-9]", "", full)
    if at == 0 and class_of_name(short) == BACKGROUND:
        short = TISSUE_CLASSES.names[BACKGROUND]
    return Class(
        short,
        full,
        _whole(cells.get("index", ""), "index", full),
        _tissue(cells, full),
        cells.get("color") or _color(at),
        _whole(cells["mapping"], "mapping", full) if "mapping" in cells else None,
    )


def _whole(text: str, what: str, name: str) -> int:
    if not re.fullmatch("[0-9]{1,10}", text):
        raise ValueError(f"{name!r} has the {what} {text[:40]!r}, expected a whole number")
    return int(text)


def _tissue(cells: Mapping[str, str], full: str) -> int:
    """The tissue that is said, or else that the class's names mean."""
    if "tissue" in cells:
        found = _TISSUES.get(cells["tissue"].lower())
    else:
        names = (full, cells.get("abbreviation", ""))
        found = next((index for n in names if (index := class_of_name(n)) is not None), None)
    if found is None:
        raise ValueError(
            f"{full!r} has the tissue {cells.get('tissue', '')[:40]!r}, expected one of "
            f"{', '.join(TISSUE_CLASSES.names)}, {_MIXED}"
        )
    return found


def _color(at: int) -> str:
    """One of many that differ in hue."""
    red, green, blue = colorsys.hsv_to_rgb(at * _GOLDEN_RATIO % 1, 0.7, 0.9)
    return f"#{round(255 * red):02X}{round(255 * green):02X}{round(255 * blue):02X}"
