"""How a label map was made: by which networks, how, of which files; and whether to make it again.

All of it is in a JSON beside the label map, which is written before the label map is: a label map
that is there is whole, and what its JSON says is true of it.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from infant_seg_jax.data.bids.uris import uri_or_path
from infant_seg_jax.data.formats import parts
from infant_seg_jax.data.labels import LabelSchema
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import read_json, sha256
from infant_seg_jax.labeling.scans import SETTINGS, Scan
from infant_seg_jax.models.variables import by_path
from infant_seg_jax.prediction.confidence import Confidence
from infant_seg_jax.prediction.predictor import Predictor

SOFTWARE = "infant_seg_jax"
RAW = "raw"
"""What a BIDS derivative of ours calls the dataset that its scans are from."""

_CHECKSUMS, _MODELS = "SourceChecksums", "Models"
_BEFORE = {"FixOrientation": False}
"""Settings that older label maps do not name, and what they were then."""


@dataclass(frozen=True)
class ModelIdentity:
    """Which network it was.

    Attributes:
        name: the last part of the path that it was loaded from.
        sha256: of its weights and of what it expects; the same of a run and of its exported model.
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class Settings:
    """What changes the result beside the networks and the scan, as far as a person chooses it.

    Attributes:
        mirror: whether mirrored predictions are averaged.
        refine: whether there is intensity-based refinement.
        overlap: the share of a window that the next covers again.
        label_ids: the value of each class that has one.
        remove_islands_ml: the size below which islands are removed; 0 leaves them.
        probabilities: how maps of probabilities are stored; empty where there are none.
        masked: whether brain masks were given.
        fix_orientation: whether scans whose headers turn the brain are labeled as if they did not.
    """

    mirror: bool
    refine: bool
    overlap: float
    label_ids: Mapping[str, int]
    remove_islands_ml: float = 0.0
    probabilities: str = ""
    masked: bool = False
    fix_orientation: bool = False

    def as_json(self) -> dict[str, Any]:
        """All of them, by names in the style of BIDS, such as RemoveIslandsMl."""
        return {
            "".join(part.capitalize() for part in name.split("_")): value
            for name, value in asdict(self).items()
        }


def identify(predictor: Predictor, path: Path) -> ModelIdentity:
    """Which network a predictor is, by its weights, its modalities and its preparation.

    If it has a network that finds brains, by that one, too.
    """
    digest = hashlib.sha256()
    expected = [
        predictor.expects.modalities,
        sorted(asdict(predictor.expects.preparation).items()),
    ]
    digest.update(repr(expected).encode())
    for name, leaf in sorted(by_path(predictor.variables).items()):
        array = np.asarray(leaf)
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    if finder := predictor.brain_finder:
        digest.update(identify(finder, path).sha256.encode())
    return ModelIdentity(path.resolve().name, digest.hexdigest())


def label_ids(schema: LabelSchema) -> dict[str, int]:
    """The id that stands for each class, of several the table's first."""
    first = {target: source for source, target in reversed(list(schema.table.items()))}
    names = enumerate(schema.classes.names)
    return {name: first[index] for index, name in names if index in first}


def checksums(scan: Scan, dataset: Path | None) -> dict[str, str]:
    """The SHA-256 of each file that a scan consists of, by its name in the sidecar.

    That is a BIDS URI for what is in the `dataset`, else an absolute path.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    sums = {}
    for path in (*scan.images, *([scan.mask] if scan.mask else [])):
        for part in dict.fromkeys(parts(path)):
            try:
                sums[uri_or_path(part, dataset, RAW)] = sha256(part)
            except OSError as error:
                raise InputError(f"{part} cannot be read ({error.strerror}).") from error
    return sums


def make_sidecar(
    scan: Scan,
    dataset: Path | None,
    models: Sequence[ModelIdentity],
    settings: Settings,
    sums: Mapping[str, str],
    confidence: Confidence,
    notices: Sequence[str],
    **further: Any,
) -> dict[str, Any]:
    """What is written beside a label map; keys that BIDS knows, and others in its style."""
    return {
        "Description": "Tissues of the brain, labeled by a neural network: see LabelIds.",
        "Sources": list(sums),
        "SpatialReference": uri_or_path(scan.images[0], dataset, RAW),
        "SoftwareName": SOFTWARE,
        "SoftwareVersion": version(SOFTWARE),
        _CHECKSUMS: dict(sums),
        **_made_by(models, settings),
        **further,
        "Confidence": {
            "Entropy": _number(confidence.entropy),
            "Agreement": _number(confidence.agreement),
            "ExpectedDice": asdict(expected) if (expected := confidence.expected_dice) else None,
            "Unusual": list(confidence.unusual),
            "Checked": list(confidence.checked),
        },
        "Notices": list(notices),
    }


def read_sidecar(path: Path) -> dict[str, Any] | None:
    """What is beside a label map of ours; None if there is nothing, or nothing of ours."""
    try:
        content = read_json(path)
    except InputError:
        return None
    known = isinstance(content, dict) and {_CHECKSUMS, _MODELS, SETTINGS} <= content.keys()
    return content if known else None


def check_repeatable(
    scans: Sequence[Scan], models: Sequence[ModelIdentity], settings: Settings
) -> None:
    """Check that the label maps that are there already are those that would be made.

    Raises:
        InputError: one was made by another network or other settings, or is not of ours.
    """
    others = [
        (scan.label_map, difference)
        for scan in scans
        if scan.label_map.exists() and (difference := _difference(scan, models, settings))
    ]
    if others:
        path, difference = others[0]
        more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
        raise InputError(
            f"{path}{more} already exists and {difference}: name another --output, or replace "
            "it with --overwrite."
        )


def is_finished(scan: Scan, sums: Mapping[str, str]) -> bool:
    """Whether a scan's label map is there and was made of these very files."""
    sidecar = read_sidecar(scan.sidecar) if scan.label_map.exists() else None
    return sidecar is not None and sorted(sidecar[_CHECKSUMS].values()) == sorted(sums.values())


def _difference(scan: Scan, models: Sequence[ModelIdentity], settings: Settings) -> str | None:
    """In what a label map was made otherwise, in words; None if in nothing."""
    sidecar = read_sidecar(scan.sidecar)
    if sidecar is None:
        return f"has no {scan.sidecar.name} from this software that says how it was made"
    made, wanted = sidecar, _made_by(models, settings)
    if made[_MODELS] != wanted[_MODELS]:
        # Names may differ, as may their order: it is the weights that count.
        before, now = _weights(made[_MODELS]), _weights(wanted[_MODELS])
        if before != now:
            return f"was made by {_named(made[_MODELS])}, not by {_named(wanted[_MODELS])}"
    if not isinstance(made[SETTINGS], dict):
        return "does not say with which settings it was made"
    for key, value in wanted[SETTINGS].items():
        before = made[SETTINGS].get(key, _BEFORE.get(key))
        if before != value:
            return f"was made with {key} {before!r}, not {value!r}"
    return None


def _made_by(models: Sequence[ModelIdentity], settings: Settings) -> dict[str, Any]:
    return {
        _MODELS: [{"Name": model.name, "SHA256": model.sha256} for model in models],
        SETTINGS: settings.as_json(),
    }


def _weights(models: Any) -> list[str] | None:
    try:
        return sorted(str(model["SHA256"]) for model in models)
    except (KeyError, TypeError):
        return None


def _named(models: Any) -> str:
    try:
        return " and ".join(f"{model['Name']} ({model['SHA256'][:8]})" for model in models)
    except (KeyError, TypeError):
        return "unnamed networks"


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return round(value, 6) if math.isfinite(value) else None
