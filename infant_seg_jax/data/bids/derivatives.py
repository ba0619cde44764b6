"""Label maps and brain masks of BIDS trees, and the tables that say what labels mean."""

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infant_seg_jax.data.bids.names import (
    BidsFile,
    Session,
    parse_entities,
    parse_files,
)
from infant_seg_jax.data.bids.tables import read_table
from infant_seg_jax.data.labels import TISSUE_CLASSES, ClassSet, LabelSchema, class_of_name
from infant_seg_jax.data.schemas import schema_of_names
from infant_seg_jax.errors import InputError, some_of

_OWN_SPACES = {"orig", "individual", "native", "scanner"}  # and those named after a modality
_TABLE = "dseg.tsv"


@dataclass(frozen=True)
class MapKind:
    """What is looked for in a derivative.

    Attributes:
        flag: the flag that says where.
        name: in words.
        suffix: of the file names.
        desc: the value of their `desc`; any if empty.
    """

    flag: str
    name: str
    suffix: str
    desc: str = ""


LABEL_MAPS = MapKind("labels", "label map", "dseg")
MASKS = MapKind("masks", "brain mask", "mask", "brain")


def is_pattern(text: str) -> bool:
    """Whether a choice is a pattern, not a folder."""
    return glob.has_magic(text)


def find_by_pattern(
    folder: Path, pattern: str, sessions: Sequence[Session], flag: str
) -> tuple[dict[str, list[BidsFile]], list[str]]:
    """The files below `folder` that match, by the session that their names say, and notices.

    Raises:
        InputError: none matches, or none of those that do is named after one of the sessions.
    """
    paths = map(Path, glob.glob(os.path.join(glob.escape(str(folder)), pattern), recursive=True))
    volumes = sorted(path for path in paths if path.name.endswith((".nii", ".nii.gz")))
    known = {session.case_id for session in sessions}
    files = [file for file in parse_files(volumes) if file.session_id in known]
    others = sorted(set(volumes) - {file.path for file in files})
    if not files:
        found = f"{len(others)} volumes such as {others[0]}" if others else "no volume"
        raise InputError(
            f"--{flag}={pattern} finds {found} below {folder}, expected names that begin like "
            f"those of its sessions, with {sessions[0].case_id}_."
        )
    notices = []
    if others:
        notices.append(
            f"--{flag}={pattern} finds volumes that belong to no session here and are left out: "
            f"{len(others)} (first: {others[0]})."
        )
    return _by_session(files), notices


def find_in_derivatives(
    folder: Path, where: str, sessions: Sequence[Session], kind: MapKind
) -> tuple[dict[str, list[BidsFile]], list[str]]:
    """The label maps or masks of each session in a derivative, or in all of `derivatives/*`.

    Args:
        folder: the dataset.
        where: the derivative's folder, below the dataset or absolute; empty for all of them, and
            for `derivatives` itself.
        sessions: whose files are wanted.
        kind: which files.

    Returns:
        Files by the sessions' `case_id`, and notices. What is in the space of a template is left
        out.

    Raises:
        InputError: a folder is given that is not there, or that holds none.
    """
    everywhere = (folder / "derivatives", *sorted(folder.glob("derivatives/*/")))
    places = (folder / where,) if where else everywhere
    if where and not places[0].is_dir():
        raise InputError(
            f"There is no folder {places[0]}, expected the folder of a derivative for "
            f"--{kind.flag}, relative to the dataset or absolute."
        )
    found = {place: _files_in(place, sessions, kind) for place in places}
    own = {place: [f for f in files if _in_own_space(f)] for place, files in found.items()}
    used = {place: files for place, files in own.items() if files}
    if where and not used:
        desc = f"_desc-{kind.desc}" if kind.desc else ""
        raise InputError(
            f"{places[0]} contains no {kind.name} of a session here, expected names such as "
            f"{sessions[0].case_id}{desc}_{kind.suffix}.nii.gz in the folders of its sessions."
        )
    notices = []
    if len(used) > 1:
        counts = ", ".join(f"{place} ({len(files)})" for place, files in used.items())
        notices.append(f"{kind.name.capitalize()}s come from several derivatives: {counts}.")
    templates = [f.path for files in found.values() for f in files if not _in_own_space(f)]
    if templates:
        notices.append(
            f"{kind.name.capitalize()}s in the space of a template are left out: {len(templates)} "
            f"(first: {templates[0]})."
        )
    return _by_session(file for files in used.values() for file in files), notices


def pick(
    candidates: Sequence[BidsFile], run: str, alone: bool, kind: MapKind, case_id: str
) -> Path | None:
    """The one file that goes with a case; None if there is none.

    Args:
        candidates: the files of the case's session.
        run: the image's run; empty where its name has none.
        alone: whether the session has no other run.
        kind: what they are, for errors.
        case_id: whose, for errors.

    Raises:
        InputError: there are several, or it is not clear which run one goes with.
    """
    if not alone and any("run" not in file.entities for file in candidates):
        raise InputError(
            f"{case_id} is one run of several, and it is not clear which of them a {kind.name} "
            f"belongs to ({_listed(candidates)}), expected run-... in its name: choose the scans "
            f"with --images=PATTERN or the {kind.name}s with --{kind.flag}=PATTERN."
        )
    fitting = [file for file in candidates if _same_run(file.entities.get("run", ""), run)]
    if len(fitting) > 1:
        raise InputError(
            f"{case_id} has {len(fitting)} {kind.name}s ({_listed(fitting)}), expected one: choose "
            f"with --{kind.flag}, a derivative's folder or a pattern such as "
            f"--{kind.flag}='derivatives/NAME/sub-*/**/*_desc-NAME_{kind.suffix}.nii.gz'."
        )
    return fitting[0].path if fitting else None


def read_schema(label_maps: Sequence[Path], classes: ClassSet = TISSUE_CLASSES) -> LabelSchema:
    """What labels mean to `classes` by the tables that lie with the label maps, as `dseg.tsv`.

    A table lies beside a label map or in a folder above it, up to the derivative's, and has the
    columns `index` and `name`, and perhaps `abbreviation`. 0 is background where no table says.

    Raises:
        InputError: a label map has no table, a table is damaged or names a label that could be any
            tissue, or two tables contradict each other.
    """
    labels: dict[int, str] = {}
    tables: dict[Path, None] = {}
    for file in parse_files(label_maps):
        table = _table_of(file)
        if table is None:
            raise InputError(
                f"{file.path} does not say what its labels mean, because there is no {_TABLE} with "
                "it: expected --schema=NAME_OR_FILE, for instance --schema=tissues for 0 "
                "background, 1 CSF, 2 GM, 3 WM."
            )
        tables[table] = None
    for table in tables:
        for index, name in _read_names(table, classes).items():
            if labels.setdefault(index, name) != name:
                raise InputError(
                    f"{table} says that {index} is '{name}', which another table calls "
                    f"'{labels[index]}', expected one meaning in a dataset: choose label maps with "
                    "--labels, or say what they mean with --schema."
                )
    first = next(iter(tables))
    return schema_of_names("dseg.tsv", {0: "background", **labels}, first, classes)


def _files_in(place: Path, sessions: Sequence[Session], kind: MapKind) -> list[BidsFile]:
    """What a derivative has of a kind, in `anat` or right in the sessions' folders."""
    there = [session.within(place) for session in sessions]
    return [
        file
        for session in there
        for file in (*session.volumes(), *parse_files(session.folder.glob("sub-*")))
        if session.owns(file) and file.suffix == kind.suffix
        if not kind.desc or file.entities.get("desc") == kind.desc
    ]


def _by_session(files: Iterable[BidsFile]) -> dict[str, list[BidsFile]]:
    found: dict[str, list[BidsFile]] = {}
    for file in files:
        found.setdefault(file.session_id, []).append(file)
    return found


def _in_own_space(file: BidsFile) -> bool:
    space = file.entities.get("space", "orig")
    return space in _OWN_SPACES or space.endswith("w") or space == "FLAIR"


def _same_run(one: str, other: str) -> bool:
    """Whether two names may be of the same run: `01` is `1`, and a name without one may be any."""
    return not one or not other or one.lstrip("0") == other.lstrip("0")


def _table_of(file: BidsFile) -> Path | None:
    """The nearest table whose name applies to a label map, by BIDS' principle of inheritance."""
    for folder in file.path.parents:
        applying = [
            (len(entities), table)
            for table in sorted(folder.glob(f"*{_TABLE}"))
            if (entities := parse_entities(table.name.removesuffix(_TABLE).rstrip("_"))).items()
            <= file.entities.items()
        ]
        if applying:
            return max(applying)[1]
        if not folder.name.startswith(("sub-", "ses-")) and folder.name != "anat":
            break
    return None


def _read_names(table: Path, classes: ClassSet) -> Mapping[int, str]:
    names: dict[int, str] = {}
    for row in read_table(table, ("index", "name"), ("abbreviation",)):
        name, short = row["name"], row["abbreviation"]
        known = class_of_name(name, classes) is not None or class_of_name(short, classes) is None
        try:
            index = int(row["index"])
        except ValueError as error:
            raise InputError(
                f"{table} has the index '{row['index']}', expected whole numbers in that column."
            ) from error
        if names.setdefault(index, name if known else short) != (name if known else short):
            raise InputError(f"{table} names the label {index} twice, expected one name for each.")
    return names


def _listed(files: Sequence[BidsFile]) -> str:
    return some_of([str(file.path) for file in files])
