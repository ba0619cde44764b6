"""The configuration of a training run: its settings, their checks, and its way through JSON."""

from infant_seg_jax.config.finding import open_config
from infant_seg_jax.config.sections import RESIDUAL_UNET, SKIP_DENSENET
from infant_seg_jax.config.values import (
    CHOICES,
    Config,
    check_config,
    check_overrides,
    default_config,
    expand_paths,
    flatten,
    load_config,
    update_config,
)

__all__ = [
    "CHOICES",
    "RESIDUAL_UNET",
    "SKIP_DENSENET",
    "Config",
    "check_config",
    "check_overrides",
    "default_config",
    "expand_paths",
    "flatten",
    "load_config",
    "open_config",
    "update_config",
]
