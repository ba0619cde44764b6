"""IBSR adults on two CPU cores: a narrower network, smaller patches.

infant-seg prepare --source=ibsr --input=IBSR --output=prepared/ibsr
infant-seg train --config=ibsr_cpu --workdir=runs/ibsr_cpu

Measured: mean Dice 0.911 on the five validation subjects; docs/results.md has more.
"""

from infant_seg_jax import recipes
from infant_seg_jax.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.data.path = "prepared/ibsr"
    recipes.fit_two_cores(config)
    recipes.augment_lightly(config)
    config.steps = 2000
    config.validate_every = 500
    return config
