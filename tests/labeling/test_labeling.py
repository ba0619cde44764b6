"""What is written of scans, and what becomes of them when the same is asked for again."""

import json
import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.data.class_sets import DRAWEM9_CLASSES, from_record
from infant_seg_jax.data.labels import CSF, GM, IGNORE, WM, LabelSchema
from infant_seg_jax.data.schemas import ISEG_SCHEMA, find_schema
from infant_seg_jax.data.sources import SOURCES
from infant_seg_jax.data.volumes import spacing_of
from infant_seg_jax.errors import InputError
from infant_seg_jax.labeling.inputs import find_inputs
from infant_seg_jax.labeling.labeling import Outcome
from infant_seg_jax.labeling.provenance import label_ids
from infant_seg_jax.labeling.scans import schema_of
from infant_seg_jax.prediction.brain_mask import brain_mask
from infant_seg_jax.report.pages.prediction import prediction_page
from tests.data.volume_files import (
    GEOMETRY,
    ORIENTATIONS,
    SHAPE,
    affine_of,
    load,
    put,
    ramp,
    reorient,
    save,
    save_raw,
)
from tests.labeling.fake_network import SURE, classes_of, labeler, segment

ISEG_IDS = label_ids(ISEG_SCHEMA)
KINDS = {"a.nii": nib.Nifti1Image, "a.nii.gz": nib.Nifti2Image, "a.mgz": nib.MGHImage}


def label(inputs, output: Path, labels=None) -> list[Outcome]:
    found = find_inputs([str(inputs)], output, ["T1w"])
    return list((labels or labeler()).label(found, output))


def whats(outcomes: list[Outcome]) -> list[str]:
    return [outcome.what for outcome in outcomes]


def sidecar(path: Path) -> dict:
    return json.loads(path.read_text())


def rows(output: Path) -> list[dict[str, str]]:
    header, *lines = (output / "tissue_volumes.tsv").read_text().splitlines()
    return [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    for number in range(3):
        save(tmp_path / "in" / f"{'abc'[number]}.nii.gz", ramp() + number)
    return tmp_path / "in"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_everything_lies_where_the_scan_lies(tmp_path, kind):
    """All 48 orientations, oblique; label maps and probabilities, in another schema's ids."""
    for number, (permutation, flips) in enumerate(ORIENTATIONS):
        stored, affine = reorient(ramp(), affine_of(degrees=(12, -9, 20)), permutation, flips)
        source = kind(stored[..., None], affine)
        source.set_qform(affine, 3)
        source.set_sform(affine, 4)
        source.header.set_xyzt_units("mm", "sec")
        source.header["pixdim"][5:] = 0  # of axes that are not there
        nib.save(source, tmp_path / "in" / f"{number}.nii.gz")
    settings = {"probabilities": "float32", "label_ids": ISEG_IDS}
    outcomes = label(tmp_path / "in", tmp_path / "out", labeler(ISEG_SCHEMA, **settings))
    assert whats(outcomes) == ["written"] * 48
    for outcome in outcomes:
        source = load(outcome.scan.images[0])
        classes = classes_of(np.asarray(source.dataobj))
        label_map = load(outcome.scan.label_map)
        ids = np.array([0, 10, 150, 250])[classes]
        np.testing.assert_array_equal(label_map.dataobj, ids)
        probability = load(outcome.scan.probability_map("GM"))
        np.testing.assert_allclose(probability.dataobj, np.where(classes == 2, SURE, 0.1))
        for written in (label_map, probability):
            assert type(written) is kind and written.shape == source.shape
            assert written.affine.tobytes() == source.affine.tobytes()
            for field in GEOMETRY:
                assert written.header[field].tobytes() == source.header[field].tobytes(), field


def test_islands_are_removed_before_all_else(tmp_path):
    voxels = np.full((8, 8, 8), 102)
    voxels[0, 0, 0], voxels[5:7, 5:7, 5:7] = 103, 103
    save(tmp_path / "in" / "a.nii", voxels.astype(np.int16), np.eye(4))
    (outcome,) = label(tmp_path / "in", tmp_path / "out", labeler(remove_islands_ml=0.002))
    voxels[0, 0, 0] = 102
    np.testing.assert_array_equal(load(outcome.scan.label_map).dataobj, classes_of(voxels))
    assert outcome.volumes_ml == {"CSF": 0, "GM": 0.504, "WM": 0.008}


@pytest.mark.parametrize("name", sorted(KINDS))
def test_any_format_is_labeled_as_nifti(tmp_path, name):
    path = save(tmp_path / "in" / name, ramp(), kind=KINDS[name])
    (outcome,) = label(path, tmp_path / "out")
    np.testing.assert_array_equal(load(outcome.scan.label_map).dataobj, classes_of(ramp()))
    np.testing.assert_allclose(load(outcome.scan.label_map).affine, load(path).affine, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "dtype", "error"),
    [("uint8", "u1", 0.5 / 255), ("float16", "i2", 0.5 / 32767), ("float32", "f4", 0)],
)
def test_probabilities_are_read_as_they_were(scans, tmp_path, kind, dtype, error):
    def certain(volume, mask):
        found = segment(volume, mask)
        found.probabilities[:2] = found.probabilities[:2] > 0.5
        return found

    label(scans / "a.nii.gz", tmp_path / "out", labeler(segment=certain, probabilities=kind))
    expected = np.where(classes_of(ramp())[..., None] == [1, 2, 3], SURE, 0.1)
    expected[:2] = expected[:2] > 0.5
    for index, tissue in enumerate(("CSF", "GM", "WM")):
        path = tmp_path / "out" / f"a_label-{tissue}_probseg.nii.gz"
        written = load(path)
        assert written.get_data_dtype() == dtype
        read = written.get_fdata()
        assert 0 <= read.min() and read.max() <= 1
        np.testing.assert_allclose(read, expected[..., index], rtol=0, atol=error + 1e-7)
        assert sidecar(tmp_path / "out" / f"a_label-{tissue}_probseg.json")["Sources"]


def test_volumes_and_confidence_are_in_a_table(tmp_path):
    voxels = np.full(SHAPE, 100, np.int16)  # 100 is background
    voxels[0, 0, :3], voxels[0, 1, :4], voxels[1, 0, :5] = 101, 102, 103
    affine = affine_of(degrees=(30, 0, 10))  # 0.9 x 1.5 x 1.1 mm
    affine[:3, 1] += 0.3 * affine[:3, 0]  # sheared: sides change, the volume does not
    save(tmp_path / "in" / "sub-07_ses-b_T1w.nii.gz", voxels, affine)
    save(tmp_path / "in" / "dim.nii.gz", ramp() % 40)
    label(tmp_path / "in", tmp_path / "out")
    dim, row = rows(tmp_path / "out")
    voxel = 0.9 * 1.5 * 1.1 / 1000
    mask = brain_mask(voxels != 100, spacing_of(affine))
    within = np.count_nonzero(mask)
    ml = {"CSF": 3, "GM": 4, "WM": 5, "brain": 9, "intracranial": within}
    for name, count in ml.items():
        assert float(row[f"{name}_ml"]) == pytest.approx(count * voxel, abs=6e-4)
        if name != "intracranial":
            assert float(row[f"{name}_share"]) == pytest.approx(count / within, abs=5e-3)
    assert (row["participant_id"], row["session_id"]) == ("sub-07", "ses-b")
    assert (row["age_months"], row["sex"], row["outlier"]) == ("n/a", "n/a", "n/a")
    assert row["label_map"] == "sub-07_ses-b_T1w_dseg.nii.gz"
    assert row["voxel_size_mm"].startswith("0.9x") and row["voxel_size_mm"].endswith("x1.1")
    assert (row["entropy"], row["agreement"], row["flagged"]) == ("0.2500", "n/a", "false")
    assert (dim["participant_id"], dim["flagged"]) == ("n/a", "true")
    about = sidecar(tmp_path / "out" / "tissue_volumes.json")
    assert list(about) == list(row) and about["CSF_ml"]["Units"] == "mL"
    notices = sidecar(tmp_path / "out" / "dim_dseg.json")["Notices"]
    assert notices == [f"{tmp_path / 'in' / 'dim.nii.gz'} is dim."]


def test_finished_scans_are_skipped_and_keep_their_rows(scans, tmp_path):
    out = tmp_path / "out"
    assert whats(label(scans / "a.nii.gz", out)) == ["written"]
    before = (out / "a_dseg.nii.gz").stat().st_mtime_ns
    assert whats(label(scans, out)) == ["skipped", "written", "written"]
    assert (out / "a_dseg.nii.gz").stat().st_mtime_ns == before
    assert whats(label(scans / "b.nii.gz", out)) == ["skipped"]
    assert [row["label_map"][0] for row in rows(out)] == ["a", "b", "c"]
    # The same weights under another name are the same network.
    assert whats(label(scans, out, labeler(overwrite=True))) == ["written"] * 3

    # Of a kill, at worst a JSON without its label map is left.
    (out / "a_dseg.nii.gz").unlink()
    (out / "b_dseg.json").rename(out / "kept")
    assert "has no b_dseg.json from this software" in refusal(scans, out)
    (out / "kept").rename(out / "b_dseg.json")
    assert whats(label(scans, out)) == ["written", "skipped", "skipped"]


def test_a_scan_that_has_changed_is_labeled_again(scans, tmp_path):
    out = tmp_path / "out"
    label(scans, out)
    save(scans / "b.nii.gz", ramp() + 7)
    outcomes = label(scans, out)
    assert whats(outcomes) == ["skipped", "written", "skipped"]
    (notice,) = outcomes[1].notices
    assert notice.startswith(f"{scans / 'b.nii.gz'} has changed since it was labeled")
    np.testing.assert_array_equal(load(out / "b_dseg.nii.gz").dataobj, classes_of(ramp() + 7))


@pytest.mark.parametrize("name", ["b_dseg.nii.gz", "b_label-WM_probseg.nii.gz"])
def test_a_damaged_map_is_made_again_and_a_corrected_one_is_not(scans, tmp_path, name):
    out, labels = tmp_path / "out", labeler(probabilities="uint8")
    label(scans, out, labels)
    corrected = np.asarray(load(out / "a_dseg.nii.gz").dataobj).copy()
    corrected[0, 0, 0] = 3 - corrected[0, 0, 0]
    affine = load(out / "a_dseg.nii.gz").affine
    save(out / "a_dseg.nii.gz", corrected, affine)
    whole = (out / name).read_bytes()
    half = len(whole) // 2
    flipped = whole[:half] + bytes([whole[half] ^ 255]) + whole[half + 1 :]
    for damaged in (whole[:half], flipped, b"", None):
        if damaged is None:
            if name == "b_dseg.nii.gz":
                continue  # which is one that is not finished
            (out / name).unlink()
        else:
            (out / name).write_bytes(damaged)
        outcomes = label(scans, out, labels)
        assert whats(outcomes) == ["skipped", "written", "skipped"]
        (notice,) = outcomes[1].notices
        assert notice == (
            f"{scans / 'b.nii.gz'} has a damaged output, {name}, so it is labeled again."
        )
        assert (out / name).read_bytes() == whole
    np.testing.assert_array_equal(load(out / "a_dseg.nii.gz").dataobj, corrected)


def refusal(inputs: Path, output: Path, labels=None) -> str:
    with pytest.raises(InputError) as caught:
        label(inputs, output, labels)
    message = str(caught.value)
    assert message.endswith("--overwrite.") and "\n" not in message
    return message


def test_what_was_made_otherwise_is_not_replaced_unasked(scans, tmp_path):
    out = tmp_path / "out"
    label(scans, out)
    before = {path: path.read_bytes() for path in out.rglob("*")}
    for labels, expected in (
        (labeler(model="b"), "a_dseg.nii.gz (and 2 more) already exists and was made by a (aaa"),
        (labeler(mirror=True), "was made with Mirror False, not True"),
        (labeler(overlap=0.5), "was made with Overlap 0.25, not 0.5"),
        (labeler(probabilities="uint8"), "was made with Probabilities '', not 'uint8'"),
        (labeler(ISEG_SCHEMA, label_ids=ISEG_IDS), "was made with LabelIds {'background': 0"),
    ):
        assert expected in refusal(scans, out, labels)
    assert {path: path.read_bytes() for path in out.rglob("*")} == before
    save(tmp_path / "in2.nii.gz", ramp())
    other = labeler(ISEG_SCHEMA, label_ids=ISEG_IDS)
    assert "dseg.tsv says that the label maps there have other values" in refusal(
        tmp_path / "in2.nii.gz", out, other
    )

    with_maps = labeler(probabilities="uint8", overwrite=True)
    assert whats(label(scans, out, with_maps)) == ["written"] * 3
    assert len(list(out.glob("*_probseg.*"))) == 18
    assert whats(label(scans, out, labeler(overwrite=True))) == ["written"] * 3
    assert not list(out.glob("*_probseg.*"))


def test_one_bad_scan_stops_no_other(scans, tmp_path):
    out = tmp_path / "out"
    (scans / "b.nii.gz").write_bytes((scans / "b.nii.gz").read_bytes()[:200])
    save(scans / "d.nii.gz", ramp(dtype=np.float32) * 1e6)
    save(scans / "e.nii.gz", ramp())
    (out / "e_label-GM_probseg.nii.gz").mkdir(parents=True)  # cannot be written
    outcomes = label(scans, out, labeler(probabilities="uint8"))
    assert [outcome.failed for outcome in outcomes] == [False, True, False, True, True]
    assert f"{scans / 'b.nii.gz'} cannot be read" in outcomes[1].what
    assert outcomes[3].what == f"{scans / 'd.nii.gz'} is too bright."
    assert outcomes[4].what.startswith(f"Cannot write to the folder {out} (Is a directory): ")
    assert not [path for path in out.glob("e_*") if path.is_file()]
    assert sorted(path.name for path in out.glob("*_dseg.nii.gz")) == [
        "a_dseg.nii.gz",
        "c_dseg.nii.gz",
    ]
    assert [row["label_map"][0] for row in rows(out)] == ["a", "c"]
    assert not list(out.rglob(".writing*"))


def test_stopped_by_the_keyboard_nothing_is_half_there(scans, tmp_path):
    out, seen = tmp_path / "out", []

    def stopped(volume, mask):
        seen.append(volume.path)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return segment(volume, mask)

    with pytest.raises(KeyboardInterrupt):
        label(scans, out, labeler(segment=stopped, probabilities="uint8"))
    assert len(rows(out)) == 1
    assert [path.name for path in out.glob("*_dseg.nii.gz")] == ["a_dseg.nii.gz"]
    assert not list(out.rglob(".writing*"))
    done = label(scans, out, labeler(probabilities="uint8"))
    assert whats(done) == ["skipped", "written", "written"]


def test_masks_are_heeded_and_part_of_what_it_was_made_of(scans, tmp_path):
    mask = np.zeros(SHAPE, np.uint8)
    mask[1] = 1
    save(tmp_path / "a_mask.nii.gz", mask)

    def masked(output: Path):
        found = find_inputs(
            [str(scans / "a.nii.gz")], output, ["T1w"], masks=f"{tmp_path}/{{}}_mask.nii.gz"
        )
        return list(labeler(masked=True).label(found, output))

    assert whats(masked(tmp_path / "out")) == ["written"]
    written = np.asarray(load(tmp_path / "out" / "a_dseg.nii.gz").dataobj)
    np.testing.assert_array_equal(written, classes_of(ramp()) * mask)
    assert len(sidecar(tmp_path / "out" / "a_dseg.json")["Sources"]) == 2
    assert whats(masked(tmp_path / "out")) == ["skipped"]
    mask[2] = 1
    save(tmp_path / "a_mask.nii.gz", mask)
    assert whats(masked(tmp_path / "out")) == ["written"]
    assert "was made with Masked True, not False" in refusal(scans / "a.nii.gz", tmp_path / "out")
    (tmp_path / "a_mask.nii.gz").unlink()
    (outcome,) = masked(tmp_path / "other")
    assert outcome.what == f"There is no file {tmp_path / 'a_mask.nii.gz'}."


def test_notices_of_the_file_are_told_and_kept(tmp_path):
    save_raw(tmp_path / "in" / "scan.nii", put(252, "hh", 0, 0))
    (tmp_path / "in" / "good.nii").unlink()
    (outcome,) = label(tmp_path / "in", tmp_path / "out")
    (notice,) = outcome.notices
    assert "says nothing about its orientation" in notice
    assert sidecar(outcome.scan.sidecar)["Notices"] == [notice]
    assert rows(tmp_path / "out")[0]["flagged"] == "true"


def test_every_label_map_has_a_brain_mask_with_all_of_it(tmp_path):
    """On the scan's own grid; and none beside a label map that a person named."""
    stored, affine = reorient(ramp(), affine_of(), (2, 0, 1), (True, False, True))
    path = save(tmp_path / "in" / "a.nii.gz", stored, affine)
    (outcome,) = label(path, tmp_path / "out")
    labels, mask = load(outcome.scan.label_map), load(tmp_path / "out" / "a_desc-brain_mask.nii.gz")
    np.testing.assert_array_equal(mask.affine, load(path).affine)
    assert mask.get_data_dtype() == np.uint8
    voxels = np.asarray(mask.dataobj)
    spacing = spacing_of(affine)
    np.testing.assert_array_equal(voxels, brain_mask(np.asarray(labels.dataobj) != 0, spacing))
    content = sidecar(tmp_path / "out" / "a_dseg.json")
    ml = 0.9 * 1.5 * 1.1 / 1000 * voxels.sum()
    assert content["IntracranialVolumeMl"] == pytest.approx(ml, abs=1e-4)
    label(path, tmp_path / "one.nii.gz")
    assert [one.name for one in tmp_path.glob("one*")] == ["one.nii.gz", "one.json"]
    assert sidecar(tmp_path / "one.json")["IntracranialVolumeMl"] == content["IntracranialVolumeMl"]


def test_label_maps_of_version_0_1_get_their_masks_and_corrected_ones_keep_up(scans, tmp_path):
    out = tmp_path / "out"
    label(scans, out)
    names = ("a_desc-brain_mask.nii.gz", "tissue_volumes.tsv")
    new = [(out / name).read_bytes() for name in names]
    content = sidecar(out / "a_dseg.json")
    old = {key: value for key, value in content.items() if key != "IntracranialVolumeMl"}
    (out / "a_dseg.json").write_text(json.dumps(old))
    (out / "a_desc-brain_mask.nii.gz").unlink()
    before = (out / "a_dseg.nii.gz").stat().st_mtime_ns
    label(scans / "b.nii.gz", out)
    assert [row["intracranial_ml"] == "n/a" for row in rows(out)] == [True, False, False]
    assert [row["CSF_share"] == "n/a" for row in rows(out)] == [True, False, False]
    assert len(prediction_page(out, "out").rows) == 3
    assert whats(label(scans, out)) == ["skipped"] * 3
    assert (out / "a_dseg.nii.gz").stat().st_mtime_ns == before
    assert [(out / name).read_bytes() for name in names] == new
    assert sidecar(out / "a_dseg.json") == content

    mask = np.asarray(load(out / names[0]).dataobj)
    for damaged in (b"", (out / names[0]).read_bytes()[:-9]):
        (out / names[0]).write_bytes(damaged)
        assert whats(label(scans, out)) == ["skipped"] * 3
        np.testing.assert_array_equal(load(out / names[0]).dataobj, mask)
    save(out / names[0], np.zeros_like(mask), load(out / "a_dseg.nii.gz").affine)
    assert whats(label(scans, out)) == ["skipped"] * 3
    np.testing.assert_array_equal(load(out / names[0]).dataobj, mask)


def test_other_peoples_label_maps_have_no_row_and_damaged_json_stops_nothing(scans, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name, text in (("x", None), ("y", "{}"), ("z", "no json")):
        save(out / f"{name}_dseg.nii.gz", ramp(dtype=np.uint8))
        if text is not None:
            (out / f"{name}_dseg.json").write_text(text)
    assert whats(label(scans, out)) == ["written"] * 3
    content = sidecar(out / "b_dseg.json")
    del content["TissueVolumesMl"]["GM"]
    (out / "b_dseg.json").write_text(json.dumps(content))
    label(scans, out)
    assert [row["label_map"][0] for row in rows(out)] == ["a", "c"]


def test_names_that_are_no_text_are_labeled_and_told(tmp_path):
    name = os.fsdecode(b"caf\xe9.nii.gz")
    save(tmp_path / "in" / name, ramp())
    save(tmp_path / "in" / "ok.nii.gz", ramp())
    assert whats(label(tmp_path / "in", tmp_path / "out")) == ["written", "written"]
    assert whats(label(tmp_path / "in", tmp_path / "out")) == ["skipped", "skipped"]
    assert [row["label_map"] for row in rows(tmp_path / "out")] == [
        r"caf\udce9_dseg.nii.gz",
        "ok_dseg.nii.gz",
    ]
    page = prediction_page(tmp_path / "out", "out")
    assert {card.row.label_map: card.picture is not None for card in page.cards} == {
        r"caf\udce9_dseg.nii.gz": True,
        "ok_dseg.nii.gz": True,
    }


def test_what_values_mean_is_read_back(tmp_path):
    """Our own derivative is one that `prepare --source=bids` understands."""
    tree = tmp_path / "in"
    for subject in ("sub-1", "sub-2"):
        (tree / subject / "anat").mkdir(parents=True)
        save(tree / subject / "anat" / f"{subject}_T1w.nii.gz", ramp())
    label(tree, tree / "derivatives/infantseg", labeler(ISEG_SCHEMA, label_ids=ISEG_IDS))
    dataset = SOURCES["bids"].open(tree)
    assert len(dataset.cases) == 2 and dataset.schema.table == ISEG_SCHEMA.table
    for case in dataset.cases:
        assert case.labels is not None
        ids = np.asarray(load(case.labels).dataobj)
        classes = dataset.schema.to_classes(ids, case.labels)
        np.testing.assert_array_equal(classes, classes_of(ramp()))


def finer(volume, mask):
    """Classes of DrawEM by intensity, modulo 9."""
    label_map = (volume.data[..., 0].astype(int) % 9).astype(np.uint8)
    probabilities = np.full((*volume.shape, 9), (1 - SURE) / 8, np.float32)
    np.put_along_axis(probabilities, label_map[..., None].astype(int), np.float32(SURE), axis=-1)
    found = segment(volume, mask)
    return replace(found, label_map=label_map, probabilities=probabilities, classes=DRAWEM9_CLASSES)


def test_finer_classes_have_their_own_values_volumes_and_maps(tmp_path):
    path = save(tmp_path / "in" / "a.nii.gz", ramp(), np.eye(4))
    schema = find_schema("drawem9", DRAWEM9_CLASSES)
    settings = {"probabilities": "uint8", "label_ids": label_ids(schema), "segment": finer}
    (outcome,) = label(path, tmp_path / "out", labeler(schema, **settings))
    classes = ramp().astype(int) % 9
    ids = np.array([0, 1, 2, 3, 5, 6, 7, 8, 9])[classes]
    np.testing.assert_array_equal(load(outcome.scan.label_map).dataobj, ids)
    content = sidecar(outcome.scan.sidecar)
    assert from_record(content["Classes"]) == DRAWEM9_CLASSES
    assert content["Settings"]["LabelIds"]["HA"] == 9
    found = schema_of(outcome.scan.label_map)
    assert found is not None and found.classes == DRAWEM9_CLASSES
    np.testing.assert_array_equal(found.to_classes(ids, "x"), classes)
    (row,) = rows(tmp_path / "out")
    counts = np.bincount(classes.ravel(), minlength=9) / 1000
    for name, index in DRAWEM9_CLASSES.foreground.items():
        assert float(row[f"{name}_ml"]) == pytest.approx(counts[index], abs=1e-3)
        probability = load(outcome.scan.probability_map(name))
        np.testing.assert_allclose(
            np.asarray(probability.dataobj), np.where(classes == index, SURE, 0.0375), atol=0.002
        )
    # All within but CSF and ventricles is brain, cerebellum and brainstem too.
    brain = counts[1:].sum() - counts[1] - counts[4]
    assert float(row["brain_ml"]) == pytest.approx(brain, abs=1e-2)
    mask = np.asarray(load(outcome.scan.brain_mask).dataobj)
    assert float(row["intracranial_ml"]) == pytest.approx(mask.sum() / 1000, abs=1e-3)


def test_finer_classes_are_written_as_tissues_on_demand_and_leave_nothing(tmp_path):
    path = save(tmp_path / "in" / "a.nii.gz", ramp(), np.eye(4))
    own = LabelSchema.of(DRAWEM9_CLASSES)
    settings = {"probabilities": "uint8", "segment": finer}
    label(path, tmp_path / "out", labeler(own, label_ids=label_ids(own), **settings))
    assert (tmp_path / "out" / "a_label-VENT_probseg.nii.gz").exists()
    schema = LabelSchema("mine", {0: 0, 10: CSF, 20: GM, 30: WM, 99: IGNORE})
    other = labeler(schema, True, label_ids=label_ids(schema), **settings)
    (outcome,) = label(path, tmp_path / "out", other)
    expected = np.array([0, 10, 20, 30, 10, 99, 20, 99, 20])[ramp().astype(int) % 9]
    np.testing.assert_array_equal(load(outcome.scan.label_map).dataobj, expected)
    assert "Classes" not in sidecar(outcome.scan.sidecar)
    assert tuple(outcome.volumes_ml) == ("CSF", "GM", "WM")
    maps = {path.name for path in (tmp_path / "out").glob("*_probseg.*")}
    names = ("CSF", "GM", "WM")
    assert maps == {f"a_label-{n}_probseg.{end}" for n in names for end in ("json", "nii.gz")}
