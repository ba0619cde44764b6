"""The sex of participants."""

from pathlib import Path

import pytest

from infant_seg_jax.data.bids.names import find_sessions
from infant_seg_jax.data.bids.sexes import read_sexes
from tests.data.sources.trees import touch


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("sub-1/ses-a", "sub-1/ses-b", "sub-2", "sub-3", "sub-4"):
        touch(tmp_path, f"{name}/anat/{name.replace('/', '_')}_T1w.nii.gz")
    return tmp_path


def sexes(tree: Path, *rows: str) -> dict[str, str]:
    (tree / "participants.tsv").write_text("\n".join(row.replace(" ", "\t") for row in rows))
    return read_sexes(find_sessions(tree), tree)


def test_every_spelling_of_bids(tree: Path) -> None:
    assert read_sexes(find_sessions(tree), tree) == {}
    for spelled, sex in (
        *((text, "female") for text in ("female", "f", "F", "FEMALE", "Female")),
        *((text, "male") for text in ("male", "m", "M", "MALE", "Male")),
        *((text, "other") for text in ("other", "o", "O", "OTHER", "Other")),
    ):
        found = sexes(tree, "participant_id sex", f"sub-1 {spelled}", "2 n/a", "sub-3 1", "5 F")
        assert found == {"sub-1_ses-a": sex, "sub-1_ses-b": sex}


def test_what_contradicts_or_is_damaged_tells_nothing(tree: Path) -> None:
    found = sexes(tree, "participant_id sex", "sub-1 F", "sub-1 M", "sub-2 F", "sub-2 f")
    assert found == {"sub-2": "female"}
    assert sexes(tree, "participant_id age", "sub-1 3") == {}
    assert sexes(tree, "participant_id sex", "sub-1 F 3") == {}
    assert sexes(tree, "subject sex", "sub-1 F") == {}
