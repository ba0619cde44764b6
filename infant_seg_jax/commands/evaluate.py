"""measure Dice per tissue and subject, as a table, dice.csv and dice.json.

Either a run on a prepared set, which is predicted first:

    infant-seg evaluate --checkpoint=runs/adult --data=prepared/ibsr --output=scores

or any label maps against the truth, paired by name (scan_dseg.nii.gz with scan.nii.gz,
scan_seg.nii.gz or scan_dseg.nii.gz; 0 background, 1 CSF, 2 gray matter, 3 white matter):

    infant-seg evaluate --prediction=predictions --truth=labels --output=scores
"""

from pathlib import Path

from absl import flags

from infant_seg_jax.data.schemas import SCHEMAS, TISSUE_SCHEMA, find_schema
from infant_seg_jax.errors import InputError
from infant_seg_jax.metrics.table import DiceTable, write_dice


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string("checkpoint", None, "The folder of a training run.", flag_values=values)
    flags.DEFINE_string("data", None, "A prepared set.", flag_values=values)
    flags.DEFINE_string(
        "split", "validation", "Which of its splits: train, validation, test.", flag_values=values
    )
    flags.DEFINE_integer("fold", 0, "Which of its folds.", flag_values=values)
    flags.DEFINE_enum(
        "which",
        "best",
        ["best", "latest"],
        "The checkpoint of the best validation Dice, or the latest.",
        flag_values=values,
    )
    flags.DEFINE_string("prediction", None, "A folder of label maps.", flag_values=values)
    flags.DEFINE_string("truth", None, "The folder of their truths.", flag_values=values)
    for name, whose in (("schema", "true"), ("prediction_schema", "predicted")):
        flags.DEFINE_string(
            name,
            TISSUE_SCHEMA.name,
            f"What the values of the {whose} label maps mean: {', '.join(SCHEMAS)}, or a YAML or "
            "JSON file with lines such as '7: GM'.",
            flag_values=values,
        )
    flags.DEFINE_string(
        "output", None, "The folder for dice.csv and dice.json.", required=True, flag_values=values
    )


def run(values: flags.FlagValues) -> None:
    from infant_seg_jax.compilation import use_compilation_cache
    from infant_seg_jax.inference.evaluation import evaluate_label_maps, evaluate_run

    use_compilation_cache()
    if values.checkpoint and values.data and not (values.prediction or values.truth):
        table = evaluate_run(
            Path(values.checkpoint), Path(values.data), values.split, values.fold, values.which
        )
    elif values.prediction and values.truth and not (values.checkpoint or values.data):
        table = evaluate_label_maps(
            Path(values.prediction),
            Path(values.truth),
            find_schema(values.schema),
            find_schema(values.prediction_schema),
        )
    else:
        raise InputError("Give either --checkpoint and --data, or --prediction and --truth.")
    report(table, Path(values.output))


def report(table: DiceTable, output: Path) -> None:
    """Print the table and write it."""
    write_dice(output, table)
    print(table)
    print(f"Written to {output / 'dice.csv'} and {output / 'dice.json'}.")
