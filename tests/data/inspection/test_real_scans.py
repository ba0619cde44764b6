"""Real scans and label maps, of which we know what is odd."""

import shutil
from pathlib import Path

import pytest

from infant_seg_jax.data.inspection import LABEL_MAP, SCAN, inspect_paths
from tests.data.inspection.remarks import about, sentence_on


@pytest.mark.slow
def test_ibsr(real_data: Path) -> None:
    inspection = inspect_paths([real_data / "ibsr18"])
    for file in inspection.files:
        label_map = file.path.name.endswith("_seg.nii.gz")
        assert file.kind == (LABEL_MAP if label_map else SCAN)
        assert file.schema == ("tissues" if label_map else "")
        assert file.extent == ("" if label_map else "brain")
        assert file.axes == "RAS"
    assert inspection.failures == ()
    assert sentence_on("labels", inspection).startswith("3 of 18 scans have no label map")


@pytest.mark.slow
def test_infants_in_bids(real_data: Path) -> None:
    tree = real_data / "infant_bids"
    inspection = inspect_paths([tree])
    assert inspection.failures == ()
    assert [file.kind for file in inspection.files] == [SCAN] * 10
    ages = {file.path.name[:16]: str(file.age) for file in inspection.files}
    assert ages["sub-0007_ses-V01"] == "4 months"
    assert ages["sub-0003_ses-V01"] == "None"  # its table names someone else's scan
    remarks = [(r.about, r.sentence) for r in inspection.all_remarks()]
    wrapped = [text for what, text in remarks if what == "intensities"]
    assert ["sub-0001_ses-V01" in text or "sub-0008" in text for text in wrapped] == [True] * 2
    (repeated,) = [text for what, text in remarks if what == "repeated"]
    assert "sub-0001_ses-V02" in repeated and "sub-0006_ses-V01" in repeated
    tables = [text for what, text in remarks if what == "tables"]
    assert sum("name files that do not exist: 4" in text for text in tables) == 1
    (small,) = [text for what, text in remarks if what == "volumes"]
    assert "sub-0001_ses-V02" in small and "at 6 years: brain 748 ml" in small


@pytest.mark.parametrize(
    ("folder", "schema"),
    [("infant_tissue_maps", "tissues"), ("infant_label_maps", "freesurfer")],
)
def test_label_maps(real_data: Path, folder: str, schema: str) -> None:
    inspection = inspect_paths([real_data / folder])
    assert {(file.kind, file.schema) for file in inspection.files} == {(LABEL_MAP, schema)}
    assert inspection.failures == () and inspection.all_remarks() == ()


@pytest.mark.slow
def test_label_maps_of_whole_heads(real_data: Path) -> None:
    inspection = inspect_paths([real_data / "adult_label_maps"])
    assert {(f.kind, f.schema) for f in inspection.files} == {(LABEL_MAP, "synthseg")}
    assert inspection.failures == () and inspection.all_remarks() == ()


def test_a_copy_of_a_real_scan_is_found(real_data: Path, tmp_path: Path) -> None:
    scan = real_data / "ibsr18" / "Test_Set" / "IBSR_02" / "IBSR_02.nii.gz"
    shutil.copy(scan, tmp_path / "IBSR_77.nii.gz")
    remarks = inspect_paths([scan, tmp_path]).remarks
    assert about(remarks) == ["labels", "repeated"]
