"""What a source of scans is: a folder's layout, its modalities, and what its labels mean."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from infant_seg_jax.data.ages import Age
from infant_seg_jax.data.labels import TISSUE_CLASSES, ClassSet, LabelSchema
from infant_seg_jax.data.schemas import find_schema
from infant_seg_jax.errors import InputError, some_of

_ALWAYS = ("schema", "classes")
"""Fields of a query that every source heeds."""


@dataclass(frozen=True)
class SourceCase:
    """One scanning session as found on disk.

    Attributes:
        case_id: names the case, and its folder in a prepared set; unique within a source.
        participant: who was scanned; sessions of one participant never fall into different splits.
        images: one file per modality, in the dataset's order.
        labels: the label map; None where the session has none.
        mask: the brain mask; None where the session has none.
        age: at the scan; None where it is not known.
        split: `train`, `validation` or `test` where the source itself says so.
    """

    case_id: str
    participant: str
    images: tuple[Path, ...]
    labels: Path | None = None
    mask: Path | None = None
    age: Age | None = None
    split: str | None = None


@dataclass(frozen=True)
class Query:
    """What is wanted of a folder, where a source leaves a choice; each has a default.

    Attributes:
        modalities: which images of a session, in this order, as in `("T1w", "T2w")`; for `folder`
            and other sources whose files carry no modality, their names.
        images: patterns below the folder, one per modality, with `*` for what names the case.
        labels: a pattern for the label maps, or the folder of a derivative that holds them.
        masks: a pattern for the brain masks, or the folder of a derivative that holds them.
        schema: what the labels mean; the source's own meaning otherwise.
        classes: what the schema, or the source's own meaning, is to tell apart.
    """

    modalities: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    labels: str = ""
    masks: str = ""
    schema: LabelSchema | None = None
    classes: ClassSet = TISSUE_CLASSES

    def schema_or(self, name: str = "") -> LabelSchema:
        """The schema that is wanted, or else that of this name, or the classes' own values.

        Raises:
            InputError: that schema does not tell these classes apart.
        """
        return self.schema or find_schema(name or self.classes.name, self.classes)


@dataclass(frozen=True)
class Dataset:
    """What a source found.

    Attributes:
        source: the source's name.
        folder: where; paths are told relative to it.
        modalities: one name per image of a case.
        schema: what the labels mean.
        cases: sorted by id.
        notices: what a person should know, a sentence each: sessions left out, files missing.
    """

    source: str
    folder: Path
    modalities: tuple[str, ...]
    schema: LabelSchema
    cases: tuple[SourceCase, ...]
    notices: tuple[str, ...] = ()

    def of_ages(self, low: float | None, high: float | None) -> "Dataset":
        """The cases with an age from `low` to `high`, both included, in the source's own unit.

        Raises:
            InputError: no case is left.
        """
        if low is None and high is None:
            return self
        low, high = -float("inf") if low is None else low, float("inf") if high is None else high
        kept = tuple(c for c in self.cases if c.age is not None and low <= c.age.value <= high)
        unknown = sum(case.age is None for case in self.cases)
        if not kept:
            ages = [case.age for case in self.cases if case.age is not None]
            found = (
                f"the known ages range from {min(ages, key=_value)} to {max(ages, key=_value)}"
                if ages
                else "no age is known"
            )
            raise InputError(
                f"{self.folder} has no case with an age from {low:g} to {high:g}: {found}."
            )
        notice = f"{unknown} of {len(self.cases)} cases have no known age and are left out."
        return replace(self, cases=kept, notices=(*self.notices, *([notice] if unknown else [])))

    def with_schema_changes(self, changes: Mapping[int, int]) -> "Dataset":
        """The same cases, some of whose label ids mean other classes."""
        return replace(self, schema=self.schema.changed(changes))


@dataclass(frozen=True)
class Source:
    """One dataset's layout.

    Attributes:
        name: as given to `prepare --source`.
        summary: what it reads, in a few words.
        find: lists a folder's cases; raises InputError if there are none or a file is missing.
        choices: the fields of `Query`, beside `schema` and `classes`, that it heeds.
    """

    name: str
    summary: str
    find: Callable[[Path, Query], Dataset]
    choices: frozenset[str] = field(default_factory=frozenset)

    def open(self, folder: Path, query: Query = Query()) -> Dataset:  # noqa: B008 (frozen)
        """What `folder` holds.

        Raises:
            InputError: the folder is missing, holds no case of this source, or the query asks for
                what the source does not offer.
        """
        for choice in fields(Query):
            if getattr(query, choice.name) and choice.name not in (*self.choices, *_ALWAYS):
                offered = ", ".join(f"--{name}" for name in sorted(self.choices))
                raise InputError(
                    f"--{choice.name} has no meaning for --source={self.name}, expected "
                    f"{f'{offered} or --schema' if offered else '--schema'} if anything."
                )
        if not folder.is_dir():
            raise InputError(f"There is no folder {folder}.")
        return self.find(folder, query)


def count_notice(names: Sequence[str], what: str) -> list[str]:
    """A notice, as in '2 of 9 cases have no label map: a, b'; none where there are no names."""
    return [f"{len(names)} {what}: {some_of(names)}."] if names else []


def _value(age: Age) -> float:
    return age.value
