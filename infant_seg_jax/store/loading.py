"""A trained network from wherever it lies: a run folder, a model folder, or this package."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from infant_seg_jax.config import Config, load_config
from infant_seg_jax.data.labels import LabelSchema
from infant_seg_jax.data.schemas import SCHEMAS, find_schema
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import read_json
from infant_seg_jax.models.factory import make_model
from infant_seg_jax.prediction.predictor import Predictor
from infant_seg_jax.store.installed import BUNDLED as BUNDLED
from infant_seg_jax.store.installed import OLD_BUNDLED, installed_models
from infant_seg_jax.store.model_description import read_description
from infant_seg_jax.store.model_folder import (
    MODEL_FILE,
    Model,
    is_model_folder,
    read_model,
)
from infant_seg_jax.store.run_folder import (
    AVERAGED,
    BEST,
    LATEST,
    RAW,
    read_run,
    read_statistics,
    training_summary,
)

_OURS = Path(str(files("infant_seg_jax") / "weights" / "contrast_agnostic"))


def model_path(path: Path | str) -> Path:
    """The folder that a person means by `path`: perhaps the name of a model.

    That is `BUNDLED` or the name of an installed model. A folder of that name in the working
    directory comes first.
    """
    if Path(path).exists():
        return Path(path)
    if str(path) in (BUNDLED, OLD_BUNDLED):
        return _OURS
    return installed_models().get(str(path), Path(path))


def open_predictor(path: Path, which: str = BEST, weights: str | None = None) -> Predictor:
    """Open the network of a run folder or a model folder, ready to predict.

    Args:
        path: the folder, or `bundled`.
        which: the checkpoint of a run: `"best"`, `"latest"` or the number of a step.
        weights: the weights of a run, `"raw"` or `"averaged"`; None: averaged if it has them.

    Raises:
        InputError: there is no such model, or it is damaged.
    """
    model = open_model(path, which, weights)
    found, finder = _predictor_of(model), model.brain_finder
    return replace(found, name=str(path), brain_finder=finder and _predictor_of(finder))


def _predictor_of(model: Model) -> Predictor:
    return Predictor.from_config(model.config, model.variables, model.expects, model.reference)


def open_predictors(
    paths: Sequence[Path | str], which: str = BEST, weights: str | None = None, **changes: Any
) -> list[Predictor]:
    """Call `open_predictor` for several folders, and change the fields that are not None.

    Raises:
        InputError: as `open_model`.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    return [replace(open_predictor(Path(path), which, weights), **given) for path in paths]


def open_model(path: Path, which: str = BEST, weights: str | None = None) -> Model:
    """Open the network of a run folder or a model folder, with everything in a model folder.

    A model folder has one checkpoint. For it, `"best"` and `"latest"` are the same, and another
    step or other weights are an error.

    Args:
        path: the folder, or `BUNDLED`.
        which: the checkpoint of a run: `"best"`, `"latest"` or the number of a step.
        weights: `"raw"` or `"averaged"`; None: averaged if the run has them.

    Raises:
        InputError: the folder is neither, or is damaged, or has not what was asked for.
    """
    path = model_path(path)
    _check_which(which, path)
    if is_model_folder(path):
        return _read_model(path, which, weights)
    _check_is_run(path)
    # Not above: it loads Orbax, which takes long and which model folders do not need.
    from infant_seg_jax.store.checkpoints import load_variables

    config, expects = read_run(path)
    loaded = load_variables(
        path,
        make_model(config, num_classes=len(expects.classes)),
        len(expects.modalities),
        which,
        weights,
    )
    summary = training_summary(path, loaded.step, loaded.weights)
    return Model(config, loaded.variables, expects, summary, read_statistics(path))


def source_schema(path: Path) -> LabelSchema:
    """The schema in which the labels that a network was trained on are drawn.

    Args:
        path: a run folder, a model folder or `BUNDLED`.

    Raises:
        InputError: the folder is neither, or is damaged, or names no schema of ours.
    """
    path = model_path(path)
    if is_model_folder(path):
        description = read_description(path / MODEL_FILE)
        expects, about = description.expects, description.training
    else:
        _check_is_run(path)
        (_, expects), about = read_run(path), read_json(path / "run.json")
    data = about.get("data") if isinstance(about, Mapping) else None
    name = data.get("schema") if isinstance(data, Mapping) else None
    if not isinstance(name, str) or name not in (*SCHEMAS, expects.classes.name):
        raise InputError(
            f"{path} was trained with labels of {name!r}, which is not a named schema "
            f"({', '.join(SCHEMAS)}): give a schema file instead of 'source'."
        )
    return find_schema(name, expects.classes)


def read_config(path: Path | str) -> Config:
    """The config of a run, or as much of one as a model folder holds.

    Args:
        path: a run folder, a model folder or `BUNDLED`.

    Raises:
        InputError: the folder is neither, or is damaged.
    """
    path = model_path(path)
    if is_model_folder(path):
        return read_description(path / MODEL_FILE).config
    _check_is_run(path)
    return load_config(path / "config.json")


def read_start(init: Config) -> tuple[dict[str, Any], str]:
    """The variables that `config.init` names, in whatever shapes they have.

    Returns:
        `params` and `batch_stats`, as NumPy arrays; and which they are, in words.

    Raises:
        InputError: as `open_predictor`. A model folder holds one set of weights, so `init.weights`
            is not looked at there, and `init.which` only if it is a step.
    """
    path = model_path(init.checkpoint)
    if is_model_folder(path):
        model = _read_model(path, init.which, None)
        step, kind = _step_and_weights(model)
        known = f" of step {step}, its {kind} weights" if step and kind else ""
        return model.variables, f"a model folder{known}"
    from infant_seg_jax.store.checkpoints import read_variables

    loaded = read_variables(path, init.which, init.weights)
    score = "unscored" if loaded.mean_dice is None else f"mean Dice {loaded.mean_dice:.3f}"
    return loaded.variables, f"step {loaded.step} ({score}), its {loaded.weights} weights"


def _check_which(which: str, path: Path) -> None:
    if which not in (BEST, LATEST) and not which.isdecimal():
        raise InputError(
            f"The checkpoint of {path} to use is '{which}', expected best, latest or the number "
            "of a step."
        )


def _check_is_run(path: Path) -> None:
    if not path.exists():
        models = (BUNDLED, *installed_models())
        names = [*models, *(other.name for other in path.parent.glob("*") if _may_be_one(other))]
        near = difflib.get_close_matches(path.name, names, 1)
        raise InputError(
            f"There is no run folder, model folder or installed model {path}: "
            + (
                f"did you mean {near[0] if near[0] in models else path.with_name(near[0])}?"
                if near
                else f"name a folder, or one of {', '.join(models)}."
            )
        )
    if not (path / "run.json").is_file():
        raise InputError(
            f"{path} is neither a run folder (it has no run.json) nor a model folder (it has no "
            "model.json): name a run folder, or a folder written by `infant-seg export-model`."
        )


def _may_be_one(folder: Path) -> bool:
    return is_model_folder(folder) or (folder / "run.json").is_file()


def _read_model(path: Path, which: str, weights: str | None) -> Model:
    """A model folder's network, if it is what was asked for."""
    model = read_model(path, ours=path == _OURS)
    step, kind = _step_and_weights(model)
    if which.isdecimal() and which != str(step):
        raise InputError(
            f"{path} is a model folder, which has one checkpoint (of step {step or 'none'}), "
            f"expected best, latest or that step instead of {which}: export another from its run."
        )
    if weights is not None and weights != kind:
        raise InputError(
            f"{path} is a model folder, which has one set of weights ({kind or 'imported'}), "
            f"expected those instead of {weights} ones: export the others from its run."
        )
    return model


def _step_and_weights(model: Model) -> tuple[int | None, str | None]:
    """Which checkpoint of a run a model was, as far as it says so: its training is free in form."""
    step, kind = model.training.get("step"), model.training.get("weights")
    return step if type(step) is int else None, kind if kind in (RAW, AVERAGED) else None
