"""Datasets in the raw format of nnU-Net, versions 2 and 1, and of the Decathlon.

A folder with `dataset.json`, `imagesTr/CASE_0000.nii.gz` (a file per channel: `_0000`, `_0001`),
`labelsTr/CASE.nii.gz`, and perhaps `imagesTs` and `labelsTs`, which become the test split.

- Version 2 has `channel_names`, `labels` from names to ids, `file_ending`, and perhaps `dataset`,
  which names each case's files, below the dataset's folder:
  https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md
- Version 1 has `modality`, `labels` from ids to names, and the lists `training` and `test`, which
  say what is used where they are not empty. The Medical Segmentation Decathlon's `CASE.nii.gz`
  without a number is read too, if there is but one channel.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from infant_seg_jax.data.sources.case_ids import case_id_of, participant_of, sort_cases
from infant_seg_jax.data.sources.modalities import choose_modalities
from infant_seg_jax.data.sources.nnunet_json import (
    Description,
    Listed,
    describe,
    listed_cases,
    mapped_cases,
    schema_of,
)
from infant_seg_jax.data.sources.source import Dataset, Query, Source, SourceCase
from infant_seg_jax.errors import InputError, some_of

_FOLDER = re.compile(r"(Dataset|Task)[0-9]+_.+")
_CHANNEL = re.compile(r"(?P<name>.+)_(?P<channel>[0-9]{4})")


def find(folder: Path, query: Query) -> Dataset:
    """The cases of the dataset in `folder`, or of the only one right below it.

    Raises:
        InputError: there is no dataset or more than one, its `dataset.json` cannot be used, or a
            file that it promises is missing.
    """
    dataset = describe(_dataset_in(folder) / "dataset.json")
    modalities = choose_modalities(query.modalities, dataset.channels, dataset.path)
    chosen = [dataset.channels.index(name) for name in modalities]
    schema = query.schema or schema_of(dataset, query.classes)
    training = list(_training_cases(dataset))
    cases = sort_cases(
        replace(case, images=tuple(case.images[index] for index in chosen))
        for case in (*training, *_test_cases(dataset))
    )
    if not cases:
        raise InputError(
            f"{dataset.folder} contains no case, expected "
            f"{dataset.folder / f'imagesTr/CASE_0000{dataset.ending}'} and so on."
        )
    promised = dataset.content.get("numTraining")
    notice = f"{dataset.path} announces {promised} training cases, but {len(training)} were found."
    notices = (notice,) if type(promised) is int and promised != len(training) else ()
    return Dataset("nnunet", folder, modalities, schema, cases, notices)


def _dataset_in(folder: Path) -> Path:
    if (folder / "dataset.json").is_file():
        return folder
    found = [
        path
        for path in sorted(folder.iterdir())
        if _FOLDER.fullmatch(path.name) and (path / "dataset.json").is_file()
    ]
    if len(found) != 1:
        several = some_of((path.name for path in found), 10)
        raise InputError(
            f"{folder} contains {f'several datasets, {several}' if found else 'no dataset.json'}, "
            "expected the folder of one nnU-Net dataset, such as Dataset001_Infants with its "
            "dataset.json: give that folder."
        )
    return found[0]


def _training_cases(dataset: Description) -> Iterator[SourceCase]:
    mapped = mapped_cases(dataset)
    if mapped is not None:
        for case in mapped:
            yield _case(case.name, case.images, case.labels)
        return
    listed = _listed(dataset, "training")
    if not listed:
        names = _names_in(dataset, "imagesTr")
        listed = [Listed(name, f"{name}{dataset.ending}") for name in names]
        _check_no_orphans(dataset, {case.labels for case in listed})
    for case in listed:
        images = _images(dataset, "imagesTr", case.name)
        labels = dataset.folder / "labelsTr" / case.labels
        if not labels.is_file():
            raise InputError(f"{images[0]} has no label map, expected {labels}.")
        yield _case(case.name, images, labels)


def _test_cases(dataset: Description) -> Iterator[SourceCase]:
    listed = [case.name for case in _listed(dataset, "test")]
    for name in listed or _names_in(dataset, "imagesTs"):
        labels = dataset.folder / "labelsTs" / f"{name}{dataset.ending}"
        images = _images(dataset, "imagesTs", name)
        yield _case(name, images, labels if labels.is_file() else None, "test")


def _listed(dataset: Description, key: str) -> list[Listed]:
    """Version 2 leaves such lists unread, and so do we."""
    return listed_cases(dataset, key) if dataset.version == 1 else []


def _case(
    name: str, images: tuple[Path, ...], labels: Path | None, split: str | None = None
) -> SourceCase:
    return SourceCase(case_id_of(name), participant_of(name) or name, images, labels, split=split)


def _names_in(dataset: Description, folder: str) -> list[str]:
    """The names of the cases whose images lie in one of the dataset's folders."""
    names = set()
    for path in _volumes_in(dataset, folder):
        name = path.name[: -len(dataset.ending)]
        match = _CHANNEL.fullmatch(name)
        if match and int(match["channel"]) < len(dataset.channels):
            name = match["name"]
        elif match or dataset.version == 2:
            raise InputError(
                f"{path} belongs to none of the channels in {dataset.path}, expected from "
                f"CASE_0000{dataset.ending} to CASE_{len(dataset.channels) - 1:04}"
                f"{dataset.ending}: rename or remove it."
            )
        names.add(name)
    return sorted(names)


def _volumes_in(dataset: Description, name: str) -> list[Path]:
    folder = dataset.folder / name
    if not folder.is_dir():
        return []
    # What begins with a dot are notes that macOS leaves beside files.
    paths = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in paths if path.name.endswith(dataset.ending))


def _images(dataset: Description, folder: str, name: str) -> tuple[Path, ...]:
    """The files of a case's channels."""
    place, ending = dataset.folder / folder, dataset.ending
    numbered = tuple(place / f"{name}_{i:04}{ending}" for i in range(len(dataset.channels)))
    single = place / f"{name}{ending}"
    if dataset.version == 1 and single.is_file() and not numbered[0].is_file():
        if len(numbered) == 1:
            return (single,)
        raise InputError(
            f"{single} is the only image of its case, but {dataset.path} names the channels "
            f"{', '.join(dataset.channels)}, expected a file for each, {numbered[0].name} and so "
            "on: split it."
        )
    for path in numbered:
        if not path.is_file():
            raise InputError(
                f"The case {name} lacks {path}, expected a file for each channel of {dataset.path}."
            )
    return numbered


def _check_no_orphans(dataset: Description, expected: set[str]) -> None:
    for path in _volumes_in(dataset, "labelsTr"):
        if path.name not in expected:
            name = path.name[: -len(dataset.ending)]
            raise InputError(
                f"{path} is a label map without an image, expected "
                f"{dataset.folder / f'imagesTr/{name}_0000{dataset.ending}'}: add the image or "
                "remove the label map."
            )


NNUNET = Source(
    "nnunet",
    "nnU-Net's raw datasets, versions 2 and 1, and the Decathlon's",
    find,
    frozenset({"modalities"}),
)
