from pathlib import Path

import pytest

from infant_seg_jax.data.subjects import subject_of


@pytest.mark.parametrize(
    ("names", "subject"),
    [
        (("IBSR_01.nii.gz", "IBSR_01_seg.nii.gz", "ibsr_01_segTRI_ana.nii"), "ibsr_01"),
        (("IBSR_01_ana_strip.nii.gz",), "ibsr_01"),
        (("img/img_001.nii.gz", "mask/mask_001.nii", "mask/seg_001.mgz"), "001"),
        (("img/img_0001.nii.gz",), "0001"),
        (("subject-1-T1.hdr", "subject-1-T2.hdr", "subject-1-label.hdr"), "subject_1"),
        (("imagesTr/BABY_07_0000.nii.gz", "imagesTr/BABY_07_0001.nii.gz"), "baby_07"),
        (("labelsTr/BABY_07.nii.gz", "imagesTs/BABY_07_0000.nii.gz"), "baby_07"),
        (("scans_0000.nii.gz",), "scans_0000"),
        (
            (
                "sub-A/ses-1/anat/sub-A_ses-1_T2w.nii.gz",
                "derivatives/x/sub-A/ses-1/anat/sub-A_ses-1_desc-drawem9_dseg.nii.gz",
                "sub-A_ses-1_space-T2w_desc-brain_mask.nii.gz",
                "sub-A_ses-1_run-2_T1w.nii",
            ),
            "sub-A_ses-1",
        ),
        (("sub-A_T1w.nii.gz", "sub-A_dseg.nii.gz"), "sub-A"),
        (("anna/T1.nii.gz", "anna/seg.nii.gz", "anna/brain_mask.nii.gz"), "anna"),
    ],
)
def test_files_of_one_head_have_one_subject(names: tuple[str, ...], subject: str) -> None:
    assert {subject_of(Path(name)) for name in names} == {subject}


def test_different_heads_have_different_subjects() -> None:
    names = ("IBSR_01.nii", "IBSR_02.nii", "01.nii", "sub-1_T1w.nii", "sub-1_ses-2_T1w.nii", "T1")
    assert len({subject_of(Path("folder") / name) for name in names}) == len(names)
