"""Which scans are found in BIDS trees, and what their label maps are called."""

import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.data.prepared import ANY_MODALITY
from infant_seg_jax.labeling.bids_inputs import bids_tree, find_bids
from infant_seg_jax.labeling.inputs import find_inputs
from infant_seg_jax.labeling.scans import Inputs
from tests.data.sources.trees import touch
from tests.input_errors import input_error


def find(folder: Path, *arguments: Any, **named: Any) -> Inputs:
    tree = bids_tree(folder)
    assert tree is not None
    return find_bids(tree, *arguments, **named)


def label_maps(inputs: Inputs, output: Path) -> dict[str, list[str]]:
    return {
        scan.label_map.relative_to(output).as_posix(): [image.name for image in scan.images]
        for scan in inputs.scans
    }


def test_a_tree_is_known_by_its_layout_or_its_description(tmp_path: Path) -> None:
    touch(tmp_path, "a/sub-1/anat/sub-1_T1w.nii", "b/rawdata/sub-1/ses-2/anat/x", "c/sub-1/x.nii")
    touch(tmp_path, "d/dataset_description.json", "file.nii")
    for name, where in (("a", "a"), ("b", "b/rawdata")):
        tree = bids_tree(tmp_path / name)
        assert tree is not None and tree.folder == tmp_path / where and len(tree.sessions) == 1
    assert bids_tree(tmp_path / "c") is None
    assert bids_tree(tmp_path / "file.nii") is None
    with input_error(tmp_path / "d"):
        bids_tree(tmp_path / "d")


def test_label_maps_are_named_as_derivatives(tmp_path: Path) -> None:
    tree, out = tmp_path / "raw", tmp_path / "out"
    touch(tree, "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz", "sub-02/anat/sub-02_T1w.nii")
    touch(tree, *(f"sub-03/anat/sub-03_acq-mp_run-{i}_desc-preproc_T1w.nii.gz" for i in (1, 2)))
    inputs = find(tree, out, ["T1w"])
    assert label_maps(inputs, out) == {
        "sub-01/ses-a/anat/sub-01_ses-a_desc-infantseg_dseg.nii.gz": ["sub-01_ses-a_T1w.nii.gz"],
        "sub-02/anat/sub-02_desc-infantseg_dseg.nii.gz": ["sub-02_T1w.nii"],
        "sub-03/anat/sub-03_acq-mp_run-1_desc-infantseg_dseg.nii.gz": [
            "sub-03_acq-mp_run-1_desc-preproc_T1w.nii.gz"
        ],
        "sub-03/anat/sub-03_acq-mp_run-2_desc-infantseg_dseg.nii.gz": [
            "sub-03_acq-mp_run-2_desc-preproc_T1w.nii.gz"
        ],
    }
    assert (inputs.dataset, inputs.notices, inputs.failures) == (tree, (), ())
    probability = inputs.scans[0].probability_map("CSF")
    assert probability == out / "sub-01/ses-a/anat/sub-01_ses-a_label-CSF_probseg.nii.gz"
    assert inputs.scans[0].sidecar.name == "sub-01_ses-a_desc-infantseg_dseg.json"


@pytest.mark.parametrize("where", ["tree", "rawdata"])
def test_a_part_of_a_tree_is_the_tree_with_these_sessions(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, out = tmp_path / where, tmp_path / "out"
    for session in ("sub-1_ses-a", "sub-1_ses-b", "sub-2_ses-a"):
        folder = session.replace("_", "/")
        touch(tree, *(f"{folder}/anat/{session}_{name}.nii.gz" for name in ("T1w", "FLAIR")))
        touch(tree, f"{folder}/fmap/{session}_magnitude1.nii.gz")
    touch(tree, "sub-3/anat/sub-3_T1w.nii", "sub-3/func/sub-3_task-rest_sbref.nii")
    every = label_maps(find(tree, out, ["T1w"]), out)
    for parts, sessions in (
        (["sub-1"], ["sub-1/ses-a", "sub-1/ses-b"]),
        (["sub-1/ses-b"], ["sub-1/ses-b"]),
        (["sub-1/ses-b/anat"], ["sub-1/ses-b"]),
        (["sub-3"], ["sub-3"]),
        (["sub-3/anat/", "sub-1/ses-a"], ["sub-3", "sub-1/ses-a"]),
        (["sub-1", "sub-1/ses-a", "../" + where], ["sub-1", "sub-2", "sub-3"]),
    ):
        for before in (f"{tree}/", ""):
            monkeypatch.chdir(tree)
            found = find_inputs([before + part for part in parts], out, ["T1w"])
            assert label_maps(found, out) == {
                name: images
                for name, images in every.items()
                if name.startswith(tuple(f"{session}/" for session in sessions))
            }
            assert found.dataset is not None and os.path.samefile(found.dataset, tree)
    monkeypatch.chdir(tree / "sub-1")
    assert label_maps(find_inputs(["."], out, ["T1w"]), out).keys() == {
        f"sub-1/ses-{name}/anat/sub-1_ses-{name}_desc-infantseg_dseg.nii.gz" for name in "ab"
    }


def test_a_folder_with_the_name_of_a_subject_alone_is_none_of_a_tree(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1/anat/T1.nii", "sub-2/sub-2_T1w.nii", "ses-1/anat/sub-1_ses-1_T1w.nii")
    for name in ("sub-1", "sub-2", "ses-1"):
        assert bids_tree(tmp_path / name) is None


def test_parts_of_two_trees_are_refused(tmp_path: Path) -> None:
    for tree in ("a", "b"):
        touch(tmp_path, f"{tree}/sub-1/anat/sub-1_T1w.nii", f"{tree}/sub-2/anat/sub-2_T1w.nii")
    both = [str(tmp_path / "a" / "sub-1"), str(tmp_path / "b" / "sub-2")]
    with input_error(both[0], "--output"):
        find_inputs(both, tmp_path / "out", ["T1w"])


def test_the_network_chooses_the_modality(tmp_path: Path) -> None:
    touch(tmp_path, *(f"sub-1/anat/sub-1_{name}.nii" for name in ("T1w", "T2w", "FLAIR", "dseg")))
    for modality, suffix in (("T1w", "T1w"), ("T2w", "T2w"), ("t2", "T2w"), ("flair", "FLAIR")):
        (scan,) = find(tmp_path, tmp_path / "out", [modality]).scans
        assert scan.images == (tmp_path / f"sub-1/anat/sub-1_{suffix}.nii",)
        assert scan.notices == ()


def test_a_session_without_the_modality_is_labeled_and_flagged(tmp_path: Path) -> None:
    out = tmp_path / "out"
    touch(
        tmp_path, "sub-1/anat/sub-1_T1w.nii", "sub-2/anat/sub-2_T2w.nii", "sub-3/anat/sub-3_PDw.nii"
    )
    inputs = find(tmp_path, out, ["T1w"])
    assert len(inputs.scans) == 2
    (notice,) = inputs.scans[1].notices
    assert notice.endswith(
        "sub-2_T2w.nii is a T2w, but the network was trained on T1w: expect errors."
    )
    assert inputs.notices == ("1 of 3 sessions have no T1w and are left out: sub-3.",)

    strict = find(tmp_path, out, ["T1w"], ["T1w"])
    assert [scan.images[0].name for scan in strict.scans] == ["sub-1_T1w.nii"]
    assert strict.notices == ("2 of 3 sessions have no T1w and are left out: sub-2, sub-3.",)

    (other,) = find(tmp_path, out, ["T1w"], ["T2w"]).scans
    assert other.images[0].name == "sub-2_T2w.nii" and len(other.notices) == 1


def test_several_modalities_go_together_by_their_names(tmp_path: Path) -> None:
    out = tmp_path / "out"
    touch(
        tmp_path,
        *("sub-1/anat/sub-1_acq-x_T1w.nii", "sub-1/anat/sub-1_acq-y_T2w.nii"),
        *(f"sub-2/anat/sub-2_run-{i}_{name}.nii" for i in (1, 2) for name in ("T2w", "T1w")),
        *("sub-3/anat/sub-3_T1w.nii", "sub-4/anat/sub-4_run-1_T1w.nii"),
        *("sub-4/anat/sub-4_run-2_T1w.nii", "sub-4/anat/sub-4_T2w.nii"),
    )
    inputs = find(tmp_path, out, ["T2w", "T1w"])
    assert label_maps(inputs, out) == {
        "sub-1/anat/sub-1_desc-infantseg_dseg.nii.gz": [
            "sub-1_acq-y_T2w.nii",
            "sub-1_acq-x_T1w.nii",
        ],
        **{
            f"sub-2/anat/sub-2_run-{i}_desc-infantseg_dseg.nii.gz": [
                f"sub-2_run-{i}_T2w.nii",
                f"sub-2_run-{i}_T1w.nii",
            ]
            for i in (1, 2)
        },
    }
    (failure,) = inputs.failures
    assert failure.startswith("sub-4 has several images of a modality (")
    assert failure.endswith("separated by a comma.")
    assert inputs.notices == ("1 of 4 sessions have no T2w and T1w and are left out: sub-3.",)


def test_masks_come_from_a_derivative_or_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii", "sub-2/anat/sub-2_T1w.nii")
    brain = "derivatives/bet/sub-1/anat/sub-1_desc-brain_mask.nii.gz"
    touch(tmp_path, brain)
    for where in ("derivatives/bet", "derivatives/*/sub-*/anat/*_desc-brain_mask.nii.gz"):
        inputs = find(tmp_path, tmp_path / "out", ["T1w"], masks=where)
        (scan,) = inputs.scans
        assert scan.mask == tmp_path / brain
        (failure,) = inputs.failures
        assert f"sub-2_T1w.nii has no brain mask in --mask={where}" in failure
    one, two = find(tmp_path, tmp_path / "out", ["T1w"], masks="m/{}_brain.nii").scans
    assert (one.mask, two.mask) == (Path("m/sub-1_T1w_brain.nii"), Path("m/sub-2_T1w_brain.nii"))
    with input_error("--mask", "derivatives/nowhere"):
        find(tmp_path, tmp_path / "out", ["T1w"], masks="derivatives/nowhere")


def test_what_cannot_be_labeled_is_told(tmp_path: Path) -> None:
    touch(tmp_path, *(f"sub-1/anat/sub-1_desc-{name}_T1w.nii" for name in ("a", "b")))
    inputs = find(tmp_path, tmp_path / "out", ["T1w"])
    assert len(inputs.scans) == 1
    (failure,) = inputs.failures
    assert "would both become" in failure and "sub-1_desc-a_T1w.nii" in failure
    for modalities, chosen, expected in (
        (["PDw", "T2w"], [], ("PDw and T2w", "T1w")),
        (["T1w"], ["T2w"], ("T2w", "T1w")),
        (["T1w"], ["T1w", "T2w"], ("--modalities", "2 image")),
    ):
        with input_error(*expected):
            find(tmp_path, tmp_path / "out", modalities, chosen)


def test_the_real_tree_has_ten_scans(real_data: Path, tmp_path: Path) -> None:
    inputs = find(real_data / "infant_bids", tmp_path, ["T1w"])
    assert len(inputs.scans) == 10 and not inputs.failures
    assert [scan.prefix for scan in inputs.scans if scan.notices] == ["sub-0009_ses-V01"]


def test_a_network_of_any_modality_takes_t1w_or_else_t2w(tmp_path: Path) -> None:
    out = tmp_path / "out"
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii", "sub-1/anat/sub-1_T2w.nii")
    touch(tmp_path, "sub-2/anat/sub-2_T2w.nii", "sub-3/anat/sub-3_PDw.nii")
    inputs = find(tmp_path, out, [ANY_MODALITY])
    assert [scan.images[0].name for scan in inputs.scans] == ["sub-1_T1w.nii", "sub-2_T2w.nii"]
    assert [scan.notices for scan in inputs.scans] == [(), ()]
    assert inputs.notices == ("1 of 3 sessions have no T1w or T2w and are left out: sub-3.",)

    chosen = find(tmp_path, out, [ANY_MODALITY], ["PDw"])
    assert [(scan.images[0].name, scan.notices) for scan in chosen.scans] == [("sub-3_PDw.nii", ())]


def test_a_network_of_any_modality_takes_both_where_they_are_on_one_grid(tmp_path: Path) -> None:
    tree, out = tmp_path / "tree", tmp_path / "out"

    def write(name: str, shape: tuple[int, int, int] = (4, 5, 6), shift: float = 0.0) -> None:
        affine = np.diag([2.0, 2.0, 2.0, 1.0])
        affine[0, 3] = shift
        path = tree / name.split("_")[0] / "anat" / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(np.ones(shape, np.float32), affine), path)

    for name in ("sub-1_T1w", "sub-2_T1w", "sub-3_T1w", "sub-4_run-1_T1w", "sub-4_run-2_T1w"):
        write(name)
    write("sub-1_desc-registered_T2w", shift=0.01)  # half a hundredth of a voxel
    write("sub-2_T2w", shift=0.1)
    write("sub-3_T2w", shape=(4, 5, 7))
    write("sub-4_run-2_T2w")
    known = bids_tree(tree)
    assert known is not None
    found = {
        scan.label_map.name: [image.name for image in scan.images]
        for scan in find_bids(known, out, [ANY_MODALITY]).scans
    }
    assert found == {
        "sub-1_desc-infantseg_dseg.nii.gz": [
            "sub-1_T1w.nii.gz",
            "sub-1_desc-registered_T2w.nii.gz",
        ],
        "sub-2_desc-infantseg_dseg.nii.gz": ["sub-2_T1w.nii.gz"],
        "sub-3_desc-infantseg_dseg.nii.gz": ["sub-3_T1w.nii.gz"],
        "sub-4_run-1_desc-infantseg_dseg.nii.gz": ["sub-4_run-1_T1w.nii.gz"],
        "sub-4_run-2_desc-infantseg_dseg.nii.gz": [
            "sub-4_run-2_T1w.nii.gz",
            "sub-4_run-2_T2w.nii.gz",
        ],
    }
    chosen = find_bids(known, out, [ANY_MODALITY], ["T2w", "T1w"]).scans
    assert {len(scan.images) for scan in chosen} == {2} and len(chosen) == 4
    alone = find_bids(known, out, [ANY_MODALITY], ["T2w"]).scans
    assert {len(scan.images) for scan in alone} == {1} and len(alone) == 4


def test_participants_and_sessions_are_chosen_by_their_labels(tmp_path: Path) -> None:
    tree, out = tmp_path / "raw", tmp_path / "out"
    for sub, ses in (("01", "a"), ("01", "b"), ("02", "a"), ("10", "c")):
        touch(tree, f"sub-{sub}/ses-{ses}/anat/sub-{sub}_ses-{ses}_T1w.nii.gz")

    def chosen(participants: list[str], sessions: list[str]) -> list[str]:
        found = find_inputs([str(tree)], out, ["T1w"], [], "", participants, sessions)
        return [scan.prefix.replace("sub-", "").replace("_ses-", "") for scan in found.scans]

    assert chosen([], []) == ["01a", "01b", "02a", "10c"]
    assert chosen(["sub-01", "10"], []) == ["01a", "01b", "10c"]
    assert chosen([], ["ses-a", "c"]) == ["01a", "02a", "10c"]
    assert chosen(["01", "02"], ["b"]) == ["01b"]
    for participants, sessions, values in (
        (["01", "1"], [], ("participant 1 ", "01, 02, 10")),
        (["02"], ["b"], ("session b ", " a: ")),
    ):
        with input_error(*values):
            chosen(participants, sessions)
    touch(tmp_path, "files/x.nii.gz")
    with input_error("--participant_label"):
        find_inputs([str(tmp_path / "files")], out, ["T1w"], participants=["01"])
