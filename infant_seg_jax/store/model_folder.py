"""Model folders: a trained network and all that it takes to use it, in two files.

model.json            what the network is, what it expects and where it comes from
weights.safetensors   its parameters and batch statistics, named by their paths
brain_finder/         where there is one, the model folder of the network that finds brains

docs/models.md describes them. Nothing in a model folder is executed; other files, such as a
license, are left alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
from flax.traverse_util import unflatten_dict

from infant_seg_jax.config import SKIP_DENSENET, Config
from infant_seg_jax.data.formats.grid import times
from infant_seg_jax.data.prepared import ANY_MODALITY, ExpectedScans
from infant_seg_jax.errors import InputError, some_of
from infant_seg_jax.files import atomic_folder, sha256, write_json
from infant_seg_jax.models.factory import Network, make_model
from infant_seg_jax.models.variables import abstract_variables, by_path
from infant_seg_jax.prediction.reference_statistics import NOTHING_KNOWN, ReferenceStatistics
from infant_seg_jax.store.array_files import Arrays, read_safetensors, write_safetensors
from infant_seg_jax.store.model_description import (
    Description,
    check_expected_scans,
    check_sizes,
    describe,
    read_description,
)

MODEL_FILE, WEIGHTS = "model.json", "weights.safetensors"
BRAIN_FINDER = "brain_finder"


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its weights, and what it expects of a scan.

    Attributes:
        config: its `model` and `inference` are the network's.
        variables: `params` and `batch_stats`, nested dicts of float32 NumPy arrays.
        expects: what its training scans were.
        training: how it came to be, as JSON: for people, and nothing depends on it.
        reference: what it measures on scans like its training's, by which others are flagged.
        brain_finder: the network that finds brains for it, if there is one.
    """

    config: Config
    variables: dict[str, Any]
    expects: ExpectedScans
    training: Mapping[str, Any]
    reference: ReferenceStatistics = NOTHING_KNOWN
    brain_finder: "Model | None" = None


def is_model_folder(path: Path) -> bool:
    """Whether `path` looks like a model folder, sound or not."""
    return (Path(path) / MODEL_FILE).exists()


def write_model(folder: Path, model: Model, *, float16: bool = False) -> None:
    """Write a model folder, whole or not at all; the same model makes the same bytes.

    Args:
        folder: a new one.
        model: what to write.
        float16: keep the kernels, nearly all of a network, in half precision.

    Raises:
        InputError: the folder exists already or cannot be written, the model is one that
            `read_model` would refuse, or its weights are too large for half precision.
    """
    folder = Path(folder)
    kernels = "float16" if float16 else "float32"
    arrays = {path: np.asarray(leaf, np.float32) for path, leaf in by_path(model.variables).items()}
    check_expected_scans(model.expects)
    check_sizes(model.config, len(model.expects.modalities))
    check_shapes(arrays, model.config, model.expects, folder)
    _check_values(arrays, folder)
    with np.errstate(over="ignore"):
        stored = {path: array.astype(_stored(path, kernels)) for path, array in arrays.items()}
    for path, array in stored.items():
        if not np.isfinite(array).all():
            raise InputError(
                f"{path} has values up to {np.abs(arrays[path]).max():g}, which half precision "
                f"cannot hold, so {folder} was not written: export without --float16."
            )
    with atomic_folder(folder) as temporary:
        write_safetensors(temporary / WEIGHTS, stored)
        description = Description(
            model.config,
            model.expects,
            kernels,
            sha256(temporary / WEIGHTS),
            model.training,
            model.reference,
        )
        values = sum(array.size for array in stored.values())
        write_json(temporary / MODEL_FILE, describe(description, values))
        if finder := model.brain_finder:
            write_model(temporary / BRAIN_FINDER, replace(finder, brain_finder=None), float16=True)


def read_model(folder: Path, *, ours: bool = False) -> Model:
    """Read a model folder, and trust nothing in it.

    Args:
        folder: what `write_model` wrote.
        ours: whether it is the package's own, whose weights are known to fit its network: to trace
            a network takes half a second.

    Raises:
        InputError: a file is missing, damaged, a link, or of another version of the format, or the
            weights are not those that the description describes.
    """
    folder = Path(folder)
    description, path = read_description(folder / MODEL_FILE), folder / WEIGHTS
    stored = read_safetensors(path)
    if sha256(path) != description.sha256:
        raise InputError(
            f"{path} is not the file that {MODEL_FILE} describes, because their SHA-256 differ: "
            "copy both files of the model again."
        )
    if not ours:
        check_shapes(stored, description.config, description.expects, path)
    for name, array in stored.items():
        if array.dtype != _stored(name, description.kernels):
            raise InputError(
                f"{path} holds {name} as {array.dtype}, expected "
                f"{_stored(name, description.kernels)}: export the model again."
            )
    _check_values(stored, path)
    arrays = {name: array.astype(np.float32) for name, array in stored.items()}
    finder = folder / BRAIN_FINDER
    return Model(
        description.config,
        unflatten_dict(arrays, sep="/"),
        description.expects,
        description.training,
        description.reference,
        _read_finder(finder, ours=ours) if is_model_folder(finder) else None,
    )


def _read_finder(folder: Path, *, ours: bool) -> Model:
    """The network that finds brains for another.

    Raises:
        InputError: as `read_model`, or it takes other scans than any modality, or needs a finder.
    """
    if is_model_folder(folder / BRAIN_FINDER):
        raise InputError(f"{folder} has a brain finder of its own, expected none: remove it.")
    finder = read_model(folder, ours=ours)
    check_is_finder(finder, folder)
    return finder


def check_is_finder(model: Model, where: Path) -> None:
    """Raise an InputError unless a network can find the brain in scans of any modality."""
    if model.expects.modalities != (ANY_MODALITY,):
        names = " + ".join(model.expects.modalities)
        raise InputError(
            f"{where} takes {names}, so it cannot find the brain for another network, expected one "
            f"that takes {ANY_MODALITY}."
        )


def check_shapes(arrays: Arrays, config: Config, expects: ExpectedScans, path: Path) -> None:
    """Raise an InputError that lists the arrays that a config's network has in another shape."""
    network = config.model
    dense = network.name == SKIP_DENSENET
    layers = sum(network.block_layers) if dense else len(network.widths)
    if layers > len(arrays):  # or a few bytes could have a huge network traced
        raise InputError(
            f"{path} holds {len(arrays)} arrays, expected those of a network with {layers} "
            f"{'dense layers' if dense else 'widths'}."
        )
    expected = _shapes(
        cast(Any, make_model(config, num_classes=len(expects.classes))), len(expects.modalities)
    )
    differing = [
        f"{name} is {times(arrays[name].shape) if name in arrays else 'absent'}, expected "
        f"{times(expected[name]) if name in expected else 'none'}"
        for name in sorted({*arrays, *expected}, key=lambda name: (name.startswith("batch_"), name))
        if name not in arrays or arrays[name].shape != expected.get(name)
    ]
    if differing:
        raise InputError(
            f"{path} does not fit the described network: {some_of(differing, between='; ')}."
        )


@lru_cache(maxsize=16)  # for tracing takes longer than reading, and folds share a network
def _shapes(network: Network, modalities: int) -> Mapping[str, tuple[int, ...]]:
    leaves = by_path(abstract_variables(network, modalities))
    return MappingProxyType({path: leaf.shape for path, leaf in leaves.items()})


def _stored(path: str, kernels: str) -> np.dtype:
    """The type in which an array is stored; all but kernels is small, and stays float32."""
    return np.dtype(kernels if path.endswith("/kernel") else "float32")


def _check_values(arrays: Arrays, path: Path) -> None:
    for name, array in arrays.items():
        unusable = int(np.size(array) - np.sum(np.isfinite(array)))
        if unusable or (name.endswith("/var") and array.min() < 0):
            what = f"{unusable} NaN or infinite" if unusable else "negative"
            raise InputError(
                f"{name} of {path} holds {what} values, expected a trained network's: take it from "
                "a run that did not diverge."
            )
