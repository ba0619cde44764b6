"""dHCP: newborns, T2w and T1w with the skull on, labeled by DrawEM.

The developing Human Connectome Project (Makropoulos et al., NeuroImage 173, 2018; Edwards et al.,
Frontiers in Neuroscience 16, 2022). Of its structural pipeline's output, `sub-*/ses-*/anat/` is
read, in the layouts of releases 1 to 3: the restored scans, which are without their bias field, the
brain mask, and the label map of nine tissues or of 87 regions, all on the grid of the T2w scan.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from infant_seg_jax.data.bids.ages import read_ages
from infant_seg_jax.data.bids.names import Session, find_sessions
from infant_seg_jax.data.labels import LabelSchema
from infant_seg_jax.data.schemas import DRAWEM9_SCHEMA
from infant_seg_jax.data.sources.case_ids import sort_cases
from infant_seg_jax.data.sources.modalities import choose_modalities
from infant_seg_jax.data.sources.source import Dataset, Query, Source, SourceCase, count_notice
from infant_seg_jax.errors import InputError

_TABLES = ("sessions", "participants")
_TREES = ("derivatives/*dhcp_anat_pipeline", "*dhcp_anat_pipeline", "derivatives", ".")

_Form = tuple[str, str, str]
"""How a file is named: its suffix and the values of `desc` and `space`."""

# The best first, each as release 3, release 2 and release 1 name it.
_MASKS = (
    *(("mask", "brain", ""), ("mask", "brain", "T2w")),
    *(("brainmask", "drawem", "T2w"), ("brainmask", "drawem", ""), ("brainmask_drawem", "", "")),
    *(("brainmask", "bet", "T2w"), ("brainmask", "bet", ""), ("brainmask_bet", "", "")),
)
_LABELS = {
    "drawem9": (
        *(("dseg", "drawem9", ""), ("dseg", "drawem9", "T2w")),
        ("drawem_tissue_labels", "", ""),
    ),
    "drawem87": (
        *(("dseg", "drawem87", ""), ("dseg", "drawem87", "T2w")),
        ("drawem_all_labels", "", ""),
    ),
}


def find(folder: Path, query: Query) -> Dataset:
    """The sessions of a release, or of the `sub-*` tree itself.

    Raises:
        InputError: the folder holds no session with the modalities wanted, a modality is not
            dHCP's, or the label maps are not those that the schema wanted is for.
    """
    modalities = choose_modalities(query.modalities or ("T2w",), ("T1w", "T2w"), folder)
    tree = _tree(folder)
    sessions = find_sessions(tree)
    files = {session.case_id: _files(session) for session in sessions}
    kept = [s for s in sessions if all(_image(files[s.case_id], m) for m in modalities)]
    if not kept:
        raise InputError(
            f"{tree} has no session with {' and '.join(modalities)}, expected files such as "
            f"sub-X/ses-Y/anat/sub-X_ses-Y_desc-restore_{modalities[0]}.nii.gz: choose what exists "
            "with --modalities."
        )
    kind = _kind_of_labels([files[s.case_id] for s in kept], query.schema, tree)
    ages, age_notices = read_ages(
        sessions, _places_of_tables(tree), "scan_age", "weeks postmenstrual", _TABLES
    )
    cases = tuple(
        SourceCase(
            session.case_id,
            session.participant,
            tuple(path for m in modalities if (path := _image(files[session.case_id], m))),
            _first(files[session.case_id], _LABELS[kind]),
            _first(files[session.case_id], _MASKS),
            ages.get(session.case_id),
        )
        for session in kept
    )
    left_out = [session.case_id for session in sessions if session not in kept]
    notices = (
        *count_notice(
            left_out, f"of {len(sessions)} sessions lack {' or '.join(modalities)} and are left out"
        ),
        *_notices(cases, files, modalities, kind),
        *age_notices,
    )
    return Dataset("dhcp", folder, modalities, query.schema_or(kind), sort_cases(cases), notices)


def _tree(folder: Path) -> Path:
    """The folder that holds `sub-*`.

    Raises:
        InputError: there is none, or more than one.
    """
    for pattern in _TREES:
        places = [folder] if pattern == "." else sorted(folder.glob(pattern))
        trees = [tree for tree in places if find_sessions(tree)]
        if len(trees) > 1:
            raise InputError(
                f"{folder} contains several structural releases ({', '.join(map(str, trees))}), "
                "expected one: give the folder of one of them."
            )
        if trees:
            return trees[0]
    raise InputError(
        f"{folder} contains no dHCP session, expected "
        "derivatives/dhcp_anat_pipeline/sub-*/ses-*/anat or sub-*/ses-*/anat below it."
    )


def _places_of_tables(tree: Path) -> tuple[Path, ...]:
    """The tree itself and, where it is a release's derivative, the raw trees beside it."""
    path = Path(os.path.abspath(tree))  # for the folder given may be `.`
    for release in path.parents[:2]:
        if path.relative_to(release).parts[0] == "derivatives":
            return tree, release, release / "rawdata", release / "sourcedata"
    return (tree,)


def _files(session: Session) -> dict[_Form, Path]:
    """The session's own volumes that carry no entity which sets them apart, such as `hemi`."""
    return {
        (file.suffix, file.entities.get("desc", ""), file.entities.get("space", "")): file.path
        for file in session.volumes()
        if session.owns(file) and file.entities.keys() <= {"sub", "ses", "desc", "space"}
    }


def _first(files: Mapping[_Form, Path], forms: Sequence[_Form]) -> Path | None:
    return next((files[form] for form in forms if form in files), None)


def _restored(files: Mapping[_Form, Path], modality: str) -> Path | None:
    forms = (
        (modality, "restore", "T2w"),
        (modality, "restore", ""),
        (f"{modality}_restore", "", ""),
    )
    return _first(files, forms)


def _image(files: Mapping[_Form, Path], modality: str) -> Path | None:
    return _restored(files, modality) or _first(files, ((modality, "", "T2w"), (modality, "", "")))


def _kind_of_labels(
    files: Sequence[Mapping[_Form, Path]], schema: LabelSchema | None, tree: Path
) -> str:
    """Which of DrawEM's label maps the whole dataset takes."""
    there = [kind for kind, forms in _LABELS.items() if any(_first(f, forms) for f in files)]
    if schema is None:
        return there[0] if there else "drawem9"
    # Its name does not tell, for people change schemas and write their own.
    kind = "drawem87" if max(schema.table, default=0) > max(DRAWEM9_SCHEMA.table) else "drawem9"
    if there and kind not in there:
        raise InputError(
            f"The schema '{schema.name}' is for label maps *_desc-{kind}_dseg.nii.gz, of which "
            f"{tree} has none, found *_desc-{there[0]}_dseg.nii.gz: expected "
            f"--schema={there[0]} or another for their ids."
        )
    return kind


def _notices(
    cases: Sequence[SourceCase],
    files: Mapping[str, Mapping[_Form, Path]],
    modalities: Sequence[str],
    kind: str,
) -> list[str]:
    def where(condition: Callable[[SourceCase], object]) -> list[str]:
        return [case.case_id for case in cases if condition(case)]

    of = f"of {len(cases)} sessions have"
    notices = count_notice(where(lambda case: not case.labels), f"{of} no label map of {kind}")
    (other,) = _LABELS.keys() - {kind}
    notices += count_notice(
        where(lambda case: not case.labels and _first(files[case.case_id], _LABELS[other])),
        f"{of} only a label map of {other}, which cannot be mixed with {kind} and is not used",
    )
    notices += count_notice(where(lambda case: not case.mask), f"{of} no brain mask")
    for modality in modalities:
        notices += count_notice(
            where(lambda case, name=modality: not _restored(files[case.case_id], name)),
            f"{of} no restored {modality}; the one with its bias field is used",
        )
    return notices


DHCP = Source("dhcp", "dHCP's newborns, releases 1 to 3", find, frozenset({"modalities"}))
