"""BIDS URIs: names of files in other datasets, which `dataset_description.json` links to.

https://bids-specification.readthedocs.io/en/stable/common-principles.html#bids-uri
"""

import os
from pathlib import Path

from infant_seg_jax.errors import InputError
from infant_seg_jax.files import read_json

DATASET_DESCRIPTION = "dataset_description.json"
LINKS = "DatasetLinks"
EXTRAS = "docs"
"""The folder of a dataset that validators pass over, for what BIDS has no names for."""

_MAX_UP = 6  # sub-*/ses-*/anat below a derivative, and some.


def uri_or_path(path: Path, dataset: Path | None, link: str) -> str:
    """The URI of a file in `dataset`, which is linked to by the name `link`; else its full path."""
    if dataset is not None and path.is_relative_to(dataset):
        return f"bids:{link}:{path.relative_to(dataset).as_posix()}"
    return os.path.abspath(path)


def find_file(named: str, near: Path) -> Path | None:
    """The file that a URI or a path names, if it is there.

    Args:
        named: what `uri_or_path` wrote.
        near: the file that says so. The links are those of the nearest dataset description above.
    """
    if not named.startswith("bids:"):
        return _file(Path(named))
    _, dataset, relative = [*named.split(":", 2), "", ""][:3]
    for folder in near.absolute().parents[:_MAX_UP]:
        if (folder / DATASET_DESCRIPTION).is_file():
            links = read_value(folder / DATASET_DESCRIPTION, LINKS)
            link = links.get(dataset) if isinstance(links, dict) else None
            return _file(folder / link / relative) if isinstance(link, str) else None
    return None


def extras_of(folder: Path) -> Path:
    """Where tables and pages about label maps lie: in their folder; of a dataset, in its `docs`."""
    return folder / EXTRAS if (folder / DATASET_DESCRIPTION).is_file() else folder


def read_value(path: Path, key: str) -> object:
    """A value of a JSON object; None where there is none, or no such file."""
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
