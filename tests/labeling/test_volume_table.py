"""The table of volumes of a cohort, with what the BIDS tree tells of whom it is about."""

import csv
import json
from pathlib import Path

import pytest

from infant_seg_jax.data.labels import TISSUE_CLASSES
from infant_seg_jax.labeling import volume_table
from infant_seg_jax.labeling.volume_table import write_table
from tests.data.sources.trees import touch


def put(folder: Path, case: str, csf=100.0, gm=500.0, wm=300.0, whole=1000.0) -> None:
    """A label map's JSON, and a file of the label map's name."""
    path = folder / case.replace("_", "/") / "anat" / f"{case}_desc-infantseg_dseg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{path}.nii.gz").touch()
    content = {
        "SourceChecksums": {},
        "Models": [],
        "Settings": {},
        "TissueVolumesMl": {"CSF": csf, "GM": gm, "WM": wm},
        "IntracranialVolumeMl": whole,
        "VoxelSizeMm": [1, 1, 1],
        "Confidence": {"Entropy": 0.1, "Agreement": None},
        "Notices": [],
    }
    Path(f"{path}.json").write_text(json.dumps(content))


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "tissue_volumes.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for case in ("sub-1/ses-a", "sub-1/ses-b", "sub-2/ses-a"):
        touch(tmp_path / "raw", f"{case}/anat/{case.replace('/', '_')}_T1w.nii.gz")
    return tmp_path / "raw"


def test_ages_sexes_and_shares_are_told(tree: Path, tmp_path: Path) -> None:
    (tree / "participants.tsv").write_text("participant_id\tsex\nsub-1\tF\nsub-2\tn/a\n")
    (tree / "sub-1" / "sub-1_sessions.tsv").write_text("session_id\tage\nses-a\t0.5\nses-b\t2\n")
    out = tmp_path / "out"
    for case in ("sub-1_ses-a", "sub-1_ses-b", "sub-2_ses-a"):
        put(out, case)
    assert write_table(out, TISSUE_CLASSES, tree) == 3
    found = [(row["participant_id"], row["age_months"], row["sex"]) for row in rows(out)]
    assert found == [
        ("sub-1", "6.00", "female"),
        ("sub-1", "24.00", "female"),
        ("sub-2", "n/a", "n/a"),
    ]
    (row, *_) = rows(out)
    shares = {name: float(row[f"{name}_share"]) for name in ("CSF", "GM", "WM", "brain")}
    assert shares == {"CSF": 0.1, "GM": 0.5, "WM": 0.3, "brain": 0.8}
    about = json.loads((out / "tissue_volumes.json").read_text())
    assert list(about) == list(row) and all(one["Description"] for one in about.values())
    assert about["age_months"]["Units"] == "months"
    # Corrected in the tree, they are corrected in the table.
    (tree / "participants.tsv").write_text("participant_id\tsex\nsub-1\tM\n")
    write_table(out, TISSUE_CLASSES, tree)
    assert rows(out)[0]["sex"] == "male"


def test_outliers_of_a_cohort_are_named(tmp_path: Path) -> None:
    for number in range(12):
        put(tmp_path, f"sub-{number:02}", csf=100 + number, gm=500 - number)
    put(tmp_path, "sub-99", csf=400, gm=205)
    write_table(tmp_path, TISSUE_CLASSES)
    *others, odd = (row["outlier"] for row in rows(tmp_path))
    assert set(others) == {"none"} and odd == "CSF_share, GM_share"
    for number in range(3):
        (tmp_path / f"sub-{number:02}" / "anat").rename(tmp_path / f".{number}")
    write_table(tmp_path, TISSUE_CLASSES)
    assert {row["outlier"] for row in rows(tmp_path)} == {"n/a"}


def test_what_came_while_it_was_written_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "sub-1")
    write_text, late = volume_table.write_text, iter(("sub-2", "sub-3"))

    def slowly(path: Path, text: str) -> None:
        if case := next(late, None):
            put(tmp_path, case)
        write_text(path, text)

    monkeypatch.setattr(volume_table, "write_text", slowly)
    assert write_table(tmp_path, TISSUE_CLASSES) == 3
    assert [row["participant_id"] for row in rows(tmp_path)] == ["sub-1", "sub-2", "sub-3"]
