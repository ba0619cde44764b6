"""Where the scan of a label map lies, by the JSON beside the label map."""

import os
from pathlib import Path

from infant_seg_jax.errors import InputError
from infant_seg_jax.files import read_json

_DESCRIPTION = "dataset_description.json"
_MAX_UP = 6  # sub-*/ses-*/anat below a derivative, and some.


def scan_of(sidecar: Path) -> Path | None:
    """The file that the JSON names as the label map's space, if it is there.

    That is a path, or a BIDS URI whose dataset is among the `DatasetLinks` of the nearest
    `dataset_description.json` above.
    """
    named = _value(sidecar, "SpatialReference")
    if not isinstance(named, str):
        return None
    if not named.startswith("bids:"):
        return _file(Path(named))
    _, dataset, relative = [*named.split(":", 2), "", ""][:3]
    for folder in sidecar.absolute().parents[:_MAX_UP]:
        if (folder / _DESCRIPTION).is_file():
            links = _value(folder / _DESCRIPTION, "DatasetLinks")
            link = links.get(dataset) if isinstance(links, dict) else None
            return _file(folder / link / relative) if isinstance(link, str) else None
    return None


def _value(path: Path, key: str) -> object:
    try:
        content = read_json(path)
    except InputError:
        return None
    return content.get(key) if isinstance(content, dict) else None


def _file(path: Path) -> Path | None:
    try:
        return Path(os.path.abspath(path)) if path.is_file() else None
    except (OSError, ValueError):  # Too long a name, or a zero byte in it.
        return None
