import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.data.ages import Age
from infant_seg_jax.data.labels import BACKGROUND, CSF, GM, IGNORE, WM
from infant_seg_jax.data.schemas import DRAWEM9_SCHEMA, TISSUE_SCHEMA
from infant_seg_jax.data.sources import SOURCES, Query
from infant_seg_jax.errors import InputError

BIDS = SOURCES["bids"]
TISSUES = Query(schema=TISSUE_SCHEMA)


def add(root: Path, *names: str):
    """Volumes, each named `SESSION/anat/...` with its session's prefix left out."""
    volume = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)).to_bytes()
    for name in names:
        folder, _, rest = name.rpartition("/")
        prefix = "_".join(part for part in folder.split("/") if part[:4] in ("sub-", "ses-"))
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / f"{prefix}_{rest}").write_bytes(volume)


def write(path: Path, *rows: str):
    path.write_text("".join("\t".join(row.split("|")) + "\n" for row in rows))


@pytest.fixture
def tree(tmp_path):
    """A dataset of two participants, one of them twice, with one derivative."""
    for name in ("sub-01/ses-a", "sub-01/ses-b", "sub-02/ses-a"):
        add(tmp_path, f"{name}/anat/T1w.nii.gz", f"{name}/anat/T2w.nii")
        mine = f"derivatives/mine/{name}/anat"
        add(tmp_path, f"{mine}/desc-manual_dseg.nii.gz", f"{mine}/desc-brain_mask.nii.gz")
        add(tmp_path, f"{mine}/label-GM_probseg.nii.gz", f"{name}/func/task-rest_bold.nii.gz")
    (tmp_path / "dataset_description.json").write_text("{}")
    return tmp_path


def cases(dataset):
    return [case.case_id for case in dataset.cases]


def sentence(folder, query=TISSUES):
    with pytest.raises(InputError) as caught:
        BIDS.open(folder, query)
    return str(caught.value)


def test_a_tree_with_one_derivative(tree):
    dataset = BIDS.open(tree, TISSUES)
    assert (dataset.source, dataset.folder, dataset.modalities) == ("bids", tree, ("T1w",))
    assert dataset.schema is TISSUE_SCHEMA and dataset.notices == ()
    assert cases(dataset) == ["sub-01_ses-a", "sub-01_ses-b", "sub-02_ses-a"]
    assert [case.participant for case in dataset.cases] == ["sub-01", "sub-01", "sub-02"]
    for case in dataset.cases:
        below = f"{case.case_id.replace('_', '/')}/anat"
        mine = tree / "derivatives" / "mine" / below
        assert case.images == (tree / below / f"{case.case_id}_T1w.nii.gz",)
        assert case.labels == mine / f"{case.case_id}_desc-manual_dseg.nii.gz"
        assert case.mask == mine / f"{case.case_id}_desc-brain_mask.nii.gz"
        assert case.age is None and case.split is None


def test_participants_without_sessions_below_rawdata(tmp_path):
    add(tmp_path / "rawdata", "sub-2/anat/T2w.nii.gz", "sub-10/anat/T2w.nii.gz")
    add(tmp_path, "derivatives/mine/sub-2/anat/dseg.nii", "derivatives/sub-10/dseg.nii.gz")
    write(tmp_path / "rawdata" / "participants.tsv", "participant_id|age", "sub-2|3", "10|n/a")
    dataset = BIDS.open(tmp_path, TISSUES)
    assert dataset.modalities == ("T2w",) and cases(dataset) == ["sub-10", "sub-2"]
    assert [case.age for case in dataset.cases] == [None, Age(3.0, "years")]
    assert [case.labels for case in dataset.cases] == [
        tmp_path / "derivatives/sub-10/sub-10_dseg.nii.gz",
        tmp_path / "derivatives/mine/sub-2/anat/sub-2_dseg.nii",
    ]
    derivatives = tmp_path / "derivatives"
    assert dataset.notices == (
        f"Label maps come from several derivatives: {derivatives} (1), {derivatives / 'mine'} (1).",
    )


@pytest.mark.parametrize("modalities", [("T2w",), ("T2w", "T1w"), ("T1w", "T2w")])
def test_modalities_in_the_order_wanted(tree, modalities):
    dataset = BIDS.open(tree, Query(modalities=modalities, schema=TISSUE_SCHEMA))
    assert dataset.modalities == modalities and len(dataset.cases) == 3
    for case in dataset.cases:
        assert [path.name.split(".")[0][-3:] for path in case.images] == list(modalities)


def test_sessions_that_lack_a_modality_are_left_out(tree):
    (tree / "sub-01/ses-b/anat/sub-01_ses-b_T1w.nii.gz").unlink()
    add(tree, "sub-03/anat/FLAIR.nii.gz")
    dataset = BIDS.open(tree, TISSUES)
    assert cases(dataset) == ["sub-01_ses-a", "sub-02_ses-a"]
    assert dataset.notices == ("2 of 4 sessions lack T1w and are left out: sub-01_ses-b, sub-03.",)
    both = Query(modalities=("T1w", "FLAIR"), schema=TISSUE_SCHEMA)
    assert sentence(tree, both) == (
        f"{tree} has no session with T1w and FLAIR, found FLAIR, T1w, T2w: choose what exists with "
        "--modalities."
    )
    assert cases(BIDS.open(tree, Query(modalities=("FLAIR",)))) == ["sub-03"]


def test_a_volume_named_after_another_session_is_left_out(tree):
    stray = tree / "sub-02/ses-a/anat/sub-01_ses-a_T1w.nii.gz"
    stray.touch()
    dataset = BIDS.open(tree, TISSUES)
    assert len(dataset.cases) == 3
    assert dataset.notices == (
        f"1 volumes have the name of another session and are left out: {stray}.",
    )


def test_nothing_to_read(tmp_path):
    (tmp_path / "sub-01" / "func").mkdir(parents=True)
    assert sentence(tmp_path) == (
        f"{tmp_path} contains no BIDS session, expected sub-X/ses-Y/anat or sub-X/anat below it or "
        "below its rawdata."
    )
    (tmp_path / "sub-01" / "anat").mkdir()
    assert sentence(tmp_path) == (
        f"{tmp_path} has no session with T1w, found no volume with a BIDS name: choose what exists "
        "with --modalities."
    )
    assert "names 'T1w' 2 times" in sentence(tmp_path, Query(modalities=("T1w", "T1w")))


def test_no_labels_at_all(tmp_path):
    add(tmp_path, "sub-01/anat/T1w.nii.gz")
    dataset = BIDS.open(tmp_path)
    assert dataset.schema is TISSUE_SCHEMA and dataset.notices == ()
    assert dataset.cases[0].labels is None and dataset.cases[0].mask is None
    assert BIDS.open(tmp_path, Query(schema=DRAWEM9_SCHEMA)).schema is DRAWEM9_SCHEMA


def test_sessions_without_labels_or_mask_are_cases_without(tree):
    mine = tree / "derivatives/mine/sub-02/ses-a/anat"
    (mine / "sub-02_ses-a_desc-manual_dseg.nii.gz").unlink()
    (mine / "sub-02_ses-a_desc-brain_mask.nii.gz").unlink()
    dataset = BIDS.open(tree, TISSUES)
    assert [(case.labels is None, case.mask is None) for case in dataset.cases] == [
        *((False, False), (False, False), (True, True))
    ]
    assert dataset.notices == (
        "1 of 3 cases have no label map: sub-02_ses-a.",
        "1 of 3 cases have no brain mask: sub-02_ses-a.",
    )


@pytest.mark.parametrize(
    "where",
    ["derivatives/mine", "derivatives/mine/", "{}/derivatives/mine", "derivatives/m*/**/*manual*"],
)
def test_the_labels_chosen(tree, where):
    add(tree, "derivatives/other/sub-01/ses-a/anat/dseg.nii.gz")
    add(tree, "derivatives/other/sub-01/ses-a/anat/desc-brain_mask.nii.gz")
    where = where.format(tree)
    masks = "derivatives/mine"
    dataset = BIDS.open(tree, Query(labels=where, masks=masks, schema=TISSUE_SCHEMA))
    for case in dataset.cases:
        assert case.labels and case.labels.name == f"{case.case_id}_desc-manual_dseg.nii.gz"
        assert case.labels.is_relative_to(tree / "derivatives" / "mine")
        assert case.mask and case.mask.is_relative_to(tree / "derivatives" / "mine")
    assert dataset.notices == ()


def test_a_pattern_takes_any_suffix_and_space(tmp_path):
    add(tmp_path, "sub-01/anat/T1w.nii.gz", "sub-02/anat/T1w.nii.gz")
    labels = tmp_path / "drawn"
    add(labels, *(f"sub-{n}/space-MNI_seg.nii.gz" for n in ("01", "02", "77")))
    (labels / "sub-01" / "readme.txt").touch()
    dataset = BIDS.open(tmp_path, Query(labels="drawn/*/*", schema=TISSUE_SCHEMA))
    assert [case.labels and case.labels.name for case in dataset.cases] == [
        *("sub-01_space-MNI_seg.nii.gz", "sub-02_space-MNI_seg.nii.gz")
    ]
    assert dataset.notices == (
        "--labels=drawn/*/* finds volumes that belong to no session here and are left out: 1 "
        f"(first: {labels}/sub-77/sub-77_space-MNI_seg.nii.gz).",
    )


def test_choices_that_find_nothing(tree):
    assert sentence(tree, Query(labels="derivatives/none")) == (
        f"There is no folder {tree}/derivatives/none, expected the folder of a derivative for "
        "--labels, relative to the dataset or absolute."
    )
    assert sentence(tree, Query(masks="sub-01", schema=TISSUE_SCHEMA)) == (
        f"{tree}/sub-01 contains no brain mask of a session here, expected names such as "
        "sub-01_ses-a_desc-brain_mask.nii.gz in the folders of its sessions."
    )
    assert sentence(tree, Query(labels="derivatives/*.nii")) == (
        f"--labels=derivatives/*.nii finds no volume below {tree}, expected names that begin like "
        "those of its sessions, with sub-01_ses-a_."
    )
    (tree / "labels").mkdir()
    (tree / "labels" / "01.nii.gz").touch()
    assert f"finds 1 volumes such as {tree}/labels/01.nii.gz below" in sentence(
        tree, Query(labels="labels/*.nii.gz")
    )


@pytest.mark.parametrize("other", ["desc-auto_dseg", "desc-manual_space-T2w_dseg", "run-2_dseg"])
def test_several_label_maps_are_an_error_that_lists_them(tree, other):
    add(tree, f"derivatives/mine/sub-02/ses-a/anat/{other}.nii.gz")
    anat = tree / "derivatives/mine/sub-02/ses-a/anat"
    first, second = sorted(f"{anat}/sub-02_ses-a_{n}.nii.gz" for n in (other, "desc-manual_dseg"))
    assert sentence(tree) == (
        f"sub-02_ses-a has 2 label maps ({first}, {second}), expected one: choose with --labels, a "
        "derivative's folder or a pattern such as "
        "--labels='derivatives/NAME/sub-*/**/*_desc-NAME_dseg.nii.gz'."
    )
    pattern = "derivatives/mine/sub-*/ses-*/anat/*_desc-manual_dseg.nii.gz"
    assert len(BIDS.open(tree, Query(labels=pattern, schema=TISSUE_SCHEMA)).cases) == 3


def test_several_masks_are_an_error_too(tree):
    add(tree, "derivatives/other/sub-02/ses-a/anat/desc-brain_mask.nii.gz")
    assert "sub-02_ses-a has 2 brain masks" in sentence(tree)
    query = Query(masks="derivatives/mine", schema=TISSUE_SCHEMA)
    assert len(BIDS.open(tree, query).cases) == 3


def test_maps_in_the_space_of_a_template_are_left_out(tree):
    name = "derivatives/mine/sub-01/ses-a/anat/space-MNI152NLin2009cAsym"
    add(tree, f"{name}_dseg.nii.gz", f"{name}_desc-brain_mask.nii.gz")
    dataset = BIDS.open(tree, TISSUES)
    assert all(case.labels and "MNI" not in case.labels.name for case in dataset.cases)
    first = tree / "derivatives/mine/sub-01/ses-a/anat/sub-01_ses-a_space-MNI152NLin2009cAsym"
    assert dataset.notices == (
        f"Label maps in the space of a template are left out: 1 (first: {first}_dseg.nii.gz).",
        "Brain masks in the space of a template are left out: 1 (first: "
        f"{first}_desc-brain_mask.nii.gz).",
    )


# Several images of one modality.


@pytest.fixture
def runs(tmp_path):
    """Two runs of both modalities, beside a session that has one."""
    for modality in ("T1w", "T2w"):
        add(tmp_path, *(f"sub-01/anat/run-{run}_{modality}.nii.gz" for run in ("01", "02")))
        add(tmp_path, f"sub-02/anat/run-1_{modality}.nii.gz")
    return tmp_path


def test_runs_are_cases(runs):
    dataset = BIDS.open(runs, Query(modalities=("T1w", "T2w")))
    assert cases(dataset) == ["sub-01_run-01", "sub-01_run-02", "sub-02"]
    assert [case.participant for case in dataset.cases] == ["sub-01", "sub-01", "sub-02"]
    assert [path.name for path in dataset.cases[1].images] == [
        *("sub-01_run-02_T1w.nii.gz", "sub-01_run-02_T2w.nii.gz")
    ]
    assert dataset.notices == (
        "2 of 3 cases are runs of a session that has several: sub-01_run-01, sub-01_run-02.",
    )


def test_runs_have_their_own_labels_and_the_session_s_age(runs):
    add(runs, "derivatives/mine/sub-01/anat/run-2_dseg.nii.gz")
    add(runs, "derivatives/mine/sub-02/anat/dseg.nii.gz")
    write(runs / "participants.tsv", "participant_id|age", "01|4", "02|5")
    dataset = BIDS.open(runs, TISSUES)
    assert [case.labels and case.labels.name for case in dataset.cases] == [
        *(None, "sub-01_run-2_dseg.nii.gz", "sub-02_dseg.nii.gz")
    ]
    assert [case.age and case.age.value for case in dataset.cases] == [4.0, 4.0, 5.0]


def test_labels_of_another_run_are_not_taken(runs):
    add(runs, "derivatives/mine/sub-02/anat/run-2_dseg.nii.gz")
    assert BIDS.open(runs, TISSUES).cases[2].labels is None


def test_labels_that_could_be_any_run_s(runs):
    add(runs, "derivatives/mine/sub-01/anat/dseg.nii.gz")
    assert sentence(runs) == (
        "sub-01_run-01 is one run of several, and it is not clear which of them a label map "
        f"belongs to ({runs}/derivatives/mine/sub-01/anat/sub-01_dseg.nii.gz), expected run-... in "
        "its name: choose the scans with --images=PATTERN or the label maps with --labels=PATTERN."
    )
    query = Query(images=("sub-*/**/*_run-*1_T1w.nii.gz",), schema=TISSUE_SCHEMA)
    dataset = BIDS.open(runs, query)
    assert dataset.modalities == ("T1w",)
    assert [(case.case_id, case.labels is None) for case in dataset.cases] == [
        *(("sub-01", False), ("sub-02", True))
    ]


@pytest.mark.parametrize(
    "names",
    [
        ("acq-mprage_T1w", "acq-fast_T1w"),
        ("run-1_T1w", "T1w"),
        ("run-1_acq-a_T1w", "run-1_acq-b_T1w"),
        ("run-1_rec-a_T1w", "run-2_rec-a_T1w", "run-2_rec-b_T1w"),
    ],
)
def test_images_that_are_not_runs_of_one_scan(tmp_path, names):
    add(tmp_path, *(f"sub-01/anat/{name}.nii.gz" for name in names))
    listed = ", ".join(sorted(f"{tmp_path}/sub-01/anat/sub-01_{name}.nii.gz" for name in names))
    assert sentence(tmp_path) == (
        f"sub-01 has several images of a modality ({listed}), expected one, or the same runs for "
        "each: choose with --images, a pattern for each modality such as "
        "--images='sub-*/**/*_acq-NAME_T1w.nii.gz'."
    )
    query = Query(images=(f"sub-*/anat/*_{names[0]}.nii.gz",))
    (case,) = BIDS.open(tmp_path, query).cases
    assert case.case_id == "sub-01" and case.images[0].name == f"sub-01_{names[0]}.nii.gz"


def test_runs_of_one_modality_only(runs):
    (runs / "sub-01/anat/sub-01_run-02_T2w.nii.gz").unlink()
    both = Query(modalities=("T1w", "T2w"))
    assert "sub-01 has several images of a modality" in sentence(runs, both)


def test_images_chosen_by_patterns(tree):
    patterns = ("sub-*/ses-a/anat/*_T2w.nii", "sub-*/ses-*/anat/*_T1w.nii.gz")
    dataset = BIDS.open(tree, Query(images=patterns, schema=TISSUE_SCHEMA))
    assert dataset.modalities == ("T2w", "T1w")
    assert cases(dataset) == ["sub-01_ses-a", "sub-02_ses-a"]
    assert dataset.notices == ("1 of 3 sessions lack T2w or T1w and are left out: sub-01_ses-b.",)
    query = Query(images=patterns, modalities=("T2w",))
    assert sentence(tree, query) == (
        "--images gives 2 patterns for the modalities T2w, expected one for each."
    )
    assert "names 'T2w' 2 times" in sentence(tree, Query(images=(patterns[0], patterns[0])))


# What labels mean.


def test_labels_without_a_meaning(tree):
    first = tree / "derivatives/mine/sub-01/ses-a/anat/sub-01_ses-a_desc-manual_dseg.nii.gz"
    assert sentence(tree, Query()) == (
        f"{first} does not say what its labels mean, because there is no dseg.tsv with it: "
        "expected --schema=NAME_OR_FILE, for instance --schema=tissues for 0 background, 1 CSF, 2 "
        "GM, 3 WM."
    )


@pytest.mark.parametrize("name", ["dseg.tsv", "desc-manual_dseg.tsv"])
def test_a_table_says_what_labels_mean(tree, name):
    table = tree / "derivatives" / "mine" / name
    write(
        table,
        *("index|name|abbreviation", "1|Cortex and deep nuclei|GM", "2|White Matter|x"),
        *("7|CSF|n/a", "9|ignore|n/a"),
    )
    schema = BIDS.open(tree).schema
    assert schema.name == "dseg.tsv"
    assert schema.table == {0: BACKGROUND, 1: GM, 2: WM, 7: CSF, 9: IGNORE}


def test_the_nearest_table_that_applies_is_read(tree):
    mine = tree / "derivatives" / "mine"
    write(mine / "dseg.tsv", "index|name", "1|GM")
    write(mine / "desc-auto_dseg.tsv", "index|name", "1|CSF")
    write(mine / "desc-manual_dseg.tsv", "index|name", "1|WM")
    assert BIDS.open(tree).schema.table == {0: BACKGROUND, 1: WM}
    for path in sorted(mine.rglob("*_desc-manual_dseg.nii.gz")):
        write(Path(str(path).replace(".nii.gz", ".tsv")), "index|name", "0|bg", "1|CSF")
    assert BIDS.open(tree).schema.table == {0: BACKGROUND, 1: CSF}


def test_tables_add_up_and_may_not_contradict(tree):
    mine = tree / "derivatives" / "mine"
    tables = [
        Path(str(path).replace(".nii.gz", ".tsv"))
        for path in sorted(mine.rglob("*_desc-manual_dseg.nii.gz"))
    ]
    for table, row in zip(tables, ("1|GM", "2|WM", "3|CSF"), strict=True):
        write(table, "index|name", row)
    assert BIDS.open(tree).schema.table == {0: BACKGROUND, 1: GM, 2: WM, 3: CSF}
    write(tables[2], "index|name", "2|CSF")
    assert sentence(tree, Query()) == (
        f"{tables[2]} says that 2 is 'CSF', which another table calls 'WM', expected one meaning "
        "in a dataset: choose label maps with --labels, or say what they mean with --schema."
    )


@pytest.mark.parametrize(
    "rows, found",
    [
        (("index|label", "1|GM"), "has no column 'name', found 'index', 'label'"),
        (("index|name", "1.5|GM"), "has the index '1.5', expected whole numbers in that column."),
        (("index|name", "1|GM", "1|WM"), "names the label 1 twice, expected one name for each."),
        (("index|name", "1|GM", "2|Hippocampus"), "(2 Hippocampus)"),
        (("index|name", "1"), "has 1 cells in line 2, expected 2"),
    ],
)
def test_tables_that_cannot_be_used(tree, rows, found):
    table = tree / "derivatives" / "mine" / "dseg.tsv"
    write(table, *rows)
    message = sentence(tree, Query())
    assert message.startswith(str(table)) and found in message
    assert BIDS.open(tree, TISSUES).schema is TISSUE_SCHEMA


# Ages.


def test_ages_come_in_one_unit_for_the_cases_that_are_there(tree):
    write(tree / "participants.tsv", "participant_id|age", "sub-02|2", "sub-03|30")
    write(tree / "sub-01" / "sub-01_sessions.tsv", "session_id|age", "ses-a|6", "ses-b|9")
    units = {"age": {"Units": "months"}}
    (tree / "sub-01" / "sub-01_sessions.json").write_text(json.dumps(units))
    add(tree, "sub-03/anat/T2w.nii.gz")
    dataset = BIDS.open(tree, TISSUES)
    assert [str(case.age) for case in dataset.cases] == ["6 months", "9 months", "24 months"]
    assert dataset.notices[1:] == (
        "Ages are given in months and years; here all of them are in months.",
    )
    assert cases(dataset.of_ages(7.0, None)) == ["sub-01_ses-b", "sub-02_ses-a"]


def test_a_real_tree(real_data):
    dataset = BIDS.open(real_data / "infant_bids")
    assert dataset.modalities == ("T1w",) and len(dataset.cases) == 9
    assert {case.participant for case in dataset.cases} == {f"sub-000{n}" for n in range(1, 9)}
    ages = {case.case_id: case.age and str(case.age) for case in dataset.cases}
    assert ages == {
        **{"sub-0001_ses-V01": "72 months", "sub-0001_ses-V02": "72 months"},
        **{f"sub-000{n}_ses-V01": None for n in (3, 4, 5, 6)},  # their scans.tsv name sub-0002
        **{f"sub-000{n}_ses-V01": f"{age} months" for n, age in ((2, 23), (7, 4), (8, 1))},
    }
    assert not any(case.labels or case.mask for case in dataset.cases)
    left_out, misnamed, contradiction, units = dataset.notices
    assert left_out == "1 of 10 sessions lack T1w and are left out: sub-0009_ses-V01."
    assert misnamed.startswith("Entries of scans.tsv that name files that do not exist: 4 (first")
    assert "sub-0009_ses-V01" in contradiction and "are ignored: 1" in contradiction
    assert units == "Ages are given in months and years; here all of them are in months."
    (fetus,) = BIDS.open(real_data / "infant_bids", Query(modalities=("T2w",))).cases
    assert fetus.case_id == "sub-0009_ses-V01" and fetus.age is None
