"""strip scans of their skulls: a brain mask and the brain alone of each.

    infant-seg strip --checkpoint=runs/heads --input=scan.nii.gz --output=brains
    infant-seg strip --checkpoint=runs/heads --input=bids --output=bids/derivatives/brains

Of scan.nii.gz there are scan_desc-brain_mask.nii.gz, with a JSON that says how it was made, and
scan_brain.nii.gz: the scan's own voxels, and 0 outside of the mask. A BIDS tree becomes a
derivative: *_desc-brain_mask.nii.gz and *_desc-brain_T1w.nii.gz.

The mask is the one that predict writes beside a label map: all that is labeled, gaps up to 4 mm
wide between it, and holes. It is as good as the label map. So name a network that was trained on
whole heads with --checkpoint: the bundled model takes much of a head for brain (docs/predict.md).

When the same command is run again, it goes on with what is not finished.
"""

from absl import flags

from infant_seg_jax.commands.many_scans import as_ensemble, begin, go_through
from infant_seg_jax.commands.predict_flags import define_scans

INTENDED_FLAGS = ("input", "output")


def define_flags(values: flags.FlagValues) -> None:
    define_scans(values)
    values["output"].help = "The folder for masks and stripped scans."


def run(values: flags.FlagValues) -> None:
    start = begin(values)

    from infant_seg_jax.labeling.provenance import Settings
    from infant_seg_jax.labeling.stripping import Stripper
    from infant_seg_jax.store.loading import open_predictors

    predictors = open_predictors(values.checkpoint, max_memory=start.max_memory)
    inputs = start.find(predictors[0].expects.modalities)
    segment, identities = as_ensemble(predictors, values.checkpoint)
    refine = all(predictor.refine for predictor in predictors)
    settings = Settings(
        mirror=False, refine=refine, overlap=predictors[0].overlap, label_ids={"brain": 1}
    )
    stripper = Stripper(segment, identities, settings, values.overwrite)
    go_through(stripper.label, inputs, start, "strip", what="brain masks")
