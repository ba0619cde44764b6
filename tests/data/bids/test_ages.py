import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infant_seg_jax.data.ages import Age
from infant_seg_jax.data.bids.ages import in_one_unit, parse_unit, read_ages
from infant_seg_jax.data.bids.names import find_sessions


@pytest.fixture
def tree(tmp_path):
    """Three participants: one with two sessions, one with one, one without session folders."""
    for session in ("sub-01/ses-a", "sub-01/ses-b", "sub-02/ses-a", "sub-03"):
        name = f"{session.replace('/', '_')}_T1w.nii.gz"
        (tmp_path / session / "anat").mkdir(parents=True)
        (tmp_path / session / "anat" / name).touch()
    return tmp_path


def write(path, *rows):
    path.write_text("".join("\t".join(row.split("|")) + "\n" for row in rows))


def write_units(path, units):
    path.write_text(json.dumps({"age": {"Units": units}}))


def ages_in(tree, **options):
    ages, notices = read_ages(find_sessions(tree), [tree], **options)
    return {case_id: str(age) for case_id, age in ages.items()}, notices


@pytest.mark.parametrize(
    "text, unit",
    [
        *(("years", "years"), ("Year", "years"), ("y", "years"), ("a", "years")),
        *(("months", "months"), ("mo", "months"), ("months of age", "months")),
        *(("weeks", "weeks"), ("days", "days"), ("days old", "days")),
        ("gestational_weeks", "weeks postmenstrual"),
        ("weeks PMA", "weeks postmenstrual"),
        ("Weeks of gestation", "weeks postmenstrual"),
        ("postmenstrual age (weeks)", None),
        *(("gestational days", None), ("months corrected", None), ("fortnights", None), ("", None)),
        ("weeks months", None),
    ],
)
def test_units_as_people_write_them(text, unit):
    assert parse_unit(text) == unit


def test_no_tables_no_ages_no_notices(tree):
    assert ages_in(tree) == ({}, [])


def test_ids_with_and_without_prefixes(tree):
    write(tree / "participants.tsv", "participant_id|age", "sub-02|1", "03|2.5")
    write(tree / "sub-01" / "sub-01_sessions.tsv", "session_id|age", "ses-a|3", "b|n/a")
    ages = {"sub-01_ses-a": "3 years", "sub-02_ses-a": "1 years", "sub-03": "2.5 years"}
    assert ages_in(tree) == (ages, [])


def test_units_come_from_the_nearest_sidecar_and_are_years_without_one(tree):
    write(tree / "participants.tsv", "participant_id|age", "02|11", "03|12")
    write_units(tree / "participants.json", "gestational_weeks")
    write(tree / "sub-01" / "sub-01_sessions.tsv", "session_id|age", "a|3", "b|4")
    write_units(tree / "sessions.json", "weeks")
    weeks = {"sub-02_ses-a": "11 weeks postmenstrual", "sub-03": "12 weeks postmenstrual"}
    both = {"sub-01_ses-a": "3 weeks", "sub-01_ses-b": "4 weeks"}
    assert ages_in(tree) == (weeks | both, [])
    write_units(tree / "sub-01" / "sub-01_sessions.json", "months")
    both = {"sub-01_ses-a": "3 months", "sub-01_ses-b": "4 months"}
    assert ages_in(tree) == (weeks | both, [])
    (tree / "sub-01" / "sub-01_sessions.json").write_text('{"age": {"Units": ""}, "site": 1}')
    (tree / "sessions.json").write_text('{"age": "months"}')
    both = {"sub-01_ses-a": "3 years", "sub-01_ses-b": "4 years"}
    assert ages_in(tree) == (weeks | both, [])


def test_a_unit_in_the_cell_is_believed(tree):
    write(tree / "participants.tsv", "participant_id|age", "02|30 gestational_weeks", "03|6 mo")
    ages = {"sub-02_ses-a": "30 weeks postmenstrual", "sub-03": "6 months"}
    assert ages_in(tree) == (ages, [])


def test_sessions_are_believed_before_participants_before_scans(tree):
    scans = tree / "sub-02" / "ses-a" / "sub-02_ses-a_scans.tsv"
    write(scans, "filename|age", "anat/sub-02_ses-a_T1w.nii.gz|3")
    assert ages_in(tree) == ({"sub-02_ses-a": "3 years"}, [])
    write(tree / "participants.tsv", "participant_id|age", "02|2")
    assert ages_in(tree) == ({"sub-02_ses-a": "2 years"}, [])
    write(tree / "sub-02" / "sub-02_sessions.tsv", "session_id|age", "ses-a|1")
    assert ages_in(tree) == ({"sub-02_ses-a": "1 years"}, [])


def test_another_column_and_a_fixed_unit(tree):
    write(tree / "sub-02" / "sub-02_sessions.tsv", "session_id|scan_age|age", "a|40.5|7")
    write_units(tree / "sub-02" / "sub-02_sessions.json", "years")
    ages = {"sub-02_ses-a": "40.5 weeks postmenstrual"}
    assert ages_in(tree, column="scan_age", unit="weeks postmenstrual") == (ages, [])
    assert ages_in(tree, kinds=("participants", "scans")) == ({}, [])


def test_the_first_tree_with_a_table_is_read(tree, tmp_path):
    other = tmp_path / "other"
    (other / "sub-02").mkdir(parents=True)
    write(other / "sub-02" / "sub-02_sessions.tsv", "session_id|age", "a|1")
    write(other / "participants.tsv", "participant_id|age", "03|2")
    write(tree / "participants.tsv", "participant_id|age", "03|3")
    ages, notices = read_ages(find_sessions(tree), [tree, other])
    assert ages == {"sub-02_ses-a": Age(1.0, "years"), "sub-03": Age(3.0, "years")}
    assert notices == []


def test_rows_may_name_their_session_and_subject(tree):
    write(
        tree / "participants.tsv",
        *("participant_id|session_id|age", "01|ses-a|1", "01|b|2", "02|n/a|3", "03|n/a|4"),
    )
    path = tree / "sub-02" / "sub-02_sessions.tsv"
    write(path, "subject|session_id|age", "sub-01|ses-a|9")
    ages, notices = ages_in(tree)
    assert ages == {
        "sub-01_ses-a": "1 years",
        "sub-01_ses-b": "2 years",
        "sub-02_ses-a": "3 years",
        "sub-03": "4 years",
    }
    assert notices == [
        "Entries of sessions.tsv that name sessions without an anatomical scan here: 1 (first: "
        f"ses-a in {path})."
    ]


def test_entries_of_what_is_not_there_are_counted_once_per_kind(tree):
    participants = tree / "participants.tsv"
    write(participants, "participant_id|age", "sub-77|1", "02|2", "78|n/a")
    sessions = tree / "sub-01" / "sub-01_sessions.tsv"
    write(sessions, "session_id|age", "ses-z|1", "ses-a|2")
    folder = tree / "sub-02" / "ses-a"
    scans = folder / "sub-02_ses-a_scans.tsv"
    wrong = ("sub-09_T1w.nii.gz", "x" * 300, "a\0b", "../../sub-77/T1w.nii.gz")
    write(scans, "filename|age", *(f"{name}|5" for name in wrong), "sub-02_ses-a_T1w.nii.gz|n/a")
    ages, notices = ages_in(tree)
    assert ages == {"sub-01_ses-a": "2 years", "sub-02_ses-a": "2 years"}
    there = "without an anatomical scan here"
    assert notices == [
        f"Entries of sessions.tsv that name sessions {there}: 1 (first: ses-z in {sessions}).",
        f"Entries of participants.tsv that name participants {there}: 2 (first: sub-77 in "
        f"{participants}).",
        "Entries of scans.tsv that name files that do not exist: 4 (first: sub-09_T1w.nii.gz in "
        f"{scans}).",
    ]


def test_scans_of_other_folders_and_scans_yet_to_be_fetched_are_there(tree):
    folder = tree / "sub-02" / "ses-a"
    (folder / "func").mkdir()
    (folder / "func" / "bold.nii.gz").symlink_to("nowhere")
    write(folder / "sub-02_ses-a_scans.tsv", "filename|age", "func/bold.nii.gz|5")
    assert ages_in(tree) == ({"sub-02_ses-a": "5 years"}, [])


def test_one_age_for_several_sessions_is_not_believed(tree):
    path = tree / "participants.tsv"
    write(path, "participant_id|age", "01|1", "02|2")
    ages, notices = ages_in(tree)
    assert ages == {"sub-02_ses-a": "2 years"}
    assert notices == [
        "Entries of participants.tsv that give one age for several sessions and are ignored: "
        f"1 (first: 01 in {path})."
    ]
    write(tree / "sub-01" / "sub-01_sessions.tsv", "session_id|age", "a|1", "b|2")
    ages, notices = ages_in(tree)
    assert (ages["sub-01_ses-a"], ages["sub-01_ses-b"], notices) == ("1 years", "2 years", [])


def test_ages_that_contradict_each_other_are_not_believed(tree):
    folder = tree / "sub-02" / "ses-a"
    name = "sub-02_ses-a_scans.tsv"
    write(folder / name, "filename|age", "sub-02_ses-a_T1w.nii.gz|25")
    write_units(folder / "sub-02_ses-a_scans.json", "gestational_weeks")
    write(folder / "anat" / name, "filename|age", "sub-02_ses-a_T1w.nii.gz|30")
    assert ages_in(tree) == (
        {},
        [
            "Entries of scans.tsv that contradict each other and are ignored: 1 (first: 25 "
            "weeks postmenstrual and 30 weeks postmenstrual for sub-02_ses-a)."
        ],
    )
    write(folder / "anat" / name, "filename|age", "sub-02_ses-a_T1w.nii.gz|25 gestational_weeks")
    assert ages_in(tree) == ({"sub-02_ses-a": "25 weeks postmenstrual"}, [])


@pytest.mark.parametrize("cell", ["26,9", "89+", "old", "-1", "inf", "1e9", "500", "6 fortnights"])
def test_what_is_no_age_is_told(tree, cell):
    path = tree / "participants.tsv"
    write(path, "participant_id|age", f"02|{cell}", "03|7")
    ages, notices = ages_in(tree)
    assert ages == {"sub-03": "7 years"}
    assert notices == [
        "Entries of participants.tsv that give no age that can be read: 1 "
        f"(first: '{cell}' in {path})."
    ]


def test_damaged_tables_cost_their_ages_only(tree):
    (tree / "participants.tsv").write_bytes(b"participant_id\tage\n02\t\xff\n")
    for name in ("sub-01", "sub-02"):
        write(tree / name / f"{name}_sessions.tsv", "session_id,age", "ses-a,1")
    write(tree / "sub-03" / "sub-03_scans.tsv", "filename|age", "anat/sub-03_T1w.nii.gz|9")
    ages, notices = ages_in(tree)
    assert ages == {"sub-03": "9 years"}
    assert notices == [
        f"A sessions.tsv gives no ages: {tree}/sub-01/sub-01_sessions.tsv has no column "
        "'session_id', found 'session_id,age', expected columns separated by tabs. The same "
        "applies to 1 more.",
        f"A participants.tsv gives no ages: {tree}/participants.tsv is not UTF-8 text: save it as "
        "UTF-8.",
    ]


@pytest.mark.parametrize(
    "sidecar, reason",
    [
        ("{", "is not valid JSON"),
        (
            '{"age": {"Units": "fortnights"}}',
            "gives 'fortnights' as the unit of 'age', expected days, weeks, months, years or "
            "gestational weeks.",
        ),
        ('{"age": {"Units": [1]}}', r"gives '\[1\]' as the unit of 'age'"),
    ],
)
def test_ages_in_unknown_units_are_not_read(tree, sidecar, reason):
    write(tree / "participants.tsv", "participant_id|age", "02|1")
    (tree / "participants.json").write_text(sidecar)
    ages, (notice,) = ages_in(tree)
    assert ages == {}
    assert f"{tree / 'participants.json'} {reason}".replace("\\", "") in notice


def test_ages_in_one_unit():
    def convert(**ages):
        same, notices = in_one_unit({name: Age(*age) for name, age in ages.items()})
        return {name: (round(age.value, 6), age.unit) for name, age in same.items()}, notices

    assert convert() == ({}, [])
    assert convert(a=(6.0, "years"), b=(1.0, "years")) == (
        {"a": (6.0, "years"), "b": (1.0, "years")},
        [],
    )
    assert convert(a=(6.0, "years"), b=(1.5, "months"), c=(365.25, "days")) == (
        {"a": (72.0, "months"), "b": (1.5, "months"), "c": (12.0, "months")},
        ["Ages are given in days and months and years; here all of them are in months."],
    )
    assert convert(a=(30.0, "weeks postmenstrual"), b=(70.0, "days")) == (
        {"a": (30.0, "weeks postmenstrual"), "b": (50.0, "weeks postmenstrual")},
        [
            "Ages are given in days and weeks postmenstrual; here all of them are in weeks "
            "postmenstrual."
        ],
    )


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.binary(max_size=40),
    st.sampled_from(["participants.tsv", "participants.json", "sub-03/sub-03_scans.tsv"]),
)
def test_no_damage_to_a_table_or_sidecar_stops_the_reading(tree, damage, name):
    write(tree / "participants.tsv", "participant_id|age", "sub-02|1")
    write_units(tree / "participants.json", "months")
    write(tree / "sub-03" / "sub-03_scans.tsv", "filename|age", "sub-03_T1w.nii.gz|9")
    content = (tree / name).read_bytes()
    where = len(damage) % len(content)
    (tree / name).write_bytes(content[:where] + damage + content[where:])
    ages, _ = ages_in(tree)
    assert ("sub-03" if "participants" in name else "sub-02_ses-a") in ages
