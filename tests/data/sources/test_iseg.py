import pytest

from infant_seg_jax.data.ages import Age
from infant_seg_jax.data.labels import LabelSchema
from infant_seg_jax.data.schemas import ISEG_SCHEMA
from infant_seg_jax.data.sources import SOURCES, Query
from tests.data.sources.trees import classes_in, error_of, save_image, save_labels, touch

ISEG = SOURCES["iseg"]


@pytest.fixture(params=[".hdr", ".nii.gz"])
def challenge(tmp_path, request):
    """Three training subjects with labels and one to test on, as Analyze pairs or converted."""
    for number, folder in ((1, "Training"), (2, "Training"), (10, "Training"), (11, "Testing")):
        subject = tmp_path / f"iSeg-2017-{folder}" / f"subject-{number}"
        for kind in ("T1", "T2"):
            save_image(subject.with_name(f"{subject.name}-{kind}{request.param}"), number)
        if folder == "Training":
            save_labels(
                subject.with_name(f"{subject.name}-label{request.param}"), (0, 10, 150, 250)
            )
    touch(tmp_path, "iSeg-2017-Training/README.txt", "__MACOSX/._subject-1-T1.hdr")
    return tmp_path, request.param


def test_subjects_with_both_modalities_in_the_order_of_their_numbers(challenge):
    folder, ending = challenge
    dataset = ISEG.open(folder)
    assert dataset.source == "iseg" and dataset.folder == folder
    assert dataset.modalities == ("T1w", "T2w") and dataset.schema is ISEG_SCHEMA
    ids = ["subject-01", "subject-02", "subject-10", "subject-11"]
    assert [case.case_id for case in dataset.cases] == ids
    assert [case.participant for case in dataset.cases] == ids
    assert all(case.age == Age(6.0, "months") and not case.split for case in dataset.cases)
    training = folder / "iSeg-2017-Training"
    first, last = dataset.cases[0], dataset.cases[-1]
    assert first.images == (training / f"subject-1-T1{ending}", training / f"subject-1-T2{ending}")
    assert first.labels == training / f"subject-1-label{ending}"
    assert last.labels is None
    assert dataset.notices == ("1 of 4 subjects have no label map: subject-11.",)


def test_volumes_read_and_labels_mean_csf_gm_and_wm(challenge):
    folder, _ = challenge
    found = classes_in(ISEG.open(folder))
    assert found == {f"subject-{number:02}": [0, 1, 2, 3] for number in (1, 2, 10)}


@pytest.mark.parametrize("wanted", [("T2w",), ("T1w",), ("T2w", "T1w")])
def test_modalities_and_schema_can_be_chosen(challenge, wanted):
    folder, ending = challenge
    schema = LabelSchema("mine", {0: 0})
    dataset = ISEG.open(folder, Query(modalities=wanted, schema=schema))
    assert dataset.modalities == wanted and dataset.schema is schema
    names = [f"subject-1-{modality[:2]}{ending}" for modality in wanted]
    assert [path.name for path in dataset.cases[0].images] == names


def test_a_folder_of_training_subjects_alone_has_no_notice(challenge):
    dataset = ISEG.open(challenge[0] / "iSeg-2017-Training")
    assert len(dataset.cases) == 3 and dataset.notices == ()


def test_a_missing_modality_matters_only_if_it_is_wanted(tmp_path):
    touch(tmp_path, "subject-3-T1.hdr", "subject-3-T1.img", "subject-3-label.nii")
    assert error_of(ISEG, tmp_path) == (
        f"Subject 3 has no T2w scan, expected subject-3-T2 beside {tmp_path / 'subject-3-T1.hdr'}."
    )
    (case,) = ISEG.open(tmp_path, Query(modalities=("T1w",))).cases
    assert case.images == (tmp_path / "subject-3-T1.hdr",)
    assert case.labels == tmp_path / "subject-3-label.nii"


def test_a_label_map_without_a_scan_is_named(tmp_path):
    touch(tmp_path, "subject-3-label.hdr")
    assert error_of(ISEG, tmp_path) == (
        "Subject 3 has no T1w scan, expected subject-3-T1 beside "
        f"{tmp_path / 'subject-3-label.hdr'}."
    )


def test_a_subject_of_both_challenges_is_refused(tmp_path):
    names = [f"iSeg-{year}-Training/subject-1-T1.hdr" for year in (2017, 2019)]
    touch(tmp_path, *names)
    assert error_of(ISEG, tmp_path) == (
        f"The T1 of subject 1 exists twice, as {tmp_path / names[0]} and as "
        f"{tmp_path / names[1]}, expected one: give the folder of one of them, or remove one."
    )


def test_a_modality_that_iseg_lacks_is_refused(challenge):
    folder, _ = challenge
    assert error_of(ISEG, folder, modalities=("T1w", "FLAIR")) == (
        f"--modalities names 'FLAIR', which {folder} does not have, expected some of T1w, T2w."
    )
    assert error_of(ISEG, folder, modalities=("T1w", "T1w")) == (
        "--modalities names 'T1w' 2 times, expected each name once."
    )


def test_nothing_found_says_what_was_looked_for(tmp_path):
    touch(tmp_path, "subject-1.nii.gz", "subject-1-T1.txt", "subject-1-T1.img", "sub-1-T1.hdr")
    assert error_of(ISEG, tmp_path) == (
        f"{tmp_path} contains no iSeg subject, expected subject-N-T1.hdr with subject-N-T1.img (or "
        "subject-N-T1.nii.gz) and so on somewhere below it."
    )
