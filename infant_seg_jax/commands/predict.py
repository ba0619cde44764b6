"""label scans, with the bundled model or with one of your own.

Each scan gets a label map with its own shape, affine and orientation: 0 background, 1 CSF, 2 gray
matter, 3 white matter, or the finer classes of your own network. tissue_volumes.tsv has the volume
of each tissue in ml and how certain the network is, dseg.tsv says what the values mean, and the
JSON beside a label map says how it was made.

    infant-seg predict --input=scan.nii.gz --output=labels
    infant-seg predict --input=scan.nii.gz --output=labels.nii.gz
    infant-seg predict --input=@scans.txt --output=labels
    infant-seg predict --checkpoint=runs/infant --input=scans --output=labels --mirror
    infant-seg predict --checkpoint=runs/infant --input=bids --output=bids/derivatives/infantseg
    infant-seg predict --checkpoint=runs/both --input=T1w.nii.gz,T2w.nii.gz --output=labels
    infant-seg predict --checkpoint=runs/fold-0 --checkpoint=runs/fold-1 --input=scans \\
        --mask='masks/{}_mask.nii.gz' --output=labels

The bundled model takes a T1w or a T2w scan of any age, of the brain or of the whole head, in which
it first finds the brain; docs/model_card.md says what it is good for. A model of your own needs
scans like its training scans: if those were skull-stripped, strip yours or give a mask.

A folder is searched for volumes (.nii, .nii.gz, .mgz, .mgh, .hdr with .img), and the output has the
same subfolders. In nnU-Net's imagesTs, CASE_0000 and CASE_0001 are one case. From a BIDS tree, or
the folder of one of its subjects or sessions, you get a BIDS derivative:
sub-*/ses-*/anat/*_desc-infantseg_dseg.nii.gz.

If you run the same command again, it continues with the scans that are not finished. If a scan
cannot be labeled, the others still are, and the exit status is 1. If OUTPUT is a file, only that
file and its JSON are written.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from infant_seg_jax.commands.many_scans import as_ensemble, begin, go_through
from infant_seg_jax.commands.predict_flags import define_flags as define_flags
from infant_seg_jax.data.schemas import find_schema
from infant_seg_jax.errors import InputError

if TYPE_CHECKING:
    from infant_seg_jax.data.labels import ClassSet, LabelSchema
    from infant_seg_jax.labeling.labeling import Labeler
    from infant_seg_jax.labeling.scans import Inputs
    from infant_seg_jax.prediction.predictor import Predictor

INTENDED_FLAGS = ("input", "output")

_SOURCE = "source"


def run(values: flags.FlagValues) -> None:
    from infant_seg_jax.labeling.scans import table_of

    start = begin(values)
    predictors = _predictors(values, start.max_memory)
    inputs = start.find(predictors[0].expects.modalities, values.mask)
    inputs = _in_format(inputs, values)
    table = None if inputs.is_one_file else table_of(start.output)
    report = values.report and table is not None and not values.shard
    labeler = _labeler(values, predictors)
    go_through(labeler.label, inputs, start, "predict", table=table, report=report)


def _in_format(inputs: "Inputs", values: flags.FlagValues) -> "Inputs":
    """With the names of files of `--format`.

    Raises:
        InputError: the format cannot hold what is to be written, or BIDS has no such files.
    """
    named = [scan.file for scan in inputs.scans if scan.file]
    mgh = any(path.name.lower().endswith((".mgz", ".mgh")) for path in named)
    if inputs.dataset is not None and values.format == "mgz":
        raise InputError(
            "--format=mgz is none that a BIDS derivative may have, expected nii.gz or nii: name "
            "the scans as files with --input."
        )
    if (mgh or values.format == "mgz") and values.probabilities not in (None, "float32"):
        raise InputError(
            f"MGZ has no scale for probabilities as {values.probabilities}: write them as float32."
        )
    ending = Path(named[0]).suffix if mgh else f".{values.format}"
    return inputs.with_ending(ending)


def _schema(values: flags.FlagValues, classes: "ClassSet") -> "LabelSchema":
    """What to write of a network's classes: their own values, another schema's, or tissues.

    Raises:
        InputError: there is no such schema, or it has no value for a class.
    """
    from infant_seg_jax.data.labels import IGNORE, LabelSchema

    if values.schema == _SOURCE:
        from infant_seg_jax.store.loading import source_schema

        return source_schema(Path(values.checkpoint[0]))
    if not values.schema:
        return LabelSchema.of(classes)
    try:
        return find_schema(values.schema, classes)
    except InputError:
        schema = find_schema(values.schema)
    mixed = [one.name for one in classes.classes if one.tissue == IGNORE]
    if mixed and IGNORE not in schema.table.values():
        raise InputError(
            f"The schema '{schema.name}' has no value for the mixed classes {' and '.join(mixed)}, "
            "expected one for 'ignore': add it in a file and give that to --schema."
        )
    return schema


def _predictors(values: flags.FlagValues, max_memory: int | None) -> "list[Predictor]":
    from infant_seg_jax.store.loading import open_predictors

    return open_predictors(
        values.checkpoint,
        values.which,
        values.weights,
        mirror=values.mirror,
        max_memory=max_memory,
        fix_orientation=values.fix_orientation,
        overlap=values.overlap,
        refine=values.refine,
    )


def _labeler(values: flags.FlagValues, predictors: "list[Predictor]") -> "Labeler":
    from infant_seg_jax.labeling.labeling import Labeler
    from infant_seg_jax.labeling.provenance import Settings, label_ids

    schema = _schema(values, predictors[0].expects.classes)
    segment, identities = as_ensemble(predictors, values.checkpoint)
    settings = Settings(
        mirror=values.mirror,
        overlap=predictors[0].overlap,
        label_ids=label_ids(schema),
        remove_islands_ml=values.remove_islands,
        probabilities=values.probabilities or "",
        masked=bool(values.mask),
        refine=all(predictor.refine for predictor in predictors),
        fix_orientation=values.fix_orientation,
    )
    return Labeler(segment, identities, settings, schema, values.overwrite)
