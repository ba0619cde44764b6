"""Lists of scans, as people and spreadsheets write them."""

from pathlib import Path

import pytest

from infant_seg_jax.errors import InputError
from infant_seg_jax.labeling.input_lists import expand_lists


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", "x.nii\n\n# no scan\n  y z.nii.gz \r\n", ["x.nii", "y z.nii.gz"]),
        ("a.txt", "t1.nii,t2.nii\nfolder", ["t1.nii,t2.nii", "folder"]),
        ("a.csv", 'T1w,T2w\nt1.nii, t2.nii\n"u1.nii",u2.nii\n', ["t1.nii,t2.nii", "u1.nii,u2.nii"]),
        ("a.csv", "t1.nii,\nu1.mgz,\n", ["t1.nii", "u1.mgz"]),
        ("a.TSV", "\ufeffscan\nt1.nii\tt2.nii\n", ["t1.nii,t2.nii"]),
    ],
)
def test_each_line_is_a_scan(name: str, text: str, expected: list[str], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert expand_lists(["before.nii", f"@{path}", "after.nii"]) == [
        *("before.nii", *expected, "after.nii")
    ]


def test_a_file_with_the_mark_in_its_name_is_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("@scan.nii").touch()
    assert expand_lists(["@scan.nii"]) == ["@scan.nii"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"nowhere cannot be read \(No such file or directory\): name a text file"),
        (b"\xff\xfe", "cannot be read (it is not UTF-8)"),
        (b"# nothing\n\n", "is empty, expected one scan per line"),
    ],
)
def test_what_is_no_list_is_told(content: bytes | None, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "nowhere"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        expand_lists([f"@{path}"])
    assert sentence.replace("\\", "") in str(caught.value)
