"""A scan to label, and where what is found of it goes."""

from dataclasses import dataclass
from pathlib import Path

from infant_seg_jax.data.formats import stem

DESC = "infantseg"
"""The `desc` of our label maps in BIDS trees."""


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
    """

    images: tuple[Path, ...]
    folder: Path
    prefix: str
    bids: bool = False
    mask: Path | None = None
    file: Path | None = None
    notices: tuple[str, ...] = ()

    @property
    def label_map(self) -> Path:
        """The label map to be written."""
        if self.file:
            return self.file
        return self.folder / f"{self.prefix}{f'_desc-{DESC}' * self.bids}_dseg.nii.gz"

    @property
    def sidecar(self) -> Path:
        """The JSON beside it, which says how it was made."""
        return sidecar_of(self.label_map)

    def probability_map(self, tissue: str) -> Path:
        """The map of a tissue's probability."""
        return self.folder / f"{self.prefix}_label-{tissue}_probseg.nii.gz"


@dataclass(frozen=True)
class Inputs:
    """What there is to label.

    Attributes:
        scans: in the order given, those of a folder by name.
        failures: of scans that cannot be labelled, why not, a sentence each.
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


def sidecar_of(volume: Path) -> Path:
    """The JSON that goes with a volume, by BIDS' rule."""
    return volume.with_name(f"{stem(volume)}.json")
