"""Structures agree with the schemas about tissues."""

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.data.class_sets import BRAIN_CLASSES, DRAWEM9_CLASSES
from infant_seg_jax.data.labels import GM, IGNORE, TISSUE_CLASSES, ClassSet, LabelSchema
from infant_seg_jax.data.schemas import (
    ANATOMY_SCHEMAS,
    BOUNTI_SCHEMA,
    FETAL_ATLAS_SCHEMA,
    FREESURFER_SCHEMA,
    SCHEMAS,
)
from infant_seg_jax.errors import InputError
from infant_seg_jax.rendering.anatomy import read_anatomy
from infant_seg_jax.rendering.structures import (
    Structure,
    classes_of_structures,
    to_classes,
    to_structures,
)
from tests.input_errors import input_error


@pytest.mark.parametrize("name", [*SCHEMAS, *ANATOMY_SCHEMAS])
def test_every_id_keeps_the_class_that_its_schema_gives_it(name: str) -> None:
    schema = (SCHEMAS | ANATOMY_SCHEMAS)[name]
    ids = np.array(list(schema.table)).reshape(-1, 1, 1)
    found = to_classes(to_structures(ids, schema, "a.nii"))
    assert np.array_equal(found, schema.to_classes(ids, "a.nii"))


@pytest.mark.parametrize("classes", [TISSUE_CLASSES, BRAIN_CLASSES])
def test_every_structure_has_a_class(classes: ClassSet) -> None:
    assert len(classes_of_structures(classes)) == len(Structure)


def test_classes_that_structures_do_not_tell_apart_are_refused() -> None:
    with pytest.raises(InputError):
        classes_of_structures(DRAWEM9_CLASSES)


def test_freesurfer_tells_what_tissues_do_not() -> None:
    ids = np.array([3, 10, 8, 7, 2, 16, 4, 24, 28, 0]).reshape(-1, 1, 1)
    found = [Structure(int(index)) for index in to_structures(ids, FREESURFER_SCHEMA, "").ravel()]
    assert found == [
        Structure.CORTEX,
        Structure.DEEP_GRAY,
        Structure.CEREBELLAR_CORTEX,
        Structure.CEREBELLAR_WHITE,
        Structure.WHITE,
        Structure.BRAINSTEM,
        Structure.VENTRICLES,
        Structure.SULCAL_CSF,
        Structure.MIXED,
        Structure.OUTSIDE,
    ]


def test_a_cerebellum_without_white_matter_is_of_no_single_tissue() -> None:
    split = np.array([3, 8, 47, 7]).reshape(-1, 1, 1)
    whole = split[:3]
    assert to_classes(to_structures(split, FREESURFER_SCHEMA, "")).ravel()[1] == GM
    found = to_classes(to_structures(whole, FREESURFER_SCHEMA, "")).ravel().tolist()
    assert found == [GM, IGNORE, IGNORE]


def test_unknown_ids_are_refused() -> None:
    with input_error("brain.nii", 9999):
        to_structures(np.full((1, 1, 1), 9999), FREESURFER_SCHEMA, "brain.nii")


@pytest.mark.parametrize(
    ("schema", "path", "ids"),
    [
        (
            BOUNTI_SCHEMA,
            "newborn_label_map/newborn_label_map.nii.gz",
            {
                "cortex": range(1, 13),
                "deep gray": range(31, 37),
                "white": range(13, 26),
                "brainstem": (27,),
                "of no one tissue": (26, *range(28, 31)),
            },
        ),
        (
            FETAL_ATLAS_SCHEMA,
            "fetal_label_maps/fetal_GA34_operated.nii.gz",
            {
                "cortex": (5,),
                "deep gray": (6,),
                "white": (1, 8),
                "brainstem": (7,),
                "of no one tissue": (3,),
            },
        ),
    ],
    ids=["newborn", "fetus"],
)
def test_structures_of_a_real_label_map_are_those_of_its_ids(
    real_data: Path, schema: LabelSchema, path: str, ids: dict[str, Sequence[int]]
) -> None:
    structures = read_anatomy(real_data / path, schema).structures
    label_map = np.asarray(nib.load(real_data / path).dataobj)  # pyright: ignore[reportAttributeAccessIssue]
    for name, among in {
        "cortex": (Structure.CORTEX,),
        "deep gray": (Structure.DEEP_GRAY,),
        "white": (Structure.WHITE, Structure.DEEP_WHITE),
        "brainstem": (Structure.BRAINSTEM,),
        "of no one tissue": (Structure.MIXED,),
    }.items():
        found = np.isin(structures, among).sum()
        assert found == np.isin(label_map, list(ids[name])).sum() > 0, name
    assert np.any(structures == Structure.DEEP_WHITE)
