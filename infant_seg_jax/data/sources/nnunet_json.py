"""What the `dataset.json` of an nnU-Net dataset says, checked: the file may come from anywhere."""

import os
import re
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infant_seg_jax.data.formats.names import ENDINGS
from infant_seg_jax.data.labels import TISSUE_CLASSES, ClassSet, LabelSchema
from infant_seg_jax.data.schemas import schema_of_names
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import read_json

_MAX_ID = 2**31
_MAX_NAME = 200  # bytes, of the 255 that file systems allow
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200


@dataclass(frozen=True)
class Description:
    """What a `dataset.json` says of all cases.

    Attributes:
        path: of the file.
        content: all of it.
        version: of nnU-Net, 2 or 1.
        channels: their names, in order.
        ending: of every volume.
    """

    path: Path
    content: dict[str, Any]
    version: int
    channels: tuple[str, ...]
    ending: str

    @property
    def folder(self) -> Path:
        """The dataset's."""
        return self.path.parent


@dataclass(frozen=True)
class Listed:
    """A case of version 1's lists: its name, and the name of its label map's file in `labelsTr`."""

    name: str
    labels: str


@dataclass(frozen=True)
class Mapped:
    """A case of version 2's `dataset`: its name and files, one image per channel."""

    name: str
    images: tuple[Path, ...]
    labels: Path


def describe(path: Path) -> Description:
    """Read a `dataset.json`.

    Raises:
        InputError: it is missing or damaged, or its channels or file ending cannot be used.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} contains {_SHORT.repr(content)}, expected nnU-Net's description.")
    version = 2 if "channel_names" in content else 1
    key = "channel_names" if version == 2 else "modality"
    names = content.get(key)
    channels = _in_order(names) if isinstance(names, dict) else []
    if not channels or not all(map(_is_name, channels)):
        raise _unexpected(path, key, names, 'names by number, as in {"0": "T1w", "1": "T2w"}')
    if len(set(channels)) < len(channels):
        raise _unexpected(path, key, names, "a different name for each channel")
    ending = content.get("file_ending", ".nii.gz")
    if not isinstance(ending, str) or ending.lower() not in ENDINGS:
        raise _unexpected(path, "file_ending", ending, f"one of {', '.join(ENDINGS)}")
    return Description(path, content, version, tuple(channels), ending)


def schema_of(description: Description, classes: ClassSet = TISSUE_CLASSES) -> LabelSchema:
    """What the labels mean by their names, which are to be those of `classes`.

    Raises:
        InputError: a name stands for several ids, or for a tissue that we do not know, or the
            table is of another form.
    """
    path, labels = description.path, description.content.get("labels")
    expected = 'names and ids, as in {"background": 0, "CSF": 1, "GM": 2, "WM": 3}'
    if not isinstance(labels, dict) or not labels:
        raise _unexpected(path, "labels", labels, expected)
    names: dict[int, str] = {}
    for key, value in labels.items():
        if isinstance(value, list):
            raise InputError(
                f"{path} has the region {_SHORT.repr(key)} with the ids {_SHORT.repr(value)} among "
                "its labels, expected one id for each: say what each id means with --schema=FILE, "
                "a file with lines such as '2: GM'."
            )
        # From names to ids in version 2, from ids to names in version 1.
        name, index = (value, _whole(key)) if isinstance(value, str) else (key, value)
        if type(index) is not int or not 0 <= index < _MAX_ID or not _is_name(name):
            raise _unexpected(path, "labels", {key: value}, expected)
        if index in names:
            raise _unexpected(path, "labels", labels, f"one name for the id {index}")
        names[index] = name
    return schema_of_names(description.folder.resolve().name, names, path, classes)


def listed_cases(description: Description, key: str) -> list[Listed]:
    """Version 1's `training` or `test`; nothing where there is no such list, or an empty one.

    Raises:
        InputError: it is of another form, or names a file outside the folder of such files.
    """
    entries = description.content.get(key) or []
    images = "imagesTr" if key == "training" else "imagesTs"
    if not isinstance(entries, list):
        raise _unexpected(description.path, key, entries, "a list of cases")
    cases = []
    for entry in entries:
        image, labels = (
            (entry.get("image"), entry.get("label")) if isinstance(entry, dict) else (entry, None)
        )
        file = _file_name(description, key, image, images)
        name = file[: -len(description.ending)]
        # Most list a case by its name alone, some by its first channel's file.
        if name.endswith("_0000") and (description.folder / images / file).is_file():
            name = name.removesuffix("_0000")
        if key == "training":
            cases.append(Listed(name, _file_name(description, key, labels, "labelsTr")))
        else:
            cases.append(Listed(name, f"{name}{description.ending}"))
    return cases


def mapped_cases(description: Description) -> list[Mapped] | None:
    """Version 2's `dataset`; None where there is no such table.

    Raises:
        InputError: it is of another form, or a file is missing or lies outside the folder.
    """
    if "dataset" not in description.content:
        return None
    path, table = description.path, description.content["dataset"]
    count = len(description.channels)
    expected = (
        'cases as in {"CASE": {"images": ["PATH", ...], "label": "PATH"}} with an image for each '
        f"of {count} channels"
    )
    if not isinstance(table, dict):
        raise _unexpected(path, "dataset", table, expected)
    cases = []
    for name, entry in table.items():
        images = entry.get("images") if isinstance(entry, dict) else None
        if not isinstance(images, list) or len(images) != count or not _is_name(name):
            raise _unexpected(path, "dataset", {name: entry}, expected)
        files = [_file_below(description, text) for text in (*images, entry.get("label"))]
        cases.append(Mapped(name, tuple(files[:-1]), files[-1]))
    return cases


def _file_name(description: Description, key: str, text: Any, folder: str) -> str:
    """The name of a listed file, which has to lie in `folder`."""
    parts = Path(os.path.normpath(text)).parts if _is_name(text) else ()
    if len(parts) != 2 or parts[0] != folder or not parts[1].endswith(description.ending):
        raise _unexpected(
            description.path, key, text, f"files such as ./{folder}/CASE{description.ending}"
        )
    return parts[1]


def _file_below(description: Description, text: Any) -> Path:
    """A file that `dataset` names, which has to lie below the dataset's folder, links followed."""
    try:
        path = description.folder / text
        inside = path.resolve().is_relative_to(description.folder.resolve())
        found = path.is_file()
    except (TypeError, ValueError, OSError, RuntimeError) as error:  # no text, or no path
        raise _unexpected(description.path, "dataset", text, "paths of files") from error
    if not inside:
        raise InputError(
            f"{description.path} names the file {_SHORT.repr(text)}, which is outside its folder, "
            "expected files below it: copy that file there."
        )
    if not found or not path.name.lower().endswith(ENDINGS):
        raise _unexpected(
            description.path,
            "dataset",
            text,
            f"files that exist, with one of the extensions {', '.join(ENDINGS)}",
        )
    return path


def _in_order(names: dict[str, Any]) -> list[Any]:
    """The values of the keys "0", "1" and so on; none where there are other keys."""
    numbers = [str(number) for number in range(len(names))]
    return [names[number] for number in numbers] if set(names) == set(numbers) else []


def _is_name(value: Any) -> bool:
    return (
        isinstance(value, str)
        and value.isprintable()
        and bool(value.strip())
        and len(value.encode()) <= _MAX_NAME
    )


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch("[0-9]{1,10}", text) else None


def _unexpected(path: Path, key: str, found: Any, expected: str) -> InputError:
    shown = "nothing" if found is None else _SHORT.repr(found)
    return InputError(f"{path} has {shown} for '{key}', expected {expected}.")
