"""Whose scan, label map or mask a file is, and of which of several scans, by its name."""

import re
from pathlib import Path

from infant_seg_jax.data.bids.names import parse_entities
from infant_seg_jax.data.formats.names import stem
from infant_seg_jax.files import legible

_SCANS = ("acq", "rec", "run")
_IMAGES_OF_NNUNET = re.compile(r"images(?:Tr|Ts|Va)")
_CHANNEL = re.compile(r"_\d{4}")
_WHAT = {
    *("t1", "t2", "t1w", "t2w", "pd", "pdw", "flair", "img", "image", "scan", "ana", "anat"),
    *("brain", "strip", "stripped", "restore", "n4", "head"),
    *("mask", "brainmask", "seg", "dseg", "segtri", "segmentation", "aseg", "aparc+aseg"),
    *("label", "labels", "tissue", "drawem", "bet"),
}


def subject_of(path: Path) -> str:
    """What a file's name shares with those of the same head: without all that says what it is.

    `sub-01_ses-02` of every BIDS name with these, `001` of `img_001.nii.gz` and `mask_001.nii.gz`,
    `ibsr_01` of `IBSR_01_segTRI_ana.nii.gz`; upper and lower case are alike. A file whose name says
    nothing else, `T1.nii.gz`, has its folder's.
    """
    name = legible(stem(path))
    if name.startswith("sub-"):
        entities = parse_entities(name)
        return "_".join(f"{key}-{entities[key]}" for key in ("sub", "ses") if key in entities)
    if _IMAGES_OF_NNUNET.fullmatch(path.parent.name) and _CHANNEL.fullmatch(name[-5:]):
        name = name[:-5]
    words = [word for word in re.split(r"[ _.-]+", name.lower()) if word not in _WHAT]
    return "_".join(filter(None, words)) or legible(path.absolute().parent.name.lower())


def scan_of(path: Path) -> dict[str, str]:
    """Which of a subject's scans a file is of, by `acq`, `rec` and `run` of its BIDS name.

    The values are without zeros at their start: `run-01` is `run-1`.
    """
    name = legible(stem(path))
    entities = parse_entities(name) if name.startswith("sub-") else {}
    return {key: entities[key].lstrip("0") or "0" for key in _SCANS if key in entities}


def of_one_scan(one: Path, other: Path) -> bool:
    """Whether two files of one subject may be of one scan: where both say of which, they agree."""
    first, second = scan_of(one), scan_of(other)
    return all(first[key] == second[key] for key in first.keys() & second.keys())


def with_scan(subject: str, *paths: Path) -> str:
    """The subject, and the scan by the first path that says of which it is: `sub-01_run-1`."""
    entities = next(filter(None, map(scan_of, paths)), {})
    return "_".join([subject, *(f"{key}-{value}" for key, value in entities.items())])
