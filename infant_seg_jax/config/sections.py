"""Every setting of a training run, by section, with the defaults of Bui, Shin and Moon (2019).

Configs, `--config.KEY=VALUE`, the checks and docs/config.md are all derived from this module.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from infant_seg_jax.config.settings import (
    CHANCE,
    POSITIVE,
    SHARE,
    Allowed,
    at_least,
    one_of,
    path_setting,
    setting,
)

SKIP_DENSENET, RESIDUAL_UNET = "skip_densenet", "residual_unet"
ARCHITECTURE = {
    SKIP_DENSENET: ("name", "growth_rate", "stem_features", "block_layers"),
    RESIDUAL_UNET: ("name", "widths"),
}
"""The settings of `model` that decide which parameters a network has, and of which shapes."""
OF_CHECKPOINT, OF_CONFIG = "checkpoint", "config"
"""Whose architecture a run that starts from a checkpoint has."""


def _are_ages(ages: Sequence[float]) -> bool:
    ranges = zip(ages[::2], ages[1::2], strict=False)
    return len(ages) >= 2 and len(ages) % 2 == 0 and all(0 <= a <= b < 1200 for a, b in ranges)


def _are_weights(weights: Sequence[float]) -> bool:
    return len(weights) > 1 and min(weights) >= 0 and 0 < sum(weights) < math.inf


AGES = Allowed("ages in months: the start and the end of one or more ranges", _are_ages)
CLASS_WEIGHTS = Allowed("two or more numbers of at least 0, not all of them 0", _are_weights)
LAYERS = Allowed(
    "one or more blocks of at least one layer", lambda layers: min(layers, default=0) >= 1
)
WIDTHS = Allowed("one or more numbers of at least 1", lambda widths: min(widths, default=0) >= 1)
CHECKPOINT = Allowed(
    '"best", "latest" or the number of a step',
    lambda which: which in ("best", "latest") or which.isdecimal(),
)
TRACKERS = Allowed('of "wandb" and "mlflow"', lambda names: set(names) <= {"wandb", "mlflow"})
DROPS = Allowed(
    "shares of the run between 0 and 1", lambda drops: all(0 < share < 1 for share in drops)
)


@dataclass(frozen=True)
class Data:
    """The scans to train on."""

    path: str = path_setting(
        "prepared/ibsr", "The prepared set, a folder written by `infant-seg prepare`."
    )
    fold: int = setting(0, "Number of the fold in splits.json.", at_least(0))
    train_subjects: int = setting(
        0, "How many training subjects to use, from the first on; 0: all.", at_least(0)
    )


@dataclass(frozen=True)
class Patch:
    """The patches that the network is trained on."""

    shape: tuple[int, ...] = setting((64, 64, 64), "Size in voxels: right, anterior, superior.")
    batch_size: int = setting(4, "Patches per step, on all devices together.", at_least(1))
    balanced: float = setting(
        0.0,
        "Share of patches centered on a voxel of a class, with all classes equally likely; the "
        "other patches are centered on any brain voxel.",
        CHANCE,
    )


@dataclass(frozen=True)
class Augmentation:
    """Random changes to patches, in the order of this table; none by default, as in the paper.

    Chances are per patch. A chance of 0 turns an augmentation off.
    """

    flip: float = setting(0.0, "Chance of exchanging left and right.", CHANCE)
    affine: float = setting(0.0, "Chance of the next four changes, applied together.", CHANCE)
    rotation: float = setting(
        15.0, "Largest rotation about each axis, in degrees, in either direction.", at_least(0)
    )
    scale: float = setting(
        0.15, "Largest change of size along each axis; 0.15: factors from 0.85 to 1.15.", SHARE
    )
    shear: float = setting(0.05, "Largest shear in voxels per voxel, in either direction.", SHARE)
    translation: float = setting(
        4.0, "Largest shift along each axis, in voxels, in either direction.", at_least(0)
    )
    elastic: float = setting(0.0, "Chance of a smooth deformation.", CHANCE)
    elastic_displacement: float = setting(
        2.0,
        "SD of the deformation in voxels; above a fifth of elastic_spacing, it folds space.",
        at_least(0),
    )
    elastic_spacing: float = setting(
        16.0, "Distance in voxels between the deformation's control points.", at_least(1)
    )
    inversion: float = setting(
        0.0, "Chance of exchanging bright and dark, as between adult and newborn T1w.", CHANCE
    )
    gamma: float = setting(0.0, "Chance of a gamma transform of the intensities.", CHANCE)
    gamma_range: float = setting(
        0.5,
        "Exponents of the gamma transform lie between 1 / (1 + gamma_range) and 1 + gamma_range.",
        at_least(0),
    )
    bias_field: float = setting(0.0, "Chance of a bias field.", CHANCE)
    bias_field_strength: float = setting(
        0.15, "SD of the logarithm of the bias field.", at_least(0)
    )
    blur: float = setting(0.0, "Chance of a Gaussian blur.", CHANCE)
    blur_deviation: float = setting(1.0, "Largest SD of the blur, in voxels.", at_least(0))
    thick_slices: float = setting(
        0.0, "Chance of slices thicker than a voxel, along any axis.", CHANCE
    )
    thickness: float = setting(4.0, "Largest slice thickness in voxels.", at_least(1))
    gaussian_noise: float = setting(0.0, "Chance of Gaussian noise.", CHANCE)
    rician_noise: float = setting(0.0, "Chance of Rician noise.", CHANCE)
    noise_deviation: float = setting(
        0.1, "Largest SD of either noise, in SDs of the brain's intensities.", at_least(0)
    )
    gain: float = setting(
        0.0,
        "Largest change of contrast, in every patch; 0.1: factors from 0.9 to 1.1.",
        SHARE,
    )
    offset: float = setting(
        0.0,
        "Largest change of brightness, in every patch, in SDs of the brain's intensities.",
        at_least(0),
    )
    drop_modality: float = setting(0.0, "Chance of leaving out one of several modalities.", CHANCE)


@dataclass(frozen=True)
class Rendering:
    """Examples rendered from anatomies, together with real examples or instead of them.

    Brightness is relative to an adult's white matter in T1w, which is 1.
    """

    path: str = path_setting(
        "", "The anatomies, a folder written by `infant-seg prepare-anatomies`."
    )
    fraction: float = setting(
        0.0, "Chance that an example is rendered; 1: no real scan is used.", CHANCE
    )
    modality: str = setting("any", "The modality to render.", one_of("any", "T1w", "T2w"))
    ages: tuple[float, ...] = setting(
        (0.0, 60.0),
        "Ages in months: the start and the end of one or more ranges, all equally likely.",
        AGES,
    )
    unordered: float = setting(
        0.3,
        "Chance that the brightness of each structure is random and follows no modality.",
        CHANCE,
    )
    spread: float = setting(0.04, "SD of the brightness of each tissue between scans.", at_least(0))
    fluid_spread: float = setting(0.04, "SD of the brightness of fluid between scans.", at_least(0))
    texture: float = setting(0.06, "Largest SD of the brightness within a structure.", at_least(0))
    maturation: float = setting(
        0.08, "Largest difference of white matter from its mean brightness.", at_least(0)
    )
    regions: float = setting(
        0.0, "Largest difference between regions of gray and of white matter.", at_least(0)
    )
    partial_volume: float = setting(
        0.7, "Largest SD, in voxels, of the Gaussian that mixes tissues.", at_least(0)
    )
    bias: float = setting(0.2, "Largest SD of the logarithm of the bias field.", at_least(0))
    noise: float = setting(0.05, "Largest SD of the Rician noise.", at_least(0))
    stripped: float = setting(0.6, "Chance that the surroundings of the brain are removed.", CHANCE)
    tight: float = setting(
        0.25,
        "Of stripped examples: chance that the fluid around the brain is removed, too.",
        CHANCE,
    )
    loose: float = setting(
        0.25,
        "Of the other stripped examples: chance that a rim of the surroundings, 2 to 9 mm wide, is "
        "kept.",
        CHANCE,
    )
    thin_cortex: float = setting(
        0.4,
        "Chance that fluid replaces the cortex beyond 1.75 to 4 mm from white matter.",
        CHANCE,
    )
    more_fluid: float = setting(
        0.3,
        "Chance that fluid replaces what surrounds the brain, up to 1.5 to 5 mm from it.",
        CHANCE,
    )
    rotation: float = setting(
        15.0, "Largest rotation about each axis, in degrees, in either direction.", at_least(0)
    )
    scale: float = setting(
        0.2, "Largest change of size along each axis; 0.2: factors from 0.8 to 1.2.", SHARE
    )
    shear: float = setting(0.08, "Largest shear in voxels per voxel, in either direction.", SHARE)
    translation: float = setting(
        0.0, "Largest shift along each axis, in voxels, in either direction.", at_least(0)
    )
    elastic_displacement: float = setting(
        2.5, "SD of the smooth deformation in voxels.", at_least(0)
    )
    elastic_spacing: float = setting(
        16.0, "Distance in voxels between the deformation's control points.", at_least(1)
    )


@dataclass(frozen=True)
class Model:
    """The network."""

    name: str = setting(SKIP_DENSENET, "The architecture.", one_of(SKIP_DENSENET, RESIDUAL_UNET))
    growth_rate: int = setting(16, "DenseNet: channels that each layer adds.", at_least(1))
    stem_features: int = setting(32, "DenseNet: channels of the stem.", at_least(1))
    block_layers: tuple[int, ...] = setting(
        (4, 4, 4, 4), "DenseNet: layers in each dense block.", LAYERS
    )
    dropout_rate: float = setting(0.2, "DenseNet: dropout rate.", SHARE)
    widths: tuple[int, ...] = setting(
        (16, 32, 64, 96, 128), "U-Net: channels at each level, from full resolution down.", WIDTHS
    )
    dtype: str = setting(
        "float32",
        'Data type of the computation; "bfloat16" is for GPUs and TPUs.',
        one_of("float32", "bfloat16"),
    )
    remat: bool = setting(
        False, "Recompute activations in the backward pass: slower, but needs less memory."
    )


@dataclass(frozen=True)
class Loss:
    """The loss that training minimizes."""

    name: str = setting(
        "cross_entropy",
        'The kind; "cross_entropy_dice" is the sum of cross entropy and soft Dice.',
        one_of("cross_entropy", "dice", "cross_entropy_dice", "focal"),
    )
    class_weights: tuple[float, ...] = setting(
        (1.0, 1.0, 1.0, 1.0),
        "Weight of each class: background, CSF, GM, WM, or the classes of the prepared set. Equal "
        "weights fit any number of classes.",
        CLASS_WEIGHTS,
    )
    focal_gamma: float = setting(2.0, "Gamma of the focal loss.", at_least(0))
    deep_supervision: float = setting(
        0.0, "Weight of an additional loss for each upsampled map.", at_least(0)
    )


@dataclass(frozen=True)
class Optimizer:
    """How the loss is minimized."""

    name: str = setting(
        "adam",
        'The optimizer; "sgd" has Nesterov momentum b1.',
        one_of("adam", "adamw", "sgd"),
    )
    learning_rate: float = setting(2e-4, "Highest learning rate of the run.", POSITIVE)
    b1: float = setting(0.97, "Decay rate of the mean of the gradients.", SHARE)
    b2: float = setting(0.999, "Decay rate of the mean of the squared gradients.", SHARE)
    l2: float = setting(
        6e-4,
        'L2 penalty, added to the gradient as in PyTorch; for "adamw", the weight decay.',
        at_least(0),
    )
    schedule: str = setting(
        "steps",
        "How the learning rate decreases.",
        one_of("steps", "cosine", "polynomial", "constant"),
    )
    drops: tuple[float, ...] = setting(
        (0.5, 0.75),
        'For "steps": the learning rate is divided by 10 at these fractions of the run.',
        DROPS,
    )
    power: float = setting(
        0.9,
        'For "polynomial": the learning rate follows (1 - step / steps) to this power.',
        at_least(0),
    )
    warmup: int = setting(0, "Steps over which the learning rate first rises from 0.", at_least(0))
    clip_norm: float = setting(
        0.0, "Larger gradients are scaled down to this norm; 0: never.", at_least(0)
    )
    accumulate: int = setting(1, "Batches per update; their gradients are averaged.", at_least(1))


@dataclass(frozen=True)
class Inference:
    """How the network is applied to whole scans."""

    window: tuple[int, ...] = setting(
        (64, 64, 64),
        "Size of a window in voxels; windows are used if a scan does not fit into memory.",
    )
    overlap: float = setting(
        0.5, "Overlap of neighboring windows, as a fraction of their size.", SHARE
    )
    batch_size: int = setting(1, "Windows predicted at once.", at_least(1))
    refine: bool = setting(False, "Whether to apply intensity-based refinement.")


@dataclass(frozen=True)
class Init:
    """Which weights a run starts from.

    A pattern is a part of a parameter's path; * stands for any text.
    """

    checkpoint: str = path_setting(
        "", "A run folder, a model folder or `bundled`; empty: from scratch."
    )
    which: str = setting("best", "Which checkpoint of a run folder.", CHECKPOINT)
    weights: str = setting(
        "raw",
        'Which weights of a run folder; "averaged" is the moving average of the weights.',
        one_of("raw", "averaged"),
    )
    architecture: str = setting(
        OF_CHECKPOINT,
        'Whose architecture the run has; "config" takes it from the section `model`. That is also '
        "done if parameters are reinitialized, or if --config.model.* is given on the command "
        "line.",
        one_of(OF_CHECKPOINT, OF_CONFIG),
    )
    reinitialise: tuple[str, ...] = setting((), "Patterns of parameters that are reinitialized.")
    freeze: tuple[str, ...] = setting((), "Patterns of parameters that are not trained.")
    unfreeze_at: int = setting(
        0, "Step from which frozen parameters are trained, too; 0: never.", at_least(0)
    )
    multipliers: tuple[str, ...] = setting(
        (), 'Factors on the learning rate of parameters, as in ("0.1:stem", "0.5:block_0").'
    )
    input_channels: str = setting(
        "same",
        "How to adapt the first kernel to another number of modalities.",
        one_of("same", "sum", "spread"),
    )
    batch_norm: str = setting(
        "update",
        "Whether to update the batch statistics, to freeze them, or to reset them at the start.",
        one_of("update", "freeze", "reset"),
    )


@dataclass(frozen=True)
class Run:
    """All settings of a run."""

    seed: int = setting(0, "Seed of all random draws.", at_least(0))
    data: Data = Data()
    patch: Patch = Patch()
    augmentation: Augmentation = Augmentation()
    rendering: Rendering = Rendering()
    model: Model = Model()
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer()
    average_decay: float = setting(
        0.0, "Decay rate of the moving average of the weights, such as 0.999; 0: none.", SHARE
    )
    steps: int = setting(20_000, "Number of training steps.", at_least(1))
    minutes: float = setting(
        0.0,
        "Minutes of training, without compiling, after which a run ends that has not taken all "
        "steps; the learning rate decreases within that time; 0: no limit.",
        at_least(0),
    )
    log_every: int = setting(50, "Steps between log lines.", at_least(1))
    validate_every: int = setting(
        1_000, "Steps between validations; each also saves a checkpoint.", at_least(1)
    )
    save_every: int = setting(0, "Steps between further checkpoints; 0: none.", at_least(0))
    patience: int = setting(
        0,
        "Stop after this many validations without a better mean Dice; 0: never stop early.",
        at_least(0),
    )
    parallel: str = setting(
        "auto",
        'How a step is distributed: "pmap" or "shard_map" over all devices, "jit" on one device.',
        one_of("auto", "jit", "pmap", "shard_map"),
    )
    inference: Inference = Inference()
    init: Init = Init()
    trackers: tuple[str, ...] = setting(
        (), "Further places to log to; each needs the extra of its name.", TRACKERS
    )
