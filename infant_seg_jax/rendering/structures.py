"""Structures: parts of a head that look different in a scan. They are finer than tissues."""

from enum import IntEnum

import numpy as np
from jaxtyping import Integer, UInt8

from infant_seg_jax.data.class_sets import BRAIN_CLASSES
from infant_seg_jax.data.labels import (
    BACKGROUND,
    CSF,
    GM,
    IGNORE,
    TISSUE_CLASSES,
    WM,
    ClassSet,
    LabelSchema,
)
from infant_seg_jax.data.schemas import (
    BOUNTI_SCHEMA,
    FETAL_ATLAS_SCHEMA,
    FREESURFER_SCHEMA,
    SYNTHSEG_SCHEMA,
)
from infant_seg_jax.errors import InputError


class Structure(IntEnum):
    """Structures, in the order of the tables of contrasts."""

    OUTSIDE = 0
    SULCAL_CSF = 1
    VENTRICLES = 2
    CORTEX = 3
    DEEP_GRAY = 4
    WHITE = 5
    """White matter beneath the cortex; it myelinates last."""
    DEEP_WHITE = 6
    CEREBELLAR_CORTEX = 7
    CEREBELLAR_WHITE = 8
    BRAINSTEM = 9
    MIXED = 10
    """More than one tissue: the ventral DC, vessels, lesions, a cerebellum without subdivision."""
    BONE = 11
    """The first of the structures around the brain."""
    MARROW = 12
    FAT = 13
    """Skin, and the fat beneath it."""
    MUSCLE = 14
    """Muscle and other soft tissue."""
    VESSELS = 15
    """Vessels and meninges."""
    EYES = 16


BRAIN = len([structure for structure in Structure if structure < Structure.BONE])
"""The number of structures of the brain, including `OUTSIDE`; those around it come after."""


_AROUND = (BACKGROUND,) * (len(Structure) - BRAIN)
_CLASSES: dict[ClassSet, tuple[int, ...]] = {
    TISSUE_CLASSES: (BACKGROUND, CSF, CSF, GM, GM, WM, WM, GM, WM, WM, IGNORE, *_AROUND),
    BRAIN_CLASSES: (BACKGROUND, *[1] * (BRAIN - 1), *_AROUND),
}

_BY_CLASS = {
    BACKGROUND: Structure.OUTSIDE,
    CSF: Structure.SULCAL_CSF,
    GM: Structure.CORTEX,
    WM: Structure.WHITE,
    IGNORE: Structure.MIXED,
}
_BY_ASEG_ID = {
    **dict.fromkeys((4, 43, 5, 44, 14, 15, 72, 31, 63), Structure.VENTRICLES),
    **dict.fromkeys((9, 10, 11, 12, 13, 17, 18, 26), Structure.DEEP_GRAY),
    **dict.fromkeys((27, 48, 49, 50, 51, 52, 53, 54, 58, 59), Structure.DEEP_GRAY),
    **dict.fromkeys((8, 47, 172), Structure.CEREBELLAR_CORTEX),
    **dict.fromkeys((7, 46), Structure.CEREBELLAR_WHITE),
    **dict.fromkeys((16, 173, 174, 175), Structure.BRAINSTEM),
}
_CHOROID_PLEXUS = dict.fromkeys((136, 137, 163, 164), Structure.VENTRICLES)
_HEAD = {
    **{515: Structure.BONE, 516: Structure.MARROW, 511: Structure.FAT, 506: Structure.EYES},
    **dict.fromkeys((507, 508, 509, 512, 530), Structure.MUSCLE),
    **dict.fromkeys((502, 514), Structure.VESSELS),
}
_BY_BOUNTI_ID = {
    **dict.fromkeys(range(39, 44), Structure.VENTRICLES),
    **dict.fromkeys(range(31, 37), Structure.DEEP_GRAY),
    27: Structure.BRAINSTEM,
}
_BY_FETAL_ID = {2: Structure.VENTRICLES, 6: Structure.DEEP_GRAY, 7: Structure.BRAINSTEM}
_BY_ID = {
    BOUNTI_SCHEMA.name: _BY_BOUNTI_ID,
    FETAL_ATLAS_SCHEMA.name: _BY_FETAL_ID,
    FREESURFER_SCHEMA.name: _BY_ASEG_ID,
    SYNTHSEG_SCHEMA.name: _BY_ASEG_ID | _CHOROID_PLEXUS | _HEAD,
}


def to_structures(
    label_map: Integer[np.ndarray, "x y z"], schema: LabelSchema, where: str
) -> UInt8[np.ndarray, "x y z"]:
    """Translate a label map into structures.

    The schemas in `_BY_ID` separate, for example, deep gray matter from cortex; `synthseg` also has
    structures around the brain. With other schemas, each tissue becomes one structure.

    Args:
        label_map: ids of the schema.
        schema: what they mean.
        where: the label map's name in errors.

    Raises:
        InputError: a value is not in the schema's table.
    """
    by_id = _BY_ID.get(schema.name, {})
    table = {index: by_id.get(index, _BY_CLASS[target]) for index, target in schema.table.items()}
    structures = schema.translate(label_map, table, where)
    if not (structures == Structure.CEREBELLAR_WHITE).any():
        # The label map does not subdivide the cerebellum.
        structures[structures == Structure.CEREBELLAR_CORTEX] = Structure.MIXED
    return structures


def classes_of_structures(classes: ClassSet = TISSUE_CLASSES) -> UInt8[np.ndarray, " s"]:
    """The class of each structure, `IGNORE` for those of no single class.

    Raises:
        InputError: structures do not tell these classes apart.
    """
    if classes not in _CLASSES:
        known = " or ".join(one.name for one in _CLASSES)
        raise InputError(f"Nothing can be rendered in the classes {classes}, expected {known}.")
    return np.array(_CLASSES[classes], np.uint8)


def to_classes(
    structures: UInt8[np.ndarray, "*shape"], classes: ClassSet = TISSUE_CLASSES
) -> UInt8[np.ndarray, "*shape"]:
    """The classes of structures.

    Raises:
        InputError: as `classes_of_structures`.
    """
    return classes_of_structures(classes)[structures]
