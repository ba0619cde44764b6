"""write a trained network as one folder to keep or to pass on.

RUN is a run folder, and OUT a new model folder. It will contain weights.safetensors and model.json.
You can read model.json: it describes the network, the modalities that it expects, the preparation
of scans, the training data and the scores. `infant-seg predict`, `infant-seg evaluate` and
--config.init.checkpoint accept a model folder in place of a run folder. It contains no pickle, and
nothing in it is executed.

    infant-seg export-model runs/adult models/adult
    infant-seg export-model --which=latest --float16 runs/adult models/adult_small

RUN may also be a model folder, to store it in half precision, or `bundled`. Of several, with
--shares, the mean of their weights is written, which often knows what each of them knows if they
started from one another:

    infant-seg export-model --shares=0.4,0.6 bundled runs/infant models/mean

--brain_finder adds a second network, which finds the brain in whole heads before the first one
labels tissues. It may be your own, or that of another model:

    infant-seg export-model --brain_finder=bundled runs/infant models/infant
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from absl import flags

from infant_seg_jax.commands.model_flags import define_weights, define_which
from infant_seg_jax.errors import InputError
from infant_seg_jax.paths import define_path

ARGUMENTS = "RUN... OUT"


def define_flags(values: flags.FlagValues) -> None:
    define_which(values)
    define_weights(values)
    flags.DEFINE_list(
        "shares",
        None,
        "Of several networks, how much each has of the mean of their weights; 1 in all.",
        flag_values=values,
    )
    define_path(
        "brain_finder",
        "",
        "A run or a model folder: the network that finds the brain in whole heads, or a model with "
        "such a network. By default, that of RUN, if it has one.",
        flag_values=values,
    )
    define_float16(values)


def define_float16(values: flags.FlagValues) -> None:
    """The flag of what writes model folders."""
    flags.DEFINE_bool(
        "float16",
        False,
        "Store the kernels in half precision: half the size and nearly the same labels.",
        flag_values=values,
    )


def run(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    from infant_seg_jax.files import check_is_new
    from infant_seg_jax.store.averaging import average_models
    from infant_seg_jax.store.loading import open_model
    from infant_seg_jax.store.model_folder import check_is_finder, write_model

    *sources, folder = map(Path, arguments)
    shares = _shares(values.shares, len(sources))
    check_is_new(folder)
    models = [open_model(source, values.which, values.weights) for source in sources]
    model = average_models(models, shares) if shares else models[0]
    if values.brain_finder:
        given = open_model(Path(values.brain_finder), values.which, values.weights)
        finder = given.brain_finder or given
        check_is_finder(finder, Path(values.brain_finder))
        model = replace(model, brain_finder=finder)
    write_model(folder, model, float16=values.float16)
    report(folder)


def _shares(texts: Sequence[str] | None, models: int) -> list[float]:
    """The shares of several models; none for one."""
    if (texts is None) != (models == 1):
        given = "is missing" if texts is None else f"is {','.join(texts)}"
        raise InputError(
            f"--shares {given} for {models} model{'s' * (models > 1)}, expected it for several "
            "models, a number for each, as in --shares=0.4,0.6."
        )
    try:
        return [float(text) for text in texts or ()]
    except ValueError as error:
        raise InputError(f"--shares={','.join(texts or ())} is no list of numbers.") from error


def report(folder: Path, name: str = "") -> None:
    """Say what a model folder is, and how to use it: by its name, if it has one."""
    from infant_seg_jax.files import read_json

    content = read_json(folder / "model.json")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    print(
        f"The model is {folder}: {content['weights']['values']} weights, {size:.1f} MB, for "
        f"{' + '.join(content['modalities'])}."
    )
    print(f"Next: infant-seg predict --checkpoint={name or folder} --input=SCANS --output=DIR")
