"""draw one page that shows whether to trust a run, an evaluation or label maps.

    infant-seg report runs/adult
    infant-seg report runs/adult runs/infant scores/infant --output=infant.html
    infant-seg report demo --viewer

PATH is what train, evaluate or predict wrote, or a folder with several of such, as a demo's or a
sweep's. Runs are overlaid, fine-tuned ones after those that they began from; several evaluations
are compared, the first with each of the others. The page is one file that needs no network:
pictures are within it, its tables sort by a click, and it suits a phone and paper. With --viewer it
also carries a viewer, in which to look around in the worst, the median and the best subject of an
evaluation, and in the label maps that are flagged or least certain. That takes the extra:
pip install 'infant_seg_jax[viewer]'.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from infant_seg_jax.paths import define_path

ARGUMENTS = "PATH..."


def define_flags(values: flags.FlagValues) -> None:
    define_path(
        "output", "", "The page; by default report.html in the first PATH.", flag_values=values
    )
    flags.DEFINE_bool(
        "viewer",
        False,
        "Carry an interactive viewer in the page, with the volumes of the subjects that fail most; "
        "some MB for each.",
        flag_values=values,
    )


def run(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    from infant_seg_jax.report.report import write_report

    page = Path(values.output) if values.output else None
    written = write_report([Path(path) for path in arguments], page, viewer=values.viewer)
    print(f"Open {written} in a browser.")
