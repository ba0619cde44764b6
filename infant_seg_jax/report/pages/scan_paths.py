"""The scan of a label map: where it lies, by the JSON beside that; its voxels."""

from dataclasses import replace
from pathlib import Path

from infant_seg_jax.data.bids.uris import find_file, read_value
from infant_seg_jax.data.volumes import LabelMap, check_same_grid, read_image
from infant_seg_jax.errors import InputError
from infant_seg_jax.report.drawing.slices import Scan


def scan_of(sidecar: Path) -> Path | None:
    """The file that the JSON names as the label map's space, if it is there."""
    named = read_value(sidecar, "SpatialReference")
    return find_file(named, sidecar) if isinstance(named, str) else None


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
        return scan, (f"The picture does not show the scan: {error}",)
    return replace(scan, image=volume.data[..., 0]), notices
