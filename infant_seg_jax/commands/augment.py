"""draw a sheet of what each augmentation does to a prepared scan, alone and with the others.

There is a row for each augmentation, with the strength that it has in the config, and one row for
all of them together. Each column is a random draw. The labels are outlined. Look at the sheet
before a long run: do not ask a network to label what a person could not.

    infant-seg augment --data=prepared/ibsr --output=augmentations.png
    infant-seg augment --data=prepared/infants --case=sub-01 --config=default \\
        --config.augmentation.elastic=0.2 --output=augmentations.png
"""

from pathlib import Path

from absl import flags

from infant_seg_jax.commands.config_flag import NAMES, define_config
from infant_seg_jax.errors import InputError
from infant_seg_jax.paths import define_path

_PICTURES = (".png", ".pdf", ".svg")

INTENDED_FLAGS = ("data", "output")


def define_flags(values: flags.FlagValues) -> None:
    define_path("data", None, "A prepared set.", required=True, flag_values=values)
    flags.DEFINE_string(
        "case", "", "Which case; by default the first with labels.", flag_values=values
    )
    define_config(
        values, f"The config whose augmentation to show, by default the config 'default': {NAMES}."
    )
    define_path(
        "output",
        None,
        f"The picture to write ({', '.join(_PICTURES)}).",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "draws", 4, "Random draws per row.", lower_bound=1, upper_bound=12, flag_values=values
    )
    flags.DEFINE_integer("seed", 0, "Seed of the random draws.", flag_values=values)


def run(values: flags.FlagValues) -> None:
    from infant_seg_jax.compilation import use_compilation_cache
    from infant_seg_jax.config import check_config, default_config
    from infant_seg_jax.data.prepared import open_prepared
    from infant_seg_jax.report.drawing.augmentation_sheet import augmentation_sheet

    output = Path(values.output)
    check_picture(output)
    config = values.config or default_config()
    check_config(config)
    prepared = open_prepared(Path(values.data))
    wanted = values.case or next(
        (case.case_id for case in prepared.cases if case.labels_path), prepared.cases[0].case_id
    )
    cases = {case.case_id: case for case in prepared.cases}
    if wanted not in cases:
        raise InputError(
            f"{prepared.folder} has no case '{wanted}', expected one of {', '.join(cases)}."
        )
    use_compilation_cache()
    augmentation_sheet(
        output,
        cases[wanted],
        prepared.modalities,
        config.augmentation,
        values.draws,
        values.seed,
        prepared.classes,
    )
    print(f"The sheet of {wanted} is {output}.")


def check_picture(output: Path) -> None:
    """Raise an InputError for a name that is no picture's."""
    if output.suffix.lower() not in _PICTURES:
        raise InputError(
            f"--output is {output}, expected the name of a picture, ending in one of "
            f"{', '.join(_PICTURES)}."
        )
