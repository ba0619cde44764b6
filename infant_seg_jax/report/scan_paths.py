"""The scan of a label map: where it lies, by the JSON beside that; its voxels."""

import os
from dataclasses import replace
from pathlib import Path

from infant_seg_jax.data.volumes import LabelMap, check_same_grid, read_image
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import read_json
from infant_seg_jax.report.slices import Scan

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


def with_image(
    scan: Scan, label_map: LabelMap, path: Path | None, why_none: str
) -> tuple[Scan, tuple[str, ...]]:
    """With the gray values of the file at `path`; without, and a sentence, if that cannot be shown.

    Args:
        scan: what is known without them.
        label_map: what they have to be on the grid of.
        path: the scan's file, if it is known.
        why_none: the sentence where it is not.
    """
    if path is None:
        return scan, (why_none,)
    try:
        volume = read_image(path)
        notices = check_same_grid(volume, label_map)
    except InputError as error:
        return scan, (f"The picture is without the scan: {error}",)
    return replace(scan, image=volume.data[..., 0]), notices


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
