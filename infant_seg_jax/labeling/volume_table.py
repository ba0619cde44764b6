"""The table of volumes that is kept in a folder of label maps.

It is made anew from what lies beside the label maps, so a scan that was finished earlier keeps its
row, and several processes may fill one folder. Age and sex are those that the BIDS tree tells now.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infant_seg_jax.data.bids.ages import read_ages
from infant_seg_jax.data.bids.names import find_sessions, parse_entities
from infant_seg_jax.data.bids.sexes import read_sexes
from infant_seg_jax.data.formats import stem, times, volumes_below
from infant_seg_jax.data.labels import BACKGROUND, CSF, ClassSet
from infant_seg_jax.files import write_json, write_text
from infant_seg_jax.labeling.outliers import FAR, LEAST, NEAREST, outliers
from infant_seg_jax.labeling.provenance import read_sidecar
from infant_seg_jax.labeling.scans import schema_of, sidecar_of, table_of
from infant_seg_jax.labeling.tissue_volumes import INTRACRANIAL, VOLUMES, VOXEL
from infant_seg_jax.prediction.expected_dice import SHARE

_NONE = "n/a"
_ML = {"Units": "mL"}
_FIRST: Mapping[str, Mapping[str, Any]] = {
    "participant_id": {"Description": "The participant, where the scan's name says whose it is."},
    "session_id": {"Description": "The session, where the scan's name says of which it is."},
    "label_map": {"Description": "The label map's path, below the folder of all label maps."},
    "age_months": {
        "Description": (
            "The age at the scan by the BIDS tree's tables, since birth; where these count weeks "
            "after the last menstruation, since the 40th of them, so less than 0 before term."
        ),
        "Units": "months",
    },
    "sex": {
        "Description": "The sex by the BIDS tree's participants.tsv.",
        "Levels": {"female": "female", "male": "male", "other": "other"},
    },
}
_SUMS: Mapping[str, Mapping[str, Any]] = {
    "brain_ml": {"Description": "Total brain volume: gray and white matter, no CSF.", **_ML},
    "intracranial_ml": {
        "Description": (
            "All within the brain mask: what is labeled, and the gaps and holes in it. It stands "
            "for the intracranial volume as far as the network labels the fluid around the brain. "
            "n/a for a label map of version 0.1 that has no mask yet: the command that made it "
            "adds one."
        ),
        **_ML,
    },
}
_LAST: Mapping[str, Mapping[str, Any]] = {
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
    "expected_dice": {
        "Description": (
            "The mean Dice over the tissues to expect of the label map, by what the model reached "
            "on rendered scans of known truth; n/a for models and scans of which that is unknown. "
            "Of real scans it is a guess."
        )
    },
    "expected_dice_low": {
        "Description": f"{SHARE:.0%} of such scans have a Dice from this to expected_dice_high."
    },
    "expected_dice_high": {"Description": "The upper end of that range."},
    "flagged": {
        "Description": (
            "Whether there is an automatic warning, such as that the scan looks unlike those of "
            "the training: it is in the Notices of the JSON beside the label map. What was checked "
            "is in its Confidence, as Checked; without a warning a label map may still be wrong."
        ),
        "Levels": {"true": "an automatic warning", "false": "no automatic warning"},
    },
    "outlier": {
        "Description": (
            "Which of intracranial_ml and the classes' shares are far from what the "
            f"{NEAREST} scans nearest in age, or all others if ages are not known, have at that "
            f"age: by a modified z-score above {FAR:g}. 'none' if none is; n/a with fewer than "
            f"{LEAST} others."
        )
    },
}


@dataclass(frozen=True)
class _Row:
    """A label map's numbers.

    Attributes:
        path: the label map's, below the folder of all.
        volumes: in ml, by column.
        shares: of the intracranial volume, by column; NaN where that is not known.
        others: cells of `_LAST` but the last.
    """

    path: Path
    volumes: Mapping[str, float]
    shares: Mapping[str, float]
    others: Sequence[str]

    @property
    def person(self) -> tuple[str, str]:
        """`sub-01` and `ses-a`, as far as the name has them; else `n/a`."""
        entities = parse_entities(stem(self.path))
        sub, ses = (f"{k}-{entities[k]}" if k in entities else _NONE for k in ("sub", "ses"))
        return sub, ses


def classes_below(folder: Path) -> ClassSet | None:
    """Those of the first label map of ours in a folder; None where there is none."""
    found = (schema_of(path) for path, _ in _label_maps(folder))
    return next((schema.classes for schema in found if schema), None)


def write_table(folder: Path, classes: ClassSet, dataset: Path | None = None) -> int:
    """Write `tissue_volumes.tsv`, and the JSON that explains it, for all label maps in a folder.

    Label maps that are not ours, or of other classes, have no row. It is written again if other
    label maps came meanwhile, so that of several processes the last one's table has all of them.

    Args:
        folder: of the label maps.
        classes: theirs.
        dataset: the BIDS tree that tells ages and sexes.

    Returns:
        The number of rows.

    Raises:
        InputError: the folder cannot be written to.
    """
    ages, sexes = _people(dataset)
    while True:
        there = _state(folder)
        found = (
            _row(path.relative_to(folder), sidecar, classes)
            for path, sidecar in _label_maps(folder)
        )
        rows = [row for row in found if row]
        columns = _columns(classes)
        lines = ["\t".join(columns), *("\t".join(cells) for cells in _cells(rows, ages, sexes))]
        write_text(table_of(folder), "\n".join(lines) + "\n")
        write_json(table_of(folder).with_suffix(".json"), columns)
        if _state(folder) == there:
            return len(rows)


def _columns(classes: ClassSet) -> dict[str, Mapping[str, Any]]:
    volumes = {
        f"{name}_ml": {"Description": f"The volume of all voxels labeled {name}.", **_ML}
        for name in classes.foreground
    }
    shares = {
        f"{name}_share": {"Description": f"{name}_ml as a share of intracranial_ml."}
        for name in (*classes.foreground, "brain")
    }
    return {**_FIRST, **volumes, **_SUMS, **shares, **_LAST}


def _people(dataset: Path | None) -> tuple[dict[str, str], dict[str, str]]:
    """Ages in months, and sexes, by the sessions' `case_id`."""
    if dataset is None:
        return {}, {}
    sessions = find_sessions(dataset)
    ages, _ = read_ages(sessions, (dataset,))
    months = {case_id: f"{age.months:.2f}" for case_id, age in ages.items()}
    return months, read_sexes(sessions, dataset)


def _label_maps(folder: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """The label maps of ours, with the JSON beside each."""
    for path in volumes_below(folder):
        if stem(path).endswith("_dseg") and (sidecar := read_sidecar(sidecar_of(path))):
            yield path, sidecar


def _state(folder: Path) -> list[tuple[Path, int]]:
    """What the table is made of: files, and when they were written."""
    found = []
    for path in volumes_below(folder):
        with suppress(OSError):
            found.append((path, sidecar_of(path).stat().st_mtime_ns))
    return found


def _row(path: Path, sidecar: Mapping[str, Any], classes: ClassSet) -> _Row | None:
    """A row of the table; None if what it takes is not there or damaged."""
    try:
        ml = {name: float(sidecar[VOLUMES][name]) for name in classes.foreground}
        confidence, whole = sidecar["Confidence"], float(sidecar.get(INTRACRANIAL, math.nan))
        expected = confidence.get("ExpectedDice") or {}
        within = [one for one in classes.classes if one.tissue != BACKGROUND]
        ml["brain"] = sum(ml[one.name] for one in within if one.tissue != CSF)
        shares = {
            f"{name}_share": value / whole if whole else math.nan for name, value in ml.items()
        }
        others = [
            times([float(f"{float(size):.4g}") for size in sidecar[VOXEL]]),
            *(_cell(_number(confidence[key])) for key in ("Entropy", "Agreement")),
            *(_cell(_number(expected.get(key))) for key in ("mean", "low", "high")),
            "true" if sidecar["Notices"] else "false",
        ]
    except (KeyError, TypeError, ValueError):
        return None
    volumes = {f"{name}_ml": value for name, value in (ml | {"intracranial": whole}).items()}
    return _Row(path, volumes, shares, others)


def _cells(
    rows: Sequence[_Row], ages: Mapping[str, str], sexes: Mapping[str, str]
) -> Iterator[list[str]]:
    """The cells of each row, with what only the others tell."""
    people = [row.person for row in rows]
    cases = ["_".join(part for part in person if part != _NONE) for person in people]
    months = np.array([float(ages.get(case, "nan")) for case in cases])
    odd = _outliers(rows, months)
    for row, person, case, outlier in zip(rows, people, cases, odd, strict=True):
        yield [
            *person,
            " ".join(row.path.as_posix().split()),
            ages.get(case, _NONE),
            sexes.get(case, _NONE),
            *(_cell(value, 3) for value in row.volumes.values()),
            *(_cell(value) for value in row.shares.values()),
            *row.others,
            outlier,
        ]


def _outliers(rows: Sequence[_Row], months: np.ndarray) -> list[str]:
    if len(rows) <= LEAST:
        return [_NONE] * len(rows)
    looked_at = {"intracranial_ml": [row.volumes["intracranial_ml"] for row in rows]}
    for name in rows[0].shares:
        if name != "brain_share":  # which follows from the others
            looked_at[name] = [row.shares[name] for row in rows]
    far = {name: outliers(np.array(values), months) for name, values in looked_at.items()}
    named = [[name for name in far if far[name][index]] for index in range(len(rows))]
    return [", ".join(names) or "none" for names in named]


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _cell(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else _NONE
