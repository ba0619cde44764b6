"""Tables of labels, read as the tools that they are for read them."""

import re
from collections.abc import Callable

import pytest

from infant_seg_jax.data.class_sets import DRAWEM9_CLASSES
from infant_seg_jax.data.labels import LabelSchema
from infant_seg_jax.data.schemas import ISEG_SCHEMA, TISSUE_SCHEMA
from infant_seg_jax.labeling.label_tables import BIDS, FREESURFER, ITK_SNAP, SLICER, label_tables

Labels = dict[int, tuple[str, tuple[int, ...], bool]]
"""Name, color and whether it is shown, by value."""

SCHEMAS = (TISSUE_SCHEMA, ISEG_SCHEMA, LabelSchema.of(DRAWEM9_CLASSES))


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def read_freesurfer(text: str) -> Labels:
    """As its `%d %s %d %d %d %d`: names have no spaces, and 255 minus the last is the alpha."""
    found = {}
    for line in lines(text):
        value, name, *numbers = line.split()
        red, green, blue, transparency = map(int, numbers)
        assert transparency == 0
        found[int(value)] = name.replace("-", " "), (red, green, blue), int(value) != 0
    return found


def read_itk_snap(text: str) -> Labels:
    """As the head of its files says: index, color, transparency, visibility in 2D and 3D, label."""
    found = {}
    for line in lines(text):
        match = re.fullmatch(r'(\d+) (\d+) (\d+) (\d+)  ([01]) +([01]) +([01]) "(.+)"', line)
        assert match, line
        value, *color, alpha, visible, mesh = map(int, match.groups()[:7])
        assert alpha == visible == mesh
        found[value] = match[8], tuple(color), bool(visible)
    assert list(found) == sorted(found)
    return found


def read_slicer(text: str) -> Labels:
    """As its `id name r g b a`: underscores stand for spaces."""
    found = {}
    for line in lines(text):
        value, name, *numbers = line.split()
        *color, alpha = map(int, numbers)
        assert alpha in (0, 255)
        found[int(value)] = name.replace("_", " "), tuple(color), alpha == 255
    return found


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.name)
@pytest.mark.parametrize(
    ("name", "read"),
    [(FREESURFER, read_freesurfer), (ITK_SNAP, read_itk_snap), (SLICER, read_slicer)],
)
def test_viewers_read_what_bids_has(
    schema: LabelSchema, name: str, read: Callable[[str], Labels]
) -> None:
    tables = label_tables(schema)
    rows = [line.split("\t") for line in tables[BIDS].splitlines()[1:]]
    expected = {
        int(value): (full, tuple(bytes.fromhex(color[1:])), int(value) != 0)
        for value, full, _, color, _ in rows
    }
    assert read(tables[name]) == expected


def test_the_table_has_the_ids_and_the_numbers_of_bids() -> None:
    rows = [line.split("\t") for line in label_tables(ISEG_SCHEMA)[BIDS].splitlines()]
    assert rows[0] == ["index", "name", "abbreviation", "color", "mapping"]
    found = {abbreviation: (index, mapping) for index, _, abbreviation, _, mapping in rows[1:]}
    # BIDS: 0 background, 1 gray matter, 2 white matter, 3 CSF.
    assert found == {"BG": ("0", "0"), "CSF": ("10", "3"), "GM": ("150", "1"), "WM": ("250", "2")}
