"""Config files: those that come with the package, by name, and any other by its path."""

import difflib
import os
import runpy
import traceback
from importlib.resources import files
from pathlib import Path

from ml_collections import ConfigDict

from infant_seg_jax.config.values import Config
from infant_seg_jax.errors import InputError


def open_config(name: str) -> Config:
    """Open a config: run a config file, which is Python, and return the result of `get_config()`.

    Args:
        name: the name of a config in the package, such as `ibsr_cpu`, or a path; a file of that
            name takes precedence. Text after a colon is an argument for `get_config`.

    Raises:
        InputError: there is no such config, or the file does not return one.
    """
    stated, colon, argument = (name, "", "") if Path(name).is_file() else name.partition(":")
    path = find_config(stated)
    try:
        config = runpy.run_path(os.fspath(path))["get_config"](*([argument] if colon else []))
    except Exception as error:
        raise _unusable(path, error) from error
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"get_config() of {path} returns {type(config).__name__}, expected a config: start "
            "from infant_seg_jax.config.default_config()."
        )
    return config


def find_config(name: str) -> Path:
    """The file of a config.

    Args:
        name: as of `open_config`, without an argument.

    Raises:
        InputError: there is none; the sentence has the names that there are.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = {file.stem: file for file in _folder().glob("*.py")}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(path.stem, known, len(known), cutoff=0)
    raise InputError(
        f"There is no config {name}, expected the path of a file or one of these names: "
        f"{', '.join(near)}."
    )


def _folder() -> Path:
    """Within an installed package; beside that of a checkout."""
    package = Path(str(files("infant_seg_jax")))
    within = package / "configs"
    return within if within.is_dir() else package.parent / "configs"


def _unusable(path: Path, error: Exception) -> InputError:
    message = " ".join(str(error).split()) or "nothing more"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
             if frame.filename == os.fspath(path)]  # fmt: skip
    where = f" in line {lines[-1]}" if lines else ""
    return InputError(f"{path} is not a usable config: {type(error).__name__}{where} ({message}).")
