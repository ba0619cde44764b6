"""turn a dataset of scans and label maps into a prepared set, which training reads.

Each scan is brought to RAS order, cropped to the brain with a margin, and normalized to zero mean
and unit variance over the brain. The brain is the source's brain mask if there is one, otherwise
everything that differs from the background. Nothing is resampled unless you ask for it. The output
folder contains the arrays, manifest.json, which lists the source of everything, and splits.json,
which you may edit. If it is interrupted, the same command continues where it stopped.

    infant-seg prepare --source=ibsr --input=IBSR --output=prepared/ibsr
    infant-seg prepare --source=dhcp --input=DHCP --modalities=T2w --folds=5 --output=prepared/dhcp
    infant-seg prepare --source=dhcp --input=DHCP --classes=drawem9 --output=prepared/drawem9
    infant-seg prepare --source=folder --input=SCANS --images='img/img_*.nii.gz' \\
        --labels='mask/seg_*.nii.gz' --output=prepared/mine
"""

import glob
import os
import shlex
from pathlib import Path

from absl import flags

from infant_seg_jax.data.class_sets import CLASS_SETS, find_classes
from infant_seg_jax.data.prepared import SPLITS
from infant_seg_jax.data.preparing import prepare
from infant_seg_jax.data.preprocessing import Preparation
from infant_seg_jax.data.schemas import SCHEMAS, find_schema, parse_changes
from infant_seg_jax.data.sources import SOURCES, Dataset, Query
from infant_seg_jax.errors import InputError
from infant_seg_jax.paths import define_path, expand, split_at_commas
from infant_seg_jax.progress import log_always

INTENDED_FLAGS = ("input", "output")


def define_flags(values: flags.FlagValues) -> None:
    defaults = Preparation()
    layouts = "; ".join(f"{name}: {source.summary}" for name, source in SOURCES.items())
    flags.DEFINE_enum(
        "source",
        None,
        sorted(SOURCES),
        f"The dataset's layout ({layouts}).",
        required=True,
        flag_values=values,
    )
    define_path("input", None, "The dataset's folder.", required=True, flag_values=values)
    define_path(
        "output",
        None,
        "A new folder for the prepared set, or one that the same command has started to fill.",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_list(
        "modalities",
        [],
        "Which images of a session to use, in order, as in T1w,T2w.",
        flag_values=values,
    )
    define_path(
        "images",
        "",
        "For the source folder: one pattern per modality, with * for the name of the case.",
        flag_values=values,
    )
    define_path(
        "labels",
        "",
        "For folder: a pattern for the label maps. For bids: a pattern, or the derivative that "
        "contains them.",
        flag_values=values,
    )
    define_path(
        "masks",
        "",
        "For folder: a pattern for the brain masks. For bids: a pattern, or the derivative that "
        "contains them.",
        flag_values=values,
    )
    define_classes(values, "The classes that labels distinguish and a network learns", "tissues")
    define_path(
        "schema",
        "",
        f"What the label values mean, if not the usual meaning of the source: "
        f"{', '.join(SCHEMAS)}, or a YAML or JSON file with lines such as '7: GM'.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "map",
        "",
        "Changes to the schema, as in 6:GM,8:WM. Values are names of classes, or ignore.",
        flag_values=values,
    )
    for name, word in (("min_age", "youngest"), ("max_age", "oldest")):
        flags.DEFINE_float(
            name,
            None,
            f"The {word} age to include, in the dataset's unit (dhcp: postmenstrual weeks).",
            flag_values=values,
        )
    flags.DEFINE_float(
        "margin_mm",
        defaults.margin_mm,
        "Margin kept on each side of the brain, in mm.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "spacing_mm",
        defaults.spacing_mm,
        "Voxel size to resample to, in mm; 0 keeps each scan's own.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "clip_percentiles",
        [f"{percentile:g}" for percentile in defaults.clip_percentiles],
        "Clip intensities to these percentiles of the brain's intensities, as in 0.1,99.9.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "bias_correction",
        defaults.bias_correction,
        "First correct the bias field with N4 (needs the extra n4).",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "brain_masks",
        defaults.brain_masks,
        "Set everything outside the source's brain masks to 0; --nobrain_masks keeps whole heads.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "strict",
        False,
        "Refuse images of one session that have different grids, instead of resampling them to the "
        "grid of the first.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "folds",
        1,
        "Number of folds for cross-validation; 1 makes one split into training, validation and "
        "test cases.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "seed", 0, "Seed of the random splits, if the source has none.", flag_values=values
    )


def define_classes(values: flags.FlagValues, what: str, default: str) -> None:
    """The flag that names a class set."""
    define_path(
        "classes",
        default,
        f"{what}: {', '.join(CLASS_SETS)}, or a .tsv or .json file with a row for each class, like "
        "BIDS' dseg.tsv with an additional column 'tissue'.",
        flag_values=values,
    )


def run(values: flags.FlagValues) -> None:
    dataset = find_dataset(values)
    for notice in dataset.notices:
        log_always(notice)
    prepared = prepare(
        dataset,
        Path(values.output),
        preparation=Preparation(
            margin_mm=values.margin_mm,
            spacing_mm=values.spacing_mm,
            clip_percentiles=parse_percentiles(values.clip_percentiles),
            bias_correction=values.bias_correction,
            brain_masks=values.brain_masks,
        ),
        seed=values.seed,
        folds=values.folds,
        strict=values.strict,
    )
    counts = ", ".join(f"{len(prepared.split(name))} {name}" for name in SPLITS)
    what = f"{' + '.join(prepared.modalities)} of {len(prepared.cases)} cases"
    print(f"Prepared {what} ({counts}{' in the first fold' * (values.folds > 1)}).")
    if not any(case.labels_path for case in prepared.cases):
        print("No case has labels: the set can be used for prediction, but not for training.")
        return
    print(f"Labels: {prepared.schema.describe()} (schema '{prepared.schema.name}').")
    print(f"Next: {_next_command(Path(values.output))}")


def _next_command(output: Path) -> str:
    """What trains on the set: from the bundled model, the better start for a few scans."""
    return shlex.join(
        [
            *("infant-seg", "train", "--config=fine_tune_bundled"),
            f"--config.data.path={output}",
            f"--workdir={Path('runs') / output.resolve().name}",
        ]
    )


def find_dataset(values: flags.FlagValues) -> Dataset:
    """The cases that the flags ask for."""
    classes = find_classes(values.classes)

    def is_pattern(text: str) -> bool:
        pattern = f"{os.path.expanduser(text)}*"  # A pattern need not have an ending.
        return bool(glob.glob(pattern, root_dir=values.input, recursive=True))

    query = Query(
        modalities=tuple(values.modalities),
        images=tuple(map(expand, split_at_commas(values.images, is_pattern))),
        labels=values.labels,
        masks=values.masks,
        schema=find_schema(values.schema, classes) if values.schema else None,
        classes=classes,
    )
    dataset = SOURCES[values.source].open(Path(values.input), query)
    return dataset.of_ages(values.min_age, values.max_age).with_schema_changes(
        parse_changes(values.map, classes)
    )


def parse_percentiles(texts: list[str]) -> tuple[float, float]:
    """The two numbers of --clip_percentiles.

    Raises:
        InputError: they are not two numbers.
    """
    try:
        low, high = (float(text) for text in texts)
    except ValueError as error:
        raise InputError(
            f"--clip_percentiles is {','.join(texts)}, expected two numbers as in 0.1,99.9."
        ) from error
    return low, high
