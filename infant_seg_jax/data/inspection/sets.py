"""What only several files tell together: who has labels, what fits together, who is there twice."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from infant_seg_jax.data.ages import Age
from infant_seg_jax.data.bids.ages import read_ages
from infant_seg_jax.data.bids.names import find_sessions
from infant_seg_jax.data.foreground import BRAIN
from infant_seg_jax.data.formats.grid import SeveralVolumes
from infant_seg_jax.data.formats.names import find_volumes, parts
from infant_seg_jax.data.inspection.files import examine
from infant_seg_jax.data.inspection.reports import (
    LABEL_MAP,
    MASK,
    SCAN,
    Failure,
    FileReport,
    Inspection,
    Remark,
)
from infant_seg_jax.data.labels import LabelSchema
from infant_seg_jax.data.sources.case_ids import participant_of
from infant_seg_jax.data.subjects import subject_of
from infant_seg_jax.data.volumes import LabelMap, check_same_grid
from infant_seg_jax.errors import InputError
from infant_seg_jax.progress import progress

_LEAST_INSIDE = 0.7

Examined = tuple[FileReport, LabelMap]


def inspect_paths(paths: Sequence[Path], schema: LabelSchema | None = None) -> Inspection:
    """Inspect files, and all that is below folders, with a progress bar.

    One volume is in memory at a time, and the outlines of one subject's. Files of several volumes
    are only failures where `paths` names them: a folder may well hold functional scans, too.

    Args:
        paths: files or folders.
        schema: what the values of label maps mean; by default, of each the schema that fits best.

    Raises:
        InputError: a path is missing, is no volume, or is a folder without one.
    """
    files = find_volumes(paths)
    subjects: dict[str, list[Path]] = {}
    for path in files:
        subjects.setdefault(subject_of(path), []).append(path)
    ages, remarks = _ages(files)
    reports: list[FileReport] = []
    failures: list[Failure] = []
    series: list[Path] = []
    named = {parts(path)[0] for path in paths if not path.is_dir()}
    lacking = 0
    with progress("inspecting", len(files), unit="file") as bar:
        for own in subjects.values():
            examined: list[Examined] = []
            for path in own:
                try:
                    examined.append(examine(path, schema, ages.get(path)))
                except InputError as error:
                    if isinstance(error, SeveralVolumes) and path not in named:
                        series.append(path)
                    else:
                        failures.append(Failure(path, str(error)))
                bar.update()
            reports += _matched(examined)
            kinds = [report.kind for report, _ in examined]
            lacking += 0 if LABEL_MAP in kinds else kinds.count(SCAN)
    scans = sum(report.kind == SCAN for report in reports)
    if lacking:
        who = "No scan has a" if lacking == scans else f"{lacking} of {scans} scans have no"
        enough = "that is enough for prediction, but not for training"
        sentence = f"{who} label map of the same name: {enough}."
        remarks.append(Remark("labels", sentence))
    found = (*remarks, *_repeated(reports))
    return Inspection(tuple(reports), tuple(failures), tuple(series), found)


def _ages(files: Sequence[Path]) -> tuple[dict[Path, Age], list[Remark]]:
    """The files' ages by the tables of the BIDS trees that they lie in, and what is odd there."""
    ages: dict[Path, Age] = {}
    remarks: list[Remark] = []
    for tree in dict.fromkeys(filter(None, map(_tree, files))):
        sessions = find_sessions(tree)
        of_session = {
            session.case_id: [file for file in files if session.folder in file.parents]
            for session in sessions
        }
        beside = (folder.parent for folder in (tree, *tree.parents) if folder.name == "derivatives")
        trees = (tree, *beside)
        known, notices = read_ages(sessions, trees)
        # dHCP's column, which says its unit nowhere else.
        scan_ages, _ = read_ages(sessions, trees, "scan_age", "weeks postmenstrual")
        for case_id, age in {**scan_ages, **known}.items():
            ages.update(dict.fromkeys(of_session[case_id], age))
        if all(of_session.values()):  # else a table may well tell of what was not asked about
            remarks += [Remark("tables", notice) for notice in notices]
    return ages, remarks


def _tree(file: Path) -> Path | None:
    """The folder with a file's `sub-*` folder, if it lies in one."""
    return next((folder.parent for folder in file.parents if folder.name.startswith("sub-")), None)


def _matched(examined: Sequence[Examined]) -> list[FileReport]:
    """One subject's reports, with what is odd about label maps and masks beside its scans."""
    scans = [one for one in examined if one[0].kind == SCAN]
    reports = []
    for report, outline in examined:
        if report.kind != SCAN and scans:
            remark = _misfit(report, outline, scans)
            report = replace(report, remarks=(*report.remarks, *remark))
        reports.append(report)
    return reports


def _misfit(report: FileReport, outline: LabelMap, scans: Sequence[Examined]) -> list[Remark]:
    """Whether a label map or mask fits any scan of its name, of those in the nearest folder."""
    nearest = max(_shared(report.path, scan.path) for scan, _ in scans)
    scans = [one for one in scans if _shared(report.path, one[0].path) == nearest]
    apart: list[str] = []
    notices: list[str] = []
    inside: dict[Path, float] = {}
    for scan, foreground in scans:
        try:
            notices += check_same_grid(outline, foreground)
        except InputError as error:
            apart.append(str(error))
            continue
        both = np.count_nonzero(outline.data & foreground.data)
        inside[scan.path] = both / max(np.count_nonzero(outline.data), 1)
    if not inside:
        return [Remark("grid", f"The {report.kind} does not match its scan: {apart[0]}")]
    best = max(inside, key=inside.__getitem__)
    if inside[best] >= _LEAST_INSIDE:
        return [Remark("grid", notice) for notice in notices]
    sentence = (
        f"{report.path} has {inside[best]:.0%} of its {report.kind} inside the outline of {best}, "
        f"expected {_LEAST_INSIDE:.0%} at least: is it flipped, shifted, or from another subject?"
    )
    return [Remark("overlap", sentence)]


def _shared(one: Path, other: Path) -> int:
    """How many folders two paths have in common."""
    return len(set(one.absolute().parents) & set(other.absolute().parents))


def _repeated(reports: Sequence[FileReport]) -> list[Remark]:
    """What there is of several participants that can be one's only."""
    heads = [r for r in reports if r.kind != MASK]  # which may well be one template's
    same_voxels = _of_several(heads, {r.path: r.voxels_sha256 for r in heads})
    reported = {report.path for group in same_voxels for report in group}
    brains = [r for r in heads if r.extent == BRAIN and r.path not in reported]
    same_outline = _of_several(brains, {r.path: r.outline_sha256 for r in brains})
    leak = "would leak from training to test"
    return [
        *(
            Remark("repeated", f"{_names(group)} have the same voxels under several names: {leak}.")
            for group in same_voxels
        ),
        *(
            Remark(
                "repeated",
                f"{_names(group)} have the same outline, voxel by voxel, under several names: if "
                f"they show the same head, it {leak}.",
            )
            for group in same_outline
        ),
    ]


def _of_several(
    reports: Sequence[FileReport], marks: Mapping[Path, str]
) -> list[tuple[FileReport, ...]]:
    """Files with one mark and several participants."""
    groups: dict[str, list[FileReport]] = {}
    for report in reports:
        groups.setdefault(marks[report.path], []).append(report)
    return [
        tuple(group)
        for group in groups.values()
        if len({participant_of(str(r.path)) or subject_of(r.path) for r in group}) > 1
    ]


def _names(group: Sequence[FileReport], limit: int = 4) -> str:
    names = [str(report.path) for report in group]
    if len(names) > limit:
        return f"{', '.join(names[:limit])} and {len(names) - limit} more"
    return f"{', '.join(names[:-1])} and {names[-1]}"
