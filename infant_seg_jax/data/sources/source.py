"""What a source of scans is: a folder's layout, its modalities, and what its labels mean."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infant_seg_jax.data.labels import LabelSchema


@dataclass(frozen=True)
class SourceCase:
    """One scanning session as found on disk.

    Attributes:
        case_id: names the case, and its folder in a prepared set; unique within a source.
        participant: who was scanned; sessions of one participant never fall into different splits.
        images: one file per modality, in the source's order.
        labels: the label map; None where the session has none.
        split: `train`, `validation` or `test` where the source itself says so.
    """

    case_id: str
    participant: str
    images: tuple[Path, ...]
    labels: Path | None = None
    split: str | None = None


@dataclass(frozen=True)
class Source:
    """One dataset's layout.

    Attributes:
        name: as given to `prepare --source`.
        find: lists a folder's cases, sorted by id; raises InputError if there are none or a file
            is missing.
        schema: what the labels mean.
        modalities: one name per image of a case.
    """

    name: str
    find: Callable[[Path], tuple[SourceCase, ...]]
    schema: LabelSchema
    modalities: tuple[str, ...]
