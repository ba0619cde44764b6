import json
import os
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infant_seg_jax.data.labels import IGNORE, LabelSchema
from infant_seg_jax.data.sources import SOURCES, Query
from infant_seg_jax.errors import InputError
from tests.data.sources.trees import classes_in, error_of, save_image, save_labels, touch

NNUNET = SOURCES["nnunet"]
SECOND = {
    "channel_names": {"0": "T1w", "1": "T2w"},
    "labels": {"background": 0, "CSF": 1, "GM": 2, "WM": 3, "ignore": 4},
    "numTraining": 2,
    "file_ending": ".nii.gz",
}
FIRST = {
    "modality": {"0": "T1"},
    "labels": {"0": "background", "1": "white matter", "2": "Gray_Matter", "3": "CSF"},
    "numTraining": 1,
    "training": [{"image": "./imagesTr/b.nii.gz", "label": "./labelsTr/b.nii.gz"}],
    "test": ["./imagesTs/t.nii.gz"],
}


def describe(folder, content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def second(tmp_path):
    """Two training cases and one to test on, each with two channels."""
    folder = describe(tmp_path / "nnUNet_raw" / "Dataset012_Infants", SECOND)
    for place, name in (("Tr", "baby_2"), ("Tr", "baby_1"), ("Ts", "baby_3")):
        for channel in range(2):
            save_image(folder / f"images{place}/{name}_{channel:04}.nii.gz", channel)
        if place == "Tr":
            save_labels(folder / f"labelsTr/{name}.nii.gz", (0, 1, 2, 3, 4))
    return folder


@pytest.fixture
def first(tmp_path):
    """Version 1, one channel; a case that is not listed lies beside the one that is."""
    folder = describe(tmp_path / "Task501_Infants", FIRST)
    for name in ("imagesTr/a_0000", "imagesTr/b_0000", "imagesTs/t_0000"):
        save_image(folder / f"{name}.nii.gz")
    for name in "ab":
        save_labels(folder / f"labelsTr/{name}.nii.gz", (0, 1, 2, 3))
    return folder


def test_version_2(second):
    touch(second, "imagesTr/._baby_1_0000.nii.gz", "imagesTr/readme.txt")
    dataset = NNUNET.open(second)
    assert dataset.source == "nnunet" and dataset.folder == second and dataset.notices == ()
    assert dataset.modalities == ("T1w", "T2w")
    assert dataset.schema == LabelSchema("Dataset012_Infants", {0: 0, 1: 1, 2: 2, 3: 3, 4: IGNORE})
    assert [(case.case_id, case.participant, case.split) for case in dataset.cases] == [
        ("baby_1", "baby_1", None),
        ("baby_2", "baby_2", None),
        ("baby_3", "baby_3", "test"),
    ]
    one, _, three = dataset.cases
    assert one.images == tuple(second / f"imagesTr/baby_1_000{i}.nii.gz" for i in range(2))
    assert one.labels == second / "labelsTr/baby_1.nii.gz"
    assert three.images == tuple(second / f"imagesTs/baby_3_000{i}.nii.gz" for i in range(2))
    assert three.labels is None
    every = [0, 1, 2, 3, IGNORE]
    assert classes_in(dataset) == {"baby_1": every, "baby_2": every}


def test_the_folder_above_may_be_given(second):
    touch(second.parent, "Dataset1_x/readme.txt", "results/dataset.json")
    dataset = NNUNET.open(second.parent)
    assert dataset.cases == NNUNET.open(second).cases and dataset.folder == second.parent
    shutil.copytree(second, second.parent / "Task7_Other")
    assert error_of(NNUNET, second.parent) == (
        f"{second.parent} contains several datasets, Dataset012_Infants, Task7_Other, expected the "
        "folder of one nnU-Net dataset, such as Dataset001_Infants with its dataset.json: give "
        "that folder."
    )
    assert error_of(NNUNET, second / "imagesTr").startswith(
        f"{second / 'imagesTr'} contains no dataset.json, expected the folder of one nnU-Net "
        "dataset"
    )


def test_test_cases_may_have_labels_and_another_number_is_noticed(second):
    save_labels(second / "labelsTs/baby_3.nii.gz", (0, 1))
    describe(second, {**SECOND, "numTraining": 3})
    dataset = NNUNET.open(second)
    assert dataset.cases[2].labels == second / "labelsTs/baby_3.nii.gz"
    assert dataset.notices == (
        f"{second / 'dataset.json'} announces 3 training cases, but 2 were found.",
    )


@pytest.mark.parametrize("wanted", [("T2w",), ("T2w", "T1w")])
def test_modalities_are_chosen_by_name(second, wanted):
    dataset = NNUNET.open(second, Query(modalities=wanted))
    assert dataset.modalities == wanted
    channels = {"T1w": 0, "T2w": 1}
    names = [f"baby_1_000{channels[name]}.nii.gz" for name in wanted]
    assert [path.name for path in dataset.cases[0].images] == names
    assert error_of(NNUNET, second, modalities=("FLAIR",)) == (
        f"--modalities names 'FLAIR', which {second / 'dataset.json'} does not have, expected some "
        "of T1w, T2w."
    )


def test_sessions_of_one_participant_share_it(second):
    for path in sorted(second.rglob("baby_*")):
        path.rename(path.with_name(path.name.replace("baby_", "sub-9_ses-")))
    assert {case.participant for case in NNUNET.open(second).cases} == {"sub-9"}


def test_version_1_uses_what_it_lists(first):
    dataset = NNUNET.open(first)
    assert dataset.modalities == ("T1",) and dataset.notices == ()
    assert dataset.schema == LabelSchema("Task501_Infants", {0: 0, 1: 3, 2: 2, 3: 1})
    assert [(case.case_id, case.split) for case in dataset.cases] == [("b", None), ("t", "test")]
    assert dataset.cases[0].images == (first / "imagesTr/b_0000.nii.gz",)
    assert dataset.cases[1].images == (first / "imagesTs/t_0000.nii.gz",)
    assert classes_in(dataset) == {"b": [0, 1, 2, 3]}


def test_version_1_without_lists_uses_all_that_is_there(first):
    describe(first, {**FIRST, "training": [], "test": [], "numTraining": 2})
    dataset = NNUNET.open(first)
    assert [(c.case_id, c.split) for c in dataset.cases] == [
        ("a", None),
        ("b", None),
        ("t", "test"),
    ]


def test_version_1_may_list_the_files_of_the_first_channel(first):
    listed = [{"image": "imagesTr/b_0000.nii.gz", "label": "labelsTr/b.nii.gz"}]
    describe(first, {**FIRST, "training": listed, "test": [{"image": "imagesTs/t_0000.nii.gz"}]})
    dataset = NNUNET.open(first)
    assert [case.case_id for case in dataset.cases] == ["b", "t"]
    assert dataset.cases[0].images == (first / "imagesTr/b_0000.nii.gz",)


@pytest.mark.parametrize("lists", [True, False])
def test_the_decathlons_files_have_no_number(first, lists):
    for path in sorted(first.rglob("*_0000.nii.gz")):
        path.rename(path.with_name(path.name.replace("_0000", "")))
    if not lists:
        describe(first, {**FIRST, "training": [], "test": [], "numTraining": 2})
    dataset = NNUNET.open(first)
    assert [case.case_id for case in dataset.cases] == (["b", "t"] if lists else ["a", "b", "t"])
    assert dataset.cases[-2].images == (first / "imagesTr/b.nii.gz",)
    describe(first, {**FIRST, "modality": {"0": "T1", "1": "T2"}})
    assert error_of(NNUNET, first) == (
        f"{first / 'imagesTr/b.nii.gz'} is the only image of its case, but "
        f"{first / 'dataset.json'} names the channels T1, T2, expected a file for each, "
        "b_0000.nii.gz and so on: split it."
    )


def test_version_2_may_name_the_files_of_each_case(second):
    table = {
        "a/b": {
            "images": ["imagesTr/baby_1_0000.nii.gz", "imagesTr/baby_2_0001.nii.gz"],
            "label": str(second / "labelsTr/baby_2.nii.gz"),
        }
    }
    describe(second, {**SECOND, "dataset": table, "numTraining": 1})
    one, three = NNUNET.open(second).cases
    assert (one.case_id, one.participant, three.case_id) == ("a_b", "a/b", "baby_3")
    assert [path.name for path in one.images] == ["baby_1_0000.nii.gz", "baby_2_0001.nii.gz"]
    assert one.labels == second / "labelsTr/baby_2.nii.gz"


@pytest.mark.parametrize("way", ["above", "absolute", "link"])
def test_files_outside_the_dataset_are_refused(second, way):
    outside = second.parent / "outside.nii.gz"
    save_labels(outside, (0, 1))
    os.symlink(outside, second / "link.nii.gz")
    label = {"above": "../outside.nii.gz", "absolute": str(outside), "link": "link.nii.gz"}[way]
    images = [f"imagesTr/baby_1_000{i}.nii.gz" for i in range(2)]
    describe(second, {**SECOND, "dataset": {"a": {"images": images, "label": label}}})
    assert error_of(NNUNET, second) == (
        f"{second / 'dataset.json'} names the file {label!r}, which is outside its folder, "
        "expected files below it: copy that file there."
    )


@pytest.mark.parametrize(
    "label",
    ["nowhere.nii.gz", "readme.txt", "", ".", "imagesTr", "a\0b.nii", "\ud800.nii", "x" * 999],
)
def test_what_is_no_volume_is_refused(second, label):
    touch(second, "readme.txt")
    images = [f"imagesTr/baby_1_000{i}.nii.gz" for i in range(2)]
    describe(second, {**SECOND, "dataset": {"a": {"images": images, "label": label}}})
    message = error_of(NNUNET, second)
    assert f"{second / 'dataset.json'} has '" in message and " for 'dataset', expected " in message
    assert message.isprintable()


def test_a_region_of_several_ids_needs_a_schema(second):
    labels = {"background": 0, "brain": [1, 2, 3], "GM": [2]}
    describe(second, {**SECOND, "labels": labels, "regions_class_order": [1, 2]})
    assert error_of(NNUNET, second) == (
        f"{second / 'dataset.json'} has the region 'brain' with the ids [1, 2, 3] among its "
        "labels, expected one id for each: say what each id means with --schema=FILE, a file with "
        "lines such as '2: GM'."
    )
    schema = LabelSchema("mine", {0: 0, 1: 1, 2: 2, 3: 3, 4: IGNORE})
    assert NNUNET.open(second, Query(schema=schema)).schema is schema


def test_labels_of_unknown_meaning_need_a_schema(second):
    describe(second, {**SECOND, "labels": {"background": 0, "lesion": 1}})
    assert error_of(NNUNET, second).startswith(
        f"{second / 'dataset.json'} has label names that could be any tissue (1 lesion), expected"
    )


@pytest.mark.parametrize("ending", [".png", ".tif", ".nrrd", "", 3])
def test_files_that_are_no_volumes_are_refused(second, ending):
    describe(second, {**SECOND, "file_ending": ending})
    assert error_of(NNUNET, second) == (
        f"{second / 'dataset.json'} has {ending!r} for 'file_ending', expected one of .nii.gz, "
        ".nii, .mgz, .mgh, .hdr.gz, .hdr."
    )


@pytest.mark.parametrize(
    "missing, sentence",
    [
        (
            "imagesTr/baby_2_0001.nii.gz",
            "The case baby_2 lacks {}, expected a file for each channel of {}/dataset.json.",
        ),
        (
            "imagesTs/baby_3_0000.nii.gz",
            "The case baby_3 lacks {}, expected a file for each channel of {}/dataset.json.",
        ),
        (
            "labelsTr/baby_2.nii.gz",
            "{1}/imagesTr/baby_2_0000.nii.gz has no label map, expected {0}.",
        ),
    ],
)
def test_a_missing_file_is_named(second, missing, sentence):
    (second / missing).unlink()
    assert error_of(NNUNET, second) == sentence.format(second / missing, second)


def test_a_listed_case_that_is_not_there_is_named(first):
    (first / "imagesTr/b_0000.nii.gz").unlink()
    assert error_of(NNUNET, first) == (
        f"The case b lacks {first / 'imagesTr/b_0000.nii.gz'}, expected a file for each channel "
        f"of {first / 'dataset.json'}."
    )


def test_a_label_map_without_an_image_is_named(second):
    touch(second, "labelsTr/baby_7.nii.gz")
    assert error_of(NNUNET, second) == (
        f"{second / 'labelsTr/baby_7.nii.gz'} is a label map without an image, expected "
        f"{second / 'imagesTr/baby_7_0000.nii.gz'}: add the image or remove the label map."
    )


@pytest.mark.parametrize("name", ["baby_1.nii.gz", "baby_1_0002.nii.gz", "baby_1_00.nii.gz"])
def test_an_image_of_no_channel_is_named(second, name):
    touch(second, f"imagesTr/{name}")
    assert error_of(NNUNET, second) == (
        f"{second / 'imagesTr' / name} belongs to none of the channels in "
        f"{second / 'dataset.json'}, expected from CASE_0000.nii.gz to CASE_0001.nii.gz: rename or "
        "remove it."
    )


def test_one_name_for_a_training_and_a_test_case_is_refused(second):
    for channel in range(2):
        touch(second, f"imagesTs/baby_1_000{channel}.nii.gz")
    assert error_of(NNUNET, second) == (
        f"{second / 'imagesTr/baby_1_0000.nii.gz'} and {second / 'imagesTs/baby_1_0000.nii.gz'} "
        "would both be the case baby_1, expected one scan for each: rename one of them."
    )


def test_no_case_at_all(tmp_path):
    describe(tmp_path, SECOND)
    assert error_of(NNUNET, tmp_path) == (
        f"{tmp_path} contains no case, expected {tmp_path / 'imagesTr/CASE_0000.nii.gz'} and so on."
    )


@pytest.mark.parametrize(
    "key, value",
    [
        *(
            ("channel_names", value)
            for value in (None, [], {}, {"1": "T1w"}, {"a": "T1w"}, {"0": 1})
        ),
        *(("channel_names", {"0": name}) for name in ("", " ", "a\nb", "\ud800", "x" * 201)),
        ("channel_names", {"0": "T1w", "1": "T1w"}),
        *(("labels", value) for value in (None, [], {}, {"GM": 1.5}, {"GM": True}, {"GM": -1})),
        *(("labels", value) for value in ({"GM": "1"}, {"GM": 2**31}, {"GM": None}, {"a\nb": 1})),
        ("labels", {"GM": 1, "WM": 1}),
        *(("dataset", value) for value in (None, [], 3, {"a": 3}, {"a": {"images": ["x"]}})),
        ("dataset", {"a": {"images": "xy", "label": "z"}}),
        ("dataset", {"a": {"images": [1, 2], "label": "z"}}),
    ],
)
def test_other_types_than_expected_are_named(second, key, value):
    describe(second, {**SECOND, key: value})
    message = error_of(NNUNET, second)
    assert message.startswith(f"{second / 'dataset.json'} has ")
    assert f" for '{key}', expected " in message and message.isprintable()


@pytest.mark.parametrize(
    "key, value",
    [
        ("modality", None),
        ("training", {"a": 1}),
        ("training", ["./imagesTr/b.nii.gz"]),  # no label map
        ("training", [{"image": "./imagesTr/b.nii.gz", "label": "./imagesTr/b.nii.gz"}]),
        ("training", [{"image": "/imagesTr/b.nii.gz", "label": "labelsTr/b.nii.gz"}]),
        ("training", [{"image": "imagesTr/b.mha", "label": "labelsTr/b.mha"}]),
        ("training", [3]),
        ("test", ["imagesTs/../../imagesTs/t.nii.gz"]),
        ("test", ["../t.nii.gz"]),
        ("test", ["imagesTs/a\0.nii.gz"]),
    ],
)
def test_other_types_than_expected_are_named_in_version_1(first, key, value):
    describe(first, {**FIRST, key: value})
    message = error_of(NNUNET, first)
    assert message.startswith(f"{first / 'dataset.json'} has ")
    assert f" for '{key}', expected " in message and message.isprintable()


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("{", "is not valid JSON (Expecting property name"),
        ("[" * 100_000, "is not valid JSON (maximum recursion depth"),
        ("\xff", "is not UTF-8 text ('utf-8' codec can't decode"),
        ("[1, 2]", "contains [1, 2], expected nnU-Net's description."),
        (" " * (2**26 + 1), "is too large to read, expected at most 67108864 bytes."),
    ],
)
def test_a_damaged_description_is_one_sentence(tmp_path, text, sentence):
    (tmp_path / "dataset.json").write_text(text, encoding="latin-1")
    assert error_of(NNUNET, tmp_path).startswith(f"{tmp_path / 'dataset.json'} {sentence}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    base=st.sampled_from([FIRST, SECOND]),
    changes=st.dictionaries(
        st.sampled_from(sorted({*FIRST, *SECOND, "dataset"})), JSON, min_size=1, max_size=3
    ),
)
def test_any_json_gives_cases_or_a_sentence(tmp_path, base, changes):
    describe(tmp_path, {**base, **changes})
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz")
    try:
        assert NNUNET.open(tmp_path).cases
    except InputError as error:
        assert str(error).endswith(".") and str(error).isprintable()
