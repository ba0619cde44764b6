"""The package from Python, with networks that never learned anything."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import infant_seg_jax as seg
from infant_seg_jax.__main__ import main
from infant_seg_jax.data.class_sets import CLASS_SETS
from infant_seg_jax.data.phantom import render_phantom, write_cohort
from infant_seg_jax.data.prepared import ExpectedScans
from infant_seg_jax.data.preparing import prepare
from infant_seg_jax.data.preprocessing import Preparation
from infant_seg_jax.data.sources.phantom import PHANTOM
from infant_seg_jax.models.factory import make_model
from infant_seg_jax.models.variables import init_variables
from infant_seg_jax.store.model_folder import Model, write_model
from tests.input_errors import input_error
from tests.training.tiny import tiny_config

TISSUES = ("CSF", "GM", "WM")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model folders `one` and `other`, which take a T1w, and `both`, which takes a T2w, too."""
    folder = tmp_path_factory.mktemp("models")
    config = tiny_config(folder, steps=1)
    for name, modalities, seed in (
        *(("one", ("T1w",), 0), ("other", ("T1w",), 1)),
        ("both", ("T1w", "T2w"), 0),
    ):
        variables = init_variables(make_model(config), len(modalities), seed)
        expects = ExpectedScans(modalities, Preparation(), ("brain",))
        write_model(folder / name, Model(config, variables, expects, {}))
    return folder


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom in the axis order PIL, its header with codes and units of its own."""
    phantom = render_phantom(0, shape=(24, 28, 20))
    image = nib.Nifti1Image(phantom.image, phantom.affine)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(phantom.affine), nib.orientations.axcodes2ornt("PIL")
    )
    image = image.as_reoriented(turn.astype(int).tolist())
    image.header.set_xyzt_units("mm", "sec")
    path = tmp_path_factory.mktemp("scans") / "scan.nii.gz"
    nib.save(image, path)
    return path


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.Nifti1Image.from_filename(path).dataobj)


def test_paths_images_and_arrays_are_labeled_as_predict_does(
    folder: Path, scan: Path, tmp_path: Path
) -> None:
    flags = [f"--checkpoint={folder / 'one'}", f"--input={scan}", f"--output={tmp_path}"]
    with pytest.raises(SystemExit) as stop:
        main(["predict", *flags, "--noreport"])
    assert not stop.value.code
    expected = voxels(tmp_path / "scan_dseg.nii.gz")
    model, image = seg.load(folder / "one"), nib.Nifti1Image.from_filename(scan)
    array = np.asarray(image.dataobj)
    for labels in (
        *(model.segment(str(scan)), model.segment(scan), model.segment([scan])),
        *(model.segment(image), model.segment(array, affine=image.affine)),
        model.segment(array[..., None], affine=np.asarray(image.affine).tolist()),
    ):
        np.testing.assert_array_equal(labels.array, expected)
        np.testing.assert_array_equal(labels.affine, image.affine)
        np.testing.assert_array_equal(labels.image.dataobj, expected)
    labels = model.segment(image)
    labels.save(tmp_path / "saved.nii.gz")
    saved, written = (nib.Nifti1Image.from_filename(tmp_path / name) for name in
                      ("saved.nii.gz", "scan_dseg.nii.gz"))  # fmt: skip
    assert saved.header == written.header
    np.testing.assert_array_equal(np.asarray(saved.dataobj), expected)


def test_volumes_and_probabilities_are_those_of_the_labels(folder: Path, scan: Path) -> None:
    labels = seg.load(folder / "one").segment(scan)
    ml = abs(np.linalg.det(labels.affine[:3, :3])) / 1000
    counted = {name: np.sum(labels.array == n) * ml for n, name in enumerate(TISSUES, start=1)}
    assert labels.volumes_ml == pytest.approx(counted, abs=1e-3)
    assert any(counted.values())
    maps = labels.probabilities
    assert list(maps) == ["background", *TISSUES]
    stacked = np.stack(list(maps.values()))
    np.testing.assert_allclose(stacked.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(stacked.argmax(axis=0), labels.array)


def test_finer_classes_have_their_own_values_and_names(scan: Path, tmp_path: Path) -> None:
    config, classes = tiny_config(tmp_path, steps=1), CLASS_SETS["drawem9"]
    variables = init_variables(make_model(config, num_classes=len(classes)), 1, seed=0)
    expects = ExpectedScans(("T1w",), Preparation(), ("brain",), classes)
    write_model(tmp_path / "nine", Model(config, variables, expects, {}))
    labels = seg.load(tmp_path / "nine", refine=False).segment(scan)
    assert labels.classes == classes
    maps = labels.probabilities
    assert tuple(maps) == classes.names and set(labels.volumes_ml) == set(classes.foreground)
    likeliest = np.stack(list(maps.values())).argmax(axis=0)
    values = np.array([one.value for one in classes.classes])
    assert len(np.unique(likeliest)) > 2
    np.testing.assert_array_equal(labels.array, values[likeliest])
    labels.save(tmp_path / "nine.nii.gz")
    np.testing.assert_array_equal(voxels(tmp_path / "nine.nii.gz"), values[likeliest])


def test_modalities_are_a_list(folder: Path, scan: Path) -> None:
    model = seg.load(folder / "both")
    assert model.modalities == ("T1w", "T2w")
    image = nib.Nifti1Image.from_filename(scan)
    other = nib.Nifti1Image(-np.asarray(image.dataobj), image.affine)
    mixed = model.segment([scan, other]).array
    arrays = [np.asarray(one.dataobj) for one in (image, other)]
    np.testing.assert_array_equal(model.segment(arrays, affine=image.affine).array, mixed)
    assert (model.segment([other, scan]).array != mixed).any()
    with input_error(scan, "1 image(s)", "2 (T1w, T2w)"):
        model.segment(scan)


def test_a_mask_may_be_a_path_an_image_or_an_array(folder: Path, scan: Path, tmp_path) -> None:
    model, image = seg.load(folder / "one"), nib.Nifti1Image.from_filename(scan)
    mask = np.zeros(image.shape, np.uint8)
    mask[4:20, 3:15, 5:20] = 1
    masked = nib.Nifti1Image(mask, image.affine)
    nib.save(masked, tmp_path / "mask.nii.gz")
    found = [
        model.segment(scan, mask=one).array for one in (tmp_path / "mask.nii.gz", masked, mask)
    ]
    assert all((one == found[0]).all() for one in found)
    assert (found[0] != model.segment(scan).array).any()
    for wrong, values in ((mask[1:], ("27x20x24", "28x20x24")), (0 * mask, ())):
        with input_error(*values):
            model.segment(scan, mask=wrong)


def test_several_models_are_averaged(folder: Path, scan: Path) -> None:
    one, other = (seg.load(folder / name).segment(scan) for name in ("one", "other"))
    both = seg.load([folder / "one", folder / "other"], mirror=False)
    assert both.names == ("one", "other")
    mean = (one.probabilities["GM"] + other.probabilities["GM"]) / 2
    np.testing.assert_allclose(both.segment(scan).probabilities["GM"], mean, atol=1e-6)


def test_the_bundled_model_is_the_default_and_warns(scan: Path) -> None:
    labels = seg.load(max_memory=2**33).segment(scan)
    assert all(isinstance(warning, str) and "scan.nii.gz" in warning for warning in labels.warnings)
    assert labels.array.shape == nib.Nifti1Image.from_filename(scan).shape


def test_training_and_evaluating(tmp_path: Path) -> None:
    scans, prepared = tmp_path / "scans", tmp_path / "prepared"
    write_cohort(scans, range(5), shape=(32, 32, 32))
    prepare(PHANTOM.open(scans), prepared)
    config = tiny_config(prepared, steps=2)
    model = seg.train(config, tmp_path / "run")
    assert model.names == ("run",) and model.modalities == ("T1w",)
    found = seg.evaluate(tmp_path / "run", prepared, split="test")
    assert len(found.scores.subjects) == 1 and not found.failures
    truth = next(scans.rglob("*_dseg.nii.gz"))
    (own,) = seg.evaluate_label_maps(truth, truth).scores.subjects.values()
    assert own["WM"]["dice"] == 1


def test_the_names_are_shown_and_typed_and_cost_nothing() -> None:
    assert {"load", "train", "evaluate", "Predictor", "train_and_evaluate", "SkipDenseNet3D",
            "open_predictor", "__version__"} <= set(dir(seg))  # fmt: skip
    assert all(getattr(seg, name) is not None for name in dir(seg))
    assert seg.__version__ == version("infant_seg_jax")
    assert (Path(seg.__file__).parent / "py.typed").exists()
    code = "import sys, infant_seg_jax; dir(infant_seg_jax); "
    code += "assert not {'jax', 'numpy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_wrong_things_are_one_sentence(folder: Path, scan: Path, tmp_path: Path) -> None:
    """In a process without the checks of types, which would come first."""
    code = f"""
import numpy as np, infant_seg_jax as seg
model, predictor = seg.load({str(folder / "one")!r}), seg.open_predictor({str(folder / "one")!r})
array = np.random.default_rng(0).random((8, 8, 8))
for call in (
    lambda: model.segment(3),
    lambda: model.segment([]),
    lambda: model.segment(array),
    lambda: model.segment(array, affine=np.eye(3)),
    lambda: model.segment(array, affine=np.zeros((4, 4))),
    lambda: model.segment(array[0], affine=np.eye(4)),
    lambda: model.segment(np.stack([array, array], -1), affine=np.eye(4)),
    lambda: model.segment(array * 1j, affine=np.eye(4)),
    lambda: model.segment(np.full((8, 8, 8), 'x'), affine=np.eye(4)),
    lambda: model.segment(array * np.nan, affine=np.eye(4)),
    lambda: model.segment('nowhere.nii.gz'),
    lambda: model.segment({str(scan)!r}).save('labels.png'),
    lambda: seg.load('bundeld'),
    lambda: seg.train('ibsr-cpu', 'run'),
    lambda: predictor.segment('scan.nii.gz'),
    lambda: predictor.segment(array),
    lambda: predictor.probabilities(array),
    lambda: predictor.label_map(None),
    lambda: predictor.predict(np.stack([array, array], -1)),
):
    try:
        call()
    except seg.InputError as error:
        assert str(error).endswith(('.', '?')) and len(str(error).splitlines()) == 1, error
        print(error)
    else:
        raise AssertionError('nothing was wrong')
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    print(result.stdout)
    assert not list(tmp_path.iterdir())
