"""Infants on two CPU cores, from the adults of configs/ibsr_cpu.py.

infant-seg prepare --source=folder --input=SCANS --output=prepared/infants
infant-seg train --config=infant_cpu --workdir=runs/infant_cpu

Not measured on real infants yet.
"""

from infant_seg_jax import recipes
from infant_seg_jax.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.data.path = "prepared/infants"
    recipes.fit_two_cores(config)
    recipes.augment_lightly(config)
    config.steps = 2000
    config.validate_every = 500
    recipes.fine_tune(config, "runs/ibsr_cpu")
    return config
