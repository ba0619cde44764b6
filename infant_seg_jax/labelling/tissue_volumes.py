"""Volumes of classes in ml, and the table of them that is kept in a folder of label maps.

The table is made anew from what lies beside the label maps, so a scan that was finished earlier
keeps its row, and several processes may fill one folder.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from infant_seg_jax.data.bids.names import parse_entities
from infant_seg_jax.data.formats import Grid, stem, times, volumes_below
from infant_seg_jax.data.labels import BACKGROUND, CSF, ClassSet, count_classes
from infant_seg_jax.data.volumes import spacing_of
from infant_seg_jax.files import write_json, write_text
from infant_seg_jax.labelling.provenance import read_sidecar
from infant_seg_jax.labelling.scans import sidecar_of

TABLE = "tissue_volumes.tsv"
VOLUMES, VOXEL = "TissueVolumesMl", "VoxelSizeMm"
"""Keys of the JSON beside a label map."""

_ML = {"Units": "mL"}
_FIRST: Mapping[str, Mapping[str, Any]] = {
    "participant_id": {"Description": "The participant, where the scan's name says whose it is."},
    "session_id": {"Description": "The session, where the scan's name says of which it is."},
    "label_map": {"Description": "The label map's path, relative to this table."},
}
_LAST: Mapping[str, Mapping[str, Any]] = {
    "brain_ml": {"Description": "Total brain volume: gray and white matter, no CSF.", **_ML},
    "intracranial_ml": {
        "Description": (
            "CSF, gray and white matter together. It stands for the intracranial volume as far as "
            "the network labels the fluid around the brain, too, which depends on its training."
        ),
        **_ML,
    },
    "voxel_size_mm": {
        "Description": "The size of the voxels that were counted, which are the scan's own.",
        "Units": "mm",
    },
    "entropy": {
        "Description": (
            "Mean uncertainty over the brain: the entropy of the classes' probabilities, from 0 "
            "(certain) to 1 (all classes alike)."
        )
    },
    "agreement": {
        "Description": (
            "Mean Dice over the tissues of the predictions of the scan and of its mirror image, "
            "where these were made."
        )
    },
    "flagged": {
        "Description": (
            "Whether there is an automatic warning, such as that the scan looks unlike those of "
            "the training: it is in the Notices of the JSON beside the label map. What was checked "
            "is in its Confidence, as Checked; without a warning a label map may still be wrong."
        ),
        "Levels": {"true": "an automatic warning", "false": "no automatic warning"},
    },
}


def measure(
    label_map: Integer[np.ndarray, "x y z"], voxel_ml: float, classes: ClassSet
) -> dict[str, float]:
    """The volume of each class but background in ml, of a label map."""
    counts = count_classes(label_map, classes)
    return {name: round(counts[name] * voxel_ml, 4) for name in classes.foreground}


def voxel_ml(grid: Grid) -> float:
    """The volume of a grid's voxels in ml; right too where axes are not at right angles."""
    return abs(float(np.linalg.det(grid.affine[:3, :3]))) / 1000


def volumes_record(
    label_map: Integer[np.ndarray, "x y z"], grid: Grid, classes: ClassSet
) -> dict[str, Any]:
    """What the JSON beside a label map says of volumes."""
    return {
        VOLUMES: measure(label_map, voxel_ml(grid), classes),
        VOXEL: [round(size, 6) for size in spacing_of(grid.affine)],
    }


def write_table(folder: Path, classes: ClassSet) -> int:
    """Write `tissue_volumes.tsv`, and the JSON that explains it, for all label maps in a folder.

    Label maps that are not ours, or of other classes, have no row.

    Returns:
        The number of rows.

    Raises:
        InputError: the folder cannot be written to.
    """
    rows = [
        row
        for label_map in volumes_below(folder)
        if label_map.name.endswith("_dseg.nii.gz")
        and (sidecar := read_sidecar(sidecar_of(label_map))) is not None
        and (row := _row(label_map, folder, sidecar, classes)) is not None
    ]
    volumes = {
        f"{name}_ml": {"Description": f"The volume of all voxels labelled {name}.", **_ML}
        for name in classes.foreground
    }
    columns = {**_FIRST, **volumes, **_LAST}
    lines = ["\t".join(columns), *("\t".join(row) for row in rows)]
    write_text(folder / TABLE, "\n".join(lines) + "\n")
    write_json((folder / TABLE).with_suffix(".json"), columns)
    return len(rows)


def _row(
    label_map: Path, folder: Path, sidecar: Mapping[str, Any], classes: ClassSet
) -> list[str] | None:
    """A row of the table; None if what it takes is not there or damaged."""
    entities = parse_entities(stem(label_map))
    try:
        ml = {name: float(sidecar[VOLUMES][name]) for name in classes.foreground}
        confidence = sidecar["Confidence"]
        within = [one for one in classes.classes if one.tissue != BACKGROUND]
        csf = sum(ml[one.name] for one in within if one.tissue == CSF)
        brain = sum(ml[one.name] for one in within if one.tissue != CSF)
        return [
            *(f"{key}-{entities[key]}" if key in entities else "n/a" for key in ("sub", "ses")),
            " ".join(label_map.relative_to(folder).as_posix().split()),
            *(f"{value:.3f}" for value in (*ml.values(), brain, brain + csf)),
            times([float(f"{float(size):.4g}") for size in sidecar[VOXEL]]),
            *(_cell(confidence[key]) for key in ("Entropy", "Agreement")),
            "true" if sidecar["Notices"] else "false",
        ]
    except (KeyError, TypeError, ValueError):
        return None


def _cell(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"
