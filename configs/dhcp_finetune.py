"""dHCP newborns, T2w, from the adults of configs/ibsr_pretrain.py, for a GPU.

infant-seg prepare --source=dhcp --input=DHCP --modalities=T2w --output=prepared/dhcp
infant-seg train --config=dhcp_finetune --workdir=runs/dhcp

Not measured yet; the result to beat is a mean Dice of 0.908.
"""

from infant_seg_jax import recipes
from infant_seg_jax.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.data.path = "prepared/dhcp"
    recipes.augment_fully(config)
    recipes.train_robustly(config)
    config.model.dropout_rate = 0.1
    recipes.fine_tune(config, "runs/ibsr_pretrain")
    return config
