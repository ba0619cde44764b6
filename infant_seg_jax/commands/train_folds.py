"""train every fold of a prepared set, one after another, and collect the scores.

Each subject is measured with the networks that were not trained on it. If you run the same command
again, finished runs are not repeated.

    infant-seg prepare --source=ibsr --input=IBSR --folds=5 --output=prepared/ibsr5
    infant-seg train-folds --config=ibsr_cpu --config.data.path=prepared/ibsr5 \\
        --workdir=runs/ibsr5
"""

from pathlib import Path

from absl import flags

from infant_seg_jax.commands.config_flag import config_of
from infant_seg_jax.commands.train import define_config_and_workdir

INTENDED_FLAGS = ("config", "workdir")


def define_flags(values: flags.FlagValues) -> None:
    define_config_and_workdir(values)
    flags.DEFINE_integer(
        "seeds", 1, "Number of seeds, with one run per fold.", lower_bound=1, flag_values=values
    )


def run(values: flags.FlagValues) -> None:
    from infant_seg_jax.compilation import use_compilation_cache
    from infant_seg_jax.cpu_devices import use_cores_as_devices
    from infant_seg_jax.evaluation.score_table import dice_in_words
    from infant_seg_jax.training.sweeps import train_folds

    use_compilation_cache()
    config = config_of(values)
    use_cores_as_devices(config.patch.batch_size)
    workdir = Path(values.workdir)
    print(dice_in_words(train_folds(config, workdir, values.seeds)))
    print(f"Written to {workdir / 'scores' / 'dice.csv'} and {workdir / 'scores' / 'dice.json'}.")
