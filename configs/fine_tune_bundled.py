"""Labeled scans of your own, from the bundled model, on two CPU cores.

infant-seg prepare --source=folder --input=SCANS --images='*_T1w' --labels='*_dseg' \\
    --output=prepared/infants
infant-seg train --config=fine_tune_bundled --workdir=runs/infants
infant-seg predict --checkpoint=runs/infants --input=SCAN --output=labels

One modality or several: the bundled model's one channel is spread over them.
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
    recipes.fine_tune(config, "bundled")
    config.init.input_channels = "spread"
    return config
