"""The configuration of a training run, its defaults, and its checks."""

import difflib
from collections.abc import Mapping
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
    check_config(config)
    return config


def _update(config: Config, content: Mapping[str, Any], prefix: str, path: Path) -> None:
    for key, value in content.items():
        if key not in config:
            near = difflib.get_close_matches(key, list(config), 1)
            hint = f"; the nearest key is {prefix}.{near[0]}" if near else ""
            raise InputError(f"{path} has a key that no config has, {prefix}.{key}{hint}.")
        if isinstance(config[key], ConfigDict) and isinstance(value, Mapping):
            _update(config[key], value, f"{prefix}.{key}", path)
            continue
        try:
            config[key] = tuple(value) if isinstance(value, list) else value
        except TypeError as error:
            raise InputError(
                f"{path} sets {prefix}.{key} to {value!r}, expected a value like {config[key]!r}."
            ) from error


def check_config(config: Config) -> None:
    """Refuse values that cannot work, before anything is read or compiled.

    Raises:
        InputError: a value is out of range; the sentence names the key, the value and the range.
    """
    factor = 2 ** len(config.model.block_layers)

    def require(condition: bool, key: str, expected: str) -> None:
        if not condition:
            value = config
            for part in key.split("."):
                value = value[part]
            raise InputError(f"config.{key} is {value!r}, expected {expected}.")

    for key in ("patch.shape", "inference.window"):
        section, name = key.split(".")
        shape = config[section][name]
        require(
            len(shape) == 3 and all(extent > 0 and extent % factor == 0 for extent in shape),
            key,
            f"three multiples of {factor}",
        )
    require(config.patch.batch_size >= 1, "patch.batch_size", "at least 1")
    require(config.inference.batch_size >= 1, "inference.batch_size", "at least 1")
    require(0 <= config.inference.overlap < 1, "inference.overlap", "at least 0 and below 1")
    require(0 <= config.augmentation.flip <= 1, "augmentation.flip", "a chance from 0 to 1")
    require(0 <= config.augmentation.gain < 1, "augmentation.gain", "at least 0 and below 1")
    require(config.augmentation.offset >= 0, "augmentation.offset", "at least 0")
    require(config.model.growth_rate >= 1, "model.growth_rate", "at least 1")
    require(config.model.stem_features >= 1, "model.stem_features", "at least 1")
    require(0 <= config.model.dropout_rate < 1, "model.dropout_rate", "at least 0 and below 1")
    losses = ("cross_entropy", "cross_entropy_dice")
    require(config.loss in losses, "loss", " or ".join(map(repr, losses)))
    schedules = ("steps", "cosine")
    require(
        config.optimizer.schedule in schedules,
        "optimizer.schedule",
        " or ".join(map(repr, schedules)),
    )
    require(config.optimizer.learning_rate > 0, "optimizer.learning_rate", "above 0")
    require(config.optimizer.l2 >= 0, "optimizer.l2", "at least 0")
    for key in ("steps", "log_every", "validate_every"):
        require(config[key] >= 1, key, "at least 1")
    modes = ("auto", "jit", "pmap")
    require(config.parallel in modes, "parallel", " or ".join(map(repr, modes)))
