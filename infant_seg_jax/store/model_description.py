"""`model.json`: what a model folder says of its network, written for people and read by us."""

import math
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from infant_seg_jax.config import Config, check_config, default_config, update_config
from infant_seg_jax.data.foreground import BRAIN, HEAD
from infant_seg_jax.data.formats.grid import MAX_VOXELS, times
from infant_seg_jax.data.prepared import ExpectedScans, expected_scans_from_record
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import read_json
from infant_seg_jax.prediction.reference_statistics import (
    NOTHING_KNOWN,
    ReferenceStatistics,
    statistics_from_record,
)
from infant_seg_jax.store.array_files import check_is_file

FORMAT_VERSION = 1
KERNELS = ("float32", "float16")

_SECTIONS = ("model", "inference")
"""What of a config it takes to use a network."""

_KEYS = (
    *("format_version", "written_by", "classes", "modalities", "preparation", "extents"),
    *("config", "weights", "familiar", "training"),
)
_MAX_BYTES = 2**20
_MAX_BLOCKS, _MAX_LAYERS, _MAX_CHANNELS, _MAX_MODALITIES = 8, 64, 4096, 32
_MAX_MARGIN_MM = 1000.0
_MAX_NAME, _MAX_QUOTED = 100, 300


@dataclass(frozen=True, eq=False)
class Description:
    """What `model.json` holds.

    Attributes:
        config: its `model` and `inference` are the network's; all else is the default's.
        expects: what the training scans were.
        kernels: how the weights' kernels are stored, `"float32"` or `"float16"`.
        sha256: of the file of weights, in hexadecimal.
        training: how the network came to be, as JSON: for people, and nothing depends on it.
        reference: what the network measures on scans like its training's.
    """

    config: Config
    expects: ExpectedScans
    kernels: str
    sha256: str
    training: Mapping[str, Any]
    reference: ReferenceStatistics = NOTHING_KNOWN


def describe(description: Description, values: int) -> dict[str, Any]:
    """The JSON of a description of a network with so many weights."""
    config = description.config.to_dict()
    return {
        "format_version": FORMAT_VERSION,
        "written_by": f"infant_seg_jax {version('infant_seg_jax')}",
        **description.expects.record(),
        "config": {section: config[section] for section in _SECTIONS},
        "weights": {
            "kernels": description.kernels,
            "values": values,
            "sha256": description.sha256,
        },
        "familiar": asdict(description.reference),
        "training": dict(description.training),
    }


def read_description(path: Path) -> Description:
    """Read `model.json`, and trust nothing in it.

    What it says of the network's size is within bounds, and not yet compared with the weights.

    Raises:
        InputError: the file is missing, a link, too large or no JSON, was written in another
            version of the format, or holds what no description does.
    """
    check_is_file(path)
    if path.stat().st_size > _MAX_BYTES:
        raise InputError(f"{path} is larger than {_MAX_BYTES} bytes, expected a few thousand.")
    content = read_json(path)
    found = content.get("format_version") if isinstance(content, dict) else None
    if found != FORMAT_VERSION or type(found) is not int:
        raise InputError(
            f"{path} has the format version {reprlib.repr(found)}, expected {FORMAT_VERSION}: use "
            "the version of infant_seg_jax that wrote it, or export the model again."
        )
    try:
        _check_keys(content, _KEYS)
        expects = expected_scans_from_record(content)
        check_expected_scans(expects)
        _check_keys(content["config"], _SECTIONS)
        weights, training = content["weights"], content["training"]
        _check_keys(weights, ("kernels", "values", "sha256"))
        if weights["kernels"] not in KERNELS:
            raise ValueError(f"the kernels are {weights['kernels']}, not one of {KERNELS}")
        reference = statistics_from_record(content["familiar"])
        if not isinstance(training, dict):
            raise ValueError(f"training is {training!r}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        message = repr(str(error).removesuffix("."))[1:-1][:_MAX_QUOTED]  # it may quote anything
        raise InputError(f"{path} cannot be used ({message}): export the model again.") from error
    config = default_config()
    update_config(config, content["config"], path)
    try:
        check_sizes(config, len(expects.modalities))
        config.patch.shape = config.inference.window  # No patch is cut: it only has to suit.
        check_config(config)
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}") from error
    return Description(
        config, expects, weights["kernels"], str(weights["sha256"]), training, reference
    )


def check_expected_scans(expects: ExpectedScans) -> None:
    """Raise an InputError for scans that no model has."""
    names = expects.modalities
    if not 0 < len(names) <= _MAX_MODALITIES or len(set(names)) < len(names):
        raise InputError(
            f"The modalities are {reprlib.repr(names)}, expected 1 to {_MAX_MODALITIES} different "
            "names."
        )
    if not all(name.isprintable() and 0 < len(name) <= _MAX_NAME for name in names):
        raise InputError(
            f"The modalities are {reprlib.repr(names)}, expected names of 1 to {_MAX_NAME} "
            "printable characters."
        )
    if len(expects.extents) > 2 or not set(expects.extents) <= {BRAIN, HEAD}:
        raise InputError(
            f"The extents are {reprlib.repr(expects.extents)}, expected {BRAIN}, {HEAD} or both."
        )
    if expects.preparation.margin_mm > _MAX_MARGIN_MM:
        raise InputError(
            f"The margin around the brain is {expects.preparation.margin_mm} mm, expected at most "
            f"{_MAX_MARGIN_MM:g}."
        )


def check_sizes(config: Config, modalities: int) -> None:
    """Raise an InputError for a network, or windows, of such a size that none of ours has."""
    network, inference = config.model, config.inference
    layers = network.block_layers
    if (
        len(layers) > _MAX_BLOCKS
        or max(layers, default=0) > _MAX_LAYERS
        or max(network.growth_rate, network.stem_features) > _MAX_CHANNELS
    ):
        raise InputError(
            f"The network has the growth rate {network.growth_rate}, {network.stem_features} stem "
            f"features and blocks of {reprlib.repr(layers)} layers, expected at most "
            f"{_MAX_CHANNELS}, {_MAX_CHANNELS}, and {_MAX_BLOCKS} blocks of {_MAX_LAYERS}."
        )
    if len(network.widths) > _MAX_BLOCKS or max(network.widths, default=0) > _MAX_CHANNELS:
        raise InputError(
            f"The network has the widths {reprlib.repr(network.widths)}, expected at most "
            f"{_MAX_BLOCKS} of at most {_MAX_CHANNELS}."
        )
    if math.prod(inference.window) * inference.batch_size * modalities > MAX_VOXELS:
        raise InputError(
            f"Prediction uses {inference.batch_size} windows of {times(inference.window)} voxels "
            f"at once, expected at most {MAX_VOXELS} voxels together."
        )


def _check_keys(content: Any, expected: Iterable[str]) -> None:
    if not isinstance(content, dict) or set(content) != set(expected):
        found = ", ".join(content) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"it has {found}, not {', '.join(expected)}")
