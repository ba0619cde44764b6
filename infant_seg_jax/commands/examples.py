"""draw a sheet of the first examples that a config trains on: patches, augmented, with labels.

Real ones, and those that are rendered from label maps where the config says so. Look at it before
a long run: what a person could not label, the network should not be asked to.

    infant-seg examples --config=configs/infant_cpu.py --config.data.path=prepared/infants \\
        --output=examples.png
    infant-seg examples --config=configs/contrast_agnostic.py --output=examples.png
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from infant_seg_jax.commands.augment import check_picture
from infant_seg_jax.paths import define_path


def define_flags(values: flags.FlagValues) -> None:
    config_flags.DEFINE_config_file(
        "config",
        None,
        "The config file; --config.KEY=VALUE overrides its values.",
        flag_values=values,
    )
    flags.mark_flag_as_required("config", values)
    define_path("output", None, "The picture to write.", required=True, flag_values=values)
    flags.DEFINE_integer(
        "count", 16, "How many examples.", lower_bound=1, upper_bound=200, flag_values=values
    )


def run(values: flags.FlagValues) -> None:
    output, config = Path(values.output), values.config
    check_picture(output)

    from infant_seg_jax.compilation import use_compilation_cache
    from infant_seg_jax.config import check_config
    from infant_seg_jax.data.prepared import open_prepared
    from infant_seg_jax.rendering.anatomies import open_anatomies
    from infant_seg_jax.report.example_sheet import example_sheet
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
