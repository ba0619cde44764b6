"""The scans, truths and predictions behind a table of scores, read back from where they lie."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from infant_seg_jax.data.labels import ClassSet, LabelSchema
from infant_seg_jax.data.prepared import PreparedCase, open_prepared
from infant_seg_jax.data.schemas import find_schema
from infant_seg_jax.data.volumes import check_same_grid, read_label_map
from infant_seg_jax.errors import InputError
from infant_seg_jax.evaluation.label_maps import find_pairs, find_scans
from infant_seg_jax.labeling.scans import sidecar_of
from infant_seg_jax.report.drawing.slices import Scan
from infant_seg_jax.report.pages.page import view_command
from infant_seg_jax.report.pages.scan_paths import scan_of, with_image

LABEL_MAPS = "label_maps"
"""Where `evaluate` keeps what a network predicted, in the folder of its scores."""

_NO_SCANS = (
    "The pictures do not show the scans, because no folder of scans was named: evaluate again "
    "with --images=FOLDER."
)


@dataclass(frozen=True)
class EvaluatedCase:
    """What a subject's scores are about.

    Attributes:
        read: the truth and the prediction, the scan if it can be shown, and, if not, a sentence;
            raises InputError where the label maps cannot be read.
        command: what opens them in the viewer; empty where it cannot.
    """

    read: Callable[[], tuple[Scan, tuple[str, ...]]]
    command: str = ""


def label_map_path(folder: Path, case_id: str) -> Path:
    """Where `evaluate` keeps what a network predicted of a case."""
    return folder / LABEL_MAPS / f"{case_id}_dseg.nii.gz"


def evaluated_cases(
    folder: Path, about: Mapping[str, Any], classes: ClassSet
) -> dict[str, EvaluatedCase]:
    """By subject, as far as `about`, which `evaluate` wrote to `metrics.json`, says.

    Label maps are read as the `classes` that were measured.

    Raises:
        InputError: what it names is not there, or it names nothing.
    """
    if about.get("data"):
        return _of_prepared(folder, about, classes)
    if about.get("truth"):
        return _of_files(about, classes)
    raise InputError(f"{folder} does not say which label maps its scores belong to.")


def _of_prepared(
    folder: Path, about: Mapping[str, Any], classes: ClassSet
) -> dict[str, EvaluatedCase]:
    prepared = open_prepared(Path(str(about["data"])))
    split, fold = str(about.get("split", "validation")), about.get("fold", 0)
    cases = prepared.split(split, fold if isinstance(fold, int) else 0)
    found = {
        case.case_id: EvaluatedCase(partial(_read_prepared, case, path, prepared.classes, classes))
        for case in cases
        if (path := label_map_path(folder, case.case_id)).exists()
    }
    if not found:
        raise InputError(
            f"{folder} contains no predictions in {LABEL_MAPS}: evaluate again with --report."
        )
    return found


def _read_prepared(
    case: PreparedCase, path: Path, labeled: ClassSet, classes: ClassSet
) -> tuple[Scan, tuple[str, ...]]:
    prediction = read_label_map(path)
    if prediction.shape != case.shape:
        raise InputError(f"{path} is not on the grid of {case.image_path}: evaluate again.")
    image = case.image()[..., 0]
    image[image == 0] = image.min()  # Around the brain; its mean is 0, too.
    labels = LabelSchema.of(classes).with_ignored().to_classes(prediction.data, path)
    truth = labeled.convert(np.array(case.labels()), classes)
    return Scan(image, labels, case.affine, truth, classes), ()


def _of_files(about: Mapping[str, Any], classes: ClassSet) -> dict[str, EvaluatedCase]:
    named = [str(about.get(key) or classes.name) for key in ("prediction_schema", "schema")]
    prediction_schema, schema = (find_schema(name, classes) for name in named)
    pairs = find_pairs(Path(str(about["prediction"])), Path(str(about["truth"]))).pairs
    images = Path(str(about["images"])) if about.get("images") else None
    scans = find_scans(images, pairs) if images else {}
    cases = {}
    for name, (predicted, true) in pairs.items():
        scan = scans.get(name) or scan_of(sidecar_of(predicted))
        read = partial(_read_files, predicted, true, scan, prediction_schema, schema)
        # The viewer reads all label maps alike.
        files = (scan, predicted, true) if scan and len(set(named)) == 1 else ()
        command = view_command(files, named[0], classes.name) if files else ""
        cases[name] = EvaluatedCase(read, command)
    return cases


def _read_files(
    predicted: Path,
    true: Path,
    scan: Path | None,
    prediction_schema: LabelSchema,
    schema: LabelSchema,
) -> tuple[Scan, tuple[str, ...]]:
    prediction, truth = read_label_map(predicted), read_label_map(true)
    check_same_grid(prediction, truth)  # whose notices were said when it was measured
    found = Scan(
        None,
        prediction_schema.to_classes(prediction.data, predicted),
        truth.affine,
        schema.to_classes(truth.data, true),
        schema.classes,
    )
    return with_image(found, truth, scan, _NO_SCANS)
