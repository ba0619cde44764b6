"""The configuration of a training run, its defaults, and its checks."""

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ml_collections import ConfigDict

from infant_seg_jax.errors import InputError
from infant_seg_jax.files import read_json

if TYPE_CHECKING:
    Config: TypeAlias = Any
    """A `ConfigDict`: its attributes are what the config holds, which no type checker can know."""
else:
    Config = ConfigDict

CHOICES = {
    "loss": ("cross_entropy", "cross_entropy_dice"),
    "optimizer.schedule": ("steps", "cosine"),
    "parallel": ("auto", "jit", "pmap"),
}
"""The keys whose value is one of a few names."""


def default_config() -> Config:
    """The recipe of Bui, Shin and Moon (2019), which every other config starts from.

    It lives in the package, so that an installed copy and an old run folder find the same
    defaults; `configs/default.py` hands it to the command line.
    """
    config: Config = ConfigDict()
    config.seed = 0

    config.data = ConfigDict()
    config.data.path = "prepared/ibsr"  # A folder that `infant-seg prepare` wrote.
    config.data.fold = 0  # Which fold of its splits.json.
    config.data.train_subjects = 0  # Use the first so many of the training subjects; 0: all.

    config.patch = ConfigDict()
    config.patch.shape = (64, 64, 64)  # Voxels along right, anterior, superior.
    config.patch.batch_size = 4  # Patches in a step, over all devices together.

    config.augmentation = ConfigDict()
    config.augmentation.flip = 0.0  # Chance of mirroring left and right.
    config.augmentation.gain = 0.0  # Intensities times 1 +- up to this.
    config.augmentation.offset = 0.0  # Intensities plus or minus up to this, in brain SDs.

    config.model = ConfigDict()
    config.model.growth_rate = 16
    config.model.stem_features = 32
    config.model.block_layers = (4, 4, 4, 4)
    config.model.dropout_rate = 0.2

    config.loss = "cross_entropy"  # Or "cross_entropy_dice": plus soft Dice of the tissues.

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 2e-4
    config.optimizer.b1 = 0.97
    config.optimizer.b2 = 0.999
    config.optimizer.l2 = 6e-4  # Added to the gradient (coupled), as in PyTorch's Adam.
    config.optimizer.schedule = "steps"  # Or "cosine": from the learning rate down to nothing.
    config.optimizer.drops = (0.5, 0.75)  # "steps": divided by 10 at these shares of the run.

    config.steps = 20_000
    config.log_every = 50
    config.validate_every = 1_000  # Also when a checkpoint is written; and at the end.
    config.parallel = "auto"  # "pmap" over all devices, "jit" on one; "auto": by their number.

    config.inference = ConfigDict()
    config.inference.window = (64, 64, 64)
    config.inference.overlap = 0.5  # Share of a window that the next one covers again.
    config.inference.batch_size = 1

    config.init = ConfigDict()
    config.init.checkpoint = ""  # A run folder: start from its best weights and statistics.
    return config


def load_config(path: Path) -> Config:
    """Read the config of a run from its JSON file; nothing in it is executed.

    Keys that the file lacks (a run of an older version) keep their defaults.

    Raises:
        InputError: the file is unreadable, has an unknown key or a value of a wrong type.
    """
    content = read_json(path)
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds {type(content).__name__}, expected a config's JSON object.")
    config = default_config()
    _update(config, content, "config", path)
    try:
        check_config(config)
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}") from error
    return config


def _update(config: Config, content: Mapping[str, Any], prefix: str, path: Path) -> None:
    value: Any
    for key, value in content.items():
        if key not in config:
            near = _nearest(f"{prefix}.{key}")
            raise InputError(
                f"{path} has a key that no config has, {prefix}.{key}; the nearest key is {near}."
            )
        if isinstance(config[key], ConfigDict) and isinstance(value, Mapping):
            _update(config[key], value, f"{prefix}.{key}", path)
            continue
        default: Any = config[key]
        if isinstance(default, tuple) and isinstance(value, list):  # JSON has no tuples.
            value = tuple(value)
        if not _is_like(value, default):
            raise InputError(
                f"{path} sets {prefix}.{key} to {value!r}, expected a value like {default!r}."
            )
        config[key] = type(default)(value)  # A whole number may stand for a float.


def flatten(config: Config, prefix: str = "") -> dict[str, Any]:
    """The values of a config by their dotted keys, as in `optimizer.learning_rate`."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def check_overrides(arguments: Sequence[str]) -> None:
    """Check that every `--config.KEY=VALUE` among a command's arguments names a key.

    Raises:
        InputError: one does not; the sentence names the nearest key.
    """
    known = {f"config.{key}" for key in flatten(default_config())}
    for argument in arguments:
        key = argument.lstrip("-").split("=")[0]
        if key.startswith("config.") and key not in known:
            raise InputError(f"No config has the key {key}; the nearest key is {_nearest(key)}.")


def _nearest(key: str) -> str:
    known = [f"config.{name}" for name in flatten(default_config())]
    return difflib.get_close_matches(key, known, 1, cutoff=0)[0]


def _is_like(value: Any, default: Any) -> bool:
    """Whether a value from JSON has the type of the default, a whole number being a float too."""
    if isinstance(default, tuple):
        return isinstance(value, tuple) and all(_is_like(part, default[0]) for part in value)
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(default)


def check_config(config: Config) -> None:
    """Refuse values that cannot work, before anything is read or compiled.

    Raises:
        InputError: a value is out of range; the sentence names the key, the value and the range.
    """

    def require(expected: str, test: Callable[[Any], bool], *keys: str) -> None:
        for key in keys:
            value = reduce(lambda section, part: section[part], key.split("."), config)
            if not test(value):
                raise InputError(f"config.{key} is {value!r}, expected {expected}.")

    require(
        "one or more blocks of at least one layer",
        lambda layers: len(layers) > 0 and min(layers) >= 1,
        "model.block_layers",
    )
    factor = 2 ** len(config.model.block_layers)
    require(
        f"three multiples of {factor}",
        lambda shape: len(shape) == 3 and all(n > 0 and n % factor == 0 for n in shape),
        *("patch.shape", "inference.window"),
    )
    require(
        "at least 1",
        lambda value: value >= 1,
        *("patch.batch_size", "inference.batch_size", "model.growth_rate", "model.stem_features"),
        *("steps", "log_every", "validate_every"),
    )
    require(
        "at least 0",
        lambda value: 0 <= value < math.inf,
        *("seed", "data.fold", "data.train_subjects", "augmentation.offset", "optimizer.l2"),
    )
    require(
        "at least 0 and below 1",
        lambda value: 0 <= value < 1,
        *("inference.overlap", "augmentation.gain", "model.dropout_rate"),
        *("optimizer.b1", "optimizer.b2"),
    )
    require("a chance from 0 to 1", lambda value: 0 <= value <= 1, "augmentation.flip")
    require("above 0", lambda value: 0 < value < math.inf, "optimizer.learning_rate")
    require(
        "shares of the run between 0 and 1",
        lambda drops: all(0 < share < 1 for share in drops),
        "optimizer.drops",
    )
    for key, names in CHOICES.items():
        require(" or ".join(map(repr, names)), lambda value, names=names: value in names, key)
