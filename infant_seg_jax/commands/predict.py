"""label scans with a trained network.

Each scan gets a label map (0 background, 1 CSF, 2 gray matter, 3 white matter) with its own shape,
affine and orientation. Scans should show what the training data showed: if those were stripped of
their skulls, strip the scan's or give its brain mask. A folder is searched for volumes (.nii,
.nii.gz, .mgz, .mgh, .hdr with .img), and the output mirrors it.

    infant-seg predict --checkpoint=runs/adult --input=scan.nii.gz --output=predictions
    infant-seg predict --checkpoint=runs/both --input=T1w.nii.gz,T2w.nii.gz --output=predictions
    infant-seg predict --checkpoint=runs/adult --input=scans --mask='masks/{}_mask.nii.gz' \\
        --output=predictions
"""

import sys
from dataclasses import replace
from pathlib import Path

from absl import flags

from infant_seg_jax.data.schemas import SCHEMAS, find_schema
from infant_seg_jax.errors import InputError


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "checkpoint", None, "The folder of a training run.", required=True, flag_values=values
    )
    flags.DEFINE_multi_string(
        "input",
        None,
        "A scan or a folder of scans; may be repeated. The modalities of one subject are joined by "
        "commas.",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_string(
        "output", None, "The folder for the label maps.", required=True, flag_values=values
    )
    flags.DEFINE_string(
        "mask",
        "",
        "The scan's brain mask; {} in it stands for the scan's name without its ending.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "schema",
        "",
        f"Write the label values of this schema ({', '.join(SCHEMAS)}, or a YAML or JSON file) "
        "instead of our own.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "which",
        "best",
        ["best", "latest"],
        "The checkpoint of the best validation Dice, or the latest.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "weights",
        None,
        ["raw", "averaged"],
        "Which weights, of a run with a moving average of them; averaged unless given.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "overlap",
        None,
        "Share of a window that the next covers again; as the run's config says unless given.",
        lower_bound=0.0,
        upper_bound=0.95,
        flag_values=values,
    )


def run(values: flags.FlagValues) -> None:
    from infant_seg_jax.compilation import use_compilation_cache
    from infant_seg_jax.data.volumes import read_images, read_mask, write_label_map
    from infant_seg_jax.inference.outputs import find_scans, mask_of
    from infant_seg_jax.inference.predictor import Predictor
    from infant_seg_jax.progress import progress, say

    use_compilation_cache()
    schema = find_schema(values.schema) if values.schema else None
    scans = find_scans(values.input, Path(values.output))
    predictor = Predictor.from_run(Path(values.checkpoint), values.which, values.weights)
    if values.overlap is not None:
        predictor = replace(predictor, overlap=values.overlap)
    failures = 0
    with progress("predicting", len(scans), unit="scan") as bar:
        for scan in scans:
            try:
                volume = read_images(scan.images)
                mask = read_mask(mask_of(scan, values.mask), volume) if values.mask else None
                found = predictor.segment(volume, mask)
                label_map = schema.to_ids(found.label_map) if schema else found.label_map
                write_label_map(scan.output, label_map, volume.native)
                for notice in (*volume.notices, *found.notices):
                    say(notice)
                print(scan.output)
            except InputError as error:
                failures += 1
                say(str(error))
            bar.update()
    if failures:
        sys.exit(f"infant-seg: predict: {failures} of {len(scans)} scans failed, as said above.")
