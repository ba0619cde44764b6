"""What lies in a folder of label maps beside them: what values mean and, for BIDS, what it is.

BIDS' rules for derivatives: https://bids-specification.readthedocs.io/en/stable/derivatives
"""

import os
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from infant_seg_jax.data.bids.uris import DATASET_DESCRIPTION, LINKS, extras_of, read_value
from infant_seg_jax.data.labels import LabelSchema
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import read_json, remove_left_behind, write_json, write_text
from infant_seg_jax.labeling.label_tables import BIDS, label_table, write_label_tables
from infant_seg_jax.labeling.provenance import RAW, SOFTWARE

_BIDS_VERSION = "1.10.0"
_MOVED = ("tissue_volumes.tsv", "tissue_volumes.json", "report.html")
"""What version 0.1 wrote where validators find it."""
_README = """\
# Tissues of the brain

Label maps (`*_dseg.nii.gz`) of the scans of another dataset, made by {software} {version}, a neural
network. They lie on the scans' own grids; `dseg.tsv` says what their values mean. The JSON beside
each says which scan and network it is from, and what to know before trusting it.
`*_desc-brain_mask.nii.gz` are brain masks made from them; `*_probseg.nii.gz`, if there are any, the
probabilities of a tissue; `*_desc-brain_T1w.nii.gz` and the like, stripped scans.

In `docs`, `tissue_volumes.tsv` has the volumes in ml, `tissue_volumes.json` says what its columns
are, and `dseg_*` are `dseg.tsv` for viewers.

Research software, not a medical device.
"""


def start_output(
    output: Path, dataset: Path | None, schema: LabelSchema, *, overwrite: bool
) -> None:
    """Write what explains a folder of label maps, before there are any.

    Args:
        output: the folder, which may be there already and hold label maps.
        dataset: the BIDS tree that the scans are from; None for others.
        schema: the values of the label maps.
        overwrite: whether label maps that are there may be replaced, and their meaning with them.

    Raises:
        InputError: the folder holds something that is not ours or is of another dataset, its label
            maps have other values, or it cannot be written to.
    """
    remove_left_behind(output, below=True)
    table = output / BIDS
    rows = label_table(schema)
    if table.exists() and not overwrite and _text(table) != rows:
        raise InputError(
            f"{table} says that the label maps there have other values: name another --output, or "
            "replace all of them with --overwrite."
        )
    if dataset is not None:
        start_derivative(output, dataset)
    write_label_tables(output, schema)


def start_derivative(output: Path, dataset: Path) -> None:
    """Write what says of which BIDS tree a folder of results is.

    Raises:
        InputError: it holds something that is not ours or is of another dataset, or it cannot be
            written to.
    """
    path = output / DATASET_DESCRIPTION
    link = Path(os.path.relpath(dataset.resolve(), output.resolve())).as_posix()
    if path.exists():
        _check_ours(path, link, dataset)
    else:
        write_json(path, _description(dataset, link))
        if not (output / "README.md").exists():
            readme = _README.format(software=SOFTWARE, version=version(SOFTWARE))
            write_text(output / "README.md", readme)
    for name in _MOVED:
        if (output / name).is_file():
            extras_of(output).mkdir(exist_ok=True)
            with suppress(FileNotFoundError):  # Another process was faster.
                os.replace(output / name, extras_of(output) / name)


def _description(dataset: Path, link: str) -> dict[str, Any]:
    name, authors = (read_value(dataset / DATASET_DESCRIPTION, key) for key in ("Name", "Authors"))
    return {
        "Name": f"Tissues of the brain in {name}"
        if isinstance(name, str) and name
        else "Tissues of the brain",
        **({"Authors": authors} if isinstance(authors, list) else {}),
        "BIDSVersion": _BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [
            {
                "Name": SOFTWARE,
                "Version": version(SOFTWARE),
                "Description": "Tissue segmentation by a skip-connected 3D DenseNet.",
            }
        ],
        LINKS: {RAW: link},
    }


def _check_ours(path: Path, link: str, dataset: Path) -> None:
    content = read_json(path)
    ours = False
    linked: Any = None
    if isinstance(content, dict):
        makers = content.get("GeneratedBy")
        ours = isinstance(makers, list) and any(
            isinstance(maker, dict) and maker.get("Name") == SOFTWARE for maker in makers
        )
        links = content.get(LINKS)
        linked = links.get(RAW) if isinstance(links, dict) else None
    if not ours:
        raise InputError(
            f"{path} describes a dataset that was not made by this software: name another "
            f"--output, such as {dataset / 'derivatives' / 'infantseg'}."
        )
    if linked != link:
        raise InputError(
            f"{path} says that the label maps there belong to the scans in {linked}, not in "
            f"{link}: name another --output."
        )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")[: 2**20]
    except (OSError, UnicodeDecodeError):
        return ""
