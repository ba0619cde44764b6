"""The recipe of Bui, Shin and Moon (2019): what a config that inherits from this one changes.

infant-seg train --config=default --config.data.path=PREPARED --workdir=RUN
"""

from infant_seg_jax.config import Config, default_config


def get_config() -> Config:
    return default_config()
