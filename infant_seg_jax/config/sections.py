"""Every setting of a training run, by section, with the defaults of Bui, Shin and Moon (2019).

Configs, `--config.KEY=VALUE`, the checks and docs/config.md all come from here.
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
"""Whose architecture a run has that starts from a checkpoint."""


def _are_ages(ages: Sequence[float]) -> bool:
    ranges = zip(ages[::2], ages[1::2], strict=False)
    return len(ages) >= 2 and len(ages) % 2 == 0 and all(0 <= a <= b < 1200 for a, b in ranges)


def _are_weights(weights: Sequence[float]) -> bool:
    return len(weights) > 1 and min(weights) >= 0 and 0 < sum(weights) < math.inf


AGES = Allowed("ages in months: from, to, of one range or several", _are_ages)
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

    path: str = path_setting("prepared/ibsr", "A folder that `infant-seg prepare` wrote.")
    fold: int = setting(0, "Which fold of its splits.json.", at_least(0))
    train_subjects: int = setting(
        0, "Use the first so many of the training subjects; 0: all.", at_least(0)
    )


@dataclass(frozen=True)
class Patch:
    """What a step sees of them."""

    shape: tuple[int, ...] = setting((64, 64, 64), "Voxels along right, anterior, superior.")
    batch_size: int = setting(4, "Patches in a step, over all devices together.", at_least(1))
    balanced: float = setting(
        0.0, "Share centered on a class drawn evenly; others on any brain voxel.", CHANCE
    )


@dataclass(frozen=True)
class Augmentation:
    """Random changes to patches, in the order of this table; none by default, as in the paper.

    Chances are per patch; a 0 switches an augmentation off.
    """

    flip: float = setting(0.0, "Chance of mirroring left and right.", CHANCE)
    affine: float = setting(0.0, "Chance of the next four, together.", CHANCE)
    rotation: float = setting(
        15.0, "Degrees about each axis, plus or minus up to this.", at_least(0)
    )
    scale: float = setting(0.15, "Each axis times 1 plus or minus up to this.", SHARE)
    shear: float = setting(0.05, "Voxels per voxel, plus or minus up to this.", SHARE)
    translation: float = setting(
        4.0, "Voxels along each axis, plus or minus up to this.", at_least(0)
    )
    elastic: float = setting(0.0, "Chance of a smooth deformation.", CHANCE)
    elastic_displacement: float = setting(
        2.0, "Its SD in voxels; above a fifth of the spacing it folds.", at_least(0)
    )
    elastic_spacing: float = setting(16.0, "Voxels between its points.", at_least(1))
    inversion: float = setting(
        0.0, "Chance of bright for dark, as from adult to newborn T1w.", CHANCE
    )
    gamma: float = setting(0.0, "Chance of a power of the intensities in their range.", CHANCE)
    gamma_range: float = setting(
        0.5, "Exponents between 1 / (1 + range) and 1 + range.", at_least(0)
    )
    bias_field: float = setting(0.0, "Chance of a smooth factor.", CHANCE)
    bias_field_strength: float = setting(0.15, "SD of its logarithm.", at_least(0))
    blur: float = setting(0.0, "Chance of a Gaussian blur.", CHANCE)
    blur_deviation: float = setting(1.0, "Its SD in voxels, up to this.", at_least(0))
    thick_slices: float = setting(
        0.0, "Chance of slices thicker than a voxel, along any axis.", CHANCE
    )
    thickness: float = setting(4.0, "Voxels, from 1 up to this.", at_least(1))
    gaussian_noise: float = setting(0.0, "Chance of Gaussian noise.", CHANCE)
    rician_noise: float = setting(0.0, "Chance of Rician noise.", CHANCE)
    noise_deviation: float = setting(
        0.1, "SD of either noise, up to this, in SDs of the brain.", at_least(0)
    )
    gain: float = setting(
        0.0, "Contrast: intensities times 1 plus or minus up to this, in every patch.", SHARE
    )
    offset: float = setting(
        0.0,
        "Brightness: plus or minus up to this, in SDs of the brain, in every patch.",
        at_least(0),
    )
    drop_modality: float = setting(0.0, "Chance that one of several modalities is missing.", CHANCE)


@dataclass(frozen=True)
class Rendering:
    """Examples rendered from anatomies, beside the real ones or in their place."""

    path: str = path_setting("", "A folder that `infant-seg prepare-anatomies` wrote.")
    fraction: float = setting(
        0.0, "Chance that an example is rendered; with 1 no real one is read.", CHANCE
    )
    modality: str = setting("any", "What is rendered.", one_of("any", "T1w", "T2w"))
    ages: tuple[float, ...] = setting(
        (0.0, 60.0), "Months: from, to, of one range or several, each as likely.", AGES
    )
    unordered: float = setting(
        0.3, "Chance that the brightness of each structure is drawn by itself.", CHANCE
    )
    spread: float = setting(
        0.04, "SD of the brightness of each tissue from scan to scan.", at_least(0)
    )
    fluid_spread: float = setting(0.04, "The same for fluid.", at_least(0))
    texture: float = setting(0.06, "SD within a structure, up to this.", at_least(0))
    maturation: float = setting(
        0.08, "How far white matter departs from its mean, up to this.", at_least(0)
    )
    regions: float = setting(
        0.0, "How far regions of gray and of white matter differ, up to this.", at_least(0)
    )
    partial_volume: float = setting(
        0.7, "SD in voxels of the Gaussian that mixes tissues, up to this.", at_least(0)
    )
    bias: float = setting(0.2, "SD of the logarithm of the bias field, up to this.", at_least(0))
    noise: float = setting(
        0.05,
        "SD of Rician noise, up to this, where an adult's white matter in T1w is 1.",
        at_least(0),
    )
    stripped: float = setting(
        0.6, "Chance that what is around the brain is not shown; if so:", CHANCE
    )
    tight: float = setting(0.25, "chance that fluid around the brain is not shown either;", CHANCE)
    loose: float = setting(
        0.25, "else, chance that a rim of what is around it, 2 to 9 mm wide, is shown.", CHANCE
    )
    thin_cortex: float = setting(
        0.4,
        "Chance of fluid in place of cortex further than 1.75 to 4 mm from white matter.",
        CHANCE,
    )
    more_fluid: float = setting(
        0.3, "Chance of fluid in place of what is nearer than 1.5 to 5 mm to the brain.", CHANCE
    )
    rotation: float = setting(
        15.0, "Of the deformation, as in augmentation; so are the next five.", at_least(0)
    )
    scale: float = setting(0.2, "Each axis times 1 plus or minus up to this.", SHARE)
    shear: float = setting(0.08, "Voxels per voxel, plus or minus up to this.", SHARE)
    translation: float = setting(
        0.0, "Voxels along each axis, plus or minus up to this.", at_least(0)
    )
    elastic_displacement: float = setting(
        2.5, "SD of the smooth deformation in voxels.", at_least(0)
    )
    elastic_spacing: float = setting(16.0, "Voxels between its points.", at_least(1))


@dataclass(frozen=True)
class Model:
    """The network."""

    name: str = setting(SKIP_DENSENET, "Its kind.", one_of(SKIP_DENSENET, RESIDUAL_UNET))
    growth_rate: int = setting(16, "Of the DenseNet.", at_least(1))
    stem_features: int = setting(32, "Of the DenseNet.", at_least(1))
    block_layers: tuple[int, ...] = setting((4, 4, 4, 4), "Of the DenseNet.", LAYERS)
    dropout_rate: float = setting(0.2, "Of the DenseNet.", SHARE)
    widths: tuple[int, ...] = setting(
        (16, 32, 64, 96, 128), "Of the U-Net, from full resolution down.", WIDTHS
    )
    dtype: str = setting(
        "float32",
        'Of the computation; "bfloat16" for GPUs and TPUs.',
        one_of("float32", "bfloat16"),
    )
    remat: bool = setting(
        False, "Compute activations again on the way back: slower, with less memory."
    )


@dataclass(frozen=True)
class Loss:
    """What is minimized."""

    name: str = setting(
        "cross_entropy",
        '"cross_entropy_dice" is their sum.',
        one_of("cross_entropy", "dice", "cross_entropy_dice", "focal"),
    )
    class_weights: tuple[float, ...] = setting(
        (1.0, 1.0, 1.0, 1.0),
        "Of each class: background, CSF, GM, WM, or others; equal ones suit any classes.",
        CLASS_WEIGHTS,
    )
    focal_gamma: float = setting(2.0, "Of the focal loss.", at_least(0))
    deep_supervision: float = setting(
        0.0, "Weight of the loss of each upsampled map by itself.", at_least(0)
    )


@dataclass(frozen=True)
class Optimizer:
    """How it is minimized."""

    name: str = setting(
        "adam", '"sgd" is with Nesterov momentum b1.', one_of("adam", "adamw", "sgd")
    )
    learning_rate: float = setting(2e-4, "The highest of the run.", POSITIVE)
    b1: float = setting(0.97, "Decay of the mean of gradients.", SHARE)
    b2: float = setting(0.999, "Decay of the mean of their squares.", SHARE)
    l2: float = setting(
        6e-4, 'Joins the gradient, as in PyTorch; "adamw" decays by it instead.', at_least(0)
    )
    schedule: str = setting(
        "steps",
        "How the learning rate falls.",
        one_of("steps", "cosine", "polynomial", "constant"),
    )
    drops: tuple[float, ...] = setting(
        (0.5, 0.75), '"steps": divided by 10 at these shares of the run.', DROPS
    )
    power: float = setting(
        0.9, '"polynomial": falls as (1 - step / steps) to this power.', at_least(0)
    )
    warmup: int = setting(0, "Steps over which the rate first rises from 0.", at_least(0))
    clip_norm: float = setting(
        0.0, "Gradients are scaled down to this norm; 0: never.", at_least(0)
    )
    accumulate: int = setting(1, "Batches whose gradients make one update.", at_least(1))


@dataclass(frozen=True)
class Inference:
    """How the network is applied to whole scans."""

    window: tuple[int, ...] = setting(
        (64, 64, 64), "Voxels of a window, where a scan does not fit into memory at once."
    )
    overlap: float = setting(0.5, "Share of a window that the next one covers again.", SHARE)
    batch_size: int = setting(1, "Windows at once.", at_least(1))
    refine: bool = setting(False, "Intensity-based refinement of scans.")


@dataclass(frozen=True)
class Init:
    """Where a run starts; a pattern is a part of a parameter's path, with * for anything."""

    checkpoint: str = path_setting("", "A run folder or a model folder; empty: from scratch.")
    which: str = setting("best", "Of a run: or the latest, or the number of a step.", CHECKPOINT)
    weights: str = setting(
        "raw", 'Of a run: "averaged" is the moving average that it kept.', one_of("raw", "averaged")
    )
    architecture: str = setting(
        OF_CHECKPOINT,
        'Whose network is trained: "config" is what `model` says, as it is with any part that '
        "starts anew, and with --config.model.* on the command line.",
        one_of(OF_CHECKPOINT, OF_CONFIG),
    )
    reinitialise: tuple[str, ...] = setting((), "Patterns of parameters that start anew.")
    freeze: tuple[str, ...] = setting((), "Patterns of parameters that stay as they are.")
    unfreeze_at: int = setting(
        0, "The step from which they learn after all; 0: never.", at_least(0)
    )
    multipliers: tuple[str, ...] = setting(
        (), 'Learning rates of parts, as ("0.1:stem", "0.5:block_0").'
    )
    input_channels: str = setting(
        "same",
        "Another number of them: sum the first kernel, or spread it.",
        one_of("same", "sum", "spread"),
    )
    batch_norm: str = setting(
        "update",
        "Or freeze its statistics, or reset them at the start.",
        one_of("update", "freeze", "reset"),
    )


@dataclass(frozen=True)
class Run:
    """The whole."""

    seed: int = setting(0, "Of all that is random.", at_least(0))
    data: Data = Data()
    patch: Patch = Patch()
    augmentation: Augmentation = Augmentation()
    rendering: Rendering = Rendering()
    model: Model = Model()
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer()
    average_decay: float = setting(
        0.0, "Of the moving average of the weights, 0.999 say; 0: none.", SHARE
    )
    steps: int = setting(20_000, "How many there are.", at_least(1))
    log_every: int = setting(50, "Steps between lines of the log.", at_least(1))
    validate_every: int = setting(
        1_000, "Steps between validations, which write a checkpoint, too.", at_least(1)
    )
    save_every: int = setting(0, "Steps between other checkpoints; 0: none.", at_least(0))
    patience: int = setting(
        0, "Validations without a better mean Dice before stopping; 0: never.", at_least(0)
    )
    parallel: str = setting(
        "auto",
        '"pmap" or "shard_map" over all devices, "jit" on one.',
        one_of("auto", "jit", "pmap", "shard_map"),
    )
    inference: Inference = Inference()
    init: Init = Init()
    trackers: tuple[str, ...] = setting(
        (), "Where else to log (extras of the same names).", TRACKERS
    )
