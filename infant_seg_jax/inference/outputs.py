"""Which scans to predict, and where their label maps go."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infant_seg_jax.data.formats import ENDINGS, ENDINGS_IN_WORDS, stem
from infant_seg_jax.errors import InputError

LABEL_SUFFIX = "_dseg"
"""What BIDS calls a discrete segmentation."""


@dataclass(frozen=True)
class Scan:
    """One subject's images, one per modality, and the label map to be written."""

    images: tuple[Path, ...]
    output: Path


def mask_of(scan: Scan, pattern: str) -> Path:
    """The brain mask of a scan: `pattern` with the scan's name, less its ending, for each `{}`."""
    return Path(pattern.replace("{}", stem(scan.images[0])))


def find_scans(inputs: Sequence[str], output: Path) -> tuple[Scan, ...]:
    """The scans that `inputs` name: files (the modalities of a subject joined by commas), folders.

    `T1w.nii.gz` becomes `OUTPUT/T1w_dseg.nii.gz`, and so does `T1w.mgz`; what lies in a folder's
    subfolders, in the same subfolders of the output. Label maps of earlier predictions (`*_dseg`)
    are passed over.

    Raises:
        InputError: an input is missing, a folder holds no scan, or two scans would write one file.
    """
    scans: dict[Path, Scan] = {}
    for name in inputs:
        found = _scans_in(Path(name), output) if Path(name).is_dir() else [_one_scan(name, output)]
        for scan in found:
            if scan.output in scans:
                raise InputError(
                    f"{scan.images[0]} and {scans[scan.output].images[0]} would both become "
                    f"{scan.output}: predict them into different folders."
                )
            scans[scan.output] = scan
    return tuple(scans.values())


def _one_scan(name: str, output: Path) -> Scan:
    images = tuple(Path(part) for part in name.split(","))
    for image in images:
        if not image.is_file():
            raise InputError(f"There is no scan {image}: name a file that holds one or a folder.")
    return Scan(images, _output_of(images[0], output))


def _scans_in(folder: Path, output: Path) -> list[Scan]:
    images = sorted(
        path
        for path in folder.rglob("*")
        if path.name.lower().endswith(ENDINGS) and not stem(path).endswith(LABEL_SUFFIX)
    )
    if not images:
        raise InputError(f"{folder} holds no scan, expected {ENDINGS_IN_WORDS} below it.")
    return [
        Scan((image,), _output_of(image, output / image.parent.relative_to(folder)))
        for image in images
    ]


def _output_of(image: Path, folder: Path) -> Path:
    return folder / f"{stem(image)}{LABEL_SUFFIX}.nii.gz"
