"""Label maps, predicted and true, in two folders: who belongs to whom, and how well they agree."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from infant_seg_jax.data.formats import find_volumes, stem
from infant_seg_jax.data.labels import LabelSchema
from infant_seg_jax.data.schemas import TISSUE_SCHEMA
from infant_seg_jax.data.subjects import of_one_scan, subject_of, with_scan
from infant_seg_jax.data.volumes import check_same_grid, read_label_map
from infant_seg_jax.errors import InputError
from infant_seg_jax.evaluation.gathering import Evaluation, gather
from infant_seg_jax.files import legible
from infant_seg_jax.metrics.measures import TOLERANCE_MM, measure
from infant_seg_jax.progress import log_always

_NO_LABEL_MAP = {"mask", "brainmask", "probseg"}
_LABEL_MAP = {"dseg", "seg", "segtri", "segmentation", "label", "labels", "aseg", "tissue"}


@dataclass(frozen=True)
class Pairs:
    """The label maps of two folders.

    Attributes:
        pairs: by subject, and by scan where there are several, the prediction and the truth.
        only_predicted, only_true: likewise, what the other folder has not.
        unclear: by subject, why its label maps cannot be paired, in a sentence.
    """

    pairs: dict[str, tuple[Path, Path]]
    only_predicted: dict[str, Path]
    only_true: dict[str, Path]
    unclear: dict[str, str]


def find_pairs(prediction: Path, truth: Path) -> Pairs:
    """Pair the label maps of two folders by subject, as `subject_of` reads their names.

    Subfolders are searched too. Masks and maps of probabilities are passed over, and where a
    subject has several volumes, those whose names do not say that they are label maps: so scans
    may lie beside them. Of a subject with several label maps those go together that may be of one
    scan, as `of_one_scan` has it. Two files are a pair whatever their names.

    Raises:
        InputError: a folder is missing or holds no label map, or there is no pair at all.
    """
    if prediction.is_file() and truth.is_file():
        return Pairs({subject_of(truth): (prediction, truth)}, {}, {}, {})
    predicted, true = _by_subject(prediction), _by_subject(truth)
    found = Pairs({}, {}, {}, {})
    for subject in {**predicted, **true}:
        ours, theirs = predicted.get(subject, []), true.get(subject, [])
        try:
            joined = _join(ours, theirs, subject)
        except InputError as error:
            found.unclear[subject] = str(error)
            continue
        several = max(len(ours), len(theirs)) > 1
        for path, truth_path in joined:
            name = with_scan(subject, truth_path, path) if several else subject
            found.pairs[name] = path, truth_path
        paired = {path for pair in joined for path in pair}
        for paths, only in ((ours, found.only_predicted), (theirs, found.only_true)):
            left = [path for path in paths if path not in paired]
            only.update({with_scan(subject, path) if several else subject: path for path in left})
    if not found.pairs and found.unclear:
        raise InputError(next(iter(found.unclear.values())))
    if not found.pairs:
        (one, *_), (other, *_) = next(iter(predicted.values())), next(iter(true.values()))
        raise InputError(
            f"{prediction} and {truth} have no subject in common, with names such as {one.name} "
            f"and {other.name}: expected names that agree except for words such as dseg, seg or "
            "T1w."
        )
    return found


def _join(ours: Sequence[Path], theirs: Sequence[Path], subject: str) -> list[tuple[Path, Path]]:
    """The label maps of a subject that go together, of which each goes with one other at most."""
    joined = [(one, other) for one in ours for other in theirs if of_one_scan(one, other)]
    for paths, side in ((ours, 0), (theirs, 1)):
        for path in paths:
            others = [pair[1 - side] for pair in joined if pair[side] == path]
            if len(others) > 1:
                raise InputError(
                    f"{others[0]} and {others[1]} both belong to the subject {subject}, expected "
                    "one label map for each subject, one whose name says so (dseg, seg, label), "
                    "or names with the same acq, rec and run in both folders."
                )
    return joined


def find_scans(images: Path, subjects: Collection[str]) -> Mapping[str, Path]:
    """By subject, the scans that label maps are of, paired by name as label maps are.

    Label maps and masks among them are passed over; of several scans that a label map may be of it
    is the first by name. A file is that of the only subject, whatever its name. Who has none is
    left out.

    Raises:
        InputError: there is no such folder or file, nobody's scan is in it, or a file is named and
            there are several subjects.
    """
    if images.is_file():
        if len(subjects) > 1:
            raise InputError(
                f"{images} is one scan, but there are {len(subjects)} subjects: name a folder."
            )
        return {subject: images for subject in subjects}
    found: dict[str, list[Path]] = {}
    for path in find_volumes([images]):
        if not _words(path) & (_NO_LABEL_MAP | _LABEL_MAP):
            found.setdefault(_subject(path, images), []).append(path)
    scans = {
        subject: path
        for subject in subjects
        for path in reversed(found.get(subject) or found.get(subject_of(Path(subject)), []))
        if of_one_scan(Path(subject), path)
    }
    if not scans:
        raise InputError(
            f"{images} contains no scan whose name matches a subject with label maps, such as "
            f"{next(iter(subjects), '-')}: name the folder of the scans."
        )
    return scans


def measure_label_maps(
    prediction: Path,
    truth: Path,
    schema: LabelSchema = TISSUE_SCHEMA,
    prediction_schema: LabelSchema = TISSUE_SCHEMA,
    tolerance: float = TOLERANCE_MM,
) -> Evaluation:
    """Measure every prediction against the truth of the same subject, a pair at a time.

    Who cannot be measured is among the failures: a file cannot be used or holds values outside its
    schema, the two are not on one grid, or there is no truth.

    Args:
        prediction, truth: folders, or one file each, as `find_pairs` takes them.
        schema: what the truths' values mean.
        prediction_schema: what the predictions' values mean, to the same classes.
        tolerance: of the surface Dice, in mm.

    Raises:
        InputError: as `find_pairs`.
    """

    def measure_pair(predicted_path: Path, true_path: Path) -> dict[str, dict[str, float]]:
        predicted, true = read_label_map(predicted_path), read_label_map(true_path)
        for notice in (*predicted.notices, *true.notices, *check_same_grid(predicted, true)):
            log_always(notice)
        return measure(
            prediction_schema.to_classes(predicted.data, predicted_path),
            schema.to_classes(true.data, true_path),
            true.spacing,
            tolerance,
            schema.classes,
        )

    found = find_pairs(prediction, truth)
    evaluation = gather(
        {subject: partial(measure_pair, *pair) for subject, pair in found.pairs.items()},
        tolerance,
        schema.classes,
    )
    lacking = {
        subject: f"{truth} has no label map of {subject}, expected one to compare {path} with."
        for subject, path in found.only_predicted.items()
    }
    for sentence in (*lacking.values(), *found.unclear.values()):
        log_always(sentence)
    return replace(
        evaluation,
        failures={**evaluation.failures, **lacking, **found.unclear},
        unpredicted=tuple(found.only_true),
    )


def _by_subject(folder: Path) -> dict[str, list[Path]]:
    """Its label maps; of a subject with none that says so, whatever there is."""
    found: dict[str, list[Path]] = {}
    for path in find_volumes([folder]):
        if not _words(path) & _NO_LABEL_MAP:
            found.setdefault(_subject(path, folder), []).append(path)
    if not found:
        raise InputError(f"{folder} contains only masks and probability maps, expected label maps.")
    return {
        subject: [path for path in paths if _words(path) & _LABEL_MAP] or paths
        for subject, paths in found.items()
    }


def _subject(path: Path, folder: Path) -> str:
    """As `subject_of` reads it, or of `scan_dseg.nii` right in `folder`, which says of none: scan.

    `subject_of` would name that after the folder, which is another one for the truth.
    """
    if path.parent != folder or subject_of(Path("/") / path.name):
        return subject_of(path)
    return legible(re.split(r"[ _.-]", stem(path))[0])


def _words(path: Path) -> set[str]:
    return set(re.split(r"[ _.-]+", stem(path).lower()))
