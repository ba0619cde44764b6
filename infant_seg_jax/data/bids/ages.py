"""Ages at the sessions of BIDS trees, from the tables that people keep beside the scans.

What people write by hand is damaged now and then. A table that cannot be used costs its ages and is
told in a notice; it never stops anybody from reading the scans.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from infant_seg_jax.data.ages import WEEKS_OF_GESTATION, Age, parse_age
from infant_seg_jax.data.bids.names import Session, bare
from infant_seg_jax.data.bids.tables import read_sidecar, read_table
from infant_seg_jax.errors import InputError

_UNITS = {
    "days": ("day", "days", "d"),
    "weeks": ("week", "weeks", "wk", "wks", "w"),
    "months": ("month", "months", "mo", "mos", "mon"),
    "years": ("year", "years", "yr", "yrs", "y", "a"),
}
_SINCE_CONCEPTION = {"gestational", "gestation", "postmenstrual", "pma", "ga"}
_NOISE = {"of", "age", "old"}
_MAX_MONTHS = 150 * 12
_KINDS = {  # of tables: the column that each must have, and those that may say whom it means
    "sessions": ("session_id", "participant_id", "subject"),
    "participants": ("participant_id", "session_id"),
    "scans": ("filename", "participant_id", "subject", "session_id", "session"),
}


def read_ages(
    sessions: Sequence[Session],
    trees: Sequence[Path],
    column: str = "age",
    unit: str | None = None,
    kinds: Sequence[str] = tuple(_KINDS),
) -> tuple[dict[str, Age], list[str]]:
    """The age at each session for which it is known, and what a person should know.

    `sub-*_sessions.tsv` is believed first, then `participants.tsv`, then the session's own
    `*_scans.tsv`.

    Args:
        sessions: whose ages are wanted.
        trees: the folders that hold the tables, `sub-*` and all; of two such tables, that of the
            first is read.
        column: the column that gives the age.
        unit: its unit; what the sidecar says otherwise, and years without one, as BIDS has it.
        kinds: which tables are read, of `sessions`, `participants` and `scans`.

    Returns:
        Ages by the sessions' `case_id`, and notices.
    """
    ages: dict[str, Age] = {}
    notices: list[str] = []
    for kind in kinds:
        findings = _Findings(kind)
        for table in _tables(kind, sessions, trees):
            _read_into(findings, table, column, unit, ages)
        ages = {**findings.ages(), **ages}
        notices += findings.notices()
    return ages, notices


def in_one_unit(ages: Mapping[str, Age]) -> tuple[dict[str, Age], list[str]]:
    """Ages that compare: in months if their units differ, in weeks postmenstrual if some are."""
    units = sorted({age.unit for age in ages.values()})
    if len(units) < 2:
        return dict(ages), []
    unit = "weeks postmenstrual" if "weeks postmenstrual" in units else "months"
    same = {case_id: _in_unit(age, unit) for case_id, age in ages.items()}
    return same, [f"Ages are given in {' and '.join(units)}; here all of them are in {unit}."]


def parse_unit(text: str) -> str | None:
    """A unit of age as people write it, `gestational_weeks` or `mo`; None if it is none we know."""
    words = text.lower().replace("_", " ").replace("-", " ").split()
    kept = [word for word in words if word not in _SINCE_CONCEPTION | _NOISE]
    unit = next((u for u, names in _UNITS.items() if len(kept) == 1 and kept[0] in names), None)
    if _SINCE_CONCEPTION.isdisjoint(words):
        return unit
    return "weeks postmenstrual" if unit == "weeks" else None


def _in_unit(age: Age, unit: str) -> Age:
    if age.unit == unit:
        return age
    if unit == "months":
        return Age(age.months, unit)
    return Age(WEEKS_OF_GESTATION + age.months / Age(1.0, "weeks").months, unit)


@dataclass(frozen=True)
class _Table:
    """A table of ages: where it is, whom it is about, and what may tell its units.

    Attributes:
        path: the file.
        sessions: those that it is about, by the participant's bare id.
        participant: the bare id of whom all of it is about; empty where the rows say.
        sidecars: JSON files, the nearest first.
    """

    path: Path
    sessions: Mapping[str, Sequence[Session]]
    participant: str
    sidecars: tuple[Path, ...]


@dataclass
class _Findings:
    """What the tables of one kind say."""

    kind: str
    found: dict[str, set[Age]] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)

    def ages(self) -> dict[str, Age]:
        return {case_id: next(iter(ages)) for case_id, ages in self.found.items() if len(ages) == 1}

    def notices(self) -> Iterator[str]:
        name = f"{self.kind}.tsv"
        if self.damaged:
            others = len(self.damaged) - 1
            yield f"A {name} gives no ages: {self.damaged[0]}" + (
                f" The same applies to {others} more." if others else ""
            )
        what = {"scans": "files that do not exist"}.get(
            self.kind, f"{self.kind} without an anatomical scan here"
        )
        several = [
            f"{' and '.join(sorted(map(str, ages)))} for {case_id}"
            for case_id, ages in self.found.items()
            if len(ages) > 1
        ]
        for entries, text in (
            (self.absent, f"name {what}"),
            (self.unreadable, "give no age that can be read"),
            (self.unclear, "give one age for several sessions and are ignored"),
            (several, "contradict each other and are ignored"),
        ):
            if entries:
                yield f"Entries of {name} that {text}: {len(entries)} (first: {entries[0]})."


def _tables(kind: str, sessions: Sequence[Session], trees: Sequence[Path]) -> Iterator[_Table]:
    """The tables of a kind that are there."""
    of_participant: dict[str, list[Session]] = {}
    for session in sessions:
        of_participant.setdefault(bare(session.participant), []).append(session)
    if kind == "participants":
        for path in _first_file(tree / "participants.tsv" for tree in trees):
            yield _Table(path, of_participant, "", (path.with_suffix(".json"),))
    elif kind == "sessions":
        for label, own in of_participant.items():
            name = own[0].participant
            for path in _first_file(tree / name / f"{name}_sessions.tsv" for tree in trees):
                sidecars = path.with_suffix(".json"), path.parent.parent / "sessions.json"
                yield _Table(path, {label: own}, label, sidecars)
    else:
        for session in sessions:
            label, folder = bare(session.participant), session.folder
            for path in sorted((*folder.glob("*_scans.tsv"), *folder.glob("anat/*_scans.tsv"))):
                sidecar = path.with_suffix(".json")
                sidecars = sidecar, folder / sidecar.name, *(tree / "scans.json" for tree in trees)
                yield _Table(path, {label: [session]}, label, sidecars)


def _first_file(paths: Iterable[Path]) -> list[Path]:
    """The first of the paths that is a file, or none."""
    return [path for path in paths if path.is_file()][:1]


def _read_into(
    findings: _Findings, table: _Table, column: str, unit: str | None, known: Mapping[str, Age]
) -> None:
    key, *others = _KINDS[findings.kind]
    try:
        rows = read_table(table.path, (key,), (*others, column))
        unit = unit or _unit_in(table.sidecars, column)
    except InputError as error:
        findings.damaged.append(str(error))
        return
    for row in rows:
        meant = [session for session in _candidates(row, table) if _agrees(row, session)]
        cell = "" if all(session.case_id in known for session in meant) else row[column]
        if not meant:
            findings.absent.append(f"{row[key] or 'n/a'} in {table.path}")
        elif cell and len(meant) > 1:
            findings.unclear.append(f"{row[key]} in {table.path}")
        elif cell and (age := _age(cell, unit)):
            findings.found.setdefault(meant[0].case_id, set()).add(age)
        elif cell:
            findings.unreadable.append(f"'{cell}' in {table.path}")


def _candidates(row: Mapping[str, str], table: _Table) -> Sequence[Session]:
    participant = row.get("participant_id") or row.get("subject") or table.participant
    return table.sessions.get(bare(participant), ())


def _agrees(row: Mapping[str, str], session: Session) -> bool:
    """Whether a row is about a session, as far as it says."""
    name, file = row.get("session_id") or row.get("session"), row.get("filename")
    return (not name or bare(name) == bare(session.name)) and (
        not file
        or any(_is_there(folder / file) for folder in (session.folder, session.folder / "anat"))
    )


def _is_there(path: Path) -> bool:
    try:
        return path.exists() or path.is_symlink()  # data that is yet to be fetched
    except (OSError, ValueError):  # too long for a name, or no name at all
        return False


def _age(cell: str, unit: str) -> Age | None:
    """An age as `23` or `30 gestational_weeks`."""
    number, _, text = cell.partition(" ")
    stated = parse_unit(text) if text else unit
    try:
        age = parse_age(number, stated) if stated else None
    except InputError:
        return None
    return age if age and age.months <= _MAX_MONTHS else None


def _unit_in(sidecars: Iterable[Path], column: str) -> str:
    """The unit that the nearest sidecar gives; years without one, as BIDS has it.

    Raises:
        InputError: a sidecar is damaged or gives a unit that we do not know.
    """
    for path in sidecars:
        if path.is_file():
            described = read_sidecar(path).get(column)
            text = described.get("Units") if isinstance(described, dict) else None
            if text:
                unit = parse_unit(str(text))
                if unit is None:
                    raise InputError(
                        f"{path} gives '{str(text)[:40]}' as the unit of '{column}', expected "
                        f"{', '.join(_UNITS)} or gestational weeks."
                    )
                return unit
    return "years"
