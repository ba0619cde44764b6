"""render scans from label maps, with the contrast of an age or with a random contrast.

LABELS are label maps of brains, or folders of them. Each becomes one or more scans, together with
their true tissue classes (255 where a structure is not a single tissue):

    infant-seg render LABELS --schema=freesurfer --modality=T1w --age=6 --output=rendered
    infant-seg render LABELS --schema=freesurfer --age=0,24 --per_map=4 --output=rendered
    infant-seg prepare --source=folder --input=rendered --images='*_T1w' --labels='*_dseg' \\
        --modalities=T1w --map=255:ignore --output=prepared/rendered

Scores on rendered scans show how a network handles a known anatomy and contrast. They say nothing
about patients.
"""

from pathlib import Path

from absl import flags

from infant_seg_jax.data.schemas import SCHEMAS, TISSUE_SCHEMA, find_schema
from infant_seg_jax.errors import InputError
from infant_seg_jax.paths import define_path

ARGUMENTS = "LABELS..."


def define_flags(values: flags.FlagValues) -> None:
    define_path(
        "schema",
        TISSUE_SCHEMA.name,
        f"What the label maps' values mean: {', '.join(SCHEMAS)}, or a YAML or JSON file. "
        "freesurfer and synthseg distinguish more structures than the others.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "modality", "T1w", ["T1w", "T2w", "any"], "Modality of the scans.", flag_values=values
    )
    flags.DEFINE_list(
        "age", ["0", "60"], "Age in months, as in 6, or a range, as in 0,24.", flag_values=values
    )
    flags.DEFINE_float(
        "unordered",
        0.0,
        "Chance that the brightness of each structure is random and follows no modality.",
        lower_bound=0.0,
        upper_bound=1.0,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "per_map",
        1,
        "Scans per label map; all but the first have a deformed anatomy.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_integer("seed", 0, "Seed of the scans.", lower_bound=0, flag_values=values)
    define_path("output", None, "A new folder for the scans.", required=True, flag_values=values)


def run(values: flags.FlagValues, arguments: list[str]) -> None:
    ages = _ages(values.age)
    schema = find_schema(values.schema)

    from infant_seg_jax.compilation import use_compilation_cache
    from infant_seg_jax.data.formats import find_volumes
    from infant_seg_jax.rendering.cohort import render_cohort
    from infant_seg_jax.rendering.contrast import Prior

    use_compilation_cache()
    prior = Prior(values.modality, *ages, unordered=values.unordered)
    scans = render_cohort(
        find_volumes(arguments),
        schema,
        Path(values.output),
        prior,
        per_map=values.per_map,
        seed=values.seed,
    )
    print(f"Rendered {len(scans)} scans with their label maps into {values.output}.")


def _ages(parts: list[str]) -> tuple[float, float]:
    try:
        ages = [float(part) for part in parts]
    except ValueError:
        ages = []
    if not 1 <= len(ages) <= 2 or not 0 <= ages[0] <= ages[-1] < 1200:
        raise InputError(
            f"--age is {','.join(parts)}, expected months since birth, as in 6, or a range, as in "
            "0,24."
        )
    return ages[0], ages[-1]
