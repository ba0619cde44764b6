"""Any age, T1w or T2w, with its skull or without: trained on rendered examples alone.

infant-seg prepare-anatomies freesurfer:MAPS synthseg:ADULTS --output=prepared/anatomies
infant-seg train --config=contrast_agnostic --workdir=runs/contrast_agnostic

Sized for two CPU cores, which need hours; stopped at any time, the averaged weights are of use.
Fine-tuning starts from it like from any run: --config.init.checkpoint=runs/contrast_agnostic.

Batches differ so much in contrast that their statistics are not those of any scan. In the end let
it learn with fixed ones, on examples that it has not seen:

infant-seg train --config=contrast_agnostic --config.seed=1 \\
    --config.init.checkpoint=runs/contrast_agnostic --config.init.which=latest \\
    --config.init.weights=averaged --config.init.batch_norm=freeze --config.steps=6000 \\
    --config.optimizer.schedule=cosine --config.optimizer.learning_rate=0.0005 --workdir=runs/fixed
"""

from infant_seg_jax import recipes
from infant_seg_jax.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.data.path = "prepared/anatomies/held_out"
    recipes.fit_two_cores(config)
    recipes.train_robustly(config)
    recipes.render_every_example(config, "prepared/anatomies")
    config.optimizer.schedule = "constant"
    config.steps = 100_000
    config.validate_every = 4_000
    config.save_every = 250
    return config
