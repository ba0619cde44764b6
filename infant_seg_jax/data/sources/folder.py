"""A folder of images and label maps, found by patterns.

A pattern is a path below the folder given, in which `*` stands for what names the case, its key:
`img/*_t1.nii.gz`, `*/T1w.nii.gz`, `sub-*/anat/sub-*_T1w.nii.gz`. Every `*` of a pattern stands for
the same text. A pattern without a volume's ending finds those of every ending: `img/*_t1`.

Without patterns, `img/img_001.nii.gz` goes with `mask/mask_001.nii.gz` or `mask/seg_001.nii.gz`,
label maps both.
"""

import glob
import os
import re
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

from infant_seg_jax.data.formats.names import ENDINGS, ENDINGS_IN_WORDS, ending_of
from infant_seg_jax.data.sources.case_ids import case_id_of, participant_of, sort_cases
from infant_seg_jax.data.sources.modalities import check_distinct
from infant_seg_jax.data.sources.source import Dataset, Query, Source, SourceCase
from infant_seg_jax.errors import InputError

_IMAGES = ("img/img_*",)
_LABELS = ("mask/mask_*", "mask/seg_*")

Files = dict[str, Path]
"""What a kind of pattern found, by key."""


def find(folder: Path, query: Query) -> Dataset:
    """The cases in `folder`: one for each key with which every pattern of images finds a file.

    A file that the patterns of label maps or masks match is no image: `*.nii.gz` and
    `*_seg.nii.gz` may lie in one folder.

    Raises:
        InputError: a pattern cannot be used or finds nothing, there are not as many names of
            modalities as patterns, a case lacks a modality, a label map or mask has no image, or
            there are two files where one is expected.
    """
    patterns = query.images or _IMAGES
    modalities = _modalities(query.modalities, len(patterns))
    label_patterns = (query.labels,) if query.labels else () if query.images else _LABELS
    mask_patterns = (query.masks,) if query.masks else ()

    masks = _find_files(folder, mask_patterns, "brain mask", required=bool(query.masks))
    labels = _find_files(
        folder, label_patterns, "label map", set(masks.values()), required=bool(query.labels)
    )
    not_images = {*masks.values(), *labels.values()}
    images = [_find_files(folder, (pattern,), "image", not_images) for pattern in patterns]

    keys = sorted(set().union(*images))
    for key in keys:
        _check_complete(key, folder, patterns, images)
    for what, found in (("label map", labels), ("brain mask", masks)):
        for key in sorted(found.keys() - set(keys)):
            raise InputError(
                f"{found[key]} is a {what} without an image, expected "
                f"{_filled(folder, patterns[0], key)}: add the image or remove the {what}."
            )
    cases = sort_cases(
        SourceCase(
            case_id_of(key),
            participant_of(os.path.relpath(images[0][key], folder)) or key,
            tuple(found[key] for found in images),
            labels.get(key),
            masks.get(key),
        )
        for key in keys
    )
    notices = [
        *(_misfits(folder, pattern) for pattern in (*patterns, *label_patterns, *mask_patterns)),
        _lacking(sum(case.labels is None for case in cases), len(cases), "label map"),
        _lacking(sum(case.mask is None for case in cases), len(cases), "brain mask") * bool(masks),
    ]
    schema = query.schema_or()
    return Dataset("folder", folder, modalities, schema, cases, tuple(filter(None, notices)))


def _modalities(wanted: Sequence[str], count: int) -> tuple[str, ...]:
    check_distinct(wanted)
    if not wanted and count == 1:
        return ("image",)
    if len(wanted) != count:
        raise InputError(
            f"--modalities gives {len(wanted)} name{'s' * (len(wanted) != 1)} for {count} "
            f"pattern{'s' * (count != 1)} of images, expected one for each, in their order, as in "
            "--modalities=T1w,T2w."
        )
    return tuple(wanted)


def _find_files(
    folder: Path,
    patterns: Sequence[str],
    what: str,
    without: Set[Path] = frozenset(),
    required: bool = True,
) -> Files:
    """The files that any of `patterns` matches, save those in `without`."""
    files: Files = {}
    for pattern in patterns:
        for key, path in _matches(folder, pattern):
            if key is None or path in without:
                continue
            if key in files:
                raise InputError(
                    f"{files[key]} and {path} are both the {what} of the case {key}, expected one: "
                    "remove one of them, or give the file extension in the pattern."
                )
            files[key] = path
    if required and not files:
        raise InputError(
            f"No {what} below {folder} matches {patterns[0]}, expected one per case "
            f"({ENDINGS_IN_WORDS}): say where they are with patterns (--images, --labels, --masks) "
            "such as img/*_t1.nii.gz or */T1w.nii.gz, in which every * stands for the same text."
        )
    return files


def _matches(folder: Path, pattern: str) -> Iterator[tuple[str | None, Path]]:
    """Volumes that match, with their keys; None where the pattern's `*` do not agree on one."""
    pattern = Path(os.path.normpath(pattern)).as_posix()
    if "*" not in pattern or "**" in pattern:
        raise InputError(
            f"The pattern {pattern} has {'**' if '**' in pattern else 'no *'}, expected a * in "
            "place of the case's name, as in img/*_t1.nii.gz or */T1w.nii.gz."
        )
    parts = [re.escape(part) for part in pattern.split("*")]
    loose = re.compile("[^/]*".join(parts))
    strict = re.compile(f"{parts[0]}(?P<key>[^/]+){'(?P=key)'.join(parts[1:])}")
    any_ending = ending_of(Path(pattern)) is None
    literal = re.sub(r"([?[])", r"[\1]", pattern)  # to glob, they are wildcards too
    for found in sorted(glob.glob(literal + "*" * any_ending, root_dir=folder)):
        path, text = folder / found, Path(found).as_posix()
        ending = ending_of(path)
        if ending is None or not path.is_file():
            continue
        if any_ending:
            text = text[: -len(ending)] if ending in ENDINGS else ""
        if loose.fullmatch(text):
            match = strict.fullmatch(text)
            yield (match["key"] if match else None), path


def _misfits(folder: Path, pattern: str) -> str:
    misfits = [path for key, path in _matches(folder, pattern) if key is None]
    return (
        f"The * of {pattern} stands for several texts or for none in {len(misfits)} of the files "
        f"found, such as {misfits[0]}, which are left out."
        if misfits
        else ""
    )


def _check_complete(
    key: str, folder: Path, patterns: Sequence[str], images: Sequence[Files]
) -> None:
    for pattern, found in zip(patterns, images, strict=True):
        if key not in found:
            beside = next(files[key] for files in images if key in files)
            raise InputError(
                f"The case {key} has the image {beside} but not "
                f"{_filled(folder, pattern, key)}, expected every modality of every case."
            )


def _filled(folder: Path, pattern: str, key: str) -> str:
    any_ending = ending_of(Path(pattern)) is None
    return f"{folder / pattern.replace('*', key)}{'.nii.gz' * any_ending}"


def _lacking(count: int, total: int, what: str) -> str:
    return f"{count} of {total} cases have no {what}." if count else ""


FOLDER = Source(
    "folder",
    "images and label maps found by patterns",
    find,
    frozenset({"modalities", "images", "labels", "masks"}),
)
