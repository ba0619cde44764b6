"""train a network on a prepared set, from scratch or from another run's weights.

The config has all settings, and each can be overridden on the command line. If you run the same
command again, an interrupted run continues from its last checkpoint.

    infant-seg train --config=default --config.data.path=prepared/ibsr \\
        --workdir=runs/adult
    infant-seg train --config=default --config.data.path=prepared/infants \\
        --config.init.checkpoint=runs/adult --workdir=runs/infant
"""

from pathlib import Path

from absl import flags

from infant_seg_jax.commands.config_flag import NAMES, config_of, define_config
from infant_seg_jax.paths import define_path

INTENDED_FLAGS = ("config", "workdir")


def define_config_and_workdir(values: flags.FlagValues) -> None:
    """The two flags of everything that trains."""
    define_config(values, f"The config: {NAMES}.", required=True)
    define_path(
        "workdir",
        None,
        "The run folder, for checkpoints, metrics and the config.",
        required=True,
        flag_values=values,
    )


def define_flags(values: flags.FlagValues) -> None:
    define_config_and_workdir(values)
    flags.DEFINE_bool(
        "distributed",
        False,
        "Train together with the other processes of a SLURM job, an Open MPI job or a TPU pod.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "coordinator",
        None,
        "HOST:PORT of the first of several processes, if SLURM, Open MPI or the TPU pod do not "
        "provide it.",
        flag_values=values,
    )
    flags.DEFINE_integer("processes", None, "Number of processes.", flag_values=values)
    flags.DEFINE_integer(
        "process", None, "Number of this process, starting at 0.", flag_values=values
    )


def run(values: flags.FlagValues) -> None:
    from infant_seg_jax.compilation import use_compilation_cache
    from infant_seg_jax.cpu_devices import use_cores_as_devices
    from infant_seg_jax.training.processes import join_processes

    together = (values.coordinator, values.processes, values.process)
    if values.distributed or any(value is not None for value in together):
        join_processes(*together)
    from infant_seg_jax.training.loop import train_and_evaluate

    use_compilation_cache()
    config = config_of(values)
    use_cores_as_devices(config.patch.batch_size)
    train_and_evaluate(config, Path(values.workdir))
    print(f"The run is in {values.workdir}.")
    print(f"Next: infant-seg predict --checkpoint={values.workdir} --input=SCANS --output=DIR")
