"""Rendered files lie on their label maps' grids and go through `prepare` like real ones."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.__main__ import main
from infant_seg_jax.data.phantom import render_phantom
from infant_seg_jax.data.prepared import open_prepared
from infant_seg_jax.data.schemas import TISSUE_SCHEMA
from infant_seg_jax.rendering.cohort import render_cohort
from infant_seg_jax.rendering.contrast import Prior
from tests.input_errors import input_error

PRIOR = Prior("T1w", 6.0, 6.0)
AFFINE = np.array([[0, -2.1, 0.3, 40], [-2, 0, 0, 50], [0, 0.2, 2.2, -30], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small phantoms' label maps, oblique and in an order that is not RAS."""
    folder = tmp_path_factory.mktemp("maps")
    for name, seed in (("one", 1), ("two-b", 2)):
        labels = render_phantom(seed, shape=(40, 48, 40), spacing=4.0).label_map
        image = nib.Nifti1Image(labels.swapaxes(0, 1), AFFINE)
        image.set_sform(AFFINE, 2)
        nib.save(image, folder / f"{name}.nii.gz")
    return folder


def cohort(maps: Path, output: Path, per_map: int = 1, seed: int = 0) -> list[Path]:
    return render_cohort(sorted(maps.iterdir()), TISSUE_SCHEMA, output, PRIOR, per_map, seed)


def test_scans_and_label_maps_lie_on_the_label_maps_grid(maps: Path, tmp_path: Path) -> None:
    scans = cohort(maps, tmp_path / "out")
    assert [scan.name for scan in scans] == [
        "sub-one_ses-1_T1w.nii.gz",
        "sub-twob_ses-1_T1w.nii.gz",
    ]
    source = nib.Nifti1Image.from_filename(maps / "one.nii.gz")
    for kind in ("T1w", "dseg"):
        found = nib.Nifti1Image.from_filename(tmp_path / "out" / f"sub-one_ses-1_{kind}.nii.gz")
        np.testing.assert_array_equal(found.affine, source.affine)
    # The first scan of a label map is of its anatomy as it is.
    assert np.array_equal(np.asanyarray(found.dataobj), np.asanyarray(source.dataobj))
    scan = np.asanyarray(nib.Nifti1Image.from_filename(scans[0]).dataobj)
    assert np.array_equal(scan > 0, np.asanyarray(source.dataobj) > 0)


def test_further_scans_are_of_deformed_anatomies(maps: Path, tmp_path: Path) -> None:
    cohort(maps, tmp_path / "out", per_map=3)
    first, *others = (
        np.asanyarray(
            nib.Nifti1Image.from_filename(tmp_path / "out" / f"sub-one_ses-{n}_dseg.nii.gz").dataobj
        )
        for n in (1, 2, 3)
    )
    for other in others:
        overlap = 2 * np.sum((first > 0) & (other > 0)) / (np.sum(first > 0) + np.sum(other > 0))
        assert 0.5 < overlap < 0.99
        assert 0.6 < np.mean(other > 0) / np.mean(first > 0) < 1.5
    assert (others[0] != others[1]).any()


def test_a_seed_draws_the_same_scans_and_another_others(maps: Path, tmp_path: Path) -> None:
    def scan(name: str, seed: int) -> np.ndarray:
        return np.asanyarray(
            nib.Nifti1Image.from_filename(cohort(maps, tmp_path / name, seed=seed)[0]).dataobj
        )

    assert np.array_equal(scan("a", 4), scan("b", 4))
    assert not np.array_equal(scan("c", 5), scan("a2", 4))


def test_scans_of_one_name_are_refused(maps: Path, tmp_path: Path) -> None:
    paths = [maps / "one.nii.gz", maps / "one.nii.gz"]
    with input_error("sub-one"):
        render_cohort(paths, TISSUE_SCHEMA, tmp_path / "out", PRIOR)
    assert not (tmp_path / "out").exists()


def test_the_commands_lead_to_a_prepared_set(maps: Path, tmp_path: Path) -> None:
    rendered, prepared = tmp_path / "rendered", tmp_path / "prepared"
    for command in (
        ("render", str(maps), "--age=6", "--per_map=2", f"--output={rendered}"),
        (
            *("prepare", "--source=folder", f"--input={rendered}", "--images=*_T1w"),
            *("--labels=*_dseg", "--modalities=T1w", "--map=255:ignore", f"--output={prepared}"),
        ),
    ):
        with pytest.raises(SystemExit) as stop:
            main(command)
        assert not stop.value.code
    cases = open_prepared(prepared).cases
    assert len(cases) == 4
    assert len({case.participant for case in cases}) == 2


@pytest.mark.parametrize("age", ["old", "9,6", "-1", "1,2,3"])
def test_ages_that_are_none_are_refused(
    maps: Path, tmp_path: Path, age: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["render", str(maps), f"--age={age}", f"--output={tmp_path / 'out'}"])
    assert stop.value.code == 1
    assert f"--age is {age}, expected months" in capsys.readouterr().err
