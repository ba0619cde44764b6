"""strip the skull from scans: a brain mask and a stripped scan for each.

    infant-seg strip --input=scan.nii.gz --output=brains
    infant-seg strip --input=bids --output=bids/derivatives/brains

For scan.nii.gz it writes scan_desc-brain_mask.nii.gz, with a JSON file that says how the mask was
made, and scan_brain.nii.gz: the scan's own voxels, with 0 outside the mask. For a BIDS tree it
writes a derivative with *_desc-brain_mask.nii.gz and *_desc-brain_T1w.nii.gz.

The mask is the one that predict writes beside a label map: everything that is labeled, the holes
in it, and gaps of up to 4 mm. The mask is only as good as the label map: look at both. With
--checkpoint, name a network that was trained on whole heads, or a model with a brain finder.

Run the same command again to continue with the scans that are not finished.
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
