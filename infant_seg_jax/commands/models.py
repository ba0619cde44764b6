"""list models, and install others by name.

    infant-seg models list
    infant-seg models get models/adult.zip
    infant-seg models get --name=neonates https://ADDRESS/model.zip --sha256=DIGITS
    infant-seg models get doi:10.5281/zenodo.NUMBER
    infant-seg models get hf:OWNER/NAME@REVISION

`list` shows the bundled model and those that you installed: the classes, the images that a model
takes, its size and its folder. `get SOURCE` installs a model folder, as `infant-seg export-model`
writes it, from a folder, a zip or tar archive, an https address of an archive, a Zenodo record, or
a Hugging Face repository. Then its name is enough: `infant-seg predict --checkpoint=neonates`, or
`infant_seg_jax.load("neonates")`.

Downloading needs `pip install 'infant_seg_jax[models]'`. Nothing in a model is executed, and
everything is checked before it is installed. Whether a model is any good, nobody checks: take
models from people whom you trust, and give the SHA-256 that they publish.

Models are in ~/.local/share/infant_seg_jax/models (below XDG_DATA_HOME, if that is set), or in the
folder that INFANT_SEG_MODELS names. To remove a model, delete its folder.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from infant_seg_jax.errors import InputError, some_of

ARGUMENTS = "list|get..."

_COLUMNS = ("name", "classes", "images", "size", "folder")
_MAX_CLASSES = 6


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "name",
        "",
        "What to call the model; by default as its source.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "sha256",
        "",
        "The SHA-256 that the model must have: of its model.json, which holds that of the weights, "
        "or of the archive.",
        flag_values=values,
    )


def run(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    action, *sources = arguments
    if action == "get" and len(sources) == 1:
        _get(sources[0], values.name, values.sha256)
    elif action == "list" and not sources:
        _list()
    else:
        raise InputError(
            f"'{' '.join(arguments)}' is neither 'list' nor 'get SOURCE'; see `infant-seg models "
            "--help`."
        )


def _list() -> None:
    from infant_seg_jax.store.installed import BUNDLED, installed_models
    from infant_seg_jax.store.loading import model_path

    models = {BUNDLED: model_path(BUNDLED), **installed_models()}
    rows = [_COLUMNS, *(_row(name, folder) for name, folder in models.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _row(name: str, folder: Path) -> tuple[str, ...]:
    from infant_seg_jax.store.model_description import read_description
    from infant_seg_jax.store.model_folder import MODEL_FILE, WEIGHTS

    try:
        expects = read_description(folder / MODEL_FILE).expects
        size = f"{(folder / WEIGHTS).stat().st_size / 1e6:.1f} MB"
    except (InputError, OSError) as error:
        return name, "damaged", "-", "-", f"{folder} ({error})"
    classes = some_of(expects.classes.foreground, _MAX_CLASSES)
    return name, classes, " + ".join(expects.modalities), size, str(folder)


def _get(source: str, name: str, expected: str) -> None:
    from infant_seg_jax.commands.export_model import report
    from infant_seg_jax.files import sha256
    from infant_seg_jax.store.installed import install
    from infant_seg_jax.store.model_folder import MODEL_FILE

    folder = install(source, name, expected)
    if not expected:
        digest = sha256(folder / MODEL_FILE)
        print(f"It was compared with no SHA-256. To pin this model, give --sha256={digest}.")
    report(folder, folder.name)
