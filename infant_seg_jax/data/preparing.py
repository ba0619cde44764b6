"""From a dataset to a prepared set, case by case; what was finished is not done again."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from infant_seg_jax.data.bias import check_bias_library
from infant_seg_jax.data.class_sets import classes_record
from infant_seg_jax.data.cropping import uncrop
from infant_seg_jax.data.foreground import BRAIN, HEAD
from infant_seg_jax.data.formats.names import parts
from infant_seg_jax.data.labels import TISSUE_CLASSES, LabelSchema, count_classes
from infant_seg_jax.data.orientation import orientation_of
from infant_seg_jax.data.prepared import CLASSES_FORMAT, FORMAT, PreparedSet, open_prepared
from infant_seg_jax.data.preprocessing import (
    Preparation,
    prepare_labels,
    prepare_volume,
    to_half,
)
from infant_seg_jax.data.resuming import Entry, begin, end, finish_all, finish_part, versions
from infant_seg_jax.data.sources import Dataset, SourceCase
from infant_seg_jax.data.splits import make_folds
from infant_seg_jax.data.volumes import (
    check_same_grid,
    read_images,
    read_label_map,
    read_mask,
    spacing_of,
)
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import sha256
from infant_seg_jax.progress import log_always

_LIBRARIES = ("infant_seg_jax", "nibabel", "numpy", "scipy")


def prepare(
    dataset: Dataset,
    output: Path,
    *,
    preparation: Preparation = Preparation(),  # noqa: B008 (frozen)
    seed: int = 0,
    folds: int = 1,
    strict: bool = False,
    workers: int | None = None,
) -> PreparedSet:
    """Prepare a dataset's cases into the folder `output`.

    A case is written aside and renamed. If the work is interrupted, the same call goes on with the
    cases that are missing; cases whose files have changed since are prepared again. The same
    inputs give the same bytes.

    Args:
        dataset: cases without labels can be predicted, not trained on.
        output: is made, or holds the beginnings of the same preparation.
        preparation: its parameters.
        seed: draws the split where the source has none.
        folds: how many; see `make_folds`.
        strict: refuse a case whose images are not on one grid, instead of resampling the others to
            the first's.
        workers: subjects prepared at a time (threads: decompression and NumPy release the lock).

    Raises:
        InputError: two cases share an id or a scan, a case lacks a modality, a file cannot be used,
            or `output` holds something else, such as a preparation with other parameters.
    """
    _check_cases(dataset.cases, dataset.modalities)
    if preparation.bias_correction:
        check_bias_library()
    drawn = make_folds(dataset.cases, seed, folds)
    parameters = _parameters(dataset, preparation, seed, folds)
    begin(output, parameters)
    one = partial(
        _finish_case, output=output, dataset=dataset, preparation=preparation, strict=strict
    )
    entries = finish_all(output, dataset.cases, one, _accept, unit="subject", workers=workers)
    end(output, drawn, {**parameters, "cases": entries})
    prepared = open_prepared(output)
    if len(prepared.extents) > 1:
        heads = [case.case_id for case in prepared.cases if case.extent == HEAD]
        log_always(
            f"{len(heads)} of {len(prepared.cases)} cases show a head and the others only a brain "
            f"({heads[0]} is a head): a network works better with one kind."
        )
    return prepared


def _parameters(
    dataset: Dataset, preparation: Preparation, seed: int, folds: int
) -> dict[str, Any]:
    """All that decides what a set holds, but the voxels of its inputs."""
    table = {str(source): target for source, target in dataset.schema.table.items()}
    classes = dataset.schema.classes
    return {
        "format": FORMAT if classes == TISSUE_CLASSES else CLASSES_FORMAT,
        "software": versions(_LIBRARIES),
        "source": dataset.source,
        "schema": {"name": dataset.schema.name, "table": table},
        "class_names": list(classes.names),
        **classes_record(classes),
        "modalities": list(dataset.modalities),
        "preparation": asdict(preparation)
        | {"clip_percentiles": list(preparation.clip_percentiles)},  # as JSON gives it back
        "splits": {"seed": seed, "folds": folds},
        "case_ids": [case.case_id for case in dataset.cases],
    }


def _check_cases(cases: Sequence[SourceCase], modalities: tuple[str, ...]) -> None:
    seen: set[str] = set()
    for case in cases:
        if case.case_id in seen:
            raise InputError(
                f"Two cases have the id {case.case_id}, expected a different id for each."
            )
        seen.add(case.case_id)
        if not case.case_id or Path(case.case_id).name != case.case_id or case.case_id[0] == ".":
            raise InputError(
                f"The case id {case.case_id!r} cannot be the name of a folder: rename the case."
            )
        if len(case.images) != len(modalities):
            raise InputError(
                f"The case {case.case_id} has {len(case.images)} images, expected "
                f"{len(modalities)}: {', '.join(modalities)}."
            )


def _accept(entry: Entry, others: Sequence[Entry]) -> None:
    _check_is_new(entry, others)
    for notice in entry["notices"]:
        log_always(notice)


def _check_is_new(entry: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> None:
    """One scan under two participants' names would leak from one split into another."""
    path, digest = _voxels_of(entry)
    for other in others:
        other_path, other_digest = _voxels_of(other)
        if digest == other_digest and other["participant"] != entry["participant"]:
            raise InputError(
                f"{path} and {other_path} are the same file under the names of the participants "
                f"{entry['participant']} and {other['participant']}, expected each scan once: "
                "remove one of the two."
            )


def _voxels_of(entry: Mapping[str, Any]) -> tuple[str, str]:
    """The first image's file and digest; of a pair, those of its voxels, not of its header."""
    path, digest = next(
        item for item in entry["sources"].items() if not item[0].endswith((".hdr", ".hdr.gz"))
    )
    return path, digest


def _finish_case(
    case: SourceCase, *, output: Path, dataset: Dataset, preparation: Preparation, strict: bool
) -> Entry:
    """The case's entry in the manifest; its arrays are written unless they are there already."""
    masks = [case.mask] if case.mask and preparation.brain_masks else []
    paths = [*case.images, *([case.labels] if case.labels else []), *masks]
    sources = {
        _relative(file, dataset.folder): sha256(file) for path in paths for file in parts(path)
    }
    identity = {
        "id": case.case_id,
        "participant": case.participant,
        "age": asdict(case.age) if case.age else None,
        "sources": sources,
    }
    return finish_part(
        output / case.case_id,
        identity,
        lambda folder: _prepare_case(case, folder, dataset.schema, preparation, strict),
    )


def _prepare_case(
    case: SourceCase, folder: Path, schema: LabelSchema, preparation: Preparation, strict: bool
) -> dict[str, Any]:
    """Write the arrays of one case; what is to be said of them."""
    volume = read_images(case.images, strict)
    notices = list(volume.notices)
    mask = None
    if case.mask and preparation.brain_masks:
        mask, mask_notices = read_mask(case.mask, volume)
        notices += mask_notices
    prepared = prepare_volume(volume, preparation, mask)
    notices += prepared.notices
    if prepared.extent == BRAIN:
        brain = uncrop(prepared.crop_mask, prepared.box, volume.shape)
        orientation = orientation_of(volume, brain)
        if orientation and orientation.contradicts_header:
            notices.append(
                f"{volume.path} shows a brain {orientation.in_words()}: check its header."
            )
    np.save(folder / "image.npy", to_half(prepared.image))
    voxels = None
    if case.labels is not None:
        label_map = read_label_map(case.labels)
        notices += (*label_map.notices, *check_same_grid(label_map, volume))
        classes = schema.to_classes(label_map.data, case.labels)
        labels = prepare_labels(classes, prepared)
        voxels = count_classes(labels, schema.classes)
        foreground = list(schema.classes.foreground)
        if not any(voxels[name] for name in foreground):
            raise InputError(
                f"{case.labels} has no tissue labels in the brain of {case.images[0]}, expected "
                f"{', '.join(foreground[:-1])} or {foreground[-1]} by the schema '{schema.name}': "
                f"{schema.describe()}."
            )
        np.save(folder / "labels.npy", labels)
    return {
        "image": f"{case.case_id}/image.npy",
        "labels": None if case.labels is None else f"{case.case_id}/labels.npy",
        "shape": list(prepared.shape),
        "spacing_mm": list(spacing_of(prepared.affine)),
        "affine": prepared.affine.tolist(),
        "box": [[side.start, side.stop] for side in prepared.box],
        "extent": prepared.extent,
        "native_shape": list(volume.native.shape),
        "native_affine": volume.native.affine.tolist(),
        "voxels": voxels,
        "notices": notices,
    }


def _relative(path: Path, folder: Path) -> str:
    path, root = Path(os.path.abspath(path)), Path(os.path.abspath(folder))
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
