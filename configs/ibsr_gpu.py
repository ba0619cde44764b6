"""IBSR adults, the full network with all augmentations, in eight minutes on one GPU.

infant-seg prepare --source=ibsr --input=IBSR --output=prepared/ibsr
infant-seg train --config=ibsr_gpu --workdir=runs/ibsr_gpu
infant-seg export-model --which=latest --float16 runs/ibsr_gpu models/ibsr_gpu

--config.minutes=4 takes half the time. Not measured yet.
"""

from infant_seg_jax import recipes
from infant_seg_jax.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.data.path = "prepared/ibsr"
    recipes.augment_fully(config)
    recipes.train_robustly(config)
    recipes.fit_one_gpu(config, minutes=8.0)
    config.model.dropout_rate = 0.1
    return config
