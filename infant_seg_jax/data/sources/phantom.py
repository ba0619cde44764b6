"""Phantoms as `infant_seg_jax.data.phantom.write_cohort` writes them, T1w, in our own tissue ids.

The layout is `sub-NAME/sub-NAME_T1w.nii.gz` with `sub-NAME/sub-NAME_dseg.nii.gz`, right below the
folder given.
"""

from pathlib import Path

from infant_seg_jax.data.schemas import TISSUE_SCHEMA
from infant_seg_jax.data.sources.source import Dataset, Query, Source, SourceCase
from infant_seg_jax.errors import InputError


def find(folder: Path, query: Query) -> Dataset:
    """The subjects in `folder`.

    Raises:
        InputError: the folder holds no subject, or a subject's scan or label map is missing.
    """
    cases = tuple(_case(subject) for subject in sorted(folder.glob("sub-*/")))
    if not cases:
        raise InputError(
            f"{folder} contains no phantom, expected sub-NAME/sub-NAME_T1w.nii.gz with "
            "sub-NAME/sub-NAME_dseg.nii.gz directly below it."
        )
    return Dataset("phantom", folder, ("T1w",), query.schema_or(TISSUE_SCHEMA.name), cases)


def _case(subject: Path) -> SourceCase:
    name = subject.name
    scan, labels = (subject / f"{name}_{kind}.nii.gz" for kind in ("T1w", "dseg"))
    for path in (scan, labels):
        if not path.is_file():
            raise InputError(f"The phantom {subject} is incomplete, expected {path}.")
    return SourceCase(name, name, (scan,), labels)


PHANTOM = Source("phantom", "the demo's phantoms", find)
