"""One file's report against what the file was made of, and every warning provoked."""

import gzip
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.data.ages import Age
from infant_seg_jax.data.inspection import (
    LABEL_MAP,
    MASK,
    SCAN,
    FileReport,
    Inspection,
    Remark,
    inspect_file,
    inspect_paths,
)
from infant_seg_jax.data.inspection.kinds import kind_of
from infant_seg_jax.data.labels import LabelSchema
from infant_seg_jax.data.phantom import INFANT, Phantom, render_phantom, write_cohort
from infant_seg_jax.data.schemas import ISEG_SCHEMA, SCHEMAS, TISSUE_SCHEMA
from tests.data.volume_files import affine_of, error_of, no_sform, put, reorient, save, save_raw

QFORM_CODE = 252


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return render_phantom(0)


def whole(phantom: Phantom) -> np.ndarray:
    """The phantom's image as integers, as scanners write them."""
    return np.round(100 * phantom.image).astype(np.int16)


def about(remarks: tuple[Remark, ...]) -> list[str]:
    return [remark.about for remark in remarks]


def sentence_on(what: str, report: FileReport | Inspection) -> str:
    """The only remark, which must be about `what`."""
    remarks = report.remarks if isinstance(report, FileReport) else report.all_remarks()
    (remark,) = remarks
    assert remark.about == what
    assert remark.sentence.endswith((".", "?")) and "\n" not in remark.sentence
    return remark.sentence


class TestKinds:
    def test_scans(self, phantom: Phantom) -> None:
        rng = np.random.default_rng(0)
        coarse = np.round(30 * phantom.image).astype(np.float32)  # about 40 gray values
        assert len(np.unique(coarse)) < 50
        for scan in (
            phantom.image,
            whole(phantom).astype(np.float32),
            coarse,
            coarse - 1000,  # air is not always 0
            rng.poisson(4, (20, 20, 20)).astype(np.float32),
            phantom.label_map * np.float32(0.5),  # no whole numbers
        ):
            assert kind_of(scan) == (SCAN, {})

    def test_label_maps(self, phantom: Phantom) -> None:
        label_map = phantom.label_map.astype(np.float32)
        parcels = np.kron(np.arange(400).reshape(10, 10, 4), np.ones((3, 3, 3))).astype(np.float32)
        for array in (label_map, label_map[20:60, 20:60, 20:60], label_map + 7, parcels):
            kind, counts = kind_of(array)
            values, voxels = np.unique(array, return_counts=True)
            assert kind == LABEL_MAP
            assert counts == dict(zip(values.astype(int), voxels, strict=True))

    def test_a_slope_may_leave_labels_that_are_not_quite_whole(self, phantom: Phantom) -> None:
        label_map = phantom.label_map * np.float32(1.00001)
        kind, counts = kind_of(label_map)
        assert kind == LABEL_MAP
        assert sorted(counts) == [0, 1, 2, 3]

    def test_large_ids(self) -> None:
        label_map = np.repeat(np.array([0, 5, 3_000_000], np.float32), 9).reshape(3, 3, 3)
        assert kind_of(label_map) == (LABEL_MAP, {0: 9, 5: 9, 3_000_000: 9})

    def test_masks(self, phantom: Phantom) -> None:
        for value in (1, 255, -1):
            mask = np.where(phantom.label_map > 0, value, 0).astype(np.float32)
            assert kind_of(mask)[0] == MASK
        assert kind_of(mask + 3)[0] == LABEL_MAP  # without 0, two tissues

    def test_single_voxels_are_a_label_map(self) -> None:
        points = np.zeros((9, 9, 9), np.float32)
        points[2, 2, 2], points[6, 6, 6] = 1, 2
        assert kind_of(points)[0] == LABEL_MAP


class TestOneFile:
    def test_a_scan(self, tmp_path: Path, phantom: Phantom) -> None:
        stored, affine = reorient(whole(phantom), phantom.affine, (1, 0, 2), (True, False, True))
        path = save(tmp_path / "scan.nii.gz", stored, affine)
        report = inspect_file(path)
        brain_ml = np.count_nonzero(phantom.label_map) * 8 / 1000
        assert report == replace(
            report,
            path=path,
            kind=SCAN,
            shape=(96, 80, 80),
            spacing=(2.0, 2.0, 2.0),
            axes="PRI",
            dtype="int16",
            scale=None,
            low=0.0,
            high=float(whole(phantom).max()),
            extent="brain",
            labels=(),
            schema="",
            schema_assumed=False,
            age=None,
            remarks=(),
        )
        assert report.outline_ml == pytest.approx(brain_ml, rel=0.01)

    def test_a_label_map(self, tmp_path: Path, phantom: Phantom) -> None:
        path = save(tmp_path / "labels.mgz", phantom.label_map, phantom.affine, nib.MGHImage)
        report = inspect_file(path)
        voxels = [np.count_nonzero(phantom.label_map == value) for value in range(4)]
        assert report.kind == LABEL_MAP and report.remarks == ()
        assert (report.schema, report.schema_assumed) == ("tissues", True)
        assert [label.value for label in report.labels] == [0, 1, 2, 3]
        assert [label.name for label in report.labels] == ["background", "CSF", "GM", "WM"]
        assert [label.voxels for label in report.labels] == voxels
        assert [label.ml for label in report.labels] == pytest.approx(np.multiply(voxels, 0.008))
        assert report.outline_ml == pytest.approx(sum(voxels[1:]) * 0.008)

    def test_a_mask_and_a_big_endian_type(self, tmp_path: Path, phantom: Phantom) -> None:
        mask = (phantom.label_map > 0).astype(">i2")
        report = inspect_file(save(tmp_path / "mask.nii", mask, phantom.affine))
        assert (report.kind, report.dtype, report.schema) == (MASK, "int16", "")
        assert [label.value for label in report.labels] == [0, 1]
        assert report.remarks == ()

    def test_a_scaled_scan(self, tmp_path: Path, phantom: Phantom) -> None:
        image: Any = nib.Nifti1Image(whole(phantom), phantom.affine)
        image.header.set_slope_inter(0.5, 3)
        nib.save(image, tmp_path / "scan.nii")
        report = inspect_file(tmp_path / "scan.nii")
        assert (report.dtype, report.scale) == ("int16", (0.5, 3.0))
        assert (report.low, report.high) == (3, 0.5 * whole(phantom).max() + 3)

    def test_a_head(self, tmp_path: Path, phantom: Phantom) -> None:
        noise = np.random.default_rng(0).rayleigh(3, phantom.image.shape)
        report = inspect_file(
            save(tmp_path / "head.nii", whole(phantom) + noise.astype(np.int16), phantom.affine)
        )
        assert (report.kind, report.extent, report.remarks) == (SCAN, "head", ())

    def test_neither_size_nor_recompression_hides_the_same_voxels(
        self, tmp_path: Path, phantom: Phantom
    ) -> None:
        padded = np.pad(whole(phantom), 4)
        one = inspect_file(save(tmp_path / "one.nii.gz", whole(phantom), phantom.affine))
        two = inspect_file(save(tmp_path / "two.nii", padded, phantom.affine))
        other = inspect_file(save(tmp_path / "other.nii", whole(phantom) // 2, phantom.affine))
        assert one.voxels_sha256 == two.voxels_sha256 != other.voxels_sha256

    def test_an_empty_file_is_refused(self, tmp_path: Path) -> None:
        path = save(tmp_path / "empty.nii", np.zeros((4, 4, 4), np.uint8))
        assert "is empty" in error_of(inspect_file, path)

    @pytest.mark.parametrize("sizes", [(1, 1, 3), (0.5, 0.5, 1.3), (0.1, 0.1, 0.1)])
    def test_odd_spacing(
        self, tmp_path: Path, phantom: Phantom, sizes: tuple[float, float, float]
    ) -> None:
        mask = (phantom.label_map > 0).astype(np.uint8)
        path = save(tmp_path / "mask.nii", mask, np.diag([*sizes, 1]))
        said = sentence_on("spacing", inspect_file(path))
        size = "x".join(f"{size:g}" for size in map(float, sizes))
        assert said == (
            f"{path} has voxels of {size} mm, expected 0.25 to 2.5 mm and no side more than 2.5 "
            "times another: is that right?"
        )

    def test_the_largest_voxels_that_are_not_odd(self, tmp_path: Path, phantom: Phantom) -> None:
        mask = (phantom.label_map > 0).astype(np.uint8)
        path = save(tmp_path / "mask.nii", mask, affine_of((2.5, 1.0, 2.5), degrees=(7, 11, 31)))
        assert inspect_file(path).remarks == ()

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ({(0, 1): 0.2}, "has axes 84 degrees apart, expected right angles"),
            ({(0, 3): 500.0}, "mm from the origin of its coordinates, expected at most 300"),
        ],
    )
    def test_suspicious_affines(
        self,
        tmp_path: Path,
        phantom: Phantom,
        change: Mapping[tuple[int, int], float],
        sentence: str,
    ) -> None:
        mask = (phantom.label_map > 0).astype(np.uint8)
        affine = phantom.affine.copy()
        for place, value in change.items():
            affine[place] = value
        save(tmp_path / "mask.nii", mask, affine)
        if (0, 1) in change:  # a qform has right angles
            image: Any = nib.Nifti1Image(mask, None)
            image.header.set_sform(affine, 1)
            nib.save(image, tmp_path / "mask.nii")
        assert sentence in sentence_on("affine", inspect_file(tmp_path / "mask.nii"))

    def test_the_identity_is_suspicious(self, tmp_path: Path, phantom: Phantom) -> None:
        mask = (phantom.label_map > 0).astype(np.uint8)
        path = save(tmp_path / "mask.nii", mask, np.eye(4))
        said = sentence_on("affine", inspect_file(path))
        assert said.startswith(f"{path} has the identity as its affine")

    def test_what_the_header_leaves_open(self, tmp_path: Path) -> None:
        mask = np.zeros((9, 9, 9), np.int16)
        mask[3:6, 3:6, 3:6] = 1
        path = save_raw(tmp_path / "mask.nii", put(QFORM_CODE, "hh", 0, 0), mask)
        report = inspect_file(path)
        said = [remark.sentence for remark in report.remarks if remark.about == "header"]
        assert len(said) == 1 and "neither a qform nor a sform" in said[0]
        assert not inspect_file(save_raw(tmp_path / "q.nii", no_sform, mask)).remarks

    def test_wrapped_voxels(self, tmp_path: Path, phantom: Phantom) -> None:
        scan = whole(phantom).astype(np.uint16)
        scan[40, 48, 40] = scan[41, 48, 40] = 65_500
        path = save(tmp_path / "scan.nii", scan, phantom.affine)
        usual = np.percentile(scan[phantom.label_map > 0], 99.9)
        said = sentence_on("intensities", inspect_file(path))
        assert said == (
            f"{path} has 2 voxels up to 65500 where 99.9% are at most {usual:.6g}, as wrapped or "
            "broken voxels are, and they distort normalisation: prepare it with "
            "--clip_percentiles=0,99.9."
        )

    def test_a_brain_too_small_for_its_age(self, tmp_path: Path, phantom: Phantom) -> None:
        path = save(tmp_path / "scan.nii", whole(phantom), np.diag([1, 1, 1, 1.0]) + _shift())
        assert inspect_file(path, age=Age(28.0, "weeks postmenstrual")).remarks == ()
        said = sentence_on("volumes", inspect_file(path, age=Age(6.0, "years")))
        assert said.startswith(f"{path} is far from plausible at 6 years: brain 1")
        assert "ml (expected 800 to 1950); check its voxel size, its age" in said

    def test_implausible_tissues(self, tmp_path: Path, phantom: Phantom) -> None:
        csf_last = np.array([0, 3, 1, 2], np.uint8)[phantom.label_map]  # GM, WM, CSF: 1, 2, 3
        path = save(tmp_path / "labels.nii", csf_last, phantom.affine)
        said = sentence_on("volumes", inspect_file(path, age=Age(20.0, "years")))
        assert said.startswith(f"{path} is far from plausible at 20 years: CSF 683 ml (expected 0")
        assert said.endswith("whether its values are those of the schema 'tissues'.")


def _shift() -> np.ndarray:
    shift = np.zeros((4, 4))
    shift[:3, 3] = -40
    return shift


class TestSchemas:
    @pytest.mark.parametrize("name", ["tissues", "iseg", "drawem9", "drawem87", "freesurfer"])
    def test_the_right_one_is_guessed(self, tmp_path: Path, phantom: Phantom, name: str) -> None:
        table = SCHEMAS[name].table
        path = _save_in_ids(tmp_path / "labels.nii.gz", phantom, table)
        report = inspect_file(path)
        assert (report.schema, report.schema_assumed, report.remarks) == (name, True, ())
        by_class = {
            tissue: sum(label.voxels for label in report.labels if label.name == tissue)
            for tissue in ("CSF", "GM", "WM")
        }
        assert list(by_class.values()) == [
            np.count_nonzero(phantom.label_map == value) for value in (1, 2, 3)
        ]

    def test_a_schema_that_leaves_some_out_is_better_than_none(
        self, tmp_path: Path, phantom: Phantom
    ) -> None:
        table = SCHEMAS["freesurfer"].table
        path = _save_in_ids(tmp_path / "labels.nii.gz", phantom, table, head=900)
        report = inspect_file(path)
        said = sentence_on("labels", report)
        assert report.schema == "freesurfer"
        head = (phantom.label_map == 0)[5:-5, 5:10, 5:-5].sum() * 0.008
        assert f"holds values outside the schema 'freesurfer': 900 ({head:.3g} ml); say" in said

    def test_values_that_nobody_knows(self, tmp_path: Path) -> None:
        label_map = np.zeros((30, 30, 30), np.int16)
        label_map[5:25, 5:25, 5:15], label_map[5:25, 5:25, 15:25] = 900, 901
        path = save(tmp_path / "labels.nii", label_map)
        report = inspect_file(path)
        assert report.schema == "" and not report.schema_assumed
        said = sentence_on("labels", report)
        ml = 4000 * 0.9 * 1.5 * 1.1 / 1000
        assert said == (
            f"{path} holds values outside every schema that has a name: 900 ({ml:.3g} ml), 901 "
            f"({ml:.3g} ml); say what they mean with --schema=NAME, or with --schema=FILE, a file "
            "with lines such as '7: GM'."
        )

    def test_the_one_that_is_given_is_used(self, tmp_path: Path, phantom: Phantom) -> None:
        path = save(tmp_path / "labels.nii", phantom.label_map, phantom.affine)
        ours = LabelSchema("ours", {0: 0, 1: 1, 2: 2, 3: 3})
        report = inspect_file(path, ours)
        assert (report.schema, report.schema_assumed, report.remarks) == ("ours", False, ())
        report = inspect_file(path, ISEG_SCHEMA)
        assert about(report.remarks) == ["labels", "volumes"]
        assert "outside the schema 'iseg': 1 (" in [*report.remarks][0].sentence

    def test_a_schema_from_a_file_names_its_values(self, tmp_path: Path, phantom: Phantom) -> None:
        path = save(tmp_path / "labels.nii", phantom.label_map, phantom.affine)
        exchanged = LabelSchema("exchanged", {0: 0, 1: 1, 2: 3, 3: 2})
        assert [v.name for v in inspect_file(path, exchanged).labels][2:] == ["WM", "GM"]


def _save_in_ids(
    path: Path, phantom: Phantom, table: Mapping[int, int], head: int | None = None
) -> Path:
    """The phantom with each tissue in slabs of all the ids that mean it."""
    label_map = np.zeros(phantom.label_map.shape, np.int16)
    for tissue in (1, 2, 3):
        ids = [source for source, target in table.items() if target == tissue and source < 1000]
        slabs = np.array(ids)[np.arange(len(label_map[0])) // 4 % len(ids)]
        label_map = np.where(phantom.label_map == tissue, slabs[None, :, None], label_map)
    if head is not None:
        part = label_map[5:-5, 5:10, 5:-5]
        part[part == 0] = head
    return save(path, label_map.astype(np.int16), phantom.affine)


class TestSets:
    def test_a_clean_cohort(self, tmp_path: Path) -> None:
        write_cohort(tmp_path / "scans", range(2), shape=(48, 56, 48), spacing=2.4, anatomy=INFANT)
        inspection = inspect_paths([tmp_path / "scans"])
        kinds = [SCAN, LABEL_MAP]
        assert [file.kind for file in inspection.files] == kinds * 2
        assert inspection.failures == () and inspection.all_remarks() == ()
        assert len(inspection.of_kind(SCAN)) == 2

    def test_a_broken_file_is_told_and_the_rest_goes_on(
        self, tmp_path: Path, phantom: Phantom
    ) -> None:
        for name in ("a_T1w.nii", "b_T1w.nii"):
            save(tmp_path / name, whole(phantom) + (name > "b"), phantom.affine)
        broken = tmp_path / "a_seg.nii"
        broken.write_bytes((tmp_path / "a_T1w.nii").read_bytes()[:2000])
        inspection = inspect_paths([tmp_path])
        assert [failure.path for failure in inspection.failures] == [broken]
        assert str(broken) in inspection.failures[0].sentence
        assert len(inspection.files) == 2

    def test_each_file_once_whatever_half_of_it_is_named(
        self, tmp_path: Path, phantom: Phantom
    ) -> None:
        scan, small = whole(phantom), phantom.affine
        save(tmp_path / "one.hdr", scan, small, nib.Nifti1Pair)
        save(tmp_path / "two.nii", scan + 1, small)
        hidden = tmp_path / ".git" / "annex"
        hidden.mkdir(parents=True)
        save(hidden / "two.nii", scan, small)
        save(tmp_path / "._two.nii", scan, small)
        inspection = inspect_paths([tmp_path / "one.img", tmp_path / "two.nii", tmp_path])
        assert [file.path.name for file in inspection.files] == ["one.hdr", "two.nii"]

    @pytest.mark.parametrize(
        ("name", "sentence"),
        [
            ("nowhere.nii", "There is no file or folder"),
            ("text.txt", "is not a volume by its name"),
            ("empty", "holds no volume, expected .nii, .nii.gz"),
        ],
    )
    def test_wrong_paths(self, tmp_path: Path, name: str, sentence: str) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "text.txt").write_text("text")
        said = error_of(inspect_paths, [tmp_path / name])
        assert sentence in said and str(tmp_path / name) in said

    def test_the_axis_order_of_files_does_not_matter(
        self, tmp_path: Path, phantom: Phantom
    ) -> None:
        save(tmp_path / "scan.nii", whole(phantom), phantom.affine)
        stored, affine = reorient(phantom.label_map, phantom.affine, (2, 0, 1), (True, True, False))
        save(tmp_path / "seg.nii", stored, affine)
        assert inspect_paths([tmp_path]).all_remarks() == ()

    @pytest.mark.parametrize("kind", ["label map", "mask"])
    def test_other_grids(self, tmp_path: Path, phantom: Phantom, kind: str) -> None:
        labels = phantom.label_map if kind == "label map" else (phantom.label_map > 0).view("u1")
        scan = save(tmp_path / "a.nii", whole(phantom), phantom.affine)
        seg = save(tmp_path / "a_seg.nii", labels[:, :, 1:], phantom.affine)
        said = [r.sentence for r in inspect_paths([tmp_path]).all_remarks() if r.about == "grid"]
        assert said == [
            f"The {kind} does not match its scan: {seg} has the shape 80x96x79 but {scan} has "
            "80x96x80, expected one grid for both."
        ]
        moved = phantom.affine.copy()
        moved[2, 3] += 4
        save(seg, labels, moved)
        said = [r.sentence for r in inspect_paths([tmp_path]).all_remarks() if r.about == "grid"]
        assert len(said) == 1 and f"{seg} lies up to 4 mm away from {scan}" in said[0]

    def test_one_scan_on_the_same_grid_is_enough(self, tmp_path: Path, phantom: Phantom) -> None:
        save(tmp_path / "a_T1w.nii", whole(phantom)[:, 1:], phantom.affine)
        save(tmp_path / "a_T2w.nii", whole(phantom), phantom.affine)
        save(tmp_path / "a_seg.nii", phantom.label_map, phantom.affine)
        assert inspect_paths([tmp_path]).all_remarks() == ()

    def test_of_several_scans_the_nearest_counts(self, tmp_path: Path, phantom: Phantom) -> None:
        for site, spacing in (("site1", 2.0), ("site2", 2.1)):
            affine = phantom.affine @ np.diag([spacing / 2] * 3 + [1])
            for name, array in (("scans/01", whole(phantom)), ("labels/01", phantom.label_map)):
                (tmp_path / site / name).parent.mkdir(parents=True)
                save(tmp_path / site / f"{name}.nii", array, affine)
        assert "grid" not in about(inspect_paths([tmp_path]).all_remarks())

    def test_a_label_map_that_lies_elsewhere(self, tmp_path: Path, phantom: Phantom) -> None:
        scan = save(tmp_path / "a.nii", whole(phantom), phantom.affine)
        shifted = np.roll(phantom.label_map, 45, axis=1)
        seg = save(tmp_path / "a_seg.nii", shifted, phantom.affine)
        inside = np.count_nonzero(shifted[phantom.image > 0]) / np.count_nonzero(shifted)
        assert sentence_on("overlap", inspect_paths([tmp_path])) == (
            f"{seg} has {inside:.0%} of its label map inside the outline of {scan}, expected 70% "
            "at least: is it flipped, shifted or someone else's?"
        )

    def test_scans_without_labels_are_counted(self, tmp_path: Path, phantom: Phantom) -> None:
        for number in range(3):
            save(tmp_path / f"{number}.nii", whole(phantom) + number, phantom.affine)
        said = sentence_on("labels", _unrepeated(inspect_paths([tmp_path])))
        assert said.startswith("No scan has a label map of the same name: that will do to predict")
        save(tmp_path / "0_seg.nii", phantom.label_map, phantom.affine)
        said = sentence_on("labels", _unrepeated(inspect_paths([tmp_path])))
        assert said.startswith("2 of 3 scans have no label map of the same name")

    def test_label_maps_alone_are_fine(self, tmp_path: Path, phantom: Phantom) -> None:
        save(tmp_path / "a.nii", phantom.label_map, phantom.affine)
        assert inspect_paths([tmp_path], TISSUE_SCHEMA).all_remarks() == ()

    def test_one_scan_under_two_names(self, tmp_path: Path, phantom: Phantom) -> None:
        one = save(tmp_path / "anna.nii", whole(phantom), phantom.affine)
        two = tmp_path / "berta.nii.gz"
        two.write_bytes(gzip.compress(one.read_bytes(), mtime=3))
        said = [r.sentence for r in inspect_paths([tmp_path]).remarks if r.about == "repeated"]
        assert said == [
            f"{one} and {two} hold the same voxels under several names: would leak from training "
            "to test."
        ]

    def test_one_head_under_two_names(self, tmp_path: Path, phantom: Phantom) -> None:
        one = save(tmp_path / "anna.nii", whole(phantom), phantom.affine)
        brighter = np.where(phantom.image > 0, whole(phantom) + 9, 0)
        two = save(tmp_path / "berta.nii", brighter, phantom.affine)
        said = [r.sentence for r in inspect_paths([tmp_path]).remarks if r.about == "repeated"]
        assert said == [
            f"{one} and {two} have the same outline, voxel by voxel, under several names: if they "
            "show one head, it would leak from training to test."
        ]

    def test_a_copy_of_a_copy_and_a_mask_for_all(self, tmp_path: Path, phantom: Phantom) -> None:
        for number in range(6):
            save(tmp_path / f"{number}.nii", whole(phantom), phantom.affine)
            mask = (phantom.label_map > 0).astype(np.uint8)
            save(tmp_path / f"{number}_mask.nii", mask, phantom.affine)
        (said,) = [r.sentence for r in inspect_paths([tmp_path]).remarks if r.about == "repeated"]
        assert f"{tmp_path}/3.nii and 2 more hold the same voxels" in said

    def test_one_participant_may_be_there_twice(self, tmp_path: Path, phantom: Phantom) -> None:
        for session in ("ses-1", "ses-2"):
            save(tmp_path / f"sub-1_{session}_T1w.nii", whole(phantom), phantom.affine)
        assert about(inspect_paths([tmp_path]).remarks) == ["labels"]


def _unrepeated(inspection: Inspection) -> Inspection:
    """Without the remarks that all show one phantom."""
    kept = tuple(remark for remark in inspection.remarks if remark.about != "repeated")
    return replace(inspection, remarks=kept)


class TestBids:
    @pytest.fixture
    def tree(self, tmp_path: Path, phantom: Phantom) -> Path:
        for number, name in enumerate(("sub-1", "sub-2")):
            folder = tmp_path / name / "anat"
            folder.mkdir(parents=True)
            save(folder / f"{name}_T1w.nii.gz", whole(phantom) + number, phantom.affine)
        (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-1\t30\nsub-2\t40\n")
        return tmp_path

    def test_ages_come_from_tables(self, tree: Path, phantom: Phantom) -> None:
        derivative = tree / "derivatives" / "me" / "sub-1" / "anat"
        derivative.mkdir(parents=True)
        save(derivative / "sub-1_desc-brain_dseg.nii.gz", phantom.label_map, phantom.affine)
        files = inspect_paths([tree]).files
        assert {file.path.name: str(file.age) for file in files} == {
            "sub-1_T1w.nii.gz": "30 years",
            "sub-2_T1w.nii.gz": "40 years",
            "sub-1_desc-brain_dseg.nii.gz": "30 years",
        }
        assert [file.kind for file in files] == [LABEL_MAP, SCAN, SCAN]  # subject by subject

    def test_ages_of_dhcp(self, tree: Path) -> None:
        (tree / "participants.tsv").write_text("participant_id\tscan_age\nsub-1\t38.5\n")
        files = inspect_paths([tree]).files
        assert [str(file.age) for file in files] == ["38.5 weeks postmenstrual", "None"]
        assert "at 38.5 weeks postmenstrual: brain" in files[0].remarks[0].sentence

    def test_tables_that_name_what_is_not_there(self, tree: Path) -> None:
        (tree / "sub-1" / "sub-1_scans.tsv").write_text("filename\tage\nanat/sub-9_T1w.nii.gz\t4\n")
        remarks = [r for r in inspect_paths([tree]).remarks if r.about == "tables"]
        assert len(remarks) == 1
        assert "scans.tsv that name files that are not there: 1" in remarks[0].sentence
        # What was not asked about is not judged.
        remarks = inspect_paths([tree / "sub-2"]).remarks
        assert about(remarks) == ["labels"]


class TestRealScans:
    @pytest.mark.slow
    def test_ibsr(self, real_data: Path) -> None:
        inspection = inspect_paths([real_data / "ibsr18"])
        for file in inspection.files:
            label_map = file.path.name.endswith("_seg.nii.gz")
            assert file.kind == (LABEL_MAP if label_map else SCAN)
            assert file.schema == ("tissues" if label_map else "")
            assert file.extent == ("" if label_map else "brain")
            assert file.axes == "RAS"
        assert inspection.failures == ()
        assert sentence_on("labels", inspection).startswith("3 of 18 scans have no label map")

    @pytest.mark.slow
    def test_infants_in_bids(self, real_data: Path) -> None:
        tree = real_data / "infant_bids"
        inspection = inspect_paths([tree])
        assert inspection.failures == ()
        assert [file.kind for file in inspection.files] == [SCAN] * 10
        ages = {file.path.name[:16]: str(file.age) for file in inspection.files}
        assert ages["sub-0007_ses-V01"] == "4 months"
        assert ages["sub-0003_ses-V01"] == "None"  # its table names someone else's scan
        remarks = [(r.about, r.sentence) for r in inspection.all_remarks()]
        wrapped = [text for what, text in remarks if what == "intensities"]
        assert ["sub-0001_ses-V01" in text or "sub-0008" in text for text in wrapped] == [True] * 2
        (repeated,) = [text for what, text in remarks if what == "repeated"]
        assert "sub-0001_ses-V02" in repeated and "sub-0006_ses-V01" in repeated
        tables = [text for what, text in remarks if what == "tables"]
        assert sum("name files that are not there: 4" in text for text in tables) == 1
        (small,) = [text for what, text in remarks if what == "volumes"]
        assert "sub-0001_ses-V02" in small and "at 6 years: brain 748 ml" in small

    @pytest.mark.parametrize(
        ("folder", "schema"),
        [("infant_tissue_maps", "tissues"), ("infant_label_maps", "freesurfer")],
    )
    def test_label_maps(self, real_data: Path, folder: str, schema: str) -> None:
        inspection = inspect_paths([real_data / folder])
        assert {(file.kind, file.schema) for file in inspection.files} == {(LABEL_MAP, schema)}
        assert inspection.failures == () and inspection.all_remarks() == ()

    @pytest.mark.slow
    def test_label_maps_of_whole_heads(self, real_data: Path) -> None:
        inspection = inspect_paths([real_data / "adult_label_maps"])
        assert {(f.kind, f.schema) for f in inspection.files} == {(LABEL_MAP, "synthseg")}
        assert inspection.failures == () and inspection.all_remarks() == ()

    def test_a_copy_of_a_real_scan_is_found(self, real_data: Path, tmp_path: Path) -> None:
        scan = real_data / "ibsr18" / "Test_Set" / "IBSR_02" / "IBSR_02.nii.gz"
        shutil.copy(scan, tmp_path / "IBSR_77.nii.gz")
        remarks = inspect_paths([scan, tmp_path]).remarks
        assert about(remarks) == ["labels", "repeated"]
