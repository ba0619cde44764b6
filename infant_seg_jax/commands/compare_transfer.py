"""measure what another run's weights bring: fine-tuned, with a frozen encoder, and from scratch.

The three share subjects, seeds, patches and steps, and are scored on the set's test subjects.
comparison.json holds the table, comparison.png the Dice against the number of training subjects.

    infant-seg compare-transfer --config=configs/infant_cpu.py \\
        --config.data.path=prepared/infants --config.init.checkpoint=runs/adult \\
        --subjects=1,2,4,all --seeds=3 --workdir=runs/transfer
"""

from pathlib import Path

from absl import flags

from infant_seg_jax.commands.train import define_config_and_workdir
from infant_seg_jax.errors import InputError


def define_flags(values: flags.FlagValues) -> None:
    define_config_and_workdir(values)
    flags.DEFINE_list(
        "subjects", ["all"], "Numbers of training subjects, as in 1,2,4,all.", flag_values=values
    )
    flags.DEFINE_integer(
        "seeds", 1, "Runs of each kind, with as many seeds.", lower_bound=1, flag_values=values
    )


def run(values: flags.FlagValues) -> None:
    counts = [_count(text) for text in values.subjects]

    from infant_seg_jax.compilation import use_compilation_cache
    from infant_seg_jax.report.transfer import describe, draw_transfer, write_transfer
    from infant_seg_jax.training.sweeps import compare_transfer

    use_compilation_cache()
    workdir = Path(values.workdir)
    results = compare_transfer(values.config, workdir, counts, values.seeds)
    write_transfer(workdir / "comparison.json", results)
    draw_transfer(workdir / "comparison.png", results)
    print(describe(results))
    print(f"Written to {workdir / 'comparison.json'} and {workdir / 'comparison.png'}.")


def _count(text: str) -> int:
    if text == "all":
        return 0
    if not text.isdecimal() or int(text) == 0:
        raise InputError(f"--subjects has '{text}', expected numbers of subjects or all.")
    return int(text)
