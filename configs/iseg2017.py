"""iSeg-2017, six months, T1w and T2w, from the adults of configs/ibsr_pretrain.py, for a GPU.

infant-seg prepare --source=iseg --input=iSeg-2017-Training --folds=5 --output=prepared/iseg
infant-seg train --config=iseg2017 --workdir=runs/iseg

The adults' one channel is spread over the two. Not measured yet.
"""

from infant_seg_jax import recipes
from infant_seg_jax.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.data.path = "prepared/iseg"
    recipes.augment_fully(config)
    config.augmentation.drop_modality = 0.1
    recipes.train_robustly(config)
    config.model.dropout_rate = 0.1
    recipes.fine_tune(config, "runs/ibsr_pretrain")
    config.init.input_channels = "spread"
    return config
