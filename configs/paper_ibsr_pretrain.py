"""IBSR adults by the recipe of Bui, Shin and Moon (2019) as it was published, for a GPU.

infant-seg prepare --source=ibsr --input=IBSR --output=prepared/ibsr
infant-seg train --config=paper_ibsr_pretrain --workdir=runs/paper_ibsr

Adam (2e-4, 0.97, 0.999) with coupled L2 of 6e-4, a tenth of the rate at half and at three quarters,
four patches of 64 cubed, cross entropy, no augmentation. Not measured yet.
"""

from infant_seg_jax.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.data.path = "prepared/ibsr"
    return config
