"""A run's config: an ml_collections ConfigDict of the settings that `sections` declares."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ml_collections import ConfigDict

from infant_seg_jax.config.sections import RESIDUAL_UNET, Run
from infant_seg_jax.config.settings import settings_of
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import read_json
from infant_seg_jax.paths import expand

if TYPE_CHECKING:
    Config: TypeAlias = Any
    """A `ConfigDict`: its attributes are what the config holds, which no type checker can know."""
else:
    Config = ConfigDict

CHOICES = {
    key: setting.allowed.names
    for key, setting, _ in settings_of(Run())
    if setting.allowed and setting.allowed.names
}
"""The settings whose value is one of a few names."""


def default_config() -> Config:
    """Return the recipe of Bui, Shin and Moon (2019), from which every other config starts.

    It is part of the package, so that an installed copy and an old run folder find the same
    defaults; `configs/default.py` offers it on the command line.
    """
    return _as_config(Run())


def _as_config(section: Any) -> Config:
    config: Config = ConfigDict()
    for entry in fields(section):
        value = getattr(section, entry.name)
        config[entry.name] = _as_config(value) if is_dataclass(value) else value
    return config


def load_config(path: Path) -> Config:
    """Read the config of a run from its JSON file; nothing in it is executed.

    Keys that the file lacks (a run of an older version) keep their defaults.

    Raises:
        InputError: the file is unreadable, has an unknown key or a value of a wrong type.
    """
    content = read_json(path)
    if not isinstance(content, Mapping):
        raise InputError(
            f"{path} contains {type(content).__name__}, expected a config's JSON object."
        )
    config = default_config()
    update_config(config, content, path)
    try:
        check_config(config)
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}") from error
    return config


def update_config(
    config: Config, content: Mapping[str, Any], path: Path, prefix: str = "config"
) -> None:
    """Set values of a config in place, from the nested mappings of a JSON file; none is checked.

    Raises:
        InputError: a key is unknown, or a value of a wrong type; the sentence names `path`.
    """
    value: Any
    for key, value in content.items():
        if key not in config:
            shown = repr(f"{prefix}.{key}")[1:-1]  # on one line, whatever it is
            raise InputError(
                f"{path} has an unknown key, {shown}; the nearest key is {_nearest(shown[:100])}."
            )
        if isinstance(config[key], ConfigDict) and isinstance(value, Mapping):
            update_config(config[key], value, path, f"{prefix}.{key}")
            continue
        default: Any = config[key]
        if isinstance(default, ConfigDict):
            default = default.to_dict()
        if isinstance(default, tuple) and isinstance(value, list):  # JSON has no tuples.
            value = tuple(value)
        if not _is_like(value, default):
            raise InputError(
                f"{path} sets {prefix}.{key} to {value!r}, expected a value like {default!r}."
            )
        config[key] = type(default)(value)  # A whole number may stand for a float.


def expand_paths(config: Config) -> None:
    """Have the home folder stand for a `~` at the start of a config's paths, in place.

    Raises:
        InputError: as `expand`.
    """
    found = flatten(config)
    paths = [key for key, setting, _ in settings_of(Run()) if setting.is_path and key in found]
    config.update_from_flattened_dict({key: expand(found[key]) for key in paths})


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
            raise InputError(f"There is no config key {key}; the nearest key is {_nearest(key)}.")


def _nearest(key: str) -> str:
    known = [f"config.{name}" for name in flatten(default_config())]
    return difflib.get_close_matches(key, known, 1, cutoff=0)[0]


def _is_like(value: Any, default: Any) -> bool:
    """Whether a value from JSON has the type of the default, a whole number being a float too."""
    if isinstance(default, tuple):
        part_like = default[0] if default else ""  # those that are empty hold names and patterns
        return isinstance(value, tuple) and all(_is_like(part, part_like) for part in value)
    if isinstance(default, float):
        return isinstance(value, float) or (type(value) is int and abs(value) <= 2**53)
    return type(value) is type(default)


def check_config(config: Config) -> None:
    """Refuse values that cannot work, before anything is read or compiled.

    Raises:
        InputError: a value is out of range; the sentence names the key, the value and the range.
    """
    for key, setting, _ in settings_of(Run()):
        value = _value(config, key)
        if setting.allowed and not setting.allowed.accepts(value):
            raise _refusal(config, key, setting.allowed.words)
    if config.model.name == RESIDUAL_UNET:
        factor = 2 ** (len(config.model.widths) - 1)
        if config.loss.deep_supervision:
            expected = "0, because a residual U-Net has no maps for it"
            raise _refusal(config, "loss.deep_supervision", expected)
    else:
        factor = 2 ** len(config.model.block_layers)
    for key in ("patch.shape", "inference.window"):
        shape = _value(config, key)
        if len(shape) != 3 or not all(n > 0 and n % factor == 0 for n in shape):
            raise _refusal(config, key, f"three multiples of {factor}")
    if config.rendering.fraction and not config.rendering.path:
        expected = (
            "a folder that `infant-seg prepare-anatomies` wrote, as config.rendering.fraction is "
            "not 0"
        )
        raise _refusal(config, "rendering.path", expected)


def _value(config: Config, key: str) -> Any:
    return reduce(lambda section, part: section[part], key.split("."), config)


def _refusal(config: Config, key: str, expected: str) -> InputError:
    return InputError(f"config.{key} is {_value(config, key)!r}, expected {expected}.")
