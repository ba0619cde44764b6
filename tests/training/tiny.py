"""A config that trains in seconds, for the tests of whole runs, and what to render from."""

from pathlib import Path

import numpy as np

from infant_seg_jax.config import Config, default_config, flatten
from infant_seg_jax.data.formats import Grid
from infant_seg_jax.data.phantom import render_phantom
from infant_seg_jax.data.schemas import TISSUE_SCHEMA
from infant_seg_jax.data.volumes import write_label_map
from infant_seg_jax.rendering.anatomies import AnatomySet
from infant_seg_jax.rendering.anatomy import LabelMapFile
from infant_seg_jax.rendering.preparing import prepare_anatomies


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


def tiny_anatomies(folder: Path, shape: tuple[int, int, int], count: int) -> AnatomySet:
    """Phantoms' anatomies `map0`, `map1` and so on, in voxels of 4 mm, the last one held out."""
    label_maps = []
    for seed in range(count):
        path = folder / "maps" / f"map{seed}.nii.gz"
        labels = render_phantom(seed, shape=shape, spacing=4.0).label_map
        write_label_map(path, labels, Grid(shape, np.diag([4.0, 4.0, 4.0, 1.0])))
        label_maps.append(LabelMapFile(TISSUE_SCHEMA, path))
    return prepare_anatomies(label_maps, folder / "set", 4.0, held_out=[f"map{count - 1}"])
