import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.data.ages import Age
from infant_seg_jax.data.prepared import open_prepared
from infant_seg_jax.data.preparing import prepare
from infant_seg_jax.data.preprocessing import Preparation, prepare_volume
from infant_seg_jax.data.sources import SOURCES
from infant_seg_jax.data.volumes import read_images
from infant_seg_jax.errors import InputError
from tests.data.toys import AFFINE, SCHEMA, SHAPE, brain, make_cases, prepare_toys, save
from tests.input_errors import input_error

SAGITTAL = np.array([[0, 0, -1, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


@pytest.fixture
def cases(tmp_path):
    return make_cases(tmp_path / "input")


@pytest.fixture
def folder(cases, tmp_path):
    prepare_toys(cases, tmp_path / "set")
    return tmp_path / "set"


def files_in(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_set_holds_what_the_network_is_to_see(cases, tmp_path):
    prepared = prepare_toys(cases, tmp_path / "set")
    assert [case.case_id for case in prepared.cases] == ["a_1", "a_2", "b_1", "c_1"]
    assert prepared.source == "toys" and prepared.modalities == ("T1w", "T2w")
    assert prepared.preparation == Preparation(margin_mm=2.0)
    assert prepared.schema == SCHEMA
    for source, case in zip(cases, prepared.cases, strict=True):
        expected = prepare_volume(read_images(source.images), prepared.preparation)
        np.testing.assert_allclose(case.image(), expected.image, rtol=2**-11, atol=1e-7)
        np.testing.assert_array_equal(case.image() == 0, expected.image == 0)
        assert case.stored_image().dtype == np.float16 and case.image().dtype == np.float32
        np.testing.assert_array_equal(case.affine, expected.affine)
        assert (case.box, case.shape) == (expected.box, expected.image.shape[:3])
        assert case.native_shape == SHAPE and case.channels == 2
        assert case.participant == source.participant
        np.testing.assert_allclose(case.native_affine, AFFINE, atol=1e-6)
        np.testing.assert_allclose(case.spacing, np.linalg.norm(AFFINE[:3, :3], axis=0), rtol=1e-6)


def test_labels_are_classes_in_the_crop(cases, tmp_path):
    case = prepare_toys(cases, tmp_path / "set").cases[0]
    labels = case.labels()
    ids = brain(0)[1][case.box]
    for source, target in SCHEMA.table.items():
        assert (ids == source).any()
        np.testing.assert_array_equal(labels == target, ids == source)
    counts = {value: int(np.sum(brain(0)[1] == value)) for value in SCHEMA.table}
    assert case.voxels == {
        "background": labels.size - sum(counts[value] for value in (10, 150, 250, 99)),
        **{"CSF": counts[10], "GM": counts[150], "WM": counts[250]},
    }


def test_arrays_are_mapped_and_read_only(cases, tmp_path):
    case = prepare_toys(cases, tmp_path / "set").cases[0]
    for array in (case.stored_image(), case.labels()):
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
        with pytest.raises(ValueError):
            array[0, 0, 0] = 1


def test_case_without_labels(cases, tmp_path):
    prepared = prepare_toys(cases, tmp_path / "set")
    case = prepared.cases[3]
    assert case.labels_path is None and case.voxels is None
    assert not (tmp_path / "set" / "c_1" / "labels.npy").exists()
    with input_error("c_1"):
        case.labels()
    assert prepared.split("test") == (case,)


def test_manifest_tells_where_everything_came_from(cases, tmp_path):
    elsewhere = save(tmp_path / "elsewhere" / "T2w.nii", brain(2)[0][1])
    cases[2] = replace(cases[2], images=(cases[2].images[0], elsewhere))
    prepare_toys(cases, tmp_path / "set")
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert set(manifest["software"]) == {"infant_seg_jax", "nibabel", "numpy", "scipy"}
    assert manifest["class_names"] == ["background", "CSF", "GM", "WM"]
    assert manifest["schema"] == {
        "name": "toy",
        "table": {"0": 0, "10": 1, "150": 2, "250": 3, "99": 255},
    }
    assert manifest["preparation"] == {
        **{"margin_mm": 2.0, "spacing_mm": 0.0, "clip_percentiles": [0.0, 100.0]},
        **{"bias_correction": False, "brain_masks": True},
    }
    assert manifest["splits"] == {"seed": 0, "folds": 1}
    entry = manifest["cases"][2]
    assert list(entry["sources"]) == ["b_1/T1w.nii.gz", str(elsewhere), "b_1/labels.nii.gz"]
    for name, digest in entry["sources"].items():
        content = (tmp_path / "input" / name).read_bytes()
        assert digest == hashlib.sha256(content).hexdigest()


def test_same_inputs_give_the_same_bytes(cases, folder, tmp_path):
    before = files_in(folder)
    assert len(before) == 2 + 4 + 4 + 3
    shutil.copytree(tmp_path / "input", tmp_path / "moved" / "input")
    moved = [
        replace(
            case,
            images=tuple(tmp_path / "moved" / p.relative_to(tmp_path) for p in case.images),
            labels=case.labels and tmp_path / "moved" / case.labels.relative_to(tmp_path),
        )
        for case in cases
    ]
    prepare_toys(moved, tmp_path / "moved" / "again", workers=3)
    assert files_in(tmp_path / "moved" / "again") == before


def test_label_map_in_another_axis_order_lands_on_its_scan(cases, folder, tmp_path):
    ids = brain(0)[1]
    # Stored sagittally: axes (y, -z, -x) of the scan.
    stored = ids.transpose(1, 2, 0)[:, ::-1, ::-1]
    turn = np.eye(4)
    turn[:3, :3] = SAGITTAL[:3, :3]
    turn[:3, 3] = SHAPE[0] - 1, 0, SHAPE[2] - 1
    cases[0] = replace(cases[0], labels=save(tmp_path / "turned.nii", stored, AFFINE @ turn))
    again = prepare_toys(cases, tmp_path / "again")
    np.testing.assert_array_equal(again.cases[0].labels(), open_prepared(folder).cases[0].labels())


def test_one_bad_case_is_named_and_leaves_nothing_half_written(cases, tmp_path):
    scans, ids = brain(1)
    bad = tmp_path / "input" / "bad.nii.gz"
    spoilt = ids.copy()
    spoilt[5, 5, 5] = 7
    nan = scans[0].copy()
    nan[4, 4, 4] = np.nan
    moved = AFFINE + [[0, 0, 0, 900], *[[0] * 4] * 3]
    for content, affine, change, values in [
        (
            *(ids[:-1], AFFINE, {"labels": bad}),
            ("15x14x12", "T1w.nii.gz", "16x14x12"),
        ),
        (
            *(spoilt, AFFINE, {"labels": bad}),
            ("'toy'", "7 (1 voxels)"),
        ),
        (ids * 0, AFFINE, {"labels": bad}, ("T1w.nii.gz",)),
        (ids * 0, AFFINE, {"mask": bad}, ("T1w.nii.gz",)),
        (ids[1:], AFFINE, {"mask": bad}, ("15x14x12",)),
        (nan, AFFINE, {"images": (bad, cases[1].images[1])}, ("1 voxels", "NaN")),
        (scans[0] * 0, AFFINE, {"images": (bad, cases[1].images[1])}, ()),
        (scans[0], moved, {"images": (cases[1].images[0], bad)}, ("T1w.nii.gz",)),
    ]:
        save(bad, content, affine)
        changed = [cases[0], replace(cases[1], **change), *cases[2:]]
        with input_error(bad, *values):
            prepare_toys(changed, tmp_path / "set", workers=1)
        # The case before it is whole and stays, as those that were begun; there is no set yet.
        found = {path.name for path in (tmp_path / "set").iterdir()}
        assert {"a_1", "unfinished.json"} <= found <= {"a_1", "b_1", "c_1", "unfinished.json"}
        assert {p.name for p in (tmp_path / "set" / "a_1").iterdir()} == {
            *("case.json", "image.npy", "labels.npy")
        }
        with input_error(tmp_path / "set", "manifest.json"):
            open_prepared(tmp_path / "set")
    # Mended, the same command goes on, to the same bytes as in one go.
    prepare_toys(cases, tmp_path / "set")
    prepare_toys(cases, tmp_path / "at_once")
    assert files_in(tmp_path / "set") == files_in(tmp_path / "at_once")


def test_nothing_is_left_when_not_one_case_could_be_prepared(cases, tmp_path):
    for case in cases:
        case.images[0].unlink()
    with input_error(cases[0].images[0]):
        prepare_toys(cases, tmp_path / "set", workers=1)
    assert not (tmp_path / "set").exists()


def test_finished_cases_are_not_read_again(cases, folder, monkeypatch):
    def refuse(*_):
        raise AssertionError("read again")

    before = files_in(folder)
    (folder / "manifest.json").rename(folder / "unfinished.json")
    monkeypatch.setattr("infant_seg_jax.data.preparing.read_images", refuse)
    prepare_toys(cases, folder)
    prepare_toys(cases, folder)  # nor those of a finished set
    assert files_in(folder) == before


def test_case_whose_files_have_changed_is_prepared_again(cases, folder, tmp_path):
    before = files_in(folder)
    save(cases[2].images[0], brain(7)[0][0])
    prepare_toys(cases, folder)
    prepare_toys(cases, tmp_path / "again")
    after = files_in(folder)
    assert after == files_in(tmp_path / "again")
    changed = {str(name) for name in before if after[name] != before[name]}
    assert changed == {"manifest.json", "b_1/case.json", "b_1/image.npy"}


def test_edited_splits_survive(cases, folder):
    folds = [{"train": ["b_1"], "validation": ["a_1", "a_2"], "test": []}]
    (folder / "splits.json").write_text(json.dumps(folds))
    assert [c.case_id for c in prepare_toys(cases, folder).split("train")] == ["b_1"]


@pytest.mark.parametrize("unfinished", [False, True])
def test_other_parameters_are_refused(cases, folder, tmp_path, unfinished):
    if unfinished:
        (folder / "manifest.json").rename(folder / "unfinished.json")
    before = files_in(folder)
    for change, key in [
        ({"preparation": Preparation(margin_mm=3.0)}, "preparation.margin_mm"),
        ({"seed": 1}, "splits.seed"),
        ({"folds": 2}, "splits.folds"),
    ]:
        with input_error(folder, key):
            prepare_toys(cases, folder, **change)
    with input_error(folder, "case_ids"):
        prepare_toys(cases[:-1], folder)
    assert files_in(folder) == before


KILLED = """
import sys, time
from pathlib import Path
import infant_seg_jax.data.preparing as preparing
from tests.data.toys import make_cases, prepare_toys

save, written = preparing.np.save, []
def slow_save(path, array):
    save(path, array)
    written.append(path)
    if len(written) == 4:  # in the middle of the second case
        print("now", flush=True)
        time.sleep(60)
preparing.np.save = slow_save
folder = Path(sys.argv[1])
prepare_toys(make_cases(folder / "input"), folder / "set", workers=1)
"""


def test_killed_half_way_it_resumes(cases, tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None and process.stdout.readline() == b"now\n"
        process.send_signal(signal.SIGKILL)
    left = {path.name for path in (tmp_path / "set").iterdir()}
    (aside,) = left - {"a_1", "unfinished.json"}
    assert aside.startswith(".writing-")
    prepare_toys(cases, tmp_path / "set")
    prepare_toys(cases, tmp_path / "at_once")
    assert files_in(tmp_path / "set") == files_in(tmp_path / "at_once")


def test_one_scan_under_two_names_is_a_leak(cases, tmp_path):
    shutil.copy(cases[0].images[0], cases[2].images[0])
    with pytest.raises(InputError) as caught:
        prepare_toys(cases, tmp_path / "set")
    assert str(caught.value) == (
        "b_1/T1w.nii.gz and a_1/T1w.nii.gz are the same file under the names of the participants "
        "b and a, expected each scan once: remove one of the two."
    )


def test_equal_headers_of_pairs_are_no_leak(cases, tmp_path):
    for case in cases:
        for path in case.images:
            image = nib.Nifti1Image.from_filename(path)
            nib.save(
                nib.Nifti1Pair(np.asarray(image.dataobj), image.affine),
                path.with_name(path.name.split(".")[0] + ".hdr"),
            )
    pairs = [
        replace(
            case,
            images=tuple(path.with_name(path.name.split(".")[0] + ".hdr") for path in case.images),
        )
        for case in cases
    ]
    assert pairs[0].images[0].read_bytes() == pairs[1].images[0].read_bytes()
    prepared = prepare_toys(pairs, tmp_path / "pairs")
    assert list(prepared.cases[0].sources)[:2] == ["a_1/T1w.hdr", "a_1/T1w.img"]
    plain = prepare_toys(cases, tmp_path / "set")
    np.testing.assert_array_equal(prepared.cases[0].image(), plain.cases[0].image())
    shutil.copy(pairs[0].images[0].with_suffix(".img"), pairs[2].images[0].with_suffix(".img"))
    with input_error("b_1/T1w.img", "a_1/T1w.img"):
        prepare_toys(pairs, tmp_path / "leak")


def test_images_on_other_grids_are_resampled_and_told(cases, tmp_path, capsys):
    scans, _ = brain(0)
    shifted = AFFINE.copy()
    shifted[:3, 3] += AFFINE[:3, 0]  # by one voxel along x
    save(cases[0].images[1], scans[1][1:], shifted)
    prepared = prepare_toys(cases, tmp_path / "set")
    printed = capsys.readouterr().err
    assert str(cases[0].images[1]) in printed and "15x14x12" in printed
    # Voxels of the same size and place: nothing but the missing slice differs.
    np.testing.assert_allclose(
        prepared.cases[0].image(),
        prepare_toys(make_cases(tmp_path / "input"), tmp_path / "plain").cases[0].image(),
        atol=1e-5,
        rtol=2**-10,
    )
    notices = json.loads((tmp_path / "set" / "manifest.json").read_text())["cases"][0]["notices"]
    assert notices and notices[0] in printed
    save(cases[0].images[1], scans[1][1:], shifted)
    with input_error(cases[0].images[1], "15x14x12"):
        prepare_toys(cases, tmp_path / "strict", strict=True)


def test_brain_masks_ages_and_extents(cases, tmp_path, capsys):
    ids = brain(0)[1] > 0
    ids[:6] = False
    mask = save(tmp_path / "input" / "mask.nii.gz", ids.astype(np.uint8))
    cases[0] = replace(cases[0], mask=mask, age=Age(41.5, "weeks postmenstrual"))
    head = np.random.default_rng(3).gamma(4, 25, (2, *SHAPE)).astype(np.float32)
    for path, channel in zip(cases[2].images, head, strict=True):
        save(path, channel)
    prepared = prepare_toys(cases, tmp_path / "set")
    case = prepared.cases[0]
    assert case.age == Age(41.5, "weeks postmenstrual") and prepared.cases[1].age is None
    # Outside of the mask all is 0, inside hardly anything is.
    inside = ids[case.box]
    image = case.image()
    assert not image[~inside].any() and np.count_nonzero(image[inside]) > 0.99 * inside.sum()
    assert [c.extent for c in prepared.cases] == ["brain", "brain", "head", "brain"]
    assert prepared.extents == ("brain", "head")
    assert "1 of 4 cases show a head and the others only a brain (b_1 is a head)" in (
        capsys.readouterr().err
    )
    assert "mask.nii.gz" in case.sources
    plain = prepare_toys(cases, tmp_path / "plain", preparation=Preparation(brain_masks=False))
    assert "mask.nii.gz" not in plain.cases[0].sources
    assert np.count_nonzero(plain.cases[0].image()) > np.count_nonzero(image)


def test_all_is_resampled_to_a_given_spacing(cases, tmp_path):
    prepared = prepare_toys(cases, tmp_path / "set", preparation=Preparation(2.0, spacing_mm=0.75))
    for case in prepared.cases:
        np.testing.assert_allclose(case.spacing, 0.75)
    case = prepared.cases[0]
    assert case.voxels is not None
    ml = sum(case.voxels[tissue] for tissue in ("CSF", "GM", "WM")) * 0.75**3 / 1000
    drawn = np.isin(brain(0)[1], (10, 150, 250)).sum()
    assert ml == pytest.approx(drawn * abs(np.linalg.det(AFFINE[:3, :3])) / 1000, rel=0.1)


def test_folds_are_written(cases, tmp_path):
    prepared = prepare_toys(cases, tmp_path / "set", folds=2)
    validated = [[c.case_id for c in prepared.split("validation", fold)] for fold in (0, 1)]
    assert sorted(validated) == [["a_1", "a_2"], ["b_1"]]


def test_cases_that_do_not_fit_the_source_are_refused(cases, tmp_path):
    for change, value in [
        ({"case_id": "b_1"}, "b_1"),
        ({"case_id": "../b"}, "'../b'"),
        ({"case_id": ""}, "''"),
        ({"images": cases[0].images[:1]}, "1 images, expected 2: T1w, T2w"),
    ]:
        with input_error(value):
            prepare_toys([replace(cases[0], **change), *cases[1:]], tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_nothing_of_others_is_overwritten(cases, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "thesis.txt").write_text("years of work")
    with input_error(tmp_path / "set"):
        prepare_toys(cases, tmp_path / "set")
    (tmp_path / "set" / "manifest.json").write_text('["something else"]')
    with input_error("format: None", 2):
        prepare_toys(cases, tmp_path / "set")
    assert (tmp_path / "set" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "file").write_text("")
    with input_error(tmp_path / "file" / "set"):
        prepare_toys(cases, tmp_path / "file" / "set")


def test_real_subjects(real_data, tmp_path):
    root = real_data / "ibsr18"
    dataset = SOURCES["ibsr"].open(root)
    chosen = tuple(c for c in dataset.cases if c.case_id in ("IBSR_05", "IBSR_12", "IBSR_15"))
    prepared = prepare(replace(dataset, cases=chosen), tmp_path / "set")
    assert prepared.extents == ("brain",)
    for name, case_id in (("train", "IBSR_05"), ("validation", "IBSR_12"), ("test", "IBSR_15")):
        (case,) = prepared.split(name)
        assert case.case_id == case_id
        image = np.asarray(case.image()[..., 0], np.float64)
        brain_values = image[image != 0]
        assert brain_values.mean() == pytest.approx(0, abs=1e-3)
        assert brain_values.std() == pytest.approx(1, abs=1e-3)
        if name == "test":
            continue
        labels = case.labels()
        # On T1w, fluid is dark, white matter bright.
        csf, gray, white = (image[labels == tissue].mean() for tissue in (1, 2, 3))
        assert csf < gray < white
        # Nothing drawn was lost: counts of the whole file.
        (seg,) = (root / s for s in case.sources if s.endswith("_seg.nii.gz"))
        ids = nib.Nifti1Image.from_filename(seg).get_fdata()
        assert case.voxels is not None
        assert [case.voxels[t] for t in ("CSF", "GM", "WM")] == [
            np.sum(ids == tissue) for tissue in (1, 2, 3)
        ]
