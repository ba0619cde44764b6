import pytest

from infant_seg_jax.data.bids.names import (
    bare,
    find_sessions,
    parse_entities,
    parse_files,
)


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    "name, entities, suffix",
    [
        ("sub-01_T1w.nii", {"sub": "01"}, "T1w"),
        (
            "sub-01_ses-V1_space-T2w_desc-brain_mask.nii.gz",
            {"sub": "01", "ses": "V1", "space": "T2w", "desc": "brain"},
            "mask",
        ),
        ("sub-CC1_ses-7_T2w_restore.nii.gz", {"sub": "CC1", "ses": "7"}, "T2w_restore"),
        ("sub-a-b_T1w.nii.gz", {"sub": "a-b"}, "T1w"),
    ],
)
def test_a_name_falls_into_entities_and_a_suffix(tmp_path, name, entities, suffix):
    (file,) = parse_files([tmp_path / name])
    assert file.path == tmp_path / name
    assert file.entities == entities and file.suffix == suffix


@pytest.mark.parametrize(
    "name",
    [
        *(
            "T1w.nii.gz",
            "sub-01.nii.gz",
            "sub-01_T1w.json",
            "sub-01_T1w.nii.gz.part",
            "sub-01_.nii",
        ),
        *("._sub-01_T1w.nii.gz", "sub-01_thickness.dscalar.nii", "sub-01_T1w_desc-late.nii.gz"),
        *("ses-1_sub-01_T1w.nii.gz", "sub-_T1w.nii.gz", "sub-01_T1w.mgz", "sub-01_T1w.NII"),
    ],
)
def test_other_names_are_none_of_ours(tmp_path, name):
    assert parse_files([tmp_path / name]) == []


def test_entities_of_a_part_of_a_name():
    assert parse_entities("sub-01_desc-a-b_odd") == {"sub": "01", "desc": "a-b"}
    assert parse_entities("") == {}


def test_sessions_are_found_with_and_without_folders_of_their_own(tmp_path):
    touch(
        tmp_path,
        *("sub-02/ses-b/anat/x", "sub-02/ses-a/anat/x", "sub-01/anat/x", "sub-03/ses-a/func/x"),
        *("code/sub-04/anat/x", "sub-05.txt", "sub-06/anat"),
    )
    sessions = find_sessions(tmp_path)
    assert [(s.participant, s.name, s.case_id) for s in sessions] == [
        ("sub-01", "", "sub-01"),
        ("sub-02", "ses-a", "sub-02_ses-a"),
        ("sub-02", "ses-b", "sub-02_ses-b"),
    ]
    assert sessions[1].folder == tmp_path / "sub-02" / "ses-a"
    assert sessions[1].within(tmp_path / "else").folder == tmp_path / "else" / "sub-02" / "ses-a"
    assert sessions[0].within(tmp_path / "else").folder == tmp_path / "else" / "sub-01"
    assert find_sessions(tmp_path / "nowhere") == ()


def test_a_session_owns_what_is_named_after_it(tmp_path):
    anat = "sub-01/ses-1/anat/"
    touch(
        tmp_path,
        *(f"{anat}sub-01_ses-1_T1w.nii", f"{anat}sub-01_ses-2_T1w.nii", f"{anat}sub-01_T1w.nii"),
        *(f"{anat}sub-02_ses-1_T1w.nii", f"{anat}sub-01_ses-1_T1w.json"),
    )
    (tmp_path / anat / "sub-01_ses-1_folder.nii").mkdir()
    # Data under git-annex that is yet to be fetched.
    (tmp_path / anat / "sub-01_ses-1_T2w.nii.gz").symlink_to("nowhere")
    (session,) = find_sessions(tmp_path)
    owned = {file.path.name: session.owns(file) for file in session.volumes()}
    assert owned == {
        "sub-01_T1w.nii": False,
        "sub-01_ses-1_T1w.nii": True,
        "sub-01_ses-1_T2w.nii.gz": True,
        "sub-01_ses-2_T1w.nii": False,
        "sub-02_ses-1_T1w.nii": False,
    }


def test_ids_without_their_prefixes():
    assert [bare(label) for label in ("sub-01", "01", "ses-V1", "V1", "")] == [
        *("01", "01", "V1", "V1", "")
    ]
