"""Classes finer than tissues, from dHCP's label maps to pages, as a person would go."""

import csv
import io
import json
from contextlib import redirect_stderr
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.__main__ import main
from infant_seg_jax.data.class_sets import DRAWEM9_CLASSES, find_classes
from infant_seg_jax.data.labels import CSF, GM, TISSUE_CLASSES, WM
from infant_seg_jax.data.phantom import render_phantom
from infant_seg_jax.data.prepared import open_prepared
from infant_seg_jax.files import write_json
from infant_seg_jax.store.loading import open_model, open_predictor
from tests.training.tiny import tiny_config, tiny_flags

SHAPE = (32, 40, 32)
DRAWEM9_VALUES = (0, 1, 2, 3, 5, 6, 7, 8, 9)
NAMES = ("CSF", "CGM", "WM", "VENT", "CBM", "SGM", "BS", "HA")


def drawem9(tissues: np.ndarray) -> np.ndarray:
    """A label map of tissues with parts of them as DrawEM has them, by where they are."""
    places = np.meshgrid(*(np.linspace(-1, 1, n) for n in tissues.shape), indexing="ij")
    x, y, z = places
    found = tissues.astype(np.int16)
    inner = x**2 + y**2 + z**2 < 0.2
    found[inner & (tissues == CSF)] = 5
    found[inner & (tissues == GM)] = 7
    brain = tissues > 0
    below = brain & (z < -0.25)
    found[below & (y < -0.15)] = 6
    found[below & (np.abs(x) < 0.2) & (np.abs(y) <= 0.15)] = 8
    found[below & (np.abs(x) > 0.3) & (y > 0.1) & (tissues == GM)] = 9
    found[~brain & (x**2 + y**2 + z**2 < 1)] = 4
    return found


@pytest.fixture(scope="module")
def dhcp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five newborns in the layout of dHCP's third release."""
    folder = tmp_path_factory.mktemp("dhcp")
    for seed in range(5):
        phantom = render_phantom(seed, shape=SHAPE)
        name = f"sub-CC0{seed}XX_ses-{seed}"
        anat = folder / "derivatives/dhcp_anat_pipeline" / name.replace("_", "/") / "anat"
        anat.mkdir(parents=True)
        labels = drawem9(phantom.label_map)
        assert set(np.unique(labels)) == set(range(10))
        brain = (phantom.label_map > 0).astype(np.uint8)
        for ending, array in (
            ("desc-restore_T2w", phantom.image),
            ("desc-drawem9_dseg", labels),
            ("desc-brain_mask", brain),
        ):
            nib.save(
                nib.Nifti1Image(np.asarray(array), phantom.affine), anat / f"{name}_{ending}.nii.gz"
            )
    return folder


@pytest.fixture(scope="module")
def prepared(dhcp: Path) -> Path:
    output = dhcp.parent / "prepared"
    ran("prepare", "--source=dhcp", f"--input={dhcp}", "--classes=drawem9", f"--output={output}")
    return output


@pytest.fixture(scope="module")
def trained(prepared: Path) -> Path:
    """A run whose config says nothing of classes."""
    run = prepared.parent / "run"
    config = tiny_config(prepared, 8)
    config.loss.name = "cross_entropy_dice"
    config.patch.balanced = 0.5
    ran("train", *tiny_flags(config), f"--workdir={run}")
    return run


@pytest.fixture(scope="module")
def scan(dhcp: Path) -> Path:
    return next(dhcp.rglob("*_desc-restore_T2w.nii.gz"))


def ran(*arguments: object) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert not stop.value.code, stop.value.code


def error_of(*arguments: object) -> str:
    printed = io.StringIO()
    with redirect_stderr(printed), pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code
    return f"{printed.getvalue()} {stop.value.code}"


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)  # pyright: ignore[reportAttributeAccessIssue]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def test_a_prepared_set_has_the_classes_and_their_voxels(prepared: Path, dhcp: Path) -> None:
    found = open_prepared(prepared)
    assert found.classes == DRAWEM9_CLASSES and found.schema.name == "drawem9"
    # Version 0.1 refuses it by its format, or it would take the classes for tissues.
    assert json.loads((prepared / "manifest.json").read_text())["format"] == 3
    for case in found.cases:
        (path,) = dhcp.rglob(f"{case.case_id}_desc-drawem9_dseg.nii.gz")
        ids = voxels(path)
        assert case.voxels is not None and tuple(case.voxels) == DRAWEM9_CLASSES.names
        for name, value in zip(NAMES, DRAWEM9_VALUES[1:], strict=True):
            assert case.voxels[name] == np.count_nonzero(ids == value) > 0
        assert set(np.unique(case.labels())) == set(range(9))
    # Without the flag they are tissues, as ever.
    tissues = dhcp.parent / "tissues"
    ran("prepare", "--source=dhcp", f"--input={dhcp}", f"--output={tissues}")
    manifest = json.loads((tissues / "manifest.json").read_text())
    assert manifest["class_names"] == ["background", "CSF", "GM", "WM"]
    assert "classes" not in manifest and manifest["format"] == 2
    assert open_prepared(tissues).classes == TISSUE_CLASSES


@pytest.mark.slow
def test_from_training_to_pages(
    trained: Path, prepared: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The run and the model that is exported of it know the classes.
    model = tmp_path / "model"
    ran("export-model", trained, model)
    assert json.loads((model / "model.json").read_text())["classes"]["name"] == "drawem9"
    predictors = [open_predictor(path) for path in (trained, model)]
    for predictor in predictors:
        assert predictor.expects.classes == DRAWEM9_CLASSES and predictor.model.num_classes == 9
    validation = open_model(trained).training["validation_dice"]
    assert tuple(validation) == ("mean", *NAMES)

    # Label maps have DrawEM's values, and what is beside them says what these are.
    labels = tmp_path / "labels"
    arguments = (f"--input={scan}", "--refine", "--probabilities=uint8")
    ran("predict", f"--checkpoint={model}", f"--output={labels}", *arguments)
    (label_map,) = labels.glob("*_dseg.nii.gz")
    assert set(np.unique(voxels(label_map))) <= set(DRAWEM9_VALUES)
    rows = table(labels / "dseg.tsv")
    assert tuple(int(row["index"]) for row in rows) == DRAWEM9_VALUES
    assert tuple(row["abbreviation"] for row in rows) == ("BG", *NAMES)
    assert [row["mapping"] for row in rows[1:4]] == ["3", "8", "2"]
    sidecar = json.loads(
        label_map.with_name(label_map.name.replace(".nii.gz", ".json")).read_text()
    )
    assert sidecar["Classes"]["name"] == "drawem9"
    (row,) = table(labels / "tissue_volumes.tsv")
    volumes = {name: float(row[f"{name}_ml"]) for name in NAMES}
    within = sum(volumes.values())
    (mask,) = labels.glob("*_desc-brain_mask.nii.gz")
    voxel = float(np.prod([float(size) for size in row["voxel_size_mm"].split("x")])) / 1000
    masked = voxels(mask) > 0
    assert masked[voxels(label_map) > 0].all() and masked.sum() * voxel >= within
    assert float(row["intracranial_ml"]) == pytest.approx(masked.sum() * voxel, rel=1e-4)
    csf = volumes["CSF"] + volumes["VENT"]
    assert float(row["brain_ml"]) == pytest.approx(within - csf, abs=0.01)
    assert all(next(labels.glob(f"*_label-{name}_probseg.nii.gz"), None) for name in NAMES)

    # The same of the run itself, by another name of the same values.
    again = tmp_path / "again"
    ran("predict", f"--checkpoint={trained}", f"--output={again}", *arguments, "--schema=drawem9")
    np.testing.assert_array_equal(voxels(next(again.glob("*_dseg.nii.gz"))), voxels(label_map))

    # Scores: of the classes, and of the tissues, which are the classes' sums.
    finer, coarser = tmp_path / "finer", tmp_path / "coarser"
    of_run = ("evaluate", f"--checkpoint={trained}", f"--data={prepared}")
    ran(*of_run, f"--output={finer}")
    ran(*of_run, f"--output={coarser}", "--classes=tissues")
    for folder, names in ((finer, NAMES), (coarser, ("CSF", "GM", "WM"))):
        assert tuple(dict.fromkeys(row["tissue"] for row in table(folder / "metrics.csv"))) == names
        text = (folder / "report.html").read_text(encoding="utf-8")
        assert all(f"Dice, {name}" in text for name in names)
        assert "No pictures" not in text and text.count('<img class="slices"') >= 1
    about = json.loads((coarser / "metrics.json").read_text())
    assert "classes" not in about and (about["split"], about["fold"]) == ("validation", 0)
    assert "of background, CSF, CGM" in error_of("compare", finer, coarser)

    # Label maps against each other, finer and by tissue.
    (truth,) = scan.parent.glob("*_desc-drawem9_dseg.nii.gz")
    files = ("evaluate", f"--prediction={label_map}", f"--truth={truth}", "--noreport")
    for schema, names in (("--classes=drawem9", NAMES), ("--schema=drawem9", ("CSF", "GM", "WM"))):
        flags = (schema, "--schema=drawem9", "--prediction_schema=drawem9")
        ran(*files, *flags, f"--output={tmp_path / schema}")
        found = table(tmp_path / schema / "metrics.csv")
        assert tuple(row["tissue"] for row in found) == names

    # One page of all.
    page = tmp_path / "page.html"
    ran("report", trained, finer, labels, f"--output={page}")
    text = page.read_text(encoding="utf-8")
    for name in NAMES:
        assert f"{name} ml" in text and f"Validation, {name}" in text
        assert f"</i>{name}</li>" in text
    capsys.readouterr()


@pytest.mark.slow
def test_finer_labels_are_written_as_tissues_where_there_are_values_for_all(
    trained: Path, scan: Path, tmp_path: Path
) -> None:
    arguments = ("predict", f"--checkpoint={trained}", f"--input={scan}", "--noreport")
    printed = error_of(*arguments, f"--output={tmp_path / 'no'}", "--schema=iseg")
    assert "CBM and BS" in printed and not (tmp_path / "no").exists()
    schema = tmp_path / "mine.yaml"
    schema.write_text("{0: background, 10: CSF, 150: GM, 250: WM, 99: ignore}")
    for name, flags in (("own", ()), ("mine", (f"--schema={schema}",))):
        ran(*arguments, f"--output={tmp_path / name}", *flags)
    own, mine = (voxels(next((tmp_path / n).glob("*_dseg.nii.gz"))) for n in ("own", "mine"))
    expected = {0: 0, 1: 10, 2: 150, 3: 250, 5: 10, 6: 99, 7: 150, 8: 99, 9: 150}
    np.testing.assert_array_equal(mine, np.vectorize(expected.get)(own))
    header = (tmp_path / "mine" / "tissue_volumes.tsv").read_text().splitlines()[0].split("\t")
    volumes = [column for column in header if column.endswith("_ml")]
    assert volumes == ["CSF_ml", "GM_ml", "WM_ml", "brain_ml", "intracranial_ml"]


@pytest.mark.slow
def test_the_program_and_the_set_with_tissues_alone(
    trained: Path, dhcp: Path, prepared: Path, tmp_path: Path
) -> None:
    ran("export", "--platforms=cpu", trained, tmp_path / "program")
    about = json.loads((tmp_path / "program" / "program.json").read_text())
    assert about["output"]["shape"][-1] == 9
    assert about["output"]["classes"]["classes"][-1]["abbreviation"] == "HA"
    # A finer network on a set of tissues is measured on these, and no finer than the set is.
    tissues = tmp_path / "tissues"
    ran("prepare", "--source=dhcp", f"--input={dhcp}", f"--output={tissues}")
    of_run = ("evaluate", f"--checkpoint={trained}", f"--data={tissues}")
    ran(*of_run, f"--output={tmp_path / 'scores'}", "--noreport")
    rows = table(tmp_path / "scores" / "metrics.csv")
    assert [row["tissue"] for row in rows] == ["CSF", "GM", "WM"]
    printed = error_of(*of_run, f"--output={tmp_path / 'more'}", "--classes=drawem9")
    assert "--classes=tissues" in printed
    # Examples rendered from these anatomies know tissues alone.
    anatomies = tmp_path / "anatomies"
    write_json(
        anatomies / "manifest.json",
        {"format": 1, "spacing_mm": 1.0, "anatomies": [{"id": "one", "shape": [4, 4, 4]}]},
    )
    write_json(anatomies / "splits.json", [{"train": ["one"], "validation": [], "test": []}])
    (anatomies / "one").mkdir()
    for name in ("structures", "distances"):
        np.save(anatomies / "one" / f"{name}.npy", np.zeros((4, 4, 4), np.uint8))
    config = tiny_config(prepared, 2)
    config.rendering.path, config.rendering.fraction = str(anatomies), 0.5
    printed = error_of("train", *tiny_flags(config), f"--workdir={tmp_path / 'run'}")
    assert str(anatomies) in printed and str(TISSUE_CLASSES) in printed


def test_a_file_of_classes_and_a_schema_of_them(dhcp: Path, tmp_path: Path) -> None:
    """Hemispheres, say: one's own classes, from ids that are not theirs."""
    path = tmp_path / "mine.tsv"
    path.write_text(
        "index\tname\tabbreviation\ttissue\tcolor\n"
        "0\tBackground\tBG\t\t\n"
        "11\tGray matter of the cortex\tcortex\tGM\t\n"
        "12\tCerebrospinal Fluid\tCSF\t\t#112233\n"
        "40\tAll else\trest\tmixed\t\n"
    )
    classes = find_classes(str(path))
    assert classes.names == ("background", "cortex", "CSF", "rest")
    assert classes.tissues == (0, GM, CSF, 255) and classes.colors["CSF"] == "#112233"
    assert len(set(classes.colors.values())) == 3
    schema = tmp_path / "schema.yaml"
    schema.write_text("{0: background, 4: bg, 2: cortex, 1: CSF, 5: CSF}")
    flags = ("--source=dhcp", f"--input={dhcp}", f"--classes={path}", f"--schema={schema}")
    ran(
        *("prepare", *flags, "--map=3:rest,6:rest,7:rest,8:rest,9:ignore"),
        f"--output={tmp_path / 'set'}",
    )
    found = open_prepared(tmp_path / "set")
    assert found.classes == classes
    case = found.cases[0]
    (labels,) = dhcp.rglob(f"{case.case_id}_desc-drawem9_dseg.nii.gz")
    ids = voxels(labels)
    assert case.voxels is not None
    assert case.voxels["CSF"] == np.count_nonzero(np.isin(ids, (1, 5)))
    assert case.voxels["rest"] == np.count_nonzero(np.isin(ids, (3, 6, 7, 8)))
    assert WM not in classes.tissues
