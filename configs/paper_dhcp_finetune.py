"""dHCP newborns, T2w, by the published recipe, from configs/paper_ibsr_pretrain.py, for a GPU.

infant-seg prepare --source=dhcp --input=DHCP --modalities=T2w --output=prepared/dhcp
infant-seg train --config=paper_dhcp_finetune --workdir=runs/paper_dhcp

Not measured yet; the result to beat is a mean Dice of 0.908.
"""

from infant_seg_jax.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.data.path = "prepared/dhcp"
    config.init.checkpoint = "runs/paper_ibsr"
    return config
