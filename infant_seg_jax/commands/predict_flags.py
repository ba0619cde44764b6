"""The flags of `predict`; some of them are those of `strip` and of the BIDS App, too."""

from absl import flags

from infant_seg_jax.commands.model_flags import define_weights, define_which
from infant_seg_jax.data.schemas import SCHEMAS
from infant_seg_jax.paths import define_path


def define_scans(values: flags.FlagValues) -> None:
    """By which network, which scans, and to where."""
    define_path(
        "checkpoint",
        ["bundled"],
        "A run folder, a model folder, 'bundled' for the model in this package, or the name of an "
        "installed one (infant-seg models). May be repeated, to average several networks, such as "
        "the folds of one training.",
        repeated=True,
        flag_values=values,
    )
    define_path(
        "input",
        None,
        "A scan, a folder of scans, nnU-Net's imagesTs, a BIDS tree, or a part of one such as "
        "sub-01. May be repeated, but not with several BIDS trees. Separate the modalities of one "
        "subject by commas. @FILE reads a list from a text or CSV file: one scan per line, with "
        "modalities in columns.",
        required=True,
        repeated=True,
        flag_values=values,
    )
    define_path(
        "output",
        None,
        "The folder for the label maps; for a single scan also a file name, as in labels.nii.gz.",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_list(
        "modalities",
        [],
        "For a BIDS tree: which images to label, such as T2w. Without this flag, the network "
        "decides. A network for any modality uses a session's T1w and T2w together if they are on "
        "one grid, otherwise the T1w, otherwise the T2w. If a session lacks the only modality of a "
        "network, its T1w or T2w is labeled instead, and flagged.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "participant_label",
        [],
        "Of a BIDS tree: label these participants alone, as in 01,02.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "session_label",
        [],
        "Of a BIDS tree: label these sessions alone, as in 1mo,6mo.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "shard",
        "",
        "Label one part of the scans, as in 3/16, the third of sixteen; other processes or "
        "machines, with the same output, label the others. No report is drawn.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "max_memory",
        "",
        "How much memory prediction may use, as in 4GB or 500MiB. It determines how much of a scan "
        "is predicted at once. By default, the free memory of the machine and the device.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "overwrite",
        False,
        "Label scans again that already have a label map. Without this flag, finished scans are "
        "skipped, and label maps made with another network or other settings are an error.",
        flag_values=values,
    )


def define_flags(values: flags.FlagValues) -> None:
    """All of them."""
    define_scans(values)
    define_path(
        "mask",
        "",
        "The scan's brain mask; {} stands for the scan's name without its extension. For a BIDS "
        "tree also the folder of a derivative with masks, or a pattern below the tree.",
        flag_values=values,
    )
    define_path(
        "schema",
        "",
        f"Write the label values of this schema ({', '.join(SCHEMAS)}, or a YAML or JSON file) "
        "instead of our own. 'source' is the schema of the training labels.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "probabilities",
        None,
        ["uint8", "float16", "float32"],
        "Also write a map of each tissue's probability, with this data type. NIfTI has no float16: "
        "these maps contain 16-bit integers, which the header scales.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "format",
        "nii.gz",
        ["nii.gz", "nii", "mgz"],
        "What is written into a folder: NIfTI, compressed or not, or FreeSurfer's MGZ.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "remove_islands",
        0.0,
        "Relabel every piece of a tissue smaller than this, in ml, with the class that it touches "
        "most. The largest piece of each tissue stays.",
        lower_bound=0.0,
        flag_values=values,
    )
    flags.DEFINE_bool(
        "mirror",
        False,
        "Also predict each scan with left and right exchanged, and average both: takes twice as "
        "long, is slightly better, and measures how well the two agree.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "refine",
        None,
        "Apply intensity-based refinement: move the tissue borders to where the scan's own "
        "intensities change. By default on for the bundled model, and off for other models unless "
        "their config says otherwise.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "fix_orientation",
        False,
        "If the front and top of the brain are certainly not where the scan's header says, label "
        "the scan as if its header were right. The label map still has the scan's own affine. Left "
        "and right cannot be determined.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "overlap",
        None,
        "Overlap of neighboring windows, as a fraction of their size. By default as in the "
        "network's config.",
        lower_bound=0.0,
        upper_bound=0.95,
        flag_values=values,
    )
    define_which(values)
    define_weights(values)
    flags.DEFINE_bool(
        "report",
        True,
        "Draw report.html, a page of slices, volumes and warnings, if OUTPUT is a folder: in it; "
        "of a BIDS tree, in OUTPUT/docs.",
        flag_values=values,
    )
