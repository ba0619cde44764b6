"""The App's command line: each participant's scans labeled by `predict`, then the whole cohort.

https://bids-apps.neuroimaging.io and https://doi.org/10.1371/journal.pcbi.1005209
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from infant_seg_jax import __main__ as infant_seg
from infant_seg_jax.bids_app.options import options
from infant_seg_jax.errors import InputError
from infant_seg_jax.huge_pages import restart_with_huge_pages

PROGRAM = "infant-seg-bids"
PARTICIPANT, GROUP = LEVELS = ("participant", "group")
ABOUT = "Label the tissues of brain MRI of any age, T1w or T2w, for infants above all."
HELP = {
    "bids_dir": "The BIDS dataset.",
    "output_dir": "The folder for the derivative, such as BIDS_DIR/derivatives/infantseg.",
    "analysis_level": "participant: label scans; group: gather the volumes of all that are "
    "labeled into one table, and draw one report.",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the App; exits with 0, 1 for what a person gave us, or 2 for wrong usage."""
    parser = make_parser()
    given = parser.parse_args(arguments)
    flags = [flag for one in options() for flag in one.as_flags(getattr(given, one.name))]
    if given.analysis_level == GROUP and flags:
        parser.error(f"{flags[0]} is for the level participant: group takes all that is labeled")
    try:
        dataset = _dataset(Path(given.bids_dir))
        if given.analysis_level == GROUP:
            gather(dataset, Path(given.output_dir))
            return
    except InputError as error:
        sys.exit(f"{PROGRAM}: {error}")
    if arguments is None:
        restart_with_huge_pages()
    here = [f"--input={os.path.abspath(given.bids_dir)}", f"--output={given.output_dir}"]
    infant_seg.main(["predict", *here, "--noreport", *flags])


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(PROGRAM, description=ABOUT, allow_abbrev=False)
    parser.add_argument("bids_dir", help=HELP["bids_dir"])
    parser.add_argument("output_dir", help=HELP["output_dir"])
    parser.add_argument("analysis_level", choices=LEVELS, help=HELP["analysis_level"])
    parser.add_argument("-v", "--version", action="version", version=f"%(prog)s {_version()}")
    parser.add_argument(
        *_spellings("skip_bids_validation"),
        action="store_true",
        help="Nothing is validated, with or without it: it is there for scripts that give it to "
        "every BIDS App.",
    )
    for one in options():
        names, help_text = _spellings(one.name), one.help.replace("%", "%%")
        if one.kind is bool:
            action = argparse.BooleanOptionalAction
            parser.add_argument(*names, action=action, default=None, help=help_text)
        else:
            parser.add_argument(
                *names,
                type=one.kind,
                choices=one.choices or None,
                nargs="+" if one.many else None,
                help=help_text,
            )
    return parser


def gather(dataset: Path, output: Path) -> None:
    """Write the table of all participants' volumes anew, and the report.

    Raises:
        InputError: nothing is labeled in `output`, or it cannot be written to.
    """
    # Not above: these take a second, and wrong usage is told at once.
    from infant_seg_jax.labeling.scans import table_of
    from infant_seg_jax.labeling.volume_table import classes_below, write_table
    from infant_seg_jax.report.report import write_report

    classes = classes_below(output) if output.is_dir() else None
    if classes is None:
        raise InputError(
            f"{output} contains no label maps of infant-seg: make them with {PROGRAM} "
            f"{dataset} {output} {PARTICIPANT}."
        )
    rows = write_table(output, classes, dataset)
    page = write_report([output])
    print(f"{rows} label maps of {dataset}: volumes in {table_of(output)}.")
    print(f"Look at it: {page}")


def _dataset(folder: Path) -> Path:
    from infant_seg_jax.labeling.bids_inputs import bids_tree

    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}, expected a BIDS dataset.")
    tree = bids_tree(folder)
    if tree is None:
        raise InputError(
            f"{folder} contains no BIDS session, expected sub-X/ses-Y/anat or sub-X/anat below it: "
            "use infant-seg predict for other scans."
        )
    return tree.folder


def _spellings(name: str) -> tuple[str, ...]:
    hyphens = name.replace("_", "-")
    return tuple(dict.fromkeys((f"--{hyphens}", f"--{name}")))


def _version() -> str:
    return version("infant_seg_jax")


if __name__ == "__main__":
    main()
