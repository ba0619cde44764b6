"""Model folders that a person installed, to be opened by name as `bundled` is."""

import os
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from infant_seg_jax.errors import InputError
from infant_seg_jax.files import atomic_folder, sha256
from infant_seg_jax.store.archives import unpack
from infant_seg_jax.store.array_files import check_is_file
from infant_seg_jax.store.downloads import ARCHIVES, FORMS, download, is_remote
from infant_seg_jax.store.model_folder import (
    BRAIN_FINDER,
    MODEL_FILE,
    WEIGHTS,
    is_model_folder,
    read_model,
)

VARIABLE = "INFANT_SEG_MODELS"
"""Names the folder of installed models in the environment."""
BUNDLED, OLD_BUNDLED = "bundled", "shipped"
"""Stand for the model in this package; the second is its name in version 0.1."""

_FILES = (MODEL_FILE, WEIGHTS)
_ALSO = tuple(f"{BRAIN_FINDER}/{name}" for name in _FILES)
_ALSO += ("README.md", "LICENSE", "LICENSE.md", "LICENSE.txt", "CITATION.cff")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def models_folder() -> Path:
    """The folder of installed models, which may not exist yet.

    Raises:
        InputError: the user has no home folder, and the environment names none.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named)
    try:
        data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    except RuntimeError as error:
        raise InputError(
            f"There is no home folder to install models in: set {VARIABLE} to a folder for them."
        ) from error
    return Path(data) / "infant_seg_jax" / "models"


def installed_models() -> dict[str, Path]:
    """The folder of each installed model, sound or not, by name."""
    try:
        found = sorted(models_folder().iterdir())
    except (InputError, OSError):
        return {}
    return {one.name: one for one in found if _NAME.fullmatch(one.name) and is_model_folder(one)}


def install(source: str, name: str = "", expected: str = "") -> Path:
    """Install a model, whole or not at all; nothing in it is executed.

    Args:
        source: a model folder, an archive of one, or what `download` takes.
        name: to open it by; empty for the source's own.
        expected: the SHA-256 of its `model.json`, which holds that of the weights, or of the
            archive; empty if it is not known.

    Returns:
        The folder of the installed model. If it was installed before, by this name and with the
        `model.json` expected, nothing is done.

    Raises:
        InputError: there is no such source, it cannot be downloaded, it is no model or not the one
            expected, or there is a model of that name.
    """
    expected = expected.lower()
    if expected and not _SHA256.fullmatch(expected):
        raise InputError(f"The SHA-256 is '{expected}', expected 64 hexadecimal digits.")
    if source.startswith("http:") and not expected:
        raise InputError(
            f"{source} is not encrypted, so anybody may have changed it: give its SHA-256, or use "
            "https."
        )
    local = Path(source).exists()
    if not local and not is_remote(source):
        raise InputError(
            f"There is no file or folder {source}, expected a model folder, a zip or tar archive "
            f"of one, {FORMS}."
        )
    path = Path(source).resolve()
    name = name or _name_in(path.name if local else source)
    _check_name(name)
    target = models_folder() / name
    if target.exists():
        if expected and is_model_folder(target) and sha256(target / MODEL_FILE) == expected:
            return target
        raise InputError(
            f"There is a model {name} in {target.parent} already: remove its folder first, or "
            "install the new one under another --name."
        )
    with TemporaryDirectory() as aside:
        if not local:
            by_hand = (
                f"put {' and '.join(_FILES)} into {target}, or give its folder or archive to "
                "`infant-seg models get`"
            )
            path = download(source, Path(aside), (*_FILES, *_ALSO), by_hand)
        with atomic_folder(target) as folder:
            try:
                _fill(folder, path)
            except InputError as error:
                message = str(error).replace(str(folder), source).replace(str(path), source)
                raise InputError(message) from error
            sums = {sha256(one) for one in (folder / MODEL_FILE, path) if one.is_file()}
            if expected and expected not in sums:
                raise InputError(
                    f"{source} has the SHA-256 {' and '.join(sorted(sums))}, expected {expected}: "
                    "it is another model, and was not installed."
                )
    return target


def _name_in(source: str) -> str:
    """The last part of a path or an address, without what is no name."""
    last = re.split("[?#@]", source)[0].rstrip("/").rsplit("/", 1)[-1]
    return next((last.removesuffix(one) for one in ARCHIVES if last.endswith(one)), last)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name in (BUNDLED, OLD_BUNDLED):
        raise InputError(
            f"A model cannot be installed as '{name}', expected letters, digits, '.', '_' and '-', "
            f"and not {BUNDLED}: name it with --name."
        )


def _fill(folder: Path, source: Path) -> None:
    """Bring a model's files into a folder, and check them."""
    if source.is_dir():
        for name in filter(lambda name: os.path.lexists(source / name), (*_FILES, *_ALSO)):
            check_is_file(source / name)
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source / name, folder / name)
    else:
        unpack(source, folder, (*_FILES, *_ALSO))
    missing = [name for name in _FILES if not (folder / name).exists()]
    if missing:
        raise InputError(
            f"{source} has no {' and no '.join(missing)}, expected a model folder as written by "
            "`infant-seg export-model`."
        )
    read_model(folder)
