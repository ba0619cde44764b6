"""Where the brain is in whole heads of any age, T1w or T2w: trained on rendered heads alone.

infant-seg prepare-anatomies --spacing_mm=3 --classes=brain freesurfer:MAPS synthseg:ADULTS \\
    --output=prepared/brains
infant-seg train --config=brain_finder --workdir=runs/brain_finder
infant-seg export-model --which=latest --brain_finder=runs/brain_finder runs/tissues models/tissues

A patch of 48-cubed voxels of 3 mm holds most of a head. Half of the examples are whole heads, a
third are brains stripped too widely. Training can be stopped at any time: the averaged weights are
of use.
"""

from infant_seg_jax import recipes
from infant_seg_jax.config import RESIDUAL_UNET, Config, default_config


def get_config() -> Config:
    config = default_config()
    config.data.path = "prepared/brains/held_out"
    recipes.fit_two_cores(config)
    recipes.train_robustly(config)
    recipes.render_every_example(config, "prepared/brains")
    config.model.name = RESIDUAL_UNET
    config.model.widths = (16, 32, 48, 64, 96)
    config.patch.balanced = 0.4
    config.optimizer.schedule = "constant"
    config.optimizer.warmup = 100
    config.average_decay = 0.998
    config.rendering.ages = (0.0, 1.5, 0.0, 3.0, 5.0, 7.0, 0.0, 60.0)
    config.rendering.unordered = 0.25
    config.rendering.spread = 0.05
    config.rendering.fluid_spread = 0.1
    config.rendering.maturation = 0.08
    config.rendering.regions = 0.08
    config.rendering.noise = 0.05
    config.rendering.stripped = 0.5
    config.rendering.loose = 0.6
    config.rendering.rotation = 40.0
    # In voxels, which are three times as large as elsewhere.
    config.rendering.partial_volume = 0.7
    config.rendering.elastic_displacement = 1.2
    config.augmentation.blur = 0.1
    config.augmentation.thick_slices = 0.1
    config.augmentation.thickness = 2.0
    config.inference.refine = False
    config.steps = 20_000
    config.validate_every = 10_000
    config.save_every = 200
    return config
