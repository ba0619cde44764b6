"""draw a sheet of the first examples that a config trains on: augmented patches with labels.

These are real examples, and rendered ones if the config has them. Look at the sheet before a long
run: do not ask a network to label what a person could not.

    infant-seg examples --config=infant_cpu --config.data.path=prepared/infants \\
        --output=examples.png
    infant-seg examples --config=contrast_agnostic --output=examples.png
"""

from pathlib import Path

from absl import flags

from infant_seg_jax.commands.augment import check_picture
from infant_seg_jax.commands.config_flag import NAMES, define_config
from infant_seg_jax.paths import define_path

INTENDED_FLAGS = ("config", "output")


def define_flags(values: flags.FlagValues) -> None:
    define_config(values, f"The config: {NAMES}.", required=True)
    define_path("output", None, "The picture to write.", required=True, flag_values=values)
    flags.DEFINE_integer(
        "count", 16, "Number of examples.", lower_bound=1, upper_bound=200, flag_values=values
    )


def run(values: flags.FlagValues) -> None:
    output, config = Path(values.output), values.config
    check_picture(output)

    from infant_seg_jax.compilation import use_compilation_cache
    from infant_seg_jax.config import check_config
    from infant_seg_jax.data.prepared import open_prepared
    from infant_seg_jax.rendering.anatomies import open_anatomies
    from infant_seg_jax.report.drawing.example_sheet import example_sheet
    from infant_seg_jax.training.examples import training_cases

    check_config(config)
    use_compilation_cache()
    prepared = open_prepared(Path(config.data.path))
    rendering = config.rendering
    anatomies = open_anatomies(Path(rendering.path)) if rendering.fraction else None
    cases = training_cases(prepared, config)
    example_sheet(
        output, cases, len(prepared.modalities), anatomies, config, values.count, prepared.classes
    )
    print(f"The sheet of {values.count} examples is {output}.")
