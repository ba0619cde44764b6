"""The flags of `predict`; some of them are those of `strip` and of the BIDS App, too."""

from absl import flags

from infant_seg_jax.data.schemas import SCHEMAS
from infant_seg_jax.paths import define_path


def define_scans(values: flags.FlagValues) -> None:
    """By which network, which scans, and to where."""
    define_path(
        "checkpoint",
        ["bundled"],
        "The folder of a training run or of an exported model, or 'bundled' for the model "
        "in this package; may be repeated, for the mean of several networks, as of the folds of "
        "one training.",
        repeated=True,
        flag_values=values,
    )
    define_path(
        "input",
        None,
        "A scan, a folder of scans, nnU-Net's imagesTs, a BIDS tree or a part of one, as sub-01; "
        "may be repeated, but for several trees. The modalities of one subject are joined by "
        "commas. @FILE stands for what a text or CSV file lists: a scan on each line, its "
        "modalities in columns.",
        required=True,
        repeated=True,
        flag_values=values,
    )
    define_path(
        "output",
        None,
        "The folder for the label maps; or, of one scan, the label map, as labels.nii.gz.",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_list(
        "modalities",
        [],
        "Of a BIDS tree: which images to label, as in T2w, if not those that the network names. "
        "Without this flag, a network of any modality uses a session's T1w and T2w together if "
        "they are on one grid, else the T1w, or else the T2w; where a session lacks the one "
        "modality of a network, its T1w or T2w is labelled, and is flagged.",
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
        "How much memory prediction may take, as in 4GB or 500MiB, which decides how much of a "
        "scan is predicted at once; by default what the machine and the device have free.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "overwrite",
        False,
        "Label again what is labelled already. Without it, finished scans are skipped, and label "
        "maps that were made with other networks or settings are an error.",
        flag_values=values,
    )


def define_flags(values: flags.FlagValues) -> None:
    """All of them."""
    define_scans(values)
    define_path(
        "mask",
        "",
        "The scan's brain mask; {} in it stands for the scan's name without its ending. Of a BIDS "
        "tree also the folder of a derivative with masks, or a pattern below the tree.",
        flag_values=values,
    )
    define_path(
        "schema",
        "",
        f"Write the label values of this schema ({', '.join(SCHEMAS)}, or a YAML or JSON file) "
        "instead of our own; 'source': of the one in which the training's labels were drawn.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "probabilities",
        None,
        ["uint8", "float16", "float32"],
        "Write a map of each tissue's probability, too, in so many bits a voxel. NIfTI has no "
        "float16: those 16 bits are whole numbers, which the header scales.",
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
        "Give every piece of a tissue smaller than so many ml to what it touches most; the largest "
        "piece of each tissue stays.",
        lower_bound=0.0,
        flag_values=values,
    )
    flags.DEFINE_bool(
        "mirror",
        False,
        "Predict each scan a second time with left and right exchanged, and average: slower, a "
        "little better, and it tells how far the two agree.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "refine",
        None,
        "Find the tissues again by the intensities of the scan itself, from where the network "
        "expects them; as the network's config says unless given: with the bundled one, "
        "and with no other.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "fix_orientation",
        False,
        "Where front and top of the brain surely are not where the scan's header says, label it as "
        "if they were; the label map lies on the scan as it is all the same. Left and right are "
        "never told apart.",
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
    flags.DEFINE_enum(
        "which",
        "best",
        ["best", "latest"],
        "Of a run, the checkpoint of the best validation Dice, or the latest.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "weights",
        None,
        ["raw", "averaged"],
        "Which weights, of a run with a moving average of them; averaged unless given.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "report",
        True,
        "Draw report.html, a page of slices, volumes and warnings, if OUTPUT is a folder: in it; "
        "of a BIDS tree, in OUTPUT/docs.",
        flag_values=values,
    )
