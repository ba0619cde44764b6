"""What label values mean: named tables from a source's ids to our four classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped, UInt8

from infant_seg_jax.errors import InputError

BACKGROUND, CSF, GM, WM = range(4)
IGNORE = 255
"""Voxels that losses and metrics leave out."""

CLASS_NAMES = ("background", "CSF", "GM", "WM")
TISSUES = CLASS_NAMES[1:]


@dataclass(frozen=True)
class LabelSchema:
    """A table from a source's label ids to `BACKGROUND`, `CSF`, `GM`, `WM` or `IGNORE`."""

    name: str
    table: Mapping[int, int]

    def to_classes(
        self, label_map: Shaped[np.ndarray, "*shape"], path: Path | str
    ) -> UInt8[np.ndarray, "*shape"]:
        """Translate a source's label map (integers, or floats that hold whole numbers).

        `path` is named in the error.

        Raises:
            InputError: a value is not in the table; the sentence lists such values with counts.
        """
        values, inverse, counts = np.unique(label_map, return_inverse=True, return_counts=True)
        unknown = [
            f"{value:g} ({count} voxels)"
            for value, count in zip(values, counts, strict=True)
            if float(value) not in self.table
        ]
        if unknown:
            shown = ", ".join(unknown[:10]) + (", ..." if len(unknown) > 10 else "")
            raise InputError(
                f"{path} holds label values outside the schema '{self.name}': {shown}, "
                f"expected {self.describe()}; check that this is the label map and that the "
                "schema is the one it was drawn with."
            )
        translated = np.array([self.table[int(value)] for value in values], np.uint8)
        return translated[inverse].reshape(label_map.shape)

    def describe(self) -> str:
        """The table in words, as in '0 background, 1 CSF'."""
        names = {**dict(enumerate(CLASS_NAMES)), IGNORE: "ignore"}
        return ", ".join(f"{source} {names[target]}" for source, target in self.table.items())


TISSUE_SCHEMA = LabelSchema("tissues", {0: BACKGROUND, 1: CSF, 2: GM, 3: WM})
"""Our own ids, which IBSR's three-tissue segmentation shares."""
IBSR_SCHEMA = LabelSchema("ibsr", TISSUE_SCHEMA.table)
SCHEMAS = {schema.name: schema for schema in (TISSUE_SCHEMA, IBSR_SCHEMA)}


def count_classes(label_map: Integer[np.ndarray, "*shape"]) -> dict[str, int]:
    """Voxels of each class, by name."""
    return {name: int(np.sum(label_map == index)) for index, name in enumerate(CLASS_NAMES)}
