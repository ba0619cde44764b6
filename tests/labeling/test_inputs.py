"""Which scans are found in files, folders and nnU-Net's datasets."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infant_seg_jax.errors import InputError
from infant_seg_jax.labeling.inputs import check_inputs, find_files, find_inputs
from infant_seg_jax.labeling.scans import Inputs, Scan
from tests.data.sources.trees import touch
from tests.input_errors import input_error


def found(folder: Path, modalities=1, output="out") -> dict[str, list[str]]:
    """The label maps, below the output, and the names of the images of each."""
    output = folder / output
    return {
        scan.label_map.relative_to(output).as_posix(): [image.name for image in scan.images]
        for scan in find_files([str(folder / "in")], output, modalities).scans
    }


def test_every_format_becomes_nifti(tmp_path: Path) -> None:
    names = ("a.nii", "b.mgz", "c.hdr", "c.img", "d.HDR.gz", "d.IMG.gz", "e.txt")
    touch(tmp_path / "in", *names)
    assert found(tmp_path) == {
        "a_dseg.nii.gz": ["a.nii"],
        "b_dseg.nii.gz": ["b.mgz"],
        "c_dseg.nii.gz": ["c.hdr"],
        "d_dseg.nii.gz": ["d.HDR.gz"],
    }
    (scan,) = find_files([str(tmp_path / "in/c.img")], tmp_path, 1).scans
    assert scan.label_map == tmp_path / "c_dseg.nii.gz"
    assert scan.sidecar == tmp_path / "c_dseg.json"
    assert scan.probability_map("GM") == tmp_path / "c_label-GM_probseg.nii.gz"


def test_folders_are_mirrored_and_what_is_no_scan_passed_over(tmp_path: Path) -> None:
    scans = ("one.nii.gz", "b/two.nii")
    others = ("one_dseg.nii.gz", "one_label-GM_probseg.nii.gz", "b/two_mask.nii", "notes.txt")
    hidden = ("._one.nii.gz", ".writing-x/one.nii.gz", "out/one.nii.gz", "out/b/three.nii")
    touch(tmp_path / "in", *scans, *others, *hidden)
    assert found(tmp_path, output="in/out") == {
        "b/two_dseg.nii.gz": ["two.nii"],
        "one_dseg.nii.gz": ["one.nii.gz"],
    }
    # Label maps beside their scans: the output is the folder itself.
    assert "one_dseg.nii.gz" in found(tmp_path, output="in")


def test_modalities_are_joined_by_commas(tmp_path: Path) -> None:
    touch(tmp_path, "one.nii.gz", "two.nii")
    both = f"{tmp_path / 'one.nii.gz'},{tmp_path / 'two.nii'}"
    (scan,) = find_inputs([both], tmp_path / "out", ["T1w", "T2w"]).scans
    assert [image.name for image in scan.images] == ["one.nii.gz", "two.nii"]
    assert scan.label_map.name == "one_dseg.nii.gz"


def test_names_may_have_commas_in_them(tmp_path: Path) -> None:
    touch(tmp_path, "a,b.nii.gz", "Doe, Jane/T1w.nii", "Doe, Jane/T2w.nii")
    (scan,) = find_inputs([str(tmp_path / "a,b.nii.gz")], tmp_path / "out", ["T1w"]).scans
    assert scan.label_map.name == "a,b_dseg.nii.gz"
    one, other = (tmp_path / "Doe, Jane" / name for name in ("T1w.nii", "T2w.nii"))
    (scan,) = find_inputs([f"{one},{other}"], tmp_path / "out", ["T1w", "T2w"]).scans
    assert scan.images == (one, other)
    with input_error("nowhere.nii"):
        check_inputs([f"{one},nowhere.nii"])


def test_masks_are_found_by_the_names_of_scans(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1_T1w.nii.gz")
    scan = str(tmp_path / "sub-1_T1w.nii.gz")
    for pattern, expected in (
        ("masks/{}_mask.nii.gz", Path("masks/sub-1_T1w_mask.nii.gz")),
        ("mask.nii.gz", Path("mask.nii.gz")),
        ("", None),
    ):
        (one,) = find_files([scan], tmp_path, 1, pattern).scans
        assert one.mask == expected


def test_channels_of_nnunet_are_one_case(tmp_path: Path) -> None:
    touch(tmp_path / "in", *(f"{case}_000{i}.nii.gz" for case in ("a", "b_1") for i in (1, 0)))
    assert found(tmp_path, modalities=2) == {
        "a_dseg.nii.gz": ["a_0000.nii.gz", "a_0001.nii.gz"],
        "b_1_dseg.nii.gz": ["b_1_0000.nii.gz", "b_1_0001.nii.gz"],
    }
    # For another number of modalities these are numbered scans, unless the folder's name says no.
    assert len(found(tmp_path, modalities=1)) == 4
    touch(tmp_path / "in", "c.nii.gz")
    assert len(found(tmp_path, modalities=2)) == 5


def test_imagests_of_a_dataset_of_nnunet(tmp_path: Path) -> None:
    touch(tmp_path / "in", "dataset.json", "imagesTs/a_0000.nii.gz", "imagesTs/a_0001.nii.gz")
    touch(tmp_path / "in", "imagesTr/b_0000.nii.gz", "labelsTr/b.nii.gz")
    assert found(tmp_path, 2) == {"a_dseg.nii.gz": ["a_0000.nii.gz", "a_0001.nii.gz"]}
    assert found(tmp_path, 1) == {"a_dseg.nii.gz": ["a_0000.nii.gz", "a_0001.nii.gz"]}


def test_numbered_scans_are_not_channels(tmp_path: Path) -> None:
    touch(tmp_path / "in", *(f"baby_{i:04}.nii.gz" for i in range(3)))
    assert list(found(tmp_path)) == [f"baby_{i:04}_dseg.nii.gz" for i in range(3)]


def sentence(inputs: list[str], output: Path, *further) -> str:
    with pytest.raises(InputError) as caught:
        find_inputs(inputs, output, ["T1w"], *further)
    return str(caught.value)


def test_what_cannot_be_used_is_told(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii", "a.nii.gz", "empty/notes.txt", "tree/sub-1/anat/sub-1_T1w.nii")
    a, b, empty, tree = (str(tmp_path / name) for name in ("a.nii", "a.nii.gz", "empty", "tree"))
    out = tmp_path / "out"
    assert f"{b} and {a} would both become {out / 'a_dseg.nii.gz'}" in sentence([a, b], out)
    assert f"{empty} contains no scan, expected .nii" in sentence([empty], out)
    assert "--modalities chooses among the images of a BIDS tree" in sentence([a], out, ["T2w"])
    assert f"{tree} is a BIDS tree and not the only input" in sentence([tree, a], out)
    for missing in ("nowhere.nii", f"{a},nowhere.nii"):
        with input_error("nowhere.nii"):
            check_inputs([missing])


@given(st.integers(0, 60), st.integers(1, 20))
def test_shards_are_even_and_together_the_whole(scans: int, count: int) -> None:
    whole = Inputs(tuple(Scan((Path(f"{n}.nii"),), Path(), str(n)) for n in range(scans)), ("no",))
    shards = [whole.shard(number, count) for number in range(1, count + 1)]
    assert sorted(int(one.prefix) for part in shards for one in part.scans) == list(range(scans))
    sizes = [len(part.scans) for part in shards]
    assert max(sizes) - min(sizes) <= 1
    assert sum(len(part.failures) for part in shards) == 1
    more = Inputs((*whole.scans, Scan((Path("new.nii"),), Path(), "new")))
    assert all(
        part.scans == more.shard(number, count).scans[: len(part.scans)]
        for number, part in enumerate(shards, 1)
    )
