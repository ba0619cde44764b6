"""Which network a run trains: the config's, or that of the checkpoint that it starts from."""

from pathlib import Path

from infant_seg_jax.config import Config, load_config
from infant_seg_jax.config.sections import ARCHITECTURE, OF_CHECKPOINT
from infant_seg_jax.store.loading import read_config


def with_architecture(config: Config, workdir: Path, *, resuming: bool) -> tuple[Config, str]:
    """The config with the network that its run trains.

    That is the network of the checkpoint that the run starts from, unless `config.init` asks for
    the config's own: by `architecture`, or by parts that start anew. A run that is resumed keeps
    its network.

    Returns:
        A config, the very one if its network stays; and a sentence about what changed, or none.

    Raises:
        InputError: the checkpoint is missing or damaged.
    """
    init = config.init
    if not init.checkpoint or init.architecture != OF_CHECKPOINT or init.reinitialise:
        return config, ""
    before = load_config(workdir / "config.json") if resuming else read_config(init.checkpoint)
    changes = {
        key: before.model[key]
        for key in ARCHITECTURE[before.model.name]
        if before.model[key] != config.model[key]
    }
    if not changes:
        return config, ""
    config = config.copy_and_resolve_references()
    config.model.update(changes)
    listed = ", ".join(f"config.model.{key} {value!r}" for key, value in changes.items())
    return config, (
        f"The architecture is that of {init.checkpoint}, not the config's: {listed}. "
        "--config.init.architecture=config keeps the config's."
    )
