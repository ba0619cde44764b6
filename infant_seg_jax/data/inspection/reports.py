"""What an inspection tells, to people and to scripts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infant_seg_jax.data.ages import Age
from infant_seg_jax.data.formats.grid import Scale, Shape

SCAN, LABEL_MAP, MASK = "scan", "label map", "mask"


@dataclass(frozen=True)
class Remark:
    """Something odd.

    Attributes:
        about: what kind of thing, one word: remarks on the same thing can be told together.
        sentence: in full, with the files it is about.
    """

    about: str
    sentence: str


@dataclass(frozen=True)
class LabelValue:
    """One of a label map's values.

    Attributes:
        value: as stored.
        name: the class that it means, as in `GM`; empty where that is not known.
        voxels: how many have it.
        ml: their volume.
    """

    value: int
    name: str
    voxels: int
    ml: float


@dataclass(frozen=True)
class FileReport:
    """What one file holds.

    Attributes:
        path: the file; of a pair, the header.
        kind: `SCAN`, `LABEL_MAP` or `MASK`.
        shape: voxels along the file's own axes.
        spacing: voxel size along them, in mm.
        axes: the directions that they grow to, as in `LAS`.
        dtype: the type of the voxels as stored, as in `int16`.
        scale: slope and intercept that they are yet to be scaled by, or None.
        low, high: the smallest and the largest value, scaled.
        outline_ml: the volume of what is not background.
        extent: of a scan, whether that is a `brain` or a `head`; empty otherwise.
        labels: the values of a label map, or of a mask, with their volumes.
        schema: by which the values have their names; empty for scans and masks, and where no schema
            fits.
        schema_assumed: whether it was chosen because it fits.
        age: at the scan, where a BIDS table gives it.
        voxels_sha256: of the values in the box around what is not background.
        outline_sha256: of where in that box there is no background.
        remarks: what is odd.
    """

    path: Path
    kind: str
    shape: Shape
    spacing: tuple[float, float, float]
    axes: str
    dtype: str
    scale: Scale | None
    low: float
    high: float
    outline_ml: float
    extent: str
    labels: tuple[LabelValue, ...]
    schema: str
    schema_assumed: bool
    age: Age | None
    voxels_sha256: str
    outline_sha256: str
    remarks: tuple[Remark, ...]


@dataclass(frozen=True)
class Failure:
    """A file that cannot be read, and why."""

    path: Path
    sentence: str


@dataclass(frozen=True)
class Inspection:
    """What is there.

    Attributes:
        files: subject by subject.
        failures: files that cannot be read.
        series: files of several volumes each, as of functional and diffusion scans, that were come
            across in a folder; they are not looked at.
        remarks: what is odd about all of it, beside what is odd about single files.
    """

    files: tuple[FileReport, ...]
    failures: tuple[Failure, ...]
    series: tuple[Path, ...]
    remarks: tuple[Remark, ...]

    def all_remarks(self) -> tuple[Remark, ...]:
        """Those on single files, and those on all of it."""
        return (*(remark for file in self.files for remark in file.remarks), *self.remarks)

    def of_kind(self, kind: str) -> tuple[FileReport, ...]:
        """The files of one kind."""
        return tuple(file for file in self.files if file.kind == kind)


def as_json(inspection: Inspection) -> dict[str, Any]:
    """An inspection as what JSON can hold."""
    return {
        "files": [_file_as_json(file) for file in inspection.files],
        "failures": [
            {"path": str(failure.path), "error": failure.sentence}
            for failure in inspection.failures
        ],
        "series": [str(path) for path in inspection.series],
        "warnings": _remarks_as_json(inspection.remarks),
    }


def _file_as_json(file: FileReport) -> dict[str, Any]:
    return {
        "path": str(file.path),
        "kind": file.kind,
        "shape": list(file.shape),
        "spacing_mm": [round(size, 6) for size in file.spacing],
        "axes": file.axes,
        "dtype": file.dtype,
        "scale": file.scale and list(file.scale),
        "range": [file.low, file.high],
        "outline_ml": round(file.outline_ml, 3),
        "extent": file.extent or None,
        "schema": file.schema or None,
        "schema_assumed": file.schema_assumed,
        "labels": [
            {
                "value": label.value,
                "class": label.name or None,
                "voxels": label.voxels,
                "ml": round(label.ml, 3),
            }
            for label in file.labels
        ],
        "age": file.age and {"value": file.age.value, "unit": file.age.unit},
        "voxels_sha256": file.voxels_sha256,
        "outline_sha256": file.outline_sha256,
        "warnings": _remarks_as_json(file.remarks),
    }


def _remarks_as_json(remarks: tuple[Remark, ...]) -> list[dict[str, str]]:
    return [{"about": remark.about, "sentence": remark.sentence} for remark in remarks]
