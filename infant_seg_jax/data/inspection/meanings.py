"""What a label map's values mean: by the schema that is given, or else by the one that fits."""

import math
from collections.abc import Mapping

from infant_seg_jax.data.ages import Age
from infant_seg_jax.data.inspection.kinds import Counts
from infant_seg_jax.data.inspection.reports import LabelValue
from infant_seg_jax.data.labels import TISSUES, LabelSchema
from infant_seg_jax.data.plausibility import implausible_tissues
from infant_seg_jax.data.schemas import SCHEMAS


def guess_schema(counts: Counts, voxel_ml: float, age: Age | None) -> LabelSchema | None:
    """The schema with a name that fits best.

    That is one by which the tissues' volumes are plausible; then the one whose table leaves out the
    fewest voxels, by which the least is implausible, and which is the smallest. None where by the
    best of them volumes are implausible and voxels left out.
    """

    def fit(schema: LabelSchema) -> tuple[bool, int, int, int]:
        labels = name_labels(counts, voxel_ml, schema)
        odd = implausible_tissues(tissue_volumes(labels), age)
        left_out = sum(label.voxels for label in unnamed(labels))
        return bool(odd), left_out, len(odd), len(schema.table)

    best = min(SCHEMAS.values(), key=fit)
    return None if all(fit(best)[:2]) else best


def name_labels(
    counts: Counts, voxel_ml: float, schema: LabelSchema | None
) -> tuple[LabelValue, ...]:
    """The values with their volumes and, where the schema knows them, names."""
    table = schema.table if schema else {}
    return tuple(
        LabelValue(
            value,
            schema.classes.name_of(table[value]) if schema and value in table else "",
            voxels,
            voxels * voxel_ml,
        )
        for value, voxels in sorted(counts.items())
    )


def unnamed(labels: tuple[LabelValue, ...]) -> tuple[LabelValue, ...]:
    """The values without a name; 0 needs none."""
    return tuple(label for label in labels if not label.name and label.value != 0)


def tissue_volumes(labels: tuple[LabelValue, ...]) -> Mapping[str, float]:
    """The volume of each tissue in ml."""
    return {
        tissue: math.fsum(label.ml for label in labels if label.name == tissue)
        for tissue in TISSUES
    }
