"""From label maps to a set of anatomies: grids, distances, what is held out, and errors."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial import KDTree

from infant_seg_jax.__main__ import main
from infant_seg_jax.commands.prepare_anatomies import find_label_maps
from infant_seg_jax.data.formats import Grid
from infant_seg_jax.data.phantom import render_phantom
from infant_seg_jax.data.prepared import open_prepared
from infant_seg_jax.data.schemas import IBSR_SCHEMA, TISSUE_SCHEMA
from infant_seg_jax.data.volumes import read_label_map
from infant_seg_jax.errors import InputError
from infant_seg_jax.rendering.anatomies import STEPS_PER_MM, open_anatomies
from infant_seg_jax.rendering.anatomy import Anatomy, LabelMapFile, is_brain, read_anatomy
from infant_seg_jax.rendering.preparing import (
    MARGIN_MM,
    SURFACE_MM,
    VIEWS,
    measure,
    prepare_anatomies,
    to_arrays,
)
from infant_seg_jax.rendering.structures import BRAIN, Structure
from tests.input_errors import input_error

SPACING = 4.0


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small phantoms' label maps."""
    folder = tmp_path_factory.mktemp("maps")
    for seed, name in enumerate(("one", "two", "three")):
        labels = render_phantom(seed, shape=(40, 48, 40), spacing=SPACING).label_map
        image = nib.Nifti1Image(labels, np.diag([SPACING, SPACING, SPACING, 1]))
        nib.save(image, folder / f"{name}.nii.gz")
    return folder


def listed(maps: Path) -> list[LabelMapFile]:
    return [LabelMapFile(TISSUE_SCHEMA, path) for path in sorted(maps.iterdir())]


@pytest.fixture(scope="module")
def anatomies(maps: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("anatomies") / "set"
    arguments = [f"tissues:{maps}", "--held_out=t[a-h]*", f"--spacing_mm={SPACING}"]
    with pytest.raises(SystemExit) as stop:
        main(["prepare-anatomies", *arguments, f"--output={output}"])
    assert not stop.value.code
    return output


def test_what_is_not_held_out_is_trained_on(anatomies: Path) -> None:
    found = open_anatomies(anatomies)
    assert [anatomy.name for anatomy in found.training] == ["one", "two"]
    assert found.spacing_mm == SPACING
    for anatomy in found.training:
        structures = anatomy.structures()
        assert (structures >= BRAIN).any()  # a head was grown
        assert anatomy.distances().shape == structures.shape


def test_what_is_held_out_is_a_prepared_set_to_validate_on(anatomies: Path) -> None:
    prepared = open_prepared(anatomies / "held_out")
    cases = prepared.split("validation")
    assert {case.participant for case in cases} == {"three"}
    assert len(cases) == len(prepared.cases) == len(VIEWS) + 1
    assert prepared.extents == ("brain", "head")
    assert prepared.preparation.spacing_mm == SPACING
    for case in cases:
        image, labels = case.image(), case.labels()
        assert abs(image[image != 0].mean()) < 0.01
        # What is labeled is shown, but for a voxel that rounding to the grid may lose.
        assert np.mean(image[..., 0][labels > 0] != 0) > 0.99


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


KILLED = """
import sys, time
from pathlib import Path
import infant_seg_jax.rendering.preparing as preparing
from tests.rendering.test_preparing import SPACING, listed

name, nth = sys.argv[3], int(sys.argv[4])
write, written = getattr(preparing, name), []
def slow_write(*arguments, **named):
    if len(written) == nth:
        print("now", flush=True)
        time.sleep(60)
    written.append(write(*arguments, **named))
    return written[-1]
setattr(preparing, name, slow_write)
preparing.prepare_anatomies(
    listed(Path(sys.argv[1])), Path(sys.argv[2]), SPACING, held_out=["t[a-h]*"], workers=1
)
"""


@pytest.mark.parametrize(
    ("function", "nth", "finished"),
    [
        pytest.param("grow_head", 1, {"one"}, marks=pytest.mark.slow),
        ("write_label_map", 2, {"one"}),  # between two scans of the second
        pytest.param("prepare", 0, {"one", "three", "two"}, marks=pytest.mark.slow),
    ],
)
def test_killed_half_way_it_resumes(
    maps: Path, anatomies: Path, tmp_path: Path, function: str, nth: int, finished: set[str]
) -> None:
    output = tmp_path / "set"
    command = [sys.executable, "-c", KILLED, str(maps), str(output), function, str(nth)]
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None and process.stdout.readline() == b"now\n"
        process.send_signal(signal.SIGKILL)
    assert {path.parent.name for path in output.glob("*/case.json")} == finished
    with input_error(output):
        open_anatomies(output)
    kept = {name: (output / name / "structures.npy").stat().st_mtime_ns for name in finished}
    prepare_anatomies(listed(maps), output, SPACING, held_out=["t[a-h]*"])
    for name, written in kept.items():
        assert (output / name / "structures.npy").stat().st_mtime_ns == written
    assert files_in(output) == files_in(anatomies)


def test_two_workers_do_what_one_does(maps: Path, anatomies: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        output = tmp_path / str(workers)
        prepare_anatomies(listed(maps), output, SPACING, held_out=["t[a-h]*"], workers=workers)
        assert files_in(output) == files_in(anatomies)


@pytest.mark.parametrize("unfinished", [False, True])
def test_other_parameters_are_refused(
    maps: Path, anatomies: Path, tmp_path: Path, unfinished: bool
) -> None:
    folder = changed(anatomies, tmp_path / "set", {})
    if unfinished:
        (folder / "manifest.json").rename(folder / "unfinished.json")
    before = files_in(folder)
    first, *rest = listed(maps)
    renamed = [replace(one, schema=IBSR_SCHEMA) for one in listed(maps)]
    resized = [replace(first, size=1.1), *rest]
    others = [
        ("spacing_mm", listed(maps), 5.0, "t[a-h]*", 0),
        ("held_out", listed(maps), SPACING, "two", 0),
        ("seed", listed(maps), SPACING, "t[a-h]*", 1),
        ("label_maps", renamed, SPACING, "t[a-h]*", 0),
        ("label_maps", listed(maps)[:-1], SPACING, "three", 0),
    ]
    others.append(("label_maps", resized, SPACING, "t[a-h]*", 0))
    for key, label_maps, spacing, held_out, seed in others:
        with input_error(folder, f"{key}: "):
            prepare_anatomies(label_maps, folder, spacing, [held_out], seed)
    assert files_in(folder) == before


def test_what_changed_is_prepared_again(maps: Path, anatomies: Path, tmp_path: Path) -> None:
    again = tmp_path / "maps"
    shutil.copytree(maps, again)
    shutil.copy(maps / "one.nii.gz", again / "three.nii.gz")
    folder = changed(anatomies, tmp_path / "set", {})
    prepare_anatomies(listed(again), folder, SPACING, held_out=["t[a-h]*"])
    prepare_anatomies(listed(again), tmp_path / "new", SPACING, held_out=["t[a-h]*"])
    assert files_in(folder) == files_in(tmp_path / "new") != files_in(anatomies)


def test_a_label_map_that_cannot_be_used_leaves_nothing(maps: Path, tmp_path: Path) -> None:
    shutil.copytree(maps, tmp_path / "maps")
    for path in (tmp_path / "maps").iterdir():
        path.write_bytes(b"no volume")
    with pytest.raises(InputError):
        prepare_anatomies(listed(tmp_path / "maps"), tmp_path / "set", SPACING)
    assert not (tmp_path / "set").exists()


def anatomy_of(structures: np.ndarray, spacing: tuple[float, ...], grown: bool) -> Anatomy:
    affine = np.diag([*spacing, 1.0])
    x, y, z = structures.shape
    return Anatomy(structures, affine, Grid((x, y, z), affine), Path("a.nii"), grown)


def box_brain() -> np.ndarray:
    """White matter in cortex in fluid, at the border of the volume."""
    structures = np.zeros((30, 40, 36), np.uint8)
    for inset, structure in enumerate((Structure.SULCAL_CSF, Structure.CORTEX, Structure.WHITE)):
        n = 2 * inset
        structures[n : 20 - n, 4 + n : 24 - n, 6 + n : 30 - n] = structure
    return structures


def test_there_is_a_margin_around_the_brain_and_a_head_in_it() -> None:
    anatomy = anatomy_of(box_brain(), (2.0, 2.0, 2.0), grown=False)
    structures, _ = to_arrays(anatomy, 2.0, np.random.default_rng(0))
    brain = np.argwhere(is_brain(structures))
    margin = int(MARGIN_MM / 2)
    assert (brain.min(axis=0) >= margin).all()
    assert (brain.max(axis=0) <= np.array(structures.shape) - 1 - margin).all()
    drawn = box_brain()[:20, 4:24, 6:30]
    x, y, z = brain.min(axis=0)
    assert np.array_equal(structures[x : x + 20, y : y + 20, z : z + 24], drawn)


def test_another_voxel_size_keeps_volumes() -> None:
    anatomy = anatomy_of(box_brain(), (2.0, 1.5, 2.0), grown=False)
    structures, _ = to_arrays(anatomy, 1.0, np.random.default_rng(0))
    for structure in (Structure.SULCAL_CSF, Structure.CORTEX, Structure.WHITE):
        before = np.count_nonzero(box_brain() == structure) * 6.0
        assert np.count_nonzero(structures == structure) == pytest.approx(before, rel=0.15)


def nearest(where: np.ndarray, to: np.ndarray) -> np.ndarray:
    """For each voxel of a mask the distance to another mask's nearest, found in a tree of them."""
    found = np.zeros(where.shape)
    found[where] = KDTree(np.argwhere(to)).query(np.argwhere(where))[0]
    return found


@pytest.mark.parametrize("thin_cortex", [False, True])
def test_distances_are_those_to_the_nearest_neighbors(thin_cortex: bool) -> None:
    structures = np.pad(box_brain()[:20, 4:24, 6:30], 3)
    structures[10:14, 10:14, 11:14] = Structure.SULCAL_CSF  # deep, as a ventricle is
    structures[:1] = Structure.BONE
    brain, fluid = is_brain(structures), structures == Structure.SULCAL_CSF
    tissue = brain & ~fluid
    deep = fluid & (nearest(brain, ~brain) > SURFACE_MM)
    assert deep.any()
    expected = np.where(deep, 0, nearest(~tissue, tissue))
    if thin_cortex:
        cortex = structures == Structure.CORTEX
        expected += nearest(cortex, structures == Structure.WHITE)
    found = measure(structures, 1.0, thin_cortex)
    assert np.array_equal(found, np.round(STEPS_PER_MM * expected))


def test_names_are_told_apart_and_patterns_fit(maps: Path, tmp_path: Path) -> None:
    twice = [*listed(maps), listed(maps)[0]]
    with input_error(" one,"):
        prepare_anatomies(twice, tmp_path / "out")
    for name in ("held_out", "scans"):
        taken = [*listed(maps), LabelMapFile(TISSUE_SCHEMA, maps / f"{name}.nii.gz")]
        with input_error(maps / f"{name}.nii.gz"):
            prepare_anatomies(taken, tmp_path / "out")
    with input_error("four*", "one, three"):
        prepare_anatomies(listed(maps), tmp_path / "out", held_out=["one", "four*"])
    with input_error("3 label map(s)"):
        prepare_anatomies(listed(maps), tmp_path / "out", held_out=["*"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("argument", ["maps", "tissues:"])
def test_label_maps_without_a_schema_are_refused(
    argument: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["prepare-anatomies", argument, f"--output={tmp_path / 'out'}"])
    assert stop.value.code == 1
    assert "does not say what its values mean, expected SCHEMA:LABELS" in capsys.readouterr().err


def changed(source: Path, folder: Path, values: dict[str, object]) -> Path:
    """A copy of the set whose manifest says something else."""
    shutil.copytree(source, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | values))
    return folder


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"format": 99}, ("99", "expected 1")),
        ({"spacing_mm": None}, ("(TypeError",)),
        ({"anatomies": [{"id": "../one", "shape": [1, 1, 1]}]}, ("../one",)),
        ({"anatomies": []}, ("one",)),
    ],
)
def test_damaged_sets_are_refused(
    anatomies: Path, tmp_path: Path, values: dict[str, object], found: tuple[str, ...]
) -> None:
    folder = changed(anatomies, tmp_path / "set", values)
    with input_error(folder, *found):
        open_anatomies(folder)


def test_other_folders_and_arrays_are_refused(anatomies: Path, tmp_path: Path) -> None:
    with input_error(anatomies / "held_out"):
        open_anatomies(anatomies / "held_out")
    with input_error(tmp_path):
        open_anatomies(tmp_path)
    folder = changed(anatomies, tmp_path / "set", {})
    np.save(folder / "one" / "distances.npy", np.zeros((2, 2, 2), np.uint8))
    with input_error("distances.npy", "uint8", (2, 2, 2)):
        open_anatomies(folder)
    (folder / "splits.json").write_text('[{"train": [], "validation": [], "test": []}]')
    with input_error(folder / "splits.json"):
        open_anatomies(folder)


def test_sizes_follow_a_path(maps: Path) -> None:
    one = maps / "one.nii.gz"
    found = find_label_maps([f"tissues:{one}@0.9,1,1.2", f"tissues:{maps / 'two.nii.gz'}"])
    assert [(label_map.name, label_map.size) for label_map in found] == [
        *(("one_0.9", 0.9), ("one", 1.0), ("one_1.2", 1.2), ("two", 1.0))
    ]
    for wrong in ("9", "", "1,x", "0.1"):
        with pytest.raises(InputError):
            find_label_maps([f"tissues:{one}@{wrong}"])


def test_an_enlarged_anatomy_is_its_label_map_in_larger_voxels(maps: Path, tmp_path: Path) -> None:
    path = maps / "one.nii.gz"
    label_map = read_label_map(path)
    affine = label_map.affine @ np.diag([1.25, 1.25, 1.25, 1.0])
    nib.save(nib.Nifti1Image(label_map.data, affine), tmp_path / "larger.nii.gz")
    expected = read_anatomy(tmp_path / "larger.nii.gz", TISSUE_SCHEMA)
    found = read_anatomy(path, TISSUE_SCHEMA, size=1.25)
    np.testing.assert_array_equal(found.structures, expected.structures)
    np.testing.assert_allclose(found.affine, expected.affine)
