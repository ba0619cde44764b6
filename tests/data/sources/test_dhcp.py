from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.data.ages import Age
from infant_seg_jax.data.labels import LabelSchema
from infant_seg_jax.data.schemas import DRAWEM9_CORE_SCHEMA, DRAWEM9_SCHEMA, DRAWEM87_SCHEMA
from infant_seg_jax.data.sources import SOURCES, Query
from infant_seg_jax.errors import InputError
from tests.input_errors import input_error

DHCP = SOURCES["dhcp"]
BOTH = Query(modalities=("T1w", "T2w"))

# What a release holds of one session, as `anat/sub-X_ses-Y_...`, with much that is none of ours.
RELEASE_3 = (
    *("desc-brain_mask.nii.gz", "desc-drawem87_dseg.nii.gz", "desc-drawem9_dseg.nii.gz"),
    *("desc-ribbon_dseg.nii.gz", "T1w.nii.gz", "desc-biasfield_T1w.nii.gz", "T2w.nii.gz"),
    *("desc-restore_T1w.nii.gz", "desc-restore_T2w.nii.gz", "desc-biasfield_T2w.nii.gz"),
    *("hemi-left_wm.surf.gii", "thickness.dscalar.nii", "desc-drawem_dseg.dlabel.nii"),
)
RELEASE_2 = (
    *("desc-bet_space-T2w_brainmask.nii.gz", "desc-drawem_space-T2w_brainmask.nii.gz"),
    *("desc-drawem87_space-T2w_dseg.nii.gz", "desc-drawem9_space-T2w_dseg.nii.gz"),
    *("desc-ribbon_space-T2w_dseg.nii.gz", "space-T2w_T1w.nii.gz", "desc-restore_T2w.nii.gz"),
    *("desc-restore_space-T2w_T1w.nii.gz", "space-T2w_myelinmap.nii.gz"),
    *("space-T2w_desc-myelinmapribbon_dseg.nii.gz", "space-T2w_sulc.dscalar.nii"),
)
RELEASE_1 = (
    *("T1w.nii.gz", "T1w_restore.nii.gz", "T1w_restore_brain.nii.gz", "T1w_biasfield.nii.gz"),
    *("T2w.nii.gz", "T2w_restore.nii.gz", "T2w_restore_brain.nii.gz", "T2w_biasfield.nii.gz"),
    *("brainmask_bet.nii.gz", "brainmask_drawem.nii.gz", "ribbon.nii.gz"),
    *("drawem_all_labels.nii.gz", "drawem_tissue_labels.nii.gz", "T1wdividedbyT2w.nii.gz"),
)
SESSIONS = ("sub-CC00A/ses-20", "sub-CC00A/ses-100", "sub-CC00B/ses-30")


def add(tree: Path, session: str, *names: str):
    anat = tree / session / "anat"
    anat.mkdir(parents=True, exist_ok=True)
    volume = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)).to_bytes()
    for name in names:
        (anat / f"{session.replace('/', '_')}_{name}").write_bytes(volume)


def remove(tree: Path, session: str, *names: str):
    for name in names:
        (tree / session / "anat" / f"{session.replace('/', '_')}_{name}").unlink()


def write(path: Path, *rows: str):
    path.write_text("".join("\t".join(row.split("|")) + "\n" for row in rows))


@pytest.fixture
def release(tmp_path):
    """Release 3, with the tables in the derivative's tree."""
    tree = tmp_path / "derivatives" / "dhcp_anat_pipeline"
    for session in SESSIONS:
        add(tree, session, *RELEASE_3)
    write(
        tree / "participants.tsv",
        "participant_id|sex|birth_age|birth_weight|singleton",
        *("CC00A|F|36.1|2.1|S", "CC00B|M|40.4|3.5|S", "CC00Z|M|40.4|3.5|M"),
    )
    header = "session_id|scan_age|scan_head_circumference|radiology_score|scan_number|sedation"
    tables = tree / "sub-CC00A" / "sub-CC00A_sessions.tsv", tree / "sub-CC00B"
    write(tables[0], header, "20|37.714285714286|31.5|1|1|0", "100|44|35|1|2|0")
    write(tables[1] / "sub-CC00B_sessions.tsv", header, "30|40.5|34|Q|1|0")
    return tmp_path


@pytest.fixture
def tree(release):
    return release / "derivatives" / "dhcp_anat_pipeline"


def names(case):
    prefix = f"{case.case_id}_"
    return [
        path and path.name.removeprefix(prefix) for path in (*case.images, case.labels, case.mask)
    ]


def test_a_release_by_default(release, tree):
    dataset = DHCP.open(release)
    assert (dataset.source, dataset.folder, dataset.modalities) == ("dhcp", release, ("T2w",))
    assert dataset.schema is DRAWEM9_SCHEMA
    assert [(case.case_id, case.participant, case.age) for case in dataset.cases] == [
        ("sub-CC00A_ses-100", "sub-CC00A", Age(44.0, "weeks postmenstrual")),
        ("sub-CC00A_ses-20", "sub-CC00A", Age(37.714285714286, "weeks postmenstrual")),
        ("sub-CC00B_ses-30", "sub-CC00B", Age(40.5, "weeks postmenstrual")),
    ]
    for case in dataset.cases:
        assert names(case) == [
            *("desc-restore_T2w.nii.gz", "desc-drawem9_dseg.nii.gz", "desc-brain_mask.nii.gz")
        ]
        assert case.images[0].parent == tree / case.participant / case.case_id[10:] / "anat"
    assert dataset.notices == (
        "Entries of participants.tsv that name participants without an anatomical scan here: 1 "
        f"(first: CC00Z in {tree / 'participants.tsv'}).",
    )


@pytest.mark.parametrize("modalities", [("T1w",), ("T2w",), ("T1w", "T2w"), ("T2w", "T1w")])
def test_modalities_in_the_order_wanted(release, modalities):
    dataset = DHCP.open(release, Query(modalities=modalities))
    assert dataset.modalities == modalities
    for case in dataset.cases:
        assert names(case)[:-2] == [f"desc-restore_{modality}.nii.gz" for modality in modalities]


@pytest.mark.parametrize(
    "files, wanted",
    [
        (
            RELEASE_2,
            [
                *("desc-restore_space-T2w_T1w.nii.gz", "desc-restore_T2w.nii.gz"),
                "desc-drawem9_space-T2w_dseg.nii.gz",
                "desc-drawem_space-T2w_brainmask.nii.gz",
            ],
        ),
        (
            RELEASE_1,
            [
                *("T1w_restore.nii.gz", "T2w_restore.nii.gz"),
                *("drawem_tissue_labels.nii.gz", "brainmask_drawem.nii.gz"),
            ],
        ),
    ],
)
def test_earlier_releases(tmp_path, files, wanted):
    add(tmp_path / "derivatives", SESSIONS[0], *files)
    dataset = DHCP.open(tmp_path, BOTH)
    assert names(dataset.cases[0]) == wanted
    assert dataset.notices == ()
    labels = [name.replace("9", "87").replace("tissue", "all") for name in wanted]
    dataset = DHCP.open(tmp_path, Query(modalities=("T1w", "T2w"), schema=DRAWEM87_SCHEMA))
    assert names(dataset.cases[0])[2] == labels[2]


@pytest.mark.parametrize(
    "there, best",
    [
        (["T1w", "desc-restore_T1w"], "desc-restore_T1w"),
        (["desc-restore_T1w", "desc-restore_space-T2w_T1w"], "desc-restore_space-T2w_T1w"),
        (["space-T2w_T1w", "desc-restore_T1w"], "desc-restore_T1w"),
        (["T1w", "space-T2w_T1w"], "space-T2w_T1w"),
        (["T1w", "space-T2w_desc-restore_T1w"], "space-T2w_desc-restore_T1w"),
        (["T1w", "desc-biasfield_T1w", "space-template_T1w", "run-1_T1w"], "T1w"),
    ],
)
def test_the_best_t1w_that_is_there(tmp_path, there, best):
    add(tmp_path, SESSIONS[0], *(f"{name}.nii.gz" for name in (*there, "desc-restore_T2w")))
    dataset = DHCP.open(tmp_path, BOTH)
    assert names(dataset.cases[0])[0] == f"{best}.nii.gz"
    count_notice = (
        "1 of 1 sessions have no restored T1w; the one with its bias field is used: "
        "sub-CC00A_ses-20."
    )
    assert (count_notice in dataset.notices) == ("restore" not in best)


@pytest.mark.parametrize("inside", [".", "derivatives", "derivatives/dhcp_anat_pipeline"])
@pytest.mark.parametrize("name", ["dhcp_anat_pipeline", "rel3_dhcp_anat_pipeline"])
def test_wherever_the_tree_is(release, monkeypatch, inside, name):
    tree = release / "derivatives" / name
    (release / "derivatives" / "dhcp_anat_pipeline").rename(tree)
    add(release, "sub-CC00A/ses-20", "run-1_T2w.nii.gz")  # the raw tree beside it
    (release / "derivatives" / "dhcp_fmri_pipeline" / "sub-CC00A").mkdir(parents=True)
    monkeypatch.chdir(tree if inside.count("/") else release / inside)
    found = DHCP.open(Path("."))
    assert len(found.cases) == 3 and all(case.age for case in found.cases)


def test_a_tree_on_its_own(release, tree, tmp_path):
    alone = tmp_path / "babies"
    tree.rename(alone)
    assert len(DHCP.open(alone).cases) == 3


@pytest.mark.parametrize("place", [".", "rawdata", "sourcedata"])
@pytest.mark.parametrize("by", ["absolute", "relative"])
def test_tables_in_the_raw_tree(release, tree, monkeypatch, place, by):
    raw = release / place
    for table in sorted(tree.rglob("*.tsv")):
        (raw / table.relative_to(tree)).parent.mkdir(parents=True, exist_ok=True)
        table.rename(raw / table.relative_to(tree))
    monkeypatch.chdir(tree)
    ages = [case.age for case in DHCP.open(tree if by == "absolute" else Path(".")).cases]
    assert [age.value for age in ages if age] == [44.0, 37.714285714286, 40.5]


def test_sessions_without_a_table_have_no_age(release, tree):
    (tree / "sub-CC00A" / "sub-CC00A_sessions.tsv").unlink()
    assert [case.age is None for case in DHCP.open(release).cases] == [True, True, False]


def test_cases_by_age(release):
    cases = DHCP.open(release).of_ages(38.0, 42.0).cases
    assert [case.case_id for case in cases] == ["sub-CC00B_ses-30"]


def test_sessions_that_lack_a_modality_are_left_out(release, tree):
    remove(tree, SESSIONS[0], "T1w.nii.gz", "desc-restore_T1w.nii.gz")
    dataset = DHCP.open(release, BOTH)
    assert [case.case_id for case in dataset.cases] == ["sub-CC00A_ses-100", "sub-CC00B_ses-30"]
    assert dataset.notices[0] == (
        "1 of 3 sessions lack T1w or T2w and are left out: sub-CC00A_ses-20."
    )
    assert len(DHCP.open(release).cases) == 3


def test_sessions_without_labels_or_mask_are_cases_without(release, tree):
    remove(tree, SESSIONS[2], "desc-drawem9_dseg.nii.gz", "desc-drawem87_dseg.nii.gz")
    remove(tree, SESSIONS[0], "desc-brain_mask.nii.gz")
    dataset = DHCP.open(release)
    assert [(case.labels is None, case.mask is None) for case in dataset.cases] == [
        *((False, False), (False, True), (True, False))
    ]
    assert dataset.notices[:2] == (
        "1 of 3 sessions have no label map of drawem9: sub-CC00B_ses-30.",
        "1 of 3 sessions have no brain mask: sub-CC00A_ses-20.",
    )


def test_the_two_kinds_of_labels_are_never_mixed(release, tree):
    remove(tree, SESSIONS[2], "desc-drawem9_dseg.nii.gz")
    dataset = DHCP.open(release)
    assert dataset.schema is DRAWEM9_SCHEMA
    assert [case.labels is None for case in dataset.cases] == [False, False, True]
    assert dataset.notices[:2] == (
        "1 of 3 sessions have no label map of drawem9: sub-CC00B_ses-30.",
        "1 of 3 sessions have only a label map of drawem87, which cannot be mixed with drawem9 and "
        "is not used: sub-CC00B_ses-30.",
    )
    for session in SESSIONS[:2]:
        remove(tree, session, "desc-drawem9_dseg.nii.gz")
    dataset = DHCP.open(release)
    assert dataset.schema is DRAWEM87_SCHEMA
    assert {names(case)[1] for case in dataset.cases} == {"desc-drawem87_dseg.nii.gz"}


@pytest.mark.parametrize(
    "schema, kind",
    [
        (DRAWEM9_SCHEMA, "drawem9"),
        (DRAWEM9_CORE_SCHEMA, "drawem9"),
        (DRAWEM9_SCHEMA.changed({6: 2, 8: 3}), "drawem9"),
        (DRAWEM87_SCHEMA, "drawem87"),
        (DRAWEM87_SCHEMA.changed({19: 3}), "drawem87"),
        (LabelSchema("cortex", {0: 0, 83: 1, 36: 2, 37: 2}), "drawem87"),
    ],
)
def test_the_schema_chooses_the_labels(release, schema, kind):
    dataset = DHCP.open(release, Query(schema=schema))
    assert dataset.schema is schema
    assert {names(case)[1] for case in dataset.cases} == {f"desc-{kind}_dseg.nii.gz"}


def test_a_schema_for_labels_that_are_not_there(release, tree):
    for session in SESSIONS:
        remove(tree, session, "desc-drawem87_dseg.nii.gz")
    with pytest.raises(InputError) as caught:
        DHCP.open(release, Query(schema=DRAWEM87_SCHEMA))
    assert str(caught.value) == (
        "The schema 'drawem87' is for label maps *_desc-drawem87_dseg.nii.gz, of which "
        f"{tree} has none, found *_desc-drawem9_dseg.nii.gz: expected --schema=drawem9 or another "
        "for their ids."
    )


def test_no_labels_at_all(tmp_path):
    add(tmp_path, SESSIONS[0], "desc-restore_T2w.nii.gz")
    dataset = DHCP.open(tmp_path, Query(schema=DRAWEM87_SCHEMA))
    assert dataset.schema is DRAWEM87_SCHEMA and dataset.cases[0].labels is None
    assert DHCP.open(tmp_path).schema is DRAWEM9_SCHEMA


def test_wrong_modalities(release):
    for wanted, found in ((("T2",), "'T2'"), (("T2w", "T2w"), "'T2w' 2 times")):
        with input_error(found):
            DHCP.open(release, Query(modalities=wanted))
    with input_error("--labels", "--source=dhcp"):
        DHCP.open(release, Query(labels="derivatives"))


def test_no_session_with_the_modalities(tmp_path):
    add(tmp_path, SESSIONS[0], "desc-restore_T1w.nii.gz")
    with pytest.raises(InputError) as caught:
        DHCP.open(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} has no session with T2w, expected files such as sub-X/ses-Y/anat/"
        "sub-X_ses-Y_desc-restore_T2w.nii.gz: choose what exists with --modalities."
    )


def test_no_release(tmp_path):
    (tmp_path / "sub-01" / "func").mkdir(parents=True)
    with pytest.raises(InputError) as caught:
        DHCP.open(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} contains no dHCP session, expected derivatives/dhcp_anat_pipeline/sub-*/ses-*/"
        "anat or sub-*/ses-*/anat below it."
    )


def test_two_releases(release, tree):
    other = tree.with_name("rel3_dhcp_anat_pipeline")
    add(other, SESSIONS[0], "desc-restore_T2w.nii.gz")
    with pytest.raises(InputError) as caught:
        DHCP.open(release)
    assert str(caught.value) == (
        f"{release} contains several structural releases ({tree}, {other}), expected one: give the "
        "folder of one of them."
    )
