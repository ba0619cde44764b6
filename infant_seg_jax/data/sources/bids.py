"""BIDS: raw scans, with label maps and brain masks from a derivative.

The Brain Imaging Data Structure (Gorgolewski et al., Scientific Data 3, 2016):
`sub-*/[ses-*/]anat/*_T1w.nii.gz` below the folder given or its `rawdata`, and label maps
`derivatives/*/sub-*/[ses-*/]anat/*_dseg.nii.gz`. What labels mean BIDS leaves to a `dseg.tsv`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infant_seg_jax.data.bids.ages import in_one_unit, read_ages
from infant_seg_jax.data.bids.derivatives import (
    LABEL_MAPS,
    MASKS,
    MapKind,
    find_by_pattern,
    find_in_derivatives,
    is_pattern,
    pick,
    read_schema,
)
from infant_seg_jax.data.bids.names import BidsFile, Session, find_sessions
from infant_seg_jax.data.sources.case_ids import sort_cases
from infant_seg_jax.data.sources.modalities import check_distinct
from infant_seg_jax.data.sources.source import Dataset, Query, Source, SourceCase, count_notice
from infant_seg_jax.errors import InputError, some_of

_DEFAULT = ("T1w", "T2w")

Files = Mapping[str, Sequence[BidsFile]]
"""Files by the `case_id` of their session."""


@dataclass(frozen=True)
class _Scan:
    """One case's images.

    Attributes:
        session: whose.
        images: one per modality.
        run: the value of `run` in their names, empty where they have none.
        alone: whether the session has no other run.
    """

    session: Session
    images: tuple[Path, ...]
    run: str
    alone: bool

    @property
    def case_id(self) -> str:
        return self.session.case_id if self.alone else f"{self.session.case_id}_run-{self.run}"


def find(folder: Path, query: Query) -> Dataset:
    """The sessions of a BIDS tree that have all modalities wanted.

    A session with several runs of each modality has a case for each.

    Raises:
        InputError: the folder holds no session, or none with the modalities wanted; a session has
            several images of a modality, label maps or masks, and it is not clear which are meant;
            what was chosen is not there; or nothing says what the labels mean.
    """
    tree, sessions = _sessions(folder)
    modalities, images, notices = _images(folder, sessions, query)
    scans = [
        scan
        for session in sessions
        for scan in _scans(session, [files.get(session.case_id, ()) for files in images])
    ]
    whole = {scan.session.case_id for scan in scans}
    if not scans:
        raise InputError(
            f"{tree} has no session with {' and '.join(modalities)}, found "
            f"{_modalities_there(sessions)}: choose what exists with --modalities."
        )
    notices += count_notice(
        [session.case_id for session in sessions if session.case_id not in whole],
        f"of {len(sessions)} sessions lack {' or '.join(modalities)} and are left out",
    )
    runs = [scan.case_id for scan in scans if not scan.alone]
    notices += count_notice(runs, f"of {len(scans)} cases are runs of a session that has several")
    kept = [session for session in sessions if session.case_id in whole]
    labels, label_notices = _maps(folder, query.labels, kept, LABEL_MAPS)
    masks, mask_notices = _maps(folder, query.masks, kept, MASKS)
    ages, age_notices = read_ages(sessions, [tree])
    ages, unit_notices = in_one_unit({case_id: ages[case_id] for case_id in ages.keys() & whole})
    cases = sort_cases(
        SourceCase(
            scan.case_id,
            scan.session.participant,
            scan.images,
            _map_of(scan, labels, LABEL_MAPS),
            _map_of(scan, masks, MASKS),
            ages.get(scan.session.case_id),
        )
        for scan in scans
    )
    notices += [*label_notices, *mask_notices, *_unlike(cases), *age_notices, *unit_notices]
    label_maps = [case.labels for case in cases if case.labels]
    wanted = query.schema or not label_maps
    schema = query.schema_or() if wanted else read_schema(label_maps, query.classes)
    return Dataset("bids", folder, modalities, schema, cases, tuple(notices))


def _sessions(folder: Path) -> tuple[Path, tuple[Session, ...]]:
    for tree in (folder, folder / "rawdata"):
        if sessions := find_sessions(tree):
            return tree, sessions
    raise InputError(
        f"{folder} contains no BIDS session, expected sub-X/ses-Y/anat or sub-X/anat below it or "
        "below its rawdata."
    )


def _images(
    folder: Path, sessions: Sequence[Session], query: Query
) -> tuple[tuple[str, ...], list[Files], list[str]]:
    """The modalities, the files of each, and notices."""
    check_distinct(query.modalities)
    notices: list[str] = []
    if query.images:
        found: list[Files] = []
        for pattern in query.images:
            files, left_out = find_by_pattern(folder, pattern, sessions, "images")
            found.append(files)
            notices += left_out
        suffixes = [next(iter(files.values()))[0].suffix for files in found]
        modalities = query.modalities or tuple(suffixes)
        check_distinct(modalities)
        if len(modalities) != len(found):
            raise InputError(
                f"--images gives {len(found)} patterns for the modalities {', '.join(modalities)}, "
                "expected one for each."
            )
        return modalities, found, notices
    volumes = {session.case_id: session.volumes() for session in sessions}
    own = {s.case_id: [file for file in volumes[s.case_id] if s.owns(file)] for s in sessions}
    stray = [str(f.path) for s in sessions for f in volumes[s.case_id] if not s.owns(f)]
    notices += count_notice(stray, "volumes have the name of another session and are left out")
    there = {file.suffix for files in own.values() for file in files}
    default = next((name for name in _DEFAULT if name in there), _DEFAULT[0])
    modalities = query.modalities or (default,)
    return (
        modalities,
        [
            {case_id: [f for f in files if f.suffix == name] for case_id, files in own.items()}
            for name in modalities
        ],
        notices,
    )


def _scans(session: Session, images: Sequence[Sequence[BidsFile]]) -> list[_Scan]:
    """The cases of a session, of which `images` are the files of each modality.

    Raises:
        InputError: there are several images of a modality that are not the runs of one scan.
    """
    if not all(images):
        return []
    by_run = [{file.entities.get("run", ""): file.path for file in files} for files in images]
    if all(len(files) == 1 for files in images):
        run = next((run for runs in by_run for run in runs if run), "")
        return [_Scan(session, tuple(files[0].path for files in images), run, True)]
    runs = sorted(by_run[0])
    distinct = [len(runs) for _ in images] == [len(files) for files in images]
    if not (distinct and all(runs) and all(sorted(paths) == runs for paths in by_run)):
        several = [str(file.path) for files in images if len(files) > 1 for file in files]
        raise InputError(
            f"{session.case_id} has several images of a modality ({some_of(several)}), expected "
            "one, or the same runs for each: choose with --images, a pattern for each modality "
            "such as --images='sub-*/**/*_acq-NAME_T1w.nii.gz'."
        )
    return [_Scan(session, tuple(paths[run] for paths in by_run), run, False) for run in runs]


def _maps(
    folder: Path, where: str, sessions: Sequence[Session], kind: MapKind
) -> tuple[Files, list[str]]:
    if is_pattern(where):
        return find_by_pattern(folder, where, sessions, kind.flag)
    return find_in_derivatives(folder, where, sessions, kind)


def _map_of(scan: _Scan, maps: Files, kind: MapKind) -> Path | None:
    candidates = maps.get(scan.session.case_id, ())
    return pick(candidates, scan.run, scan.alone, kind, scan.case_id)


def _modalities_there(sessions: Sequence[Session]) -> str:
    suffixes = {file.suffix for session in sessions for file in session.volumes()}
    return some_of(sorted(suffixes), 10) or "no volume with a BIDS name"


def _unlike(cases: Sequence[SourceCase]) -> list[str]:
    """Notices of what some cases have and others have not."""
    notices = []
    for name, lacking in (
        ("label map", [case.case_id for case in cases if not case.labels]),
        ("brain mask", [case.case_id for case in cases if not case.mask]),
    ):
        if len(lacking) < len(cases):
            notices += count_notice(lacking, f"of {len(cases)} cases have no {name}")
    return notices


BIDS = Source(
    "bids",
    "a BIDS tree, with label maps from a derivative",
    find,
    frozenset({"modalities", "images", "labels", "masks"}),
)
