"""The flag --config: a config by its name or its path, and --config.KEY=VALUE."""

from typing import Any, cast

from absl import flags
from ml_collections import config_flags

from infant_seg_jax.config import Config, open_config
from infant_seg_jax.config.sections import ARCHITECTURE, OF_CONFIG
from infant_seg_jax.paths import expand

NAMES = "a name, such as ibsr_cpu, or a path; --config.KEY=VALUE overrides its values"


def define_config(values: flags.FlagValues, help: str, *, required: bool = False) -> None:
    """The flag, which `config_of` reads."""
    config_flags.DEFINE_config_file("config", None, help, flag_values=values)
    values["config"].parser = _ConfigParser()
    if required:
        flags.mark_flag_as_required("config", values)


def config_of(values: flags.FlagValues) -> Config:
    """The config; one whose architecture the flags choose keeps it, whatever it starts from."""
    config, flag = values.config, cast(Any, values["config"])
    given = flag.override_values
    keys = {f"model.{key}" for keys in ARCHITECTURE.values() for key in keys}
    if "init.architecture" not in given and keys & given.keys():
        config.init.architecture = OF_CONFIG
    return config


class _ConfigParser(flags.ArgumentParser[Config]):
    def parse(self, argument: str) -> Config:
        config = open_config(expand(argument))
        config.lock()
        return config

    def flag_type(self) -> str:
        return "config"
