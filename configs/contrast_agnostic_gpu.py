"""Any age, T1w or T2w: contrast_agnostic.py with a wider network, in eight minutes on one GPU.

infant-seg prepare-anatomies freesurfer:MAPS synthseg:ADULTS --output=prepared/anatomies
infant-seg train --config=contrast_agnostic_gpu --workdir=runs/first

Then, as there, with fixed batch statistics and on examples that it has not seen:

infant-seg train --config=contrast_agnostic_gpu --config.minutes=2.5 --config.seed=1 \\
    --config.init.checkpoint=runs/first --config.init.which=latest \\
    --config.init.weights=averaged --config.init.batch_norm=freeze \\
    --config.optimizer.learning_rate=0.0005 --workdir=runs/second
infant-seg export-model --which=latest --float16 runs/second models/contrast_agnostic

Not measured yet.
"""

from infant_seg_jax import recipes
from infant_seg_jax.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.data.path = "prepared/anatomies/held_out"
    recipes.train_robustly(config)
    recipes.render_every_example(config, "prepared/anatomies")
    recipes.fit_one_gpu(config, minutes=5.5)
    config.model.growth_rate = 24
    config.model.dropout_rate = 0.0
    config.inference.window = (96, 96, 96)
    config.inference.overlap = 0.25
    return config
