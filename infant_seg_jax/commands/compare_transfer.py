"""measure how much another run's weights help: fine-tuned, with a frozen encoder, from scratch.

All three use the same subjects, seeds, patches and steps, and are measured on the set's test
subjects. comparison.json has the table, and comparison.png shows the Dice against the number of
training subjects.

    infant-seg compare-transfer --config=infant_cpu \\
        --config.data.path=prepared/infants --config.init.checkpoint=runs/adult \\
        --subjects=1,2,4,all --seeds=3 --workdir=runs/transfer

It can also fine-tune from each of several networks and compare them with training from scratch;
'bundled' is the bundled model:

    infant-seg compare-transfer --config=infant_cpu \\
        --config.data.path=prepared/infants --starts=adult:runs/adult,agnostic:bundled \\
        --subjects=2 --workdir=runs/starts
"""

import os
import re
from pathlib import Path

from absl import flags

from infant_seg_jax.commands.config_flag import config_of
from infant_seg_jax.commands.train import define_config_and_workdir
from infant_seg_jax.errors import InputError
from infant_seg_jax.paths import expand, split_at_commas

INTENDED_FLAGS = ("config", "workdir")


def define_flags(values: flags.FlagValues) -> None:
    define_config_and_workdir(values)
    flags.DEFINE_list(
        "subjects", ["all"], "Numbers of training subjects, as in 1,2,4,all.", flag_values=values
    )
    flags.DEFINE_integer(
        "seeds", 1, "Number of seeds, with one run of each kind.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_string(
        "starts",
        "",
        "Networks to start from instead of config.init.checkpoint, as in adult:runs/adult.",
        flag_values=values,
    )


def run(values: flags.FlagValues) -> None:
    counts = [_count(text) for text in values.subjects]
    starts = dict(_start(text) for text in split_at_commas(values.starts, is_start))

    from infant_seg_jax.compilation import use_compilation_cache
    from infant_seg_jax.cpu_devices import use_cores_as_devices
    from infant_seg_jax.report.transfer import describe, draw_transfer, write_transfer
    from infant_seg_jax.training.sweeps import compare_transfer

    use_compilation_cache()
    config = config_of(values)
    use_cores_as_devices(config.patch.batch_size)
    workdir = Path(values.workdir)
    results = compare_transfer(config, workdir, counts, values.seeds, starts)
    write_transfer(workdir / "comparison.json", results)
    draw_transfer(workdir / "comparison.png", results)
    print(describe(results))
    print(f"Written to {workdir / 'comparison.json'} and {workdir / 'comparison.png'}.")


def is_start(text: str) -> bool:
    """Whether a text names one network that is there, whatever commas its path has."""
    return os.path.exists(os.path.expanduser(text.partition(":")[2]))


def _start(text: str) -> tuple[str, str]:
    name, _, path = text.partition(":")
    if not path or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise InputError(
            f"--starts has '{text}', expected NAME:PATH as in adult:runs/adult, where NAME has "
            "only letters, digits, - and _."
        )
    return name, expand(path)


def _count(text: str) -> int:
    if text == "all":
        return 0
    if not text.isdecimal() or int(text) == 0:
        raise InputError(f"--subjects has '{text}', expected numbers of subjects, or all.")
    return int(text)
