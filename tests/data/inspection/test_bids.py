"""Ages from the tables of BIDS trees."""

from pathlib import Path

import pytest

from infant_seg_jax.data.inspection import LABEL_MAP, SCAN, inspect_paths
from infant_seg_jax.data.phantom import Phantom
from tests.data.inspection.remarks import about, whole
from tests.data.volume_files import save


@pytest.fixture
def tree(tmp_path: Path, phantom: Phantom) -> Path:
    for number, name in enumerate(("sub-1", "sub-2")):
        folder = tmp_path / name / "anat"
        folder.mkdir(parents=True)
        save(folder / f"{name}_T1w.nii.gz", whole(phantom) + number, phantom.affine)
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-1\t30\nsub-2\t40\n")
    return tmp_path


def test_ages_come_from_tables(tree: Path, phantom: Phantom) -> None:
    derivative = tree / "derivatives" / "me" / "sub-1" / "anat"
    derivative.mkdir(parents=True)
    save(derivative / "sub-1_desc-brain_dseg.nii.gz", phantom.label_map, phantom.affine)
    files = inspect_paths([tree]).files
    assert {file.path.name: str(file.age) for file in files} == {
        "sub-1_T1w.nii.gz": "30 years",
        "sub-2_T1w.nii.gz": "40 years",
        "sub-1_desc-brain_dseg.nii.gz": "30 years",
    }
    assert [file.kind for file in files] == [LABEL_MAP, SCAN, SCAN]  # subject by subject


def test_ages_of_dhcp(tree: Path) -> None:
    (tree / "participants.tsv").write_text("participant_id\tscan_age\nsub-1\t38.5\n")
    files = inspect_paths([tree]).files
    assert [str(file.age) for file in files] == ["38.5 weeks postmenstrual", "None"]
    assert "at 38.5 weeks postmenstrual: brain" in files[0].remarks[0].sentence


def test_tables_that_name_what_is_not_there(tree: Path) -> None:
    (tree / "sub-1" / "sub-1_scans.tsv").write_text("filename\tage\nanat/sub-9_T1w.nii.gz\t4\n")
    remarks = [r for r in inspect_paths([tree]).remarks if r.about == "tables"]
    assert len(remarks) == 1
    assert "scans.tsv that name files that do not exist: 1" in remarks[0].sentence
    # What was not asked about is not judged.
    remarks = inspect_paths([tree / "sub-2"]).remarks
    assert about(remarks) == ["labels"]
