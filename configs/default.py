"""The recipe of Bui, Shin and Moon (2019): what a config that inherits from this one changes.

infant-seg train --config=configs/default.py --config.data.path=PREPARED --workdir=RUN
"""

from ml_collections import ConfigDict

from infant_seg_jax.config import default_config


def get_config() -> ConfigDict:
    return default_config()
