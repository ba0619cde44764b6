"""measure how well label maps agree with the truth, per tissue and subject.

It compares label maps of any tool with true ones: two folders, paired by file names
(scan_dseg.nii.gz with scan_seg.nii.gz; sub-01_ses-02_... with sub-01_ses-02_...), or two files:

    infant-seg evaluate --prediction=predictions --truth=labels --output=scores
    infant-seg evaluate --prediction=predictions --truth=labels --images=scans --output=scores
    infant-seg evaluate --prediction=theirs --prediction_schema=freesurfer --truth=labels \\
        --output=scores/theirs
    infant-seg evaluate --classes=drawem9 --prediction=predictions --truth=labels --output=scores

Or it measures a run or an exported model on a prepared set, and predicts the set first:

    infant-seg evaluate --checkpoint=runs/adult --data=prepared/ibsr --output=scores

OUTPUT/metrics.csv has a row for each subject and tissue and a column for each metric: Dice,
Jaccard, sensitivity, precision, volume similarity, volume difference (ml), the Hausdorff distance,
its 95th percentile, the modified Hausdorff distance, the average symmetric surface distance (all in
mm), and the surface Dice. metrics.json has the same values. Like the printed table, it also has the
mean, the standard deviation and a 95% bootstrap interval over subjects. If a subject cannot be
measured, the others still are, and the exit status is 1. report.html shows the scores and the worst
errors, on the scans if --images names them (paired by name as well).
"""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from infant_seg_jax.commands.model_flags import define_which
from infant_seg_jax.commands.prepare import define_classes
from infant_seg_jax.data.class_sets import find_classes
from infant_seg_jax.data.labels import TISSUE_CLASSES
from infant_seg_jax.data.schemas import SCHEMAS, find_schema
from infant_seg_jax.errors import InputError
from infant_seg_jax.metrics.measures import TOLERANCE_MM
from infant_seg_jax.paths import define_path

if TYPE_CHECKING:
    from infant_seg_jax.evaluation.gathering import Evaluation

INTENDED_FLAGS = ("prediction", "truth", "output")


def define_flags(values: flags.FlagValues) -> None:
    define_path(
        "prediction", None, "A folder of predicted label maps, or one file.", flag_values=values
    )
    define_path("truth", None, "The folder of true label maps, or one file.", flag_values=values)
    define_path(
        "images",
        None,
        "The folder of the scans, or one file, for the pictures in the report.",
        flag_values=values,
    )
    define_classes(
        values,
        "Which classes to measure; by default those that both have, otherwise tissues",
        "",
    )
    for name, whose in (("schema", "true"), ("prediction_schema", "predicted")):
        define_path(
            name,
            "",
            f"What the values of the {whose} label maps mean: {', '.join(SCHEMAS)}, or a YAML or "
            "JSON file with lines such as '7: GM'. By default, the classes' own values.",
            flag_values=values,
        )
    define_path("checkpoint", None, "A run folder or a model folder.", flag_values=values)
    define_path("data", None, "A prepared set.", flag_values=values)
    flags.DEFINE_string(
        "split",
        "validation",
        "Which split of the prepared set: train, validation or test.",
        flag_values=values,
    )
    flags.DEFINE_integer("fold", 0, "Which fold of the prepared set.", flag_values=values)
    define_which(values)
    flags.DEFINE_float(
        "tolerance",
        TOLERANCE_MM,
        "Largest distance, in mm, at which two surfaces count as the same in the surface Dice.",
        lower_bound=0.0,
        flag_values=values,
    )
    define_path(
        "output",
        None,
        "The folder for metrics.csv and metrics.json.",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_bool(
        "report",
        True,
        "Write report.html, a page with the results, and keep the predictions that it shows.",
        flag_values=values,
    )


def run(values: flags.FlagValues) -> None:
    from infant_seg_jax.evaluation.score_files import CSV_NAME, JSON_NAME, write_scores

    of_run, of_files = (values.checkpoint, values.data), (values.prediction, values.truth)
    if all(of_run) and not any(of_files) and not values.images:
        evaluation = _measure_run(values)
        given = ("checkpoint", "data", "split", "fold", "which")
    elif all(of_files) and not any(of_run):
        evaluation = _measure_label_maps(values)
        given = ("prediction", "truth", "prediction_schema", "schema", "images")
    else:
        raise InputError(
            "Give either --checkpoint and --data, or --prediction and --truth "
            "(and --images, if you have the scans)."
        )

    output, failures = Path(values.output), evaluation.failures
    if evaluation.scores.subjects:
        own = evaluation.scores.classes.name
        about = {
            **{name: values[name].value for name in given},
            **{name: values[name].value or own for name in given if name.endswith("schema")},
            "failures": failures,
            "unpredicted": evaluation.unpredicted,
        }
        write_scores(output, evaluation.scores, about)
        print(evaluation.scores)
        if evaluation.unpredicted:
            print(f"Left out, without a prediction: {', '.join(evaluation.unpredicted)}.")
        print(f"Written to {output / CSV_NAME} and {output / JSON_NAME}.")
        if values.report:
            from infant_seg_jax.report.report import print_report_path

            print_report_path([output])
    if failures:
        total = len(failures) + len(evaluation.scores.subjects)
        sys.exit(
            f"infant-seg: evaluate: {len(failures)} of {total} subjects could not be measured (see "
            f"above): {', '.join(failures)}."
        )


def _measure_run(values: flags.FlagValues) -> "Evaluation":
    # Not above: JAX takes seconds to load, and label maps do not need it.
    from infant_seg_jax.compilation import use_compilation_cache
    from infant_seg_jax.evaluation.runs import measure_run
    from infant_seg_jax.report.pages.evaluated_cases import label_map_path

    use_compilation_cache()
    return measure_run(
        Path(values.checkpoint),
        Path(values.data),
        values.split,
        values.fold,
        values.which,
        values.tolerance,
        partial(label_map_path, Path(values.output)) if values.report else None,
        find_classes(values.classes) if values.classes else None,
    )


def _measure_label_maps(values: flags.FlagValues) -> "Evaluation":
    from infant_seg_jax.evaluation.label_maps import (
        find_pairs,
        find_scans,
        measure_label_maps,
    )

    classes = find_classes(values.classes or TISSUE_CLASSES.name)
    prediction, truth = Path(values.prediction), Path(values.truth)
    if values.images:  # Before what takes long.
        find_scans(Path(values.images), find_pairs(prediction, truth).pairs)
    return measure_label_maps(
        prediction,
        truth,
        find_schema(values.schema or classes.name, classes),
        find_schema(values.prediction_schema or classes.name, classes),
        values.tolerance,
    )
