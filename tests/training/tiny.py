"""A config that trains in seconds, for the tests of whole runs."""

from pathlib import Path

from infant_seg_jax.config import Config, default_config, flatten


def tiny_config(data: Path, steps: int) -> Config:
    config = default_config()
    config.data.path = str(data)
    config.patch.shape = (16, 16, 16)
    config.patch.batch_size = 2
    config.augmentation.flip = 0.5
    config.model.growth_rate = 4
    config.model.stem_features = 4
    config.model.block_layers = (1, 1)
    config.optimizer.learning_rate = 1e-2
    config.steps = steps
    config.log_every = 1
    config.validate_every = 4
    config.parallel = "jit"
    config.inference.window = (32, 32, 32)
    config.inference.overlap = 0.0
    return config


def tiny_flags(config: Config) -> list[str]:
    """The config as flags of `infant-seg train`."""
    default = flatten(default_config())
    return [
        "--config=configs/default.py",
        *(f"--config.{key}={v}" for key, v in flatten(config).items() if v != default[key]),
    ]
