"""Any age, T1w or T2w, by a residual U-Net: the successor of contrast_agnostic.py, in training.

infant-seg prepare-anatomies freesurfer:MAPS synthseg:ADULTS --output=prepared/anatomies
infant-seg train --config=contrast_agnostic_unet --workdir=runs/unet

Its normalization has no batch statistics, so that contrast may change from example to example: it
learns in one run, at a rate that stays, and the averaged weights are of use at any time. It can be
stopped and goes on; what it knows so far is in training_in_progress/.
"""

from infant_seg_jax import recipes
from infant_seg_jax.config import RESIDUAL_UNET, Config, default_config


def get_config() -> Config:
    config = default_config()
    config.data.path = "prepared/anatomies/held_out"
    recipes.fit_two_cores(config)
    recipes.train_robustly(config)
    recipes.render_every_example(config, "prepared/anatomies")
    recipes.render_like_real_newborns(config)
    config.model.name = RESIDUAL_UNET
    config.patch.shape = (64, 64, 64)
    config.patch.batch_size = 1
    config.optimizer.learning_rate = 3e-4  # With one patch a step, 1e-3 is too much.
    config.optimizer.schedule = "constant"
    config.steps = 200_000
    config.validate_every = 20_000
    config.save_every = 250
    return config
