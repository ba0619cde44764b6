"""IBSR adults on two CPU cores: a narrower network, smaller patches.

infant-seg prepare --source=ibsr --input=IBSR --output=prepared/ibsr
infant-seg train --config=configs/ibsr_cpu.py --workdir=runs/ibsr_cpu
"""

from infant_seg_jax.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.data.path = "prepared/ibsr"
    config.patch.shape = (48, 48, 48)
    config.patch.batch_size = 2
    config.augmentation.flip = 0.5
    config.augmentation.gain = 0.1
    config.augmentation.offset = 0.1
    config.model.growth_rate = 12
    config.model.stem_features = 16
    config.model.dropout_rate = 0.0
    config.loss.name = "cross_entropy_dice"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.b1 = 0.9
    config.optimizer.l2 = 1e-5
    config.optimizer.schedule = "cosine"
    config.steps = 2000
    config.validate_every = 500
    config.inference.window = (96, 96, 96)
    config.inference.overlap = 0.25
    return config
