"""turn label maps into anatomies, from which training renders its examples.

SCHEMA:LABELS is a label map of a brain, or a folder of them, preceded by the meaning of its values:
freesurfer, synthseg, bounti (one newborn), fetal_atlas, tissues, or a YAML or JSON file.
@SIZE,... after it enlarges them, for example a fetus to the size of a newborn, or a newborn to
several sizes. Brains get a head around them unless the label map has one. Some label maps are held
out of training; scans at several ages and contrasts are rendered from them for validation. If it is
interrupted, the same command continues where it stopped:

    infant-seg prepare-anatomies freesurfer:INFANTS tissues:TISSUE_MAPS synthseg:ADULTS \\
        bounti:NEWBORN@0.92,0.96,1,1.05 fetal_atlas:FETUS_OF_34_WEEKS@1.17 \\
        --held-out='2mo_*,7mo_*' --output=prepared/anatomies
    infant-seg train --config=contrast_agnostic --workdir=runs/contrast_agnostic
"""

import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from infant_seg_jax.data.class_sets import BRAIN_CLASSES, CLASS_SETS
from infant_seg_jax.data.labels import TISSUE_CLASSES
from infant_seg_jax.data.schemas import find_schema
from infant_seg_jax.errors import InputError
from infant_seg_jax.paths import define_path, expand, split_at_commas

if TYPE_CHECKING:
    from infant_seg_jax.rendering.anatomy import LabelMapFile

ARGUMENTS = "SCHEMA:LABELS[@SIZE,...]..."


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_float(
        "spacing_mm",
        1.0,
        "Voxel size in mm. Scans are resampled to it for prediction.",
        lower_bound=0.1,
        upper_bound=10.0,
        flag_values=values,
    )
    flags.DEFINE_string(
        "held_out",
        "",
        "Patterns for the names of label maps to hold out of training; by default a random fifth.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "classes",
        TISSUE_CLASSES.name,
        [TISSUE_CLASSES.name, BRAIN_CLASSES.name],
        "What a network is to distinguish: tissues, or the brain from everything else.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "seed",
        0,
        "Seed of the random choice and of the heads.",
        lower_bound=0,
        flag_values=values,
    )
    define_path(
        "output",
        None,
        "A new folder for the anatomies, or one that the same command has started to fill.",
        required=True,
        flag_values=values,
    )


def run(values: flags.FlagValues, arguments: list[str]) -> None:
    label_maps = find_label_maps(arguments)

    from infant_seg_jax.compilation import use_compilation_cache
    from infant_seg_jax.rendering.anatomies import HELD_OUT
    from infant_seg_jax.rendering.preparing import prepare_anatomies

    use_compilation_cache()
    output = Path(values.output)
    held_out = held_out_patterns(values.held_out, [label_map.name for label_map in label_maps])
    found = prepare_anatomies(
        label_maps,
        output,
        values.spacing_mm,
        held_out=held_out,
        seed=values.seed,
        classes=CLASS_SETS[values.classes],
    )
    count = len(found.training)
    print(f"Prepared {len(label_maps)} anatomies, {count} of them for training.")
    print(
        "Next: infant-seg train --config=contrast_agnostic --workdir=runs/agnostic "
        f"--config.rendering.path={output} --config.data.path={output / HELD_OUT}"
    )


def held_out_patterns(text: str, names: Sequence[str]) -> list[str]:
    """The patterns that commas join, though the names of label maps may have commas in them."""
    return split_at_commas(text, lambda pattern: bool(fnmatch.filter(names, pattern)))


def find_label_maps(arguments: list[str]) -> "list[LabelMapFile]":
    """The files that arguments such as `freesurfer:FOLDER` name, each with its schema and sizes.

    Raises:
        InputError: one is written otherwise, or names no schema or no file.
    """
    from infant_seg_jax.data.formats import find_volumes
    from infant_seg_jax.rendering.anatomy import LabelMapFile

    found = []
    for argument in arguments:
        schema, colon, rest = argument.partition(":")
        path, sizes = _split_sizes(rest)
        if not colon or not path:
            raise InputError(
                f"{argument} does not say what its values mean, expected SCHEMA:LABELS, as in "
                "freesurfer:maps."
            )
        files = find_volumes([expand(path)])
        found += [LabelMapFile(find_schema(schema), file, size) for file in files for size in sizes]
    return found


def _split_sizes(text: str) -> tuple[str, list[float]]:
    """A path and the sizes behind its last @, `[1.0]` where there are none."""
    path, at, listed = text.rpartition("@")
    if not at or Path(text).exists():
        return text, [1.0]
    try:
        sizes = [float(size) for size in listed.split(",")]
    except ValueError:
        sizes = []
    if not sizes or not all(0.5 <= size <= 2.0 for size in sizes):
        raise InputError(f"{text} has the sizes {listed}, expected numbers from 0.5 to 2.")
    return path, sizes
