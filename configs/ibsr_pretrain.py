"""IBSR adults, the full network with all augmentations, for a GPU: a start for infants.

infant-seg prepare --source=ibsr --input=IBSR --output=prepared/ibsr
infant-seg train --config=ibsr_pretrain --workdir=runs/ibsr_pretrain

Not measured yet.
"""

from infant_seg_jax import recipes
from infant_seg_jax.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.data.path = "prepared/ibsr"
    recipes.augment_fully(config)
    config.augmentation.inversion = 0.2  # Newborns' gray matter is the brighter one in T1w.
    recipes.train_robustly(config)
    config.model.dropout_rate = 0.1
    return config
