"""What the values of label maps mean, in the files that tools and viewers read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from infant_seg_jax.data.bids.uris import extras_of
from infant_seg_jax.data.labels import LabelSchema
from infant_seg_jax.files import write_text
from infant_seg_jax.labeling.provenance import label_ids

BIDS, FREESURFER, ITK_SNAP, SLICER = TABLES = (
    *("dseg.tsv", "dseg_freesurfer.txt"),
    *("dseg_itksnap.txt", "dseg_slicer.ctbl"),
)
"""Names of the tables, which lie in a folder of label maps once; of a dataset, but for BIDS' own,
in its `docs`."""

_ITK_SNAP_HEAD = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
################################################
"""


@dataclass(frozen=True)
class _Label:
    """A value of a label map."""

    value: int
    name: str
    abbreviation: str
    color: str
    mapping: int | None

    @property
    def rgb(self) -> str:
        red, green, blue = bytes.fromhex(self.color.removeprefix("#"))
        return f"{red} {green} {blue}"


def write_label_tables(folder: Path, schema: LabelSchema) -> None:
    """Write all tables into a folder.

    Raises:
        InputError: the folder cannot be written to.
    """
    for name, text in label_tables(schema).items():
        write_text((folder if name == BIDS else extras_of(folder)) / name, text)


def label_tables(schema: LabelSchema) -> Mapping[str, str]:
    """The texts of all tables by their names.

    BIDS' `dseg.tsv`; FreeSurfer's color lookup table, whose last number is the transparency;
    ITK-SNAP's label descriptions; 3D Slicer's color table, whose last number is the opacity.
    Background is transparent.
    """
    labels = list(_labels(schema))
    return {
        BIDS: label_table(schema),
        FREESURFER: "".join(
            f"{one.value} {one.name.replace(' ', '-')} {one.rgb} 0\n" for one in labels
        ),
        ITK_SNAP: _ITK_SNAP_HEAD
        + "".join(
            f'{one.value} {one.rgb} {3 * f" {int(one.value != 0)}"} "{one.name}"\n'
            for one in sorted(labels, key=lambda one: one.value)
        ),
        SLICER: "".join(
            f"{one.value} {one.name.replace(' ', '_')} {one.rgb} {255 * (one.value != 0)}\n"
            for one in labels
        ),
    }


def label_table(schema: LabelSchema) -> str:
    """The rows of a `dseg.tsv`: what values mean, their colors, their numbers in BIDS' table."""
    lines = ["index\tname\tabbreviation\tcolor\tmapping"]
    for one in _labels(schema):
        mapping = "n/a" if one.mapping is None else one.mapping
        cells = (one.value, one.name, one.abbreviation, one.color, mapping)
        lines.append("\t".join(map(str, cells)))
    return "\n".join(lines) + "\n"


def _labels(schema: LabelSchema) -> Iterator[_Label]:
    ids = label_ids(schema)
    for one in schema.classes.classes:
        if one.name in ids:
            value = ids[one.name]
            yield _Label(value, one.full_name, one.abbreviation, one.color, one.mapping)
