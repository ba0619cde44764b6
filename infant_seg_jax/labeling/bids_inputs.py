"""Scans to label in a BIDS tree, and the names of what is found of them.

A session's images are chosen by the network's modalities. Every image of a network with one
modality is a scan of its own; of several modalities, those go together whose names have the same
entities (`run-1`, `acq-fast`), or the only ones there are. A network of any modality is given a T1w
and a T2w together where they are on one grid.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from infant_seg_jax.data.bids.ages import read_ages
from infant_seg_jax.data.bids.derivatives import (
    MASKS,
    find_by_pattern,
    find_in_derivatives,
    is_pattern,
    pick,
)
from infant_seg_jax.data.bids.names import BidsFile, Session, bare, find_sessions
from infant_seg_jax.data.bids.uris import DATASET_DESCRIPTION
from infant_seg_jax.data.formats import read_layout, stem
from infant_seg_jax.data.prepared import ANY_MODALITY
from infant_seg_jax.data.volumes import is_same_grid
from infant_seg_jax.errors import InputError, some_of
from infant_seg_jax.labeling.scans import Inputs, Scan

_MASKS = replace(MASKS, flag="mask")

OTHERS = ("T1w", "T2w")
"""What is labeled in a session without a network's one modality: the first of these that it has,
with a word of warning unless any modality will do."""


@dataclass(frozen=True)
class Tree:
    """A BIDS tree, or a part of it.

    Attributes:
        folder: the one that holds `sub-*`.
        sessions: those of the part.
    """

    folder: Path
    sessions: tuple[Session, ...]


def bids_tree(folder: Path) -> Tree | None:
    """The BIDS tree that a folder is, has as its `rawdata`, or is a part of; None if it is none.

    A part is the folder of a subject or of a session, or its `anat`, with a volume that has a name
    by BIDS.

    Raises:
        InputError: it has BIDS' `dataset_description.json`, but no session.
    """
    for tree in (folder, folder / "rawdata"):
        if sessions := find_sessions(tree):
            return Tree(tree, sessions)
    if (folder / DATASET_DESCRIPTION).is_file():
        raise InputError(
            f"{folder} contains no BIDS session, expected sub-X/ses-Y/anat or sub-X/anat below it "
            "or below its rawdata."
        )
    return _part_of_tree(Path(os.path.abspath(folder)))


def select(tree: Tree, participants: Sequence[str], sessions: Sequence[str]) -> Tree:
    """The sessions of some participants, and of them those of some names; all where none is named.

    Labels may be given as they are in names of folders or bare, as `sub-01` or `01`.

    Raises:
        InputError: the tree has no such participant, or none of them has such a session.
    """
    found = tree.sessions
    for labels, what, flag in (
        (participants, "participant", "participant_label"),
        (sessions, "name", "session_label"),
    ):
        wanted = {bare(label) for label in labels}
        there = {bare(getattr(session, what)) for session in found}
        if missing := sorted(wanted - there):
            named = "participant" if flag == "participant_label" else "session"
            raise InputError(
                f"{tree.folder} holds no {named} {some_of(missing)} with a scan, found "
                f"{some_of(sorted(filter(None, there)), 10) or 'none'}: name some of these with "
                f"--{flag}."
            )
        if wanted:
            found = tuple(one for one in found if bare(getattr(one, what)) in wanted)
    return Tree(tree.folder, found)


def _part_of_tree(folder: Path) -> Tree | None:
    if folder.name == "anat":
        folder = folder.parent
    name = folder.name if folder.name.startswith("ses-") else ""
    participant = folder.parent if name else folder
    if not participant.name.startswith("sub-"):
        return None
    sessions = find_sessions(participant.parent, participant.name, name)
    if not any(session.owns(file) for session in sessions for file in session.volumes()):
        return None
    return Tree(participant.parent, sessions)


@dataclass(frozen=True)
class _Group:
    """Images of one session that make a scan."""

    session: Session
    files: tuple[BidsFile, ...]
    alone: bool

    @property
    def run(self) -> str:
        """The value of `run` in the names, empty where they have none."""
        return self.files[0].entities.get("run", "")


def find_bids(
    tree: Tree,
    output: Path,
    modalities: Sequence[str],
    chosen: Sequence[str] = (),
    masks: str = "",
) -> Inputs:
    """The scans of the sessions of `tree`.

    Args:
        tree: where they are.
        output: the derivative's folder.
        modalities: those of the network.
        chosen: which images to take for them, as `T1w`; empty for the modalities themselves, and,
            in sessions without the network's only one, for their T1w or T2w. A network of
            `ANY_MODALITY` is given each session's T1w and T2w together if they are on one grid,
            else the T1w, or the T2w where there is no other; or all that are chosen.
        masks: as for `prepare`: the folder of a derivative that holds brain masks, or a pattern
            below the tree; with `{}` in it, a path, `{}` being the scan's name without its ending.

    Raises:
        InputError: no session has what is wanted, or there are no such masks.
    """
    any_modality = tuple(modalities) == (ANY_MODALITY,)
    if chosen and len(chosen) != len(modalities) and not any_modality:
        raise InputError(
            f"--modalities names {len(chosen)} image(s), expected one for each modality of the "
            f"network ({', '.join(modalities)})."
        )
    folder, sessions = tree.folder, tree.sessions
    groups: list[_Group] = []
    failures: list[str] = []
    lacking: list[str] = []
    for session in sessions:
        try:
            found = list(_groups(session, modalities, chosen))
            groups += found
            lacking += [] if found else [session.case_id]
        except InputError as error:
            failures.append(str(error))
    wanted = " and ".join(chosen or modalities)
    if wanted == ANY_MODALITY:
        wanted = " or ".join(OTHERS)
    if not groups and not failures:
        there = sorted({file.suffix for session in sessions for file in session.volumes()})
        raise InputError(
            f"{folder} has no session with {wanted}, found "
            f"{some_of(there, 10) or 'no volume with a BIDS name'}: choose what to label with "
            "--modalities."
        )
    notices = []
    if lacking:
        notices.append(
            f"{len(lacking)} of {len(sessions)} sessions have no {wanted} and are left out: "
            f"{some_of(lacking)}."
        )
    ages, _ = read_ages(sessions, (folder,))  # `inspect` tells what is odd about the tables.
    scans: dict[Path, Scan] = {}
    masked, mask_notices = _masks_of(folder, groups, masks)
    for group, mask in zip(groups, masked, strict=True):
        if isinstance(mask, str):
            failures.append(mask)
            continue
        age = ages.get(group.session.case_id)
        scan = replace(_scan(group, output, modalities, chosen), mask=mask, age=age)
        if scan.label_map in scans:
            failures.append(
                f"{scan.images[0]} and {scans[scan.label_map].images[0]} would both become "
                f"{scan.label_map}: label one of them separately, with --input and another "
                "--output."
            )
            continue
        scans[scan.label_map] = scan
    return Inputs(tuple(scans.values()), tuple(failures), (*notices, *mask_notices), folder)


def _groups(session: Session, modalities: Sequence[str], chosen: Sequence[str]) -> Iterator[_Group]:
    own = [file for file in session.volumes() if session.owns(file)]
    images = [[f for f in own if _alike(f.suffix, name)] for name in chosen or modalities]
    if tuple(modalities) == (ANY_MODALITY,) and not chosen:
        yield from _with_partners(session, [[f for f in own if f.suffix == x] for x in OTHERS])
    elif len(images) == 1:
        files = images[0]
        if not files and not chosen:
            others = ([f for f in own if f.suffix == other] for other in OTHERS)
            files = next((found for found in others if found), [])
        for file in files:
            yield _Group(session, (file,), len(files) == 1)
    elif all(len(files) == 1 for files in images):
        yield _Group(session, tuple(files[0] for files in images), True)
    elif all(images):
        by_name = [{frozenset(file.entities.items()): file for file in files} for files in images]
        together = [key for key in by_name[0] if all(key in files for files in by_name)]
        if not together:
            names = [str(file.path) for files in images for file in files]
            raise InputError(
                f"{session.case_id} has several images of a modality ({some_of(names)}), and it is "
                "not clear which belong together, expected names that differ only in their "
                "suffix: give them in --input, separated by a comma."
            )
        for key in together:
            yield _Group(session, tuple(files[key] for files in by_name), len(together) == 1)


def _with_partners(session: Session, kinds: Sequence[Sequence[BidsFile]]) -> Iterator[_Group]:
    """Each image of the first kind there is, with those of the others that go with it.

    They go with it if they have the same entities, or each is the only one, and lie on its grid.
    """
    first, *others = [files for files in kinds if files] or [()]
    for file in first:
        found = (
            next(
                (
                    other
                    for other in files
                    if other.entities == file.entities or len(first) == len(files) == 1
                ),
                None,
            )
            for files in others
        )
        partners = [other for other in found if other and _on_one_grid(file.path, other.path)]
        yield _Group(session, (file, *partners), len(first) == 1)


def _on_one_grid(one: Path, other: Path) -> bool:
    try:
        return is_same_grid(read_layout(other).grid, read_layout(one).grid)
    except InputError:
        return False  # Whoever reads it says why.


def _scan(group: _Group, output: Path, modalities: Sequence[str], chosen: Sequence[str]) -> Scan:
    first, *others = group.files
    shared = {
        key: value
        for key, value in first.entities.items()
        if key != "desc" and all(file.entities.get(key) == value for file in others)
    }
    notices = tuple(
        f"{file.path} is a {file.suffix}, but the network was trained on {name}: expect errors."
        for file, name in zip(group.files, modalities, strict=False)
        if name != ANY_MODALITY and not _alike(file.suffix, name)
    )
    session = group.session.within(output)
    prefix = "_".join(f"{key}-{value}" for key, value in shared.items())
    paths = tuple(file.path for file in group.files)
    return Scan(paths, session.folder / "anat", prefix, True, notices=notices)


def _masks_of(
    tree: Path, groups: Sequence[_Group], masks: str
) -> tuple[list[Path | None | str], list[str]]:
    """The mask of each group, or why it has none, in a sentence; and notices."""
    if not masks or not groups:
        return [None] * len(groups), []
    if "{}" in masks:
        return [Path(masks.replace("{}", stem(group.files[0].path))) for group in groups], []
    sessions = list({group.session.case_id: group.session for group in groups}.values())
    found, notices = (
        find_by_pattern(tree, masks, sessions, "mask")
        if is_pattern(masks)
        else find_in_derivatives(tree, masks, sessions, _MASKS)
    )
    return [_mask_of(group, found, masks) for group in groups], notices


def _mask_of(group: _Group, found: Mapping[str, Sequence[BidsFile]], masks: str) -> Path | str:
    case_id = group.session.case_id
    try:
        mask = pick(found.get(case_id, ()), group.run, group.alone, _MASKS, case_id)
    except InputError as error:
        return str(error)
    return mask or (
        f"{group.files[0].path} has no brain mask in --mask={masks}, expected one for each scan."
    )


def _alike(one: str, other: str) -> bool:
    """Whether two names are of one modality: `T1w` is `t1`."""
    return one.lower().removesuffix("w") == other.lower().removesuffix("w")
