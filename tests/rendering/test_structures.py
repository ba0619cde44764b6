"""Structures agree with the schemas about tissues."""

from pathlib import Path

import numpy as np
import pytest

from infant_seg_jax.data.labels import GM, IGNORE
from infant_seg_jax.data.schemas import (
    ANATOMY_SCHEMAS,
    BOUNTI_SCHEMA,
    FETAL_ATLAS_SCHEMA,
    FREESURFER_SCHEMA,
    SCHEMAS,
)
from infant_seg_jax.errors import InputError
from infant_seg_jax.rendering.anatomy import read_anatomy
from infant_seg_jax.rendering.structures import CLASSES, Structure, to_classes, to_structures


@pytest.mark.parametrize("name", [*SCHEMAS, *ANATOMY_SCHEMAS])
def test_every_id_keeps_the_class_that_its_schema_gives_it(name: str) -> None:
    schema = (SCHEMAS | ANATOMY_SCHEMAS)[name]
    ids = np.array(list(schema.table)).reshape(-1, 1, 1)
    found = to_classes(to_structures(ids, schema, "a.nii"))
    assert np.array_equal(found, schema.to_classes(ids, "a.nii"))


def test_every_structure_has_a_class() -> None:
    assert len(CLASSES) == len(Structure)


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
    with pytest.raises(InputError, match=r"brain\.nii holds label values outside the schema"):
        to_structures(np.full((1, 1, 1), 9999), FREESURFER_SCHEMA, "brain.nii")


def test_structures_of_a_newborn_and_a_fetus(real_data: Path) -> None:
    for schema, path in (
        (BOUNTI_SCHEMA, "newborn_label_map/newborn_label_map.nii.gz"),
        (FETAL_ATLAS_SCHEMA, "fetal_label_maps/fetal_GA34_operated.nii.gz"),
    ):
        anatomy = read_anatomy(real_data / path, schema)
        count = dict(zip(*np.unique(anatomy.structures, return_counts=True), strict=True))
        own = {s for s in Structure if s < Structure.BONE}
        drawn_as_one = {Structure.CEREBELLAR_CORTEX, Structure.CEREBELLAR_WHITE}
        assert set(map(Structure, count)) == own - drawn_as_one
        cortex, deep = count[Structure.CORTEX], count[Structure.DEEP_GRAY]
        white = count[Structure.WHITE] + count[Structure.DEEP_WHITE]
        assert count[Structure.BRAINSTEM] < deep < cortex and 0.5 < white / cortex < 2
