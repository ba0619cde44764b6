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
from infant_seg_jax.paths import expand

if TYPE_CHECKING:
    Config: TypeAlias = Any
    """A `ConfigDict`: its attributes are what the config holds, which no type checker can know."""
else:
    Config = ConfigDict

SKIP_DENSENET, RESIDUAL_UNET = "skip_densenet", "residual_unet"

CHOICES = {
    "model.name": (SKIP_DENSENET, RESIDUAL_UNET),
    "model.dtype": ("float32", "bfloat16"),
    "loss.name": ("cross_entropy", "dice", "cross_entropy_dice", "focal"),
    "rendering.modality": ("any", "T1w", "T2w"),
    "optimizer.name": ("adam", "adamw", "sgd"),
    "optimizer.schedule": ("steps", "cosine", "polynomial", "constant"),
    "parallel": ("auto", "jit", "pmap", "shard_map"),
    "init.weights": ("raw", "averaged"),
    "init.input_channels": ("same", "sum", "spread"),
    "init.batch_norm": ("update", "freeze", "reset"),
}
"""The keys whose value is one of a few names."""

_PATHS = ("data.path", "rendering.path", "init.checkpoint")

_CHANCES = (
    *("flip", "affine", "elastic", "gamma", "inversion", "bias_field", "gaussian_noise"),
    *("rician_noise", "blur", "thick_slices", "drop_modality"),
)


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
    config.patch.balanced = 0.0  # Share centred on a class drawn evenly; others on any brain voxel.

    config.augmentation = _augmentation()
    config.rendering = _rendering()

    config.model = ConfigDict()
    config.model.name = SKIP_DENSENET  # Or "residual_unet".
    config.model.growth_rate = 16
    config.model.stem_features = 32
    config.model.block_layers = (4, 4, 4, 4)
    config.model.dropout_rate = 0.2
    config.model.widths = (16, 32, 64, 96, 128)  # Of the U-Net, from full resolution down.
    config.model.dtype = "float32"  # Of the computation; "bfloat16" for GPUs and TPUs.
    config.model.remat = False  # Compute activations again on the way back: slower, less memory.

    config.loss = ConfigDict()
    config.loss.name = "cross_entropy"  # Or "dice", "cross_entropy_dice" (their sum), "focal".
    config.loss.class_weights = (1.0, 1.0, 1.0, 1.0)  # Background, CSF, GM, WM.
    config.loss.focal_gamma = 2.0
    config.loss.deep_supervision = 0.0  # Weight of each upsampled map's own loss.

    config.optimizer = ConfigDict()
    config.optimizer.name = "adam"  # Or "adamw", "sgd" (with Nesterov momentum b1).
    config.optimizer.learning_rate = 2e-4
    config.optimizer.b1 = 0.97
    config.optimizer.b2 = 0.999
    config.optimizer.l2 = 6e-4  # Joins the gradient, as in PyTorch; "adamw" decays by it instead.
    config.optimizer.schedule = "steps"  # Or "cosine", "polynomial", "constant".
    config.optimizer.drops = (0.5, 0.75)  # "steps": divided by 10 at these shares of the run.
    config.optimizer.power = 0.9  # "polynomial": falls as (1 - step / steps) to this power.
    config.optimizer.warmup = 0  # Steps over which the rate first rises from 0.
    config.optimizer.clip_norm = 0.0  # Gradients are scaled down to this norm; 0: never.
    config.optimizer.accumulate = 1  # Batches whose gradients make one update.
    config.average_decay = 0.0  # Of the moving average of the weights, 0.999 say; 0: none.

    config.steps = 20_000
    config.log_every = 50
    config.validate_every = 1_000  # And at the end; a checkpoint is written, too.
    config.save_every = 0  # Checkpoints between validations; 0: none.
    config.patience = 0  # Validations without a better mean Dice before stopping; 0: never.
    config.parallel = "auto"  # "pmap" or "shard_map" over all devices, "jit" on one.

    config.inference = ConfigDict()
    config.inference.window = (64, 64, 64)
    config.inference.overlap = 0.5  # Share of a window that the next one covers again.
    config.inference.batch_size = 1
    config.inference.refine = False  # By the intensities of the scan; see prediction/refinement.py.

    config.init = _init()

    config.trackers = ()  # "wandb", "mlflow": also logged there (extras of the same names).
    return config


def _augmentation() -> Config:
    """None, as in the paper. Chances are per patch; a 0 switches an augmentation off."""
    config: Config = ConfigDict()
    config.flip = 0.0  # Chance of mirroring left and right.
    config.affine = 0.0  # Chance of the four that follow, together.
    config.rotation = 15.0  # Degrees about each axis, plus or minus up to this.
    config.scale = 0.15  # Times 1 +- up to this, along each axis.
    config.shear = 0.05
    config.translation = 4.0  # Voxels.
    config.elastic = 0.0  # Chance of a smooth deformation.
    config.elastic_displacement = 2.0  # Voxels, SD at the points of a coarse grid.
    config.elastic_spacing = 16.0  # Voxels between those points.
    config.gain = 0.0  # Intensities times 1 +- up to this.
    config.offset = 0.0  # Intensities plus or minus up to this, in brain SDs.
    config.gamma = 0.0  # Chance; exponents between 1 / (1 + range) and 1 + range.
    config.gamma_range = 0.5
    config.inversion = 0.0  # Chance of bright for dark, as from adult to newborn T1.
    config.bias_field = 0.0  # Chance of a smooth field.
    config.bias_field_strength = 0.15  # SD of its logarithm.
    config.gaussian_noise = 0.0  # Chance.
    config.rician_noise = 0.0  # Chance.
    config.noise_deviation = 0.1  # Of either, up to this, in brain SDs.
    config.blur = 0.0  # Chance.
    config.blur_deviation = 1.0  # Voxels, up to this.
    config.thick_slices = 0.0  # Chance of slices up to so many voxels thick along one axis:
    config.thickness = 4.0
    config.drop_modality = 0.0  # Chance that one of several channels is missing.
    return config


def _rendering() -> Config:
    """Examples rendered from anatomies, beside the real ones or in their place; none by default."""
    config: Config = ConfigDict()
    config.path = ""  # A folder that `infant-seg prepare-anatomies` wrote.
    config.fraction = 0.0  # Chance that an example is rendered; with 1 no real one is read.
    config.modality = "any"  # Or "T1w", "T2w".
    config.ages = (0.0, 60.0)  # Months: from, to, of one range or several, each as likely.
    config.unordered = 0.3  # Chance that every structure's brightness is drawn by itself.
    config.spread = 0.04  # SD of each tissue's brightness from scan to scan.
    config.fluid_spread = 0.04  # Likewise, of fluid's.
    config.texture = 0.06  # SD within a structure, up to this.
    config.maturation = 0.08  # How far white matter departs from its mean, up to this.
    config.regions = 0.0  # How far regions of gray and of white matter differ, up to this.
    config.partial_volume = 0.7  # Voxels, SD of the Gaussian that mixes tissues, up to this.
    config.bias = 0.2  # SD of the bias field's logarithm, up to this.
    config.noise = 0.05  # SD of Rician noise where an adult's white matter in T1w is 1, up to this.
    config.stripped = 0.6  # Chance that what is around the brain is not shown; if so:
    config.tight = 0.25  # chance that fluid around the brain is not shown either;
    config.loose = 0.25  # else, chance that a rim of what is around it is.
    config.thin_cortex = 0.4  # Chance of fluid in cortex's place far from white matter.
    config.more_fluid = 0.3  # Chance of fluid in place of what is nearest to the brain.
    config.rotation = 15.0  # The deformation's reaches, as in config.augmentation.
    config.scale = 0.2
    config.shear = 0.08
    config.translation = 0.0
    config.elastic_displacement = 2.5
    config.elastic_spacing = 16.0
    return config


def _init() -> Config:
    """Where a run starts; a pattern is a part of a parameter's path, with * for anything."""
    config: Config = ConfigDict()
    config.checkpoint = ""  # A run folder or a model folder; empty: from scratch.
    config.which = "best"  # Of a run: or "latest", or the number of a step.
    config.weights = "raw"  # Of a run: or "averaged": the moving average that it kept.
    config.reinitialise = ()  # Patterns of parameters that start anew.
    config.freeze = ()  # Patterns of parameters that stay as they are.
    config.unfreeze_at = 0  # The step from which they learn after all; 0: never.
    config.multipliers = ()  # Learning rates of parts, as ("0.1:stem", "0.5:block_0").
    config.input_channels = "same"  # Another number: "sum" the first kernel, or "spread" it.
    config.batch_norm = "update"  # Or "freeze" its statistics, or "reset" them at the start.
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
                f"{path} has a key that no config has, {shown}; the nearest key is "
                f"{_nearest(shown[:100])}."
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
    config.update_from_flattened_dict({key: expand(found[key]) for key in _PATHS if key in found})


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
    require(
        "one or more numbers of at least 1",
        lambda widths: min(widths, default=0) >= 1,
        "model.widths",
    )
    if config.model.name == RESIDUAL_UNET:
        factor = 2 ** (len(config.model.widths) - 1)
        require(
            "0, as a residual U-Net has no maps for it",
            lambda weight: weight == 0,
            "loss.deep_supervision",
        )
    else:
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
        *("steps", "log_every", "validate_every", "optimizer.accumulate"),
        *("augmentation.elastic_spacing", "augmentation.thickness", "rendering.elastic_spacing"),
    )
    require(
        "at least 0",
        lambda value: 0 <= value < math.inf,
        *("seed", "data.fold", "data.train_subjects", "augmentation.offset", "optimizer.l2"),
        *("optimizer.power", "optimizer.warmup", "optimizer.clip_norm", "save_every", "patience"),
        *("loss.focal_gamma", "loss.deep_supervision", "init.unfreeze_at"),
        *(f"augmentation.{name}" for name in ("rotation", "translation", "gamma_range")),
        *(f"augmentation.{name}" for name in ("elastic_displacement", "bias_field_strength")),
        *(f"augmentation.{name}" for name in ("noise_deviation", "blur_deviation")),
        *(f"rendering.{name}" for name in ("spread", "texture", "maturation", "partial_volume")),
        *(f"rendering.{name}" for name in ("fluid_spread", "regions")),
        *(f"rendering.{name}" for name in ("bias", "noise", "rotation", "translation")),
        "rendering.elastic_displacement",
    )
    require(
        "at least 0 and below 1",
        lambda value: 0 <= value < 1,
        *("inference.overlap", "augmentation.gain", "model.dropout_rate", "average_decay"),
        *("optimizer.b1", "optimizer.b2", "augmentation.scale", "augmentation.shear"),
        *("rendering.scale", "rendering.shear"),
    )
    require(
        "a chance from 0 to 1",
        lambda value: 0 <= value <= 1,
        "patch.balanced",
        *(f"augmentation.{name}" for name in _CHANCES),
        *(f"rendering.{name}" for name in ("fraction", "unordered", "stripped", "tight", "loose")),
        *("rendering.thin_cortex", "rendering.more_fluid"),
    )
    require(
        "ages in months: from, to, of one range or several",
        lambda ages: (
            len(ages) >= 2
            and len(ages) % 2 == 0
            and all(0 <= a <= b < 1200 for a, b in zip(ages[::2], ages[1::2], strict=True))
        ),
        "rendering.ages",
    )
    require(
        "a folder that `infant-seg prepare-anatomies` wrote, as config.rendering.fraction is not 0",
        lambda path: bool(path) or not config.rendering.fraction,
        "rendering.path",
    )
    require(
        "four numbers of at least 0, not all of them 0",
        lambda weights: len(weights) == 4 and min(weights) >= 0 and 0 < sum(weights) < math.inf,
        "loss.class_weights",
    )
    require(
        '"best", "latest" or the number of a step',
        lambda which: which in ("best", "latest") or which.isdecimal(),
        "init.which",
    )
    require('of "wandb" and "mlflow"', lambda names: set(names) <= {"wandb", "mlflow"}, "trackers")
    require("above 0", lambda value: 0 < value < math.inf, "optimizer.learning_rate")
    require(
        "shares of the run between 0 and 1",
        lambda drops: all(0 < share < 1 for share in drops),
        "optimizer.drops",
    )
    for key, names in CHOICES.items():
        require(" or ".join(map(repr, names)), lambda value, names=names: value in names, key)
