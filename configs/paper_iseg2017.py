"""iSeg-2017, T1w and T2w, from scratch, by the recipe of Bui, Shin and Moon (2019), for a GPU.

infant-seg prepare --source=iseg --input=iSeg-2017-Training --folds=9 --output=prepared/iseg
infant-seg train --config=paper_iseg2017 --workdir=runs/paper_iseg

Nine folds of ten subjects leave out one or two each. Not measured yet.
"""

from infant_seg_jax.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.data.path = "prepared/iseg"
    return config
