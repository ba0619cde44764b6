"""A scan to label, and where what is found of it goes."""

from dataclasses import dataclass, replace
from pathlib import Path

from infant_seg_jax.data.ages import Age
from infant_seg_jax.data.bids.uris import extras_of
from infant_seg_jax.data.class_sets import classes_in
from infant_seg_jax.data.formats import stem
from infant_seg_jax.data.labels import LabelSchema
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import read_json

DESC = "infantseg"
"""The `desc` of our label maps in BIDS trees."""
MASK = "desc-brain_mask"
"""What names of brain masks end with."""
TABLE = "tissue_volumes.tsv"
"""The table of volumes of a folder of label maps."""
CLASSES, SETTINGS = "Classes", "Settings"
"""Keys of the JSON beside a label map: its classes, if they are not tissues; how it was made."""


@dataclass(frozen=True)
class Scan:
    """One subject's images, and where what is found of them goes.

    Attributes:
        images: one per modality.
        folder: for the outputs.
        prefix: what their names begin with.
        bids: whether they are named as in BIDS' derivatives.
        mask: the brain mask; None where there is none.
        file: the label map, where a person named it; None for a name after the scan's.
        notices: what a person should know, a sentence each.
        age: at the scan, where a BIDS tree's tables tell it.
        ending: of the volumes' names.
    """

    images: tuple[Path, ...]
    folder: Path
    prefix: str
    bids: bool = False
    mask: Path | None = None
    file: Path | None = None
    notices: tuple[str, ...] = ()
    age: Age | None = None
    ending: str = ".nii.gz"

    @property
    def label_map(self) -> Path:
        """The label map to be written."""
        if self.file:
            return self.file
        return self.folder / f"{self.prefix}{f'_desc-{DESC}' * self.bids}_dseg{self.ending}"

    @property
    def sidecar(self) -> Path:
        """The JSON beside it, which says how it was made."""
        return sidecar_of(self.label_map)

    @property
    def brain_mask(self) -> Path | None:
        """The brain mask to be written; None where a person named the one file to write."""
        return None if self.file else self.folder / f"{self.prefix}_{MASK}{self.ending}"

    def probability_map(self, tissue: str) -> Path:
        """The map of a tissue's probability."""
        return self.folder / f"{self.prefix}_label-{tissue}_probseg{self.ending}"


@dataclass(frozen=True)
class Inputs:
    """What there is to label.

    Attributes:
        scans: in the order given, those of a folder by name.
        failures: of scans that cannot be labeled, why not, a sentence each.
        notices: what a person should know, a sentence each.
        dataset: the BIDS tree that they are from; None for others.
    """

    scans: tuple[Scan, ...] = ()
    failures: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    dataset: Path | None = None

    @property
    def is_one_file(self) -> bool:
        """Whether a person named the one label map: then nothing of a folder goes beside it."""
        return any(scan.file for scan in self.scans)

    def with_ending(self, ending: str) -> "Inputs":
        """The same, with other endings of the names of what is written."""
        return replace(self, scans=tuple(replace(scan, ending=ending) for scan in self.scans))

    def shard(self, number: int, count: int) -> "Inputs":
        """One of `count` parts of the same size, give or take one, that together are the whole.

        Which scans are in it depends on nothing but their order: what is finished does not count.
        """
        part = slice(number - 1, None, count)
        return replace(self, scans=self.scans[part], failures=self.failures[part])


def table_of(folder: Path) -> Path:
    """Where the table about a folder of label maps is."""
    return extras_of(folder) / TABLE


def sidecar_of(volume: Path) -> Path:
    """The JSON that goes with a volume, by BIDS' rule."""
    return volume.with_name(f"{stem(volume)}.json")


def schema_of(label_map: Path) -> LabelSchema | None:
    """What the values of a label map of ours mean, by the JSON beside it; None if it does not say.

    One that names no classes has tissues, as all of version 0.1 have.
    """
    try:
        content = read_json(sidecar_of(label_map))
        classes = classes_in(content, CLASSES)
        ids = content[SETTINGS]["LabelIds"]
        table = {int(value): classes.names.index(name) for name, value in ids.items()}
    except (InputError, AttributeError, KeyError, TypeError, ValueError):
        return None
    return LabelSchema("of the label map", table, classes) if table else None
