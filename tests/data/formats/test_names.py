"""Which files are volumes, and which of them lie below a folder."""

import os
from pathlib import Path

import pytest

from infant_seg_jax.data.formats.names import find_volumes, volumes_below
from infant_seg_jax.errors import InputError


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    touch(tmp_path / "real" / "B" / "b.nii.gz")
    a = touch(tmp_path / "scans" / "A" / "a.nii.gz")
    (tmp_path / "scans" / "B").symlink_to("../real/B")
    assert volumes_below(tmp_path / "scans") == [a, tmp_path / "scans" / "B" / "b.nii.gz"]


def test_folders_that_link_to_their_parents_end(tmp_path: Path) -> None:
    a = touch(tmp_path / "scans" / "a.nii")
    (tmp_path / "scans" / "again").symlink_to(".")
    (tmp_path / "scans" / "deeper").mkdir()
    (tmp_path / "scans" / "deeper" / "up").symlink_to(tmp_path / "scans")
    assert volumes_below(tmp_path / "scans") == [a]


def test_a_folder_called_like_a_volume_is_none_but_what_lies_in_it_is(tmp_path: Path) -> None:
    inside = touch(tmp_path / "x.nii" / "x.nii.gz")
    assert find_volumes([tmp_path]) == (inside,)


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    a = touch(tmp_path / "a_dseg.nii.gz")
    touch(tmp_path / "._a_dseg.nii.gz")
    touch(tmp_path / ".hidden" / "b.nii.gz")
    touch(tmp_path / "notes.txt")
    assert volumes_below(tmp_path) == [a]
    # The folder that is asked for may well lie in a hidden one.
    assert volumes_below(tmp_path / ".hidden") == [tmp_path / ".hidden" / "b.nii.gz"]


def test_pairs_are_their_headers_and_each_comes_once(tmp_path: Path) -> None:
    header, voxels = touch(tmp_path / "a.hdr"), touch(tmp_path / "a.img.gz")
    assert find_volumes([voxels, header, tmp_path]) == (header,)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_to_nothing_is_left_to_whoever_reads_it(tmp_path: Path) -> None:
    (tmp_path / "gone.nii.gz").symlink_to("nowhere.nii.gz")
    assert volumes_below(tmp_path) == [tmp_path / "gone.nii.gz"]


@pytest.mark.parametrize("name", ["missing.nii", "empty", "notes.txt"])
def test_what_holds_no_volume_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    touch(tmp_path / "notes.txt")
    with pytest.raises(InputError):
        find_volumes([tmp_path / name])
