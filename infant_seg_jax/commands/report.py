"""write a report, a page that helps to judge a run, an evaluation or label maps.

    infant-seg report runs/adult
    infant-seg report runs/adult runs/infant scores/infant --output=infant.html
    infant-seg report demo --viewer

PATH is the output of train, evaluate or predict, or a folder that contains several of them. Runs
are overlaid, and a fine-tuned run follows the run that it started from. The first of several
evaluations is compared with each of the others. The page is a single file that needs no network;
its tables sort at a click. With --viewer, it also has an interactive viewer for the worst, the
median and the best subject of an evaluation, and for label maps that are flagged or least certain.
That needs the extra: pip install 'infant_seg_jax[viewer]'.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from infant_seg_jax.paths import define_path

ARGUMENTS = "PATH..."


def define_flags(values: flags.FlagValues) -> None:
    define_path(
        "output",
        "",
        "The page to write; by default report.html in the first PATH.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "viewer",
        False,
        "Embed an interactive viewer with the volumes of a few subjects, some MB for each.",
        flag_values=values,
    )


def run(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    from infant_seg_jax.report.report import write_report

    page = Path(values.output) if values.output else None
    written = write_report([Path(path) for path in arguments], page, viewer=values.viewer)
    print(f"Open {written} in a browser.")
