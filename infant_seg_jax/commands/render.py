"""render scans from label maps, as tissues look at an age or as they look nowhere.

LABELS are label maps of brains, or folders of them. Each becomes one scan or several, with the
tissue classes they were rendered from (255 where a structure is of no single tissue):

    infant-seg render LABELS --schema=freesurfer --modality=T1w --age=6 --output=rendered
    infant-seg render LABELS --schema=freesurfer --age=0,24 --per_map=4 --output=rendered
    infant-seg prepare --source=folder --input=rendered --images='*_T1w' --labels='*_dseg' \\
        --modalities=T1w --map=255:ignore --output=prepared/rendered

Scores on rendered scans say what a network makes of known anatomy and contrast; they say nothing
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
        f"What the label maps' values mean: {', '.join(SCHEMAS)}, or a YAML or JSON file. Those of "
        "freesurfer and synthseg tell more structures apart.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "modality", "T1w", ["T1w", "T2w", "any"], "What scans look like.", flag_values=values
    )
    flags.DEFINE_list(
        "age", ["0", "60"], "In months, as in 6, or from and to, as in 0,24.", flag_values=values
    )
    flags.DEFINE_float(
        "unordered",
        0.0,
        "Chance that every structure's brightness is drawn by itself.",
        lower_bound=0.0,
        upper_bound=1.0,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "per_map",
        1,
        "Scans of each label map; the second and further ones are of a deformed anatomy.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_integer("seed", 0, "Draws the scans.", lower_bound=0, flag_values=values)
    define_path("output", None, "The folder to make.", required=True, flag_values=values)


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
            f"--age is {','.join(parts)}, expected months from birth on, as in 6, or from and to, "
            "as in 0,24."
        )
    return ages[0], ages[-1]
