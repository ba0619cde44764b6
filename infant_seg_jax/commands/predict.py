"""label scans, with the bundled model or with one of your own.

Each scan gets a label map with its own shape, affine and orientation: 0 background, 1 CSF, 2 gray
matter, 3 white matter, or the finer classes that a network of your own has learnt. The volume of
each in ml, and how sure the network is, are in tissue_volumes.tsv, what the values mean in
dseg.tsv, and how a label map was made in the JSON beside it.

    infant-seg predict --input=scan.nii.gz --output=labels
    infant-seg predict --input=scan.nii.gz --output=labels.nii.gz
    infant-seg predict --input=@scans.txt --output=labels
    infant-seg predict --checkpoint=runs/infant --input=scans --output=labels --mirror
    infant-seg predict --checkpoint=runs/infant --input=bids --output=bids/derivatives/infantseg
    infant-seg predict --checkpoint=runs/both --input=T1w.nii.gz,T2w.nii.gz --output=labels
    infant-seg predict --checkpoint=runs/fold-0 --checkpoint=runs/fold-1 --input=scans \\
        --mask='masks/{}_mask.nii.gz' --output=labels

The bundled model takes a T1w or a T2w of any age, of the brain alone: it takes much of a head for
brain; docs/model_card.md says what it is good for. One of your own should be given what its
training data showed: if those scans were stripped of their skulls, strip yours or give its mask.

A folder is searched for volumes (.nii, .nii.gz, .mgz, .mgh, .hdr with .img), and the output mirrors
it; of nnU-Net's imagesTs, CASE_0000 and CASE_0001 are one case. A BIDS tree, or a
subject's or session's folder of one, becomes a BIDS derivative:
sub-*/ses-*/anat/*_desc-infantseg_dseg.nii.gz.

When the same command is run again, it goes on with what is not finished. A scan that cannot be
labelled stops no other; the exit status is 1 if there was one. Where OUTPUT is a file, it and its
JSON are all that is written.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from infant_seg_jax.commands.many_scans import as_one, begin, go_through
from infant_seg_jax.commands.predict_flags import define_flags as define_flags
from infant_seg_jax.data.schemas import find_schema
from infant_seg_jax.errors import InputError

if TYPE_CHECKING:
    from infant_seg_jax.data.labels import ClassSet, LabelSchema
    from infant_seg_jax.labelling.labelling import Labeller
    from infant_seg_jax.labelling.scans import Inputs
    from infant_seg_jax.prediction.predictor import Predictor

MEANT = ("input", "output")

_SOURCE = "source"


def run(values: flags.FlagValues) -> None:
    start = begin(values)
    predictors = _predictors(values, start.max_memory)
    inputs = start.find(predictors[0].expects.modalities, values.mask)
    inputs = _in_format(inputs, values)
    report = values.report and not inputs.is_one_file and not values.shard
    labeller = _labeller(values, predictors)
    go_through(labeller.label, inputs, start, "predict", report=report)


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
            f"The schema '{schema.name}' has no value for {' and '.join(mixed)}, which are of no "
            "single tissue, expected one for 'ignore': write it into a file for --schema."
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


def _labeller(values: flags.FlagValues, predictors: "list[Predictor]") -> "Labeller":
    from infant_seg_jax.labelling.labelling import Labeller
    from infant_seg_jax.labelling.provenance import Settings, label_ids

    schema = _schema(values, predictors[0].expects.classes)
    segment, identities = as_one(predictors, values.checkpoint)
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
    return Labeller(segment, identities, settings, schema, values.overwrite)
