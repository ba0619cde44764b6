"""IBSR: 18 adults, T1w, skull-stripped, with CSF (of the ventricles only), GM and WM drawn.

Internet Brain Segmentation Repository, Center for Morphometric Analysis, Massachusetts General
Hospital. Two layouts are read, at any depth below the folder given:

- the original release, `IBSR_NN/IBSR_NN_ana_strip.nii.gz` with `IBSR_NN_segTRI_ana.nii.gz`;
- `Training_Set/IBSR_NN/IBSR_NN.nii.gz` with `IBSR_NN_seg.nii.gz`, likewise `Validation_Set` and
  `Test_Set`, which say which split a subject belongs to; those of `Test_Set` may lack labels.
"""

import os
import re
from pathlib import Path

from infant_seg_jax.data.schemas import IBSR_SCHEMA
from infant_seg_jax.data.sources.source import Dataset, Query, Source, SourceCase
from infant_seg_jax.errors import InputError

_SCAN = re.compile(r"(?P<id>IBSR_\d+)(?P<kind>|_ana_strip)(?P<ending>\.nii(\.gz)?)")
_LABELS = {"": "_seg", "_ana_strip": "_segTRI_ana"}
_SPLITS = {"Training_Set": "train", "Validation_Set": "validation", "Test_Set": "test"}


def find(folder: Path, query: Query) -> Dataset:
    """The subjects below `folder`.

    Raises:
        InputError: the folder holds no subject, or a subject's label map is missing or the subject
            is there twice.
    """
    cases: dict[str, SourceCase] = {}
    for path in sorted(folder.rglob("IBSR_*.nii*")):
        if match := _SCAN.fullmatch(path.name):
            case = _case(path, match)
            if case.case_id in cases:
                raise InputError(
                    f"{case.case_id} exists twice, as {cases[case.case_id].images[0]} and as "
                    f"{path}, expected one scan per subject: give the folder of one of them."
                )
            cases[case.case_id] = case
    if not cases:
        raise InputError(
            f"{folder} contains no IBSR subject, expected IBSR_NN/IBSR_NN_ana_strip.nii.gz (the "
            "original release) or Training_Set/IBSR_NN/IBSR_NN.nii.gz somewhere below it."
        )
    found = tuple(cases[case_id] for case_id in sorted(cases))
    return Dataset("ibsr", folder, ("T1w",), query.schema_or(IBSR_SCHEMA.name), found)


def _case(scan: Path, match: re.Match[str]) -> SourceCase:
    case_id, kind, ending = match["id"], match["kind"], match["ending"]
    # Absolute, for the folder given may be `.` or one of the three sets.
    set_name = Path(os.path.abspath(scan)).parent.parent.name
    split = _SPLITS.get(set_name) if kind == "" else None
    labels = scan.with_name(f"{case_id}{_LABELS[kind]}{ending}")
    if not labels.is_file():
        if split != "test":
            raise InputError(f"{scan} has no label map, expected {labels}.")
        labels = None
    return SourceCase(case_id, case_id, (scan,), labels, split=split)


IBSR = Source("ibsr", "IBSR's 18 adults", find)
