"""The scans, truths and predictions behind a table of scores, read back from where they lie."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from infant_seg_jax.data.labels import LabelSchema
from infant_seg_jax.data.prepared import PreparedCase, open_prepared
from infant_seg_jax.data.schemas import TISSUE_SCHEMA, find_schema
from infant_seg_jax.data.volumes import check_same_grid, read_image, read_label_map
from infant_seg_jax.errors import InputError
from infant_seg_jax.inference.label_map_pairs import find_pairs
from infant_seg_jax.inference.scans import sidecar_of
from infant_seg_jax.report.scan_paths import scan_of
from infant_seg_jax.report.slices import Scan

LABEL_MAPS = "label_maps"
"""Where `evaluate` keeps what a network predicted, in the folder of its scores."""


@dataclass(frozen=True)
class EvaluatedCase:
    """What a subject's scores are about.

    Attributes:
        read: the scan, the truth and the prediction; raises InputError where they cannot be read.
        files: of them, those that a viewer can open: scan, prediction, truth; or none.
    """

    read: Callable[[], Scan]
    files: tuple[Path, ...] = ()


def label_map_path(folder: Path, case_id: str) -> Path:
    """Where `evaluate` keeps what a network predicted of a case."""
    return folder / LABEL_MAPS / f"{case_id}_dseg.nii.gz"


def evaluated_cases(folder: Path, about: Mapping[str, Any]) -> dict[str, EvaluatedCase]:
    """By subject, as far as `about`, which `evaluate` wrote to `metrics.json`, says.

    Raises:
        InputError: what it names is not there, or it names nothing.
    """
    if about.get("data"):
        return _of_prepared(folder, about)
    if about.get("truth"):
        return _of_files(about)
    raise InputError(f"{folder} does not say of which label maps it has the scores.")


def _of_prepared(folder: Path, about: Mapping[str, Any]) -> dict[str, EvaluatedCase]:
    prepared = open_prepared(Path(str(about["data"])))
    split, fold = str(about.get("split", "validation")), about.get("fold", 0)
    cases = prepared.split(split, fold if isinstance(fold, int) else 0)
    found = {
        case.case_id: EvaluatedCase(partial(_read_prepared, case, path))
        for case in cases
        if (path := label_map_path(folder, case.case_id)).exists()
    }
    if not found:
        raise InputError(
            f"{folder} holds no predictions in {LABEL_MAPS}: evaluate again, with --report."
        )
    return found


def _read_prepared(case: PreparedCase, path: Path) -> Scan:
    prediction = read_label_map(path)
    if prediction.shape != case.shape:
        raise InputError(f"{path} is not on the grid of {case.image_path}: evaluate again.")
    image = np.array(case.image()[..., 0])
    image[image == 0] = image.min()  # Around the brain; its mean is 0, too.
    return Scan(
        image,
        TISSUE_SCHEMA.to_classes(prediction.data, path),
        case.spacing,
        np.array(case.labels()),
    )


def _of_files(about: Mapping[str, Any]) -> dict[str, EvaluatedCase]:
    schemas = [
        find_schema(str(about.get(key) or TISSUE_SCHEMA.name))
        for key in ("prediction_schema", "schema")
    ]
    pairs = find_pairs(Path(str(about["prediction"])), Path(str(about["truth"]))).pairs
    return {name: _file_case(*pair, *schemas) for name, pair in pairs.items()}


def _file_case(
    predicted: Path, true: Path, prediction_schema: LabelSchema, schema: LabelSchema
) -> EvaluatedCase:
    scan = scan_of(sidecar_of(predicted))

    def read() -> Scan:
        prediction, truth = read_label_map(predicted), read_label_map(true)
        check_same_grid(prediction, truth)
        image: Float[np.ndarray, "x y z"] | None = None
        if scan is not None:
            volume = read_image(scan)
            check_same_grid(volume, truth)
            image = volume.data[..., 0]
        return Scan(
            image,
            prediction_schema.to_classes(prediction.data, predicted),
            truth.spacing,
            schema.to_classes(truth.data, true),
        )

    return EvaluatedCase(read, (scan, predicted, true) if scan else (true, predicted))
