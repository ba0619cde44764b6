"""Which schema a label map's values are of."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from infant_seg_jax.data.inspection import inspect_file
from infant_seg_jax.data.labels import LabelSchema
from infant_seg_jax.data.phantom import Phantom
from infant_seg_jax.data.schemas import ISEG_SCHEMA, SCHEMAS
from tests.data.inspection.remarks import about, sentence_on
from tests.data.volume_files import save


@pytest.mark.parametrize("name", ["tissues", "iseg", "drawem9", "drawem87", "freesurfer"])
def test_the_right_one_is_guessed(tmp_path: Path, phantom: Phantom, name: str) -> None:
    table = SCHEMAS[name].table
    path = _save_in_ids(tmp_path / "labels.nii.gz", phantom, table)
    report = inspect_file(path)
    assert (report.schema, report.schema_assumed, report.remarks) == (name, True, ())
    by_class = {
        tissue: sum(label.voxels for label in report.labels if label.name == tissue)
        for tissue in ("CSF", "GM", "WM")
    }
    assert list(by_class.values()) == [
        np.count_nonzero(phantom.label_map == value) for value in (1, 2, 3)
    ]


def test_a_schema_that_leaves_some_out_is_better_than_none(
    tmp_path: Path, phantom: Phantom
) -> None:
    table = SCHEMAS["freesurfer"].table
    path = _save_in_ids(tmp_path / "labels.nii.gz", phantom, table, head=900)
    report = inspect_file(path)
    remark = sentence_on("labels", report)
    assert report.schema == "freesurfer"
    head = (phantom.label_map == 0)[5:-5, 5:10, 5:-5].sum() * 0.008
    assert f"has values outside the schema 'freesurfer': 900 ({head:.3g} ml); say" in remark


def test_values_that_nobody_knows(tmp_path: Path) -> None:
    label_map = np.zeros((30, 30, 30), np.int16)
    label_map[5:25, 5:25, 5:15], label_map[5:25, 5:25, 15:25] = 900, 901
    path = save(tmp_path / "labels.nii", label_map)
    report = inspect_file(path)
    assert report.schema == "" and not report.schema_assumed
    remark = sentence_on("labels", report)
    ml = 4000 * 0.9 * 1.5 * 1.1 / 1000
    assert remark == (
        f"{path} has values outside every named schema: 900 ({ml:.3g} ml), 901 "
        f"({ml:.3g} ml); say what they mean with --schema=NAME, or with --schema=FILE, a file "
        "with lines such as '7: GM'."
    )


def test_the_one_that_is_given_is_used(tmp_path: Path, phantom: Phantom) -> None:
    path = save(tmp_path / "labels.nii", phantom.label_map, phantom.affine)
    ours = LabelSchema("ours", {0: 0, 1: 1, 2: 2, 3: 3})
    report = inspect_file(path, ours)
    assert (report.schema, report.schema_assumed, report.remarks) == ("ours", False, ())
    report = inspect_file(path, ISEG_SCHEMA)
    assert about(report.remarks) == ["labels", "volumes"]
    assert "outside the schema 'iseg': 1 (" in [*report.remarks][0].sentence


def test_a_schema_from_a_file_names_its_values(tmp_path: Path, phantom: Phantom) -> None:
    path = save(tmp_path / "labels.nii", phantom.label_map, phantom.affine)
    exchanged = LabelSchema("exchanged", {0: 0, 1: 1, 2: 3, 3: 2})
    assert [v.name for v in inspect_file(path, exchanged).labels][2:] == ["WM", "GM"]


def _save_in_ids(
    path: Path, phantom: Phantom, table: Mapping[int, int], head: int | None = None
) -> Path:
    """The phantom with each tissue in slabs of all the ids that mean it."""
    label_map = np.zeros(phantom.label_map.shape, np.int16)
    for tissue in (1, 2, 3):
        ids = [source for source, target in table.items() if target == tissue and source < 1000]
        slabs = np.array(ids)[np.arange(len(label_map[0])) // 4 % len(ids)]
        label_map = np.where(phantom.label_map == tissue, slabs[None, :, None], label_map)
    if head is not None:
        part = label_map[5:-5, 5:10, 5:-5]
        part[part == 0] = head
    return save(path, label_map.astype(np.int16), phantom.affine)
