import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.data.labels import LabelSchema
from infant_seg_jax.data.prepared import open_prepared, prepare
from infant_seg_jax.data.preprocessing import Preparation, prepare_volume
from infant_seg_jax.data.sources import SOURCES, SourceCase
from infant_seg_jax.data.volumes import read_images
from infant_seg_jax.errors import InputError

SHAPE = (16, 14, 12)
SCHEMA = LabelSchema("toy", {0: 0, 10: 1, 150: 2, 250: 3, 99: 255})
AFFINE = np.array([[0.9, 0, 0, -20], [0, 1.5, 0.1, 3], [0, -0.1, 1.1, 5], [0, 0, 0, 1]])
SAGITTAL = np.array([[0, 0, -1, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


def save(path, array, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def brain(seed):
    """A block of noise, labelled in slabs along x; one voxel of it background, one ignored."""
    scans = np.zeros((2, *SHAPE), np.float32)
    labels = np.zeros(SHAPE, np.int16)
    inside = (slice(3, 12), slice(4, 10), slice(2, 11))
    scans[:, *inside] = np.random.default_rng(seed).gamma(4, 25, (2, 9, 6, 9)) + 1
    labels[inside] = np.repeat([10, 150, 250], 3)[:, None, None]
    labels[3, 4, 2], labels[11, 9, 10] = 0, 99
    return scans, labels


@pytest.fixture
def cases(tmp_path):
    """Two sessions of one baby, one of two others, one of them without labels."""
    found = []
    for seed, (case_id, participant) in enumerate(
        [("a_1", "a"), ("a_2", "a"), ("b_1", "b"), ("c_1", "c")]
    ):
        scans, ids = brain(seed)
        folder = tmp_path / "input" / case_id
        images = (save(folder / "T1w.nii.gz", scans[0]), save(folder / "T2w.nii", scans[1]))
        labels = save(folder / "labels.nii.gz", ids) if case_id != "c_1" else None
        found.append(SourceCase(case_id, participant, images, labels))
    return found


def prepare_toys(cases, output, **changes):
    settings = {
        "source": "toys",
        "schema": SCHEMA,
        "modalities": ("T1w", "T2w"),
        "preparation": Preparation(margin_mm=2.0),
        "input_folder": output.parent / "input",
        **changes,
    }
    return prepare(cases, output, **settings)


@pytest.fixture
def folder(cases, tmp_path):
    prepare_toys(cases, tmp_path / "set")
    return tmp_path / "set"


def files_in(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_set_holds_what_the_network_is_to_see(cases, tmp_path):
    prepared = prepare_toys(cases, tmp_path / "set")
    assert [case.case_id for case in prepared.cases] == ["a_1", "a_2", "b_1", "c_1"]
    assert prepared.source == "toys" and prepared.modalities == ("T1w", "T2w")
    assert prepared.preparation == Preparation(margin_mm=2.0)
    assert prepared.schema == SCHEMA
    for source, case in zip(cases, prepared.cases, strict=True):
        expected = prepare_volume(read_images(source.images), prepared.preparation)
        np.testing.assert_array_equal(case.image(), expected.image)
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
    # 9 x 6 x 9 voxels in three slabs, one of them background and one ignored.
    assert case.voxels == {
        **{"CSF": 161, "GM": 162, "WM": 161},
        "background": labels.size - 485,
    }


def test_arrays_are_mapped_and_read_only(cases, tmp_path):
    case = prepare_toys(cases, tmp_path / "set").cases[0]
    for array in (case.image(), case.labels()):
        assert isinstance(array, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0, 0] = 1


def test_case_without_labels(cases, tmp_path):
    prepared = prepare_toys(cases, tmp_path / "set")
    case = prepared.cases[3]
    assert case.labels_path is None and case.voxels is None
    assert not (tmp_path / "set" / "c_1" / "labels.npy").exists()
    with pytest.raises(InputError, match="The case c_1 .* has no labels"):
        case.labels()
    assert prepared.split("test") == (case,)


def test_splits_keep_the_sessions_of_a_baby_together(folder):
    prepared = open_prepared(folder)
    groups = {name: [c.case_id for c in prepared.split(name)] for name in ("train", "validation")}
    assert sorted(groups.values()) == [["a_1", "a_2"], ["b_1"]]
    with pytest.raises(InputError, match="no split 'valid' in fold 0, expected one of train, val"):
        prepared.split("valid")
    with pytest.raises(InputError, match="no split 'train' in fold 1, .* fold from 0 to 0"):
        prepared.split("train", fold=1)


def test_edited_splits_are_followed(folder):
    folds = [
        {"train": ["a_1"], "validation": ["b_1"], "test": []},
        {"train": ["b_1"], "validation": ["a_2", "a_1"], "test": ["c_1"]},
    ]
    (folder / "splits.json").write_text(json.dumps(folds))
    prepared = open_prepared(folder)
    assert [case.case_id for case in prepared.split("validation", fold=1)] == ["a_1", "a_2"]
    assert [case.case_id for case in prepared.split("test", fold=0)] == []


def test_manifest_tells_where_everything_came_from(cases, tmp_path):
    elsewhere = save(tmp_path / "elsewhere" / "T2w.nii", brain(2)[0][1])
    cases[2] = replace(cases[2], images=(cases[2].images[0], elsewhere))
    prepare_toys(cases, tmp_path / "set")
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert manifest["software"].startswith("infant_seg_jax ")
    assert manifest["class_names"] == ["background", "CSF", "GM", "WM"]
    assert manifest["schema"] == {
        "name": "toy",
        "table": {"0": 0, "10": 1, "150": 2, "250": 3, "99": 255},
    }
    assert manifest["preparation"] == {"margin_mm": 2.0}
    entry = manifest["cases"][2]
    assert list(entry["sources"]) == ["b_1/T1w.nii.gz", str(elsewhere), "b_1/labels.nii.gz"]
    for name, digest in entry["sources"].items():
        content = (tmp_path / "input" / name).read_bytes()
        assert digest == hashlib.sha256(content).hexdigest()


def test_same_inputs_give_the_same_bytes(cases, folder, tmp_path):
    before = files_in(folder)
    assert len(before) == 2 + 4 + 3
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


def test_one_bad_case_leaves_nothing_and_is_named(cases, tmp_path):
    scans, ids = brain(1)
    bad = tmp_path / "input" / "bad.nii.gz"
    spoilt = ids.copy()
    spoilt[5, 5, 5] = 7
    nan = scans[0].copy()
    nan[4, 4, 4] = np.nan
    before = sorted(tmp_path.iterdir())
    for content, change, sentence in [
        (ids[:-1], {"labels": bad}, "has the shape 15x14x12 but .*T1w.nii.gz has 16x14x12"),
        (
            spoilt,
            {"labels": bad},
            r"holds label values outside the schema 'toy': 7 \(1 voxels\), expected 0 back",
        ),
        (ids * 0, {"labels": bad}, "labels no tissue within the brain of .*T1w.nii.gz"),
        (nan, {"images": (bad, cases[1].images[1])}, "holds 1 voxels that are NaN"),
        (scans[0] * 0, {"images": (bad, cases[1].images[1])}, "is empty: every voxel is 0"),
        (scans[0][1:], {"images": (cases[1].images[0], bad)}, "has the shape 15x14x12 but"),
    ]:
        save(bad, content)
        changed = [cases[0], replace(cases[1], **change), *cases[2:]]
        with pytest.raises(InputError, match=f"{bad} {sentence}"):
            prepare_toys(changed, tmp_path / "set")
        assert sorted(tmp_path.iterdir()) == before


def test_missing_scan_is_named(cases, tmp_path):
    cases[2].images[0].unlink()
    with pytest.raises(InputError, match=f"There is no file {cases[2].images[0]}"):
        prepare_toys(cases, tmp_path / "set", workers=1)
    assert not (tmp_path / "set").exists()


def test_interrupted_run_leaves_nothing(cases, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("infant_seg_jax.data.prepared.read_label_map", interrupt)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        prepare_toys(cases, tmp_path / "set")
    assert sorted(tmp_path.iterdir()) == before


def test_cases_that_do_not_fit_the_source_are_refused(cases, tmp_path):
    for change, sentence in [
        ({"case_id": "b_1"}, "Two cases share the id b_1"),
        ({"case_id": "../b"}, "The case id '../b' cannot name a folder"),
        ({"case_id": ""}, "The case id '' cannot name a folder"),
        ({"images": cases[0].images[:1]}, "The case a_1 has 1 images, expected 2: T1w, T2w"),
    ]:
        with pytest.raises(InputError, match=sentence):
            prepare_toys([replace(cases[0], **change), *cases[1:]], tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_nothing_is_overwritten(cases, folder):
    before = files_in(folder)
    with pytest.raises(InputError, match=f"{folder} exists already"):
        prepare_toys(cases, folder)
    assert files_in(folder) == before


def test_prepared_set_may_be_moved(folder, tmp_path):
    image = np.array(open_prepared(folder).cases[0].image())
    folder.rename(tmp_path / "elsewhere")
    np.testing.assert_array_equal(open_prepared(tmp_path / "elsewhere").cases[0].image(), image)


def test_folder_that_is_no_prepared_set(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path} is not a prepared set: it holds no manifest"):
        open_prepared(tmp_path)


def set_in(*keys, value):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    "change, sentence",
    [
        (set_in("format", value=2), "manifest.json has the format 2, expected 1: prepare"),
        (lambda m: m.pop("format"), "has the format None, expected 1"),
        (lambda m: m.pop("schema"), r"manifest.json is damaged \(KeyError: 'schema'\)"),
        (lambda m: m["cases"][1].pop("box"), r"is damaged \(KeyError: 'box'\)"),
        (set_in("cases", value=7), r"is damaged \(TypeError"),
        (set_in("cases", 0, value="a"), r"is damaged \(TypeError"),
        (set_in("cases", 0, "shape", value=[3, 4]), r"is damaged \(ValueError"),
        (set_in("cases", 0, "affine", value=[[1, 0]]), "expected 4 x 4 finite numbers"),
        (set_in("cases", 0, "affine", value=[[float("nan")] * 4] * 4), "4 x 4 finite numbers"),
        (set_in("cases", 0, "sources", value=["x"]), r"is damaged \(AttributeError"),
        (set_in("preparation", value={"colour": 1}), r"is damaged \(TypeError: .*colour"),
        (set_in("cases", 0, "image", value="../x.npy"), "names ../x.npy, which lies outside"),
        (set_in("cases", 0, "image", value="/etc/passwd"), "/etc/passwd, which lies outside"),
        (set_in("cases", 0, "labels", value="a_1/../../x"), "a_1/../../x, which lies outside"),
        (set_in("cases", 0, "shape", value=[1, 2, 3]), r"image.npy holds float32 of the shape \("),
        (set_in("modalities", value=["T1w"]), r"image.npy holds .*expected float32 of the shape"),
        (set_in("cases", 0, "labels", value="a_1/image.npy"), "image.npy holds .*expected uint8"),
        (set_in("cases", 0, "image", value="manifest.json"), "manifest.json cannot be read"),
        (set_in("cases", 0, "image", value="gone.npy"), "gone.npy cannot be read .*No such file"),
    ],
)
def test_damaged_manifest_is_one_sentence(folder, change, sentence):
    edit_json(folder / "manifest.json", change)
    with pytest.raises(InputError, match=sentence) as caught:
        open_prepared(folder)
    assert str(folder) in str(caught.value)


def test_manifest_that_is_not_even_json(folder):
    (folder / "manifest.json").write_text("[")
    with pytest.raises(InputError, match="manifest.json is not valid JSON"):
        open_prepared(folder)
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(InputError, match="has the format None, expected 1"):
        open_prepared(folder)


def test_leak_or_unknown_case_is_refused_on_opening(folder):
    fold = {"train": ["a_1"], "validation": ["a_2"], "test": []}
    (folder / "splits.json").write_text(json.dumps([fold]))
    with pytest.raises(InputError, match="names the case a_2 in 'validation' .* participant a is"):
        open_prepared(folder)
    fold = {"train": ["a_1"], "validation": ["c_1"], "test": []}
    (folder / "splits.json").write_text(json.dumps([fold]))
    with pytest.raises(InputError, match="names the case c_1 in 'validation' .* no labels"):
        open_prepared(folder)
    (folder / "splits.json").unlink()
    with pytest.raises(InputError, match=f"Cannot read {folder / 'splits.json'}"):
        open_prepared(folder)


@pytest.mark.parametrize("cut", [5, 40, 127, 200])
def test_truncated_array_is_named(folder, cut):
    path = folder / "b_1" / "labels.npy"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=f"{path} cannot be read"):
        open_prepared(folder)


def test_pickled_array_is_never_loaded(folder, tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    path = folder / "b_1" / "labels.npy"
    np.save(path, np.array([Trap()], object), allow_pickle=True)
    with pytest.raises(InputError, match=f"{path} cannot be read"):
        open_prepared(folder)
    assert not (tmp_path / "sprung").exists()


def test_mutated_array_headers_end_in_our_error_or_in_an_array(folder):
    path = folder / "b_1" / "labels.npy"
    good = path.read_bytes()
    case = open_prepared(folder).cases[2]
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        block = bytearray(good)
        for at in rng.integers(0, 128, rng.integers(1, 4)):
            block[at] = rng.integers(256)
        path.write_bytes(block)
        try:
            assert case.labels().shape == case.shape
        except InputError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 30


def test_real_subjects(real_data, tmp_path):
    source, root = SOURCES["ibsr"], real_data / "ibsr18"
    chosen = [c for c in source.find(root) if c.case_id in ("IBSR_05", "IBSR_12", "IBSR_15")]
    prepared = prepare(
        chosen,
        tmp_path / "set",
        source=source.name,
        schema=source.schema,
        modalities=source.modalities,
        input_folder=root,
    )
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
