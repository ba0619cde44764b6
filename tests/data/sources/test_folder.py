import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from infant_seg_jax.data.schemas import ISEG_SCHEMA, TISSUE_SCHEMA
from infant_seg_jax.data.sources import SOURCES, Query
from infant_seg_jax.data.sources.case_ids import case_id_of
from tests.data.sources.trees import classes_in, error_of, save_image, save_labels, touch

FOLDER = SOURCES["folder"]


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
@pytest.mark.parametrize("kind", ["mask", "seg"])
def test_default_layout(tmp_path, kind, ending):
    for key in ("002", "001"):
        save_image(tmp_path / f"img/img_{key}{ending}")
        save_labels(tmp_path / f"mask/{kind}_{key}{ending}", (0, 1, 2, 3))
    touch(tmp_path, "img/notes.txt", "img/img_001.json", f"img/._img_001{ending}", "img_9.nii")
    dataset = FOLDER.open(tmp_path)
    assert dataset.source == "folder" and dataset.folder == tmp_path
    assert dataset.modalities == ("image",) and dataset.schema is TISSUE_SCHEMA
    assert [(c.case_id, c.participant) for c in dataset.cases] == [("001", "001"), ("002", "002")]
    assert dataset.cases[0].images == (tmp_path / f"img/img_001{ending}",)
    assert dataset.cases[0].labels == tmp_path / f"mask/{kind}_001{ending}"
    assert dataset.cases[0].mask is None and dataset.notices == ()
    assert classes_in(dataset) == {"001": [0, 1, 2, 3], "002": [0, 1, 2, 3]}


def test_default_layout_finds_every_ending_of_a_volume(tmp_path):
    images = ["a.nii.gz", "b.nii", "c.mgz", "d.mgh", "e.hdr", "e.img", "f.NII.GZ", "g.h.nii"]
    touch(tmp_path, *(f"img/img_{name}" for name in images), "mask/seg_a.nii", "mask/mask_e.nii")
    dataset = FOLDER.open(tmp_path, Query(modalities=("T2w",), schema=ISEG_SCHEMA))
    assert [case.case_id for case in dataset.cases] == ["a", "b", "c", "d", "e", "f", "g.h"]
    assert dataset.cases[4].images == (tmp_path / "img/img_e.hdr",)
    labels = {case.case_id: case.labels for case in dataset.cases if case.labels}
    assert labels == {"a": tmp_path / "mask/seg_a.nii", "e": tmp_path / "mask/mask_e.nii"}
    assert dataset.modalities == ("T2w",) and dataset.schema is ISEG_SCHEMA
    assert dataset.notices == ("5 of 7 cases have no label map.",)


def test_patterns_for_several_modalities_labels_and_masks(tmp_path):
    for key in ("sub-01_ses-a", "sub-01_ses-b", "sub-02_ses-a"):
        touch(tmp_path, *(f"{key}/{name}.nii.gz" for name in ("T1w", "T2w", "T1w_raw", "dseg")))
    touch(tmp_path, "masks/sub-01_ses-a-brain.nii", "other/T1w.txt")
    query = Query(
        modalities=("T2w", "T1w"),
        images=("*/T2w.nii.gz", "./*/T1w"),
        labels="*/dseg.nii.gz",
        masks="masks/*-brain.nii",
    )
    dataset = FOLDER.open(tmp_path, query)
    assert dataset.modalities == ("T2w", "T1w")
    ids = ["sub-01_ses-a", "sub-01_ses-b", "sub-02_ses-a"]
    assert [case.case_id for case in dataset.cases] == ids
    assert [case.participant for case in dataset.cases] == ["sub-01", "sub-01", "sub-02"]
    first = dataset.cases[0]
    assert first.images == (tmp_path / ids[0] / "T2w.nii.gz", tmp_path / ids[0] / "T1w.nii.gz")
    assert first.labels == tmp_path / ids[0] / "dseg.nii.gz"
    assert first.mask == tmp_path / "masks/sub-01_ses-a-brain.nii"
    assert dataset.notices == ("2 of 3 cases have no brain mask.",)


def test_every_star_stands_for_the_same_text(tmp_path):
    touch(
        tmp_path,
        *("sub-01/anat/sub-01_T1w.nii.gz", "sub-02/anat/sub-02_T1w.nii.gz"),
        *("sub-02/anat/sub-02_run-2_T1w.nii.gz", "sub-02/anat/sub-02_T1w_brain.nii.gz"),
    )
    dataset = FOLDER.open(tmp_path, Query(images=("sub-*/anat/sub-*_T1w.nii.gz",)))
    assert [(c.case_id, c.participant) for c in dataset.cases] == [
        ("01", "sub-01"),
        ("02", "sub-02"),
    ]
    assert dataset.notices == (
        "The * of sub-*/anat/sub-*_T1w.nii.gz stands for several texts or for none in 1 of "
        f"the files found, such as {tmp_path / 'sub-02/anat/sub-02_run-2_T1w.nii.gz'}, which are "
        "left out.",
        "2 of 2 cases have no label map.",
    )


def test_sessions_of_one_participant_share_it_whichever_part_the_star_names(tmp_path):
    touch(tmp_path, "sub-01_ses-1_T1w.nii", "sub-01_ses-2_T1w.nii", "sub-02_ses-1_T1w.nii")
    dataset = FOLDER.open(tmp_path, Query(images=("sub-*_T1w.nii",)))
    assert [(case.case_id, case.participant) for case in dataset.cases] == [
        ("01_ses-1", "sub-01"),
        ("01_ses-2", "sub-01"),
        ("02_ses-1", "sub-02"),
    ]


def test_label_maps_and_masks_beside_images_are_no_images(tmp_path):
    touch(tmp_path, *(f"{key}{kind}.nii" for key in "ab" for kind in ("", "_seg", "_brain")))
    query = Query(images=("*.nii",), labels="*_seg.nii", masks="*_brain.nii")
    dataset = FOLDER.open(tmp_path, query)
    assert [case.case_id for case in dataset.cases] == ["a", "b"]
    assert [case.images for case in dataset.cases] == [
        (tmp_path / "a.nii",),
        (tmp_path / "b.nii",),
    ]
    assert dataset.notices == ()


def test_other_wildcards_are_plain_characters(tmp_path):
    touch(tmp_path, "[x]?.a/1.nii", "x/1.nii", "x1.a/1.nii")
    (case,) = FOLDER.open(tmp_path, Query(images=("[x]?.a/*.nii",))).cases
    assert case.images == (tmp_path / "[x]?.a/1.nii",)


def test_the_folder_may_be_named_relatively(tmp_path, monkeypatch):
    touch(tmp_path, "img/img_1.nii", "labels/1.nii", "here/x")
    monkeypatch.chdir(tmp_path / "here")
    (case,) = FOLDER.open(
        tmp_path.relative_to(tmp_path) / "..", Query(images=("img/img_*",), labels="labels/*.nii")
    ).cases
    assert os.path.samefile(case.images[0], tmp_path / "img/img_1.nii")
    assert case.case_id == case.participant == "1"


def test_keys_become_safe_names(tmp_path):
    touch(tmp_path, "img/img_Anna B. (2).nii", "img/img_-x.nii", "img/img_..nii", "img/img_é.nii")
    found = {case.case_id: case.participant for case in FOLDER.open(tmp_path).cases}
    assert found == {"Anna_B._2_": "Anna B. (2)", "_x": "-x", "_": ".", "é": "é"}


@given(st.text(min_size=1, max_size=40))
@example("..")
@example(".")
@example("-")
def test_every_key_makes_an_id_that_names_a_folder(key):
    case_id = case_id_of(key)
    assert case_id not in (".", "..") and not case_id.startswith((".", "-"))
    assert not set(case_id) & set("/\\\0:*?\"'<>| \n")
    assert case_id_of(case_id) == case_id


def test_two_keys_with_one_id_are_refused(tmp_path):
    touch(tmp_path, "img/img_a b.nii", "img/img_a_b.nii")
    assert error_of(FOLDER, tmp_path) == (
        f"{tmp_path / 'img/img_a b.nii'} and {tmp_path / 'img/img_a_b.nii'} would both be the case "
        "a_b, expected one scan for each: rename one of them."
    )


def test_a_key_that_is_too_long_is_refused(tmp_path):
    key = "a" * 201
    touch(tmp_path, f"img/img_{key}.nii")
    assert error_of(FOLDER, tmp_path) == (
        f"'{key[:200]}' is the name of a case, expected 1 to 200 bytes that can be the name of a "
        "folder: rename it."
    )


@pytest.mark.parametrize(
    "names, what, pair",
    [
        (
            ["img/img_1.nii", "img/img_1.nii.gz"],
            "image",
            ("img/img_1.nii", "img/img_1.nii.gz"),
        ),
        (
            ["img/img_1.nii", "mask/mask_1.nii", "mask/seg_1.nii"],
            "label map",
            ("mask/mask_1.nii", "mask/seg_1.nii"),
        ),
    ],
)
def test_two_files_for_one_are_refused(tmp_path, names, what, pair):
    touch(tmp_path, *names)
    one, other = (tmp_path / name for name in pair)
    assert error_of(FOLDER, tmp_path) == (
        f"{one} and {other} are both the {what} of the case 1, expected one: remove one of them, "
        "or give the file extension in the pattern."
    )


@pytest.mark.parametrize("kind, what", [("labels", "label map"), ("masks", "brain mask")])
def test_a_label_map_or_mask_without_an_image_is_refused(tmp_path, kind, what):
    touch(tmp_path, "img/img_1.nii", "other/1.nii", "other/2.nii")
    assert error_of(FOLDER, tmp_path, **{kind: "other/*.nii"}) == (
        f"{tmp_path / 'other/2.nii'} is a {what} without an image, expected "
        f"{tmp_path / 'img/img_2.nii.gz'}: add the image or remove the {what}."
    )


def test_a_missing_modality_is_refused(tmp_path):
    touch(tmp_path, "1_t1.nii", "1_t2.nii", "2_t2.nii")
    query = {"images": ("*_t1.nii", "*_t2.nii"), "modalities": ("T1w", "T2w")}
    assert error_of(FOLDER, tmp_path, **query) == (
        f"The case 2 has the image {tmp_path / '2_t2.nii'} but not {tmp_path / '2_t1.nii'}, "
        "expected every modality of every case."
    )


@pytest.mark.parametrize(
    "images, modalities, sentence",
    [
        (("*_t1", "*_t2"), (), "--modalities gives 0 names for 2 patterns of images, "),
        (("*_t1",), ("T1w", "T2w"), "--modalities gives 2 names for 1 pattern of images, "),
        ((), ("T1w", "T2w"), "--modalities gives 2 names for 1 pattern of images, "),
        (("*_t1", "*_t2"), ("T1w",), "--modalities gives 1 name for 2 patterns of images, "),
        (("*_t1", "*_t2"), ("T1w", "T1w"), "--modalities names 'T1w' 2 times, "),
    ],
)
def test_modalities_need_a_name_each(tmp_path, images, modalities, sentence):
    found = error_of(FOLDER, tmp_path, images=images, modalities=modalities)
    expected = (
        "expected each name once." if "times" in sentence else "expected one for each, in their"
    )
    assert found.startswith(sentence + expected)


@pytest.mark.parametrize("pattern, found", [("img/a.nii", "no *"), ("**/*.nii", "**")])
@pytest.mark.parametrize("flag", ["images", "labels", "masks"])
def test_patterns_that_cannot_be_used(tmp_path, flag, pattern, found):
    touch(tmp_path, "img/img_1.nii", "img/a.nii")
    value = (pattern,) if flag == "images" else pattern
    assert error_of(FOLDER, tmp_path, **{flag: value}) == (
        f"The pattern {pattern} has {found}, expected a * in place of the case's name, as in "
        "img/*_t1.nii.gz or */T1w.nii.gz."
    )


@pytest.mark.parametrize(
    "query, what, pattern",
    [
        ({}, "image", "img/img_*"),
        ({"images": ("scans/*.png",)}, "image", "scans/*.png"),
        ({"labels": "scans/*_seg.nii"}, "label map", "scans/*_seg.nii"),
        ({"masks": "scans/*_brain"}, "brain mask", "scans/*_brain"),
    ],
)
def test_patterns_that_match_nothing(tmp_path, query, what, pattern):
    touch(tmp_path, "scans/1.nii", "scans/1.png", "scans/1_seg.png", "img/img_.nii")
    assert error_of(FOLDER, tmp_path, **query) == (
        f"No {what} below {tmp_path} matches {pattern}, expected one per case (.nii, .nii.gz, "
        ".mgh, .mgz or .hdr with .img): say where they are with patterns (--images, --labels, "
        "--masks) such as img/*_t1.nii.gz or */T1w.nii.gz, in which every * stands for the same "
        "text."
    )
