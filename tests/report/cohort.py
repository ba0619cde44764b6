"""A small evaluation and a small prediction on disk, of which everything is known."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from infant_seg_jax.config import default_config
from infant_seg_jax.data.labels import CSF, GM, TISSUES, WM
from infant_seg_jax.data.preprocessing import Preparation
from infant_seg_jax.evaluation.score_files import write_scores
from infant_seg_jax.evaluation.score_table import ScoreTable
from infant_seg_jax.labeling.scans import sidecar_of
from infant_seg_jax.metrics.measures import measure
from tests.data.volume_files import save

SPACING = (1.0, 2.0, 1.5)
AFFINE = np.diag([*SPACING, 1.0])
AFFINE[:3, 3] = (-10.0, -12.0, -9.0)
VOXEL_ML = 3.0 / 1000
NAMES = ("sub-a", "sub-b", "sub-c", "sub-d")


def truth() -> np.ndarray:
    """Slabs of the three tissues."""
    found = np.zeros((20, 16, 14), np.uint8)
    for index, tissue in enumerate((CSF, GM, WM)):
        found[1 + 6 * index : 7 + 6 * index, 3:12, 3:11] = tissue
    return found


def scan() -> np.ndarray:
    """Brighter to the right, and nothing but 0 outside of the tissues."""
    ramp = np.linspace(50, 100, 20, dtype=np.float32)[:, None, None]
    return np.where(truth() > 0, ramp, 0).astype(np.float32)


def write_evaluation(folder: Path, names: tuple[str, ...] = NAMES) -> Path:
    """The scores of predictions that are moved along y: the first not at all, then ever more."""
    scores = {}
    for kind in ("scans", "truth", "predicted"):
        (folder / kind).mkdir(parents=True)
    for number, name in enumerate(names):
        moved = np.roll(truth(), number, axis=1)
        scan_path = save(folder / "scans" / f"{name}_T1w.nii.gz", scan(), AFFINE)
        save(folder / "truth" / f"{name}_dseg.nii.gz", truth(), AFFINE)
        predicted = save(folder / "predicted" / f"{name}_dseg.nii.gz", moved, AFFINE)
        about = {"SpatialReference": str(scan_path)}
        sidecar_of(predicted).write_text(json.dumps(about), encoding="utf-8")
        scores[name] = measure(moved, truth(), SPACING)
    about = {"prediction": str(folder / "predicted"), "truth": str(folder / "truth")}
    write_scores(folder / "scores", ScoreTable(scores, 1.0), about | {"failures": {}})
    return folder / "scores"


def write_prediction(folder: Path, count: int = 4) -> Path:
    """What `predict` leaves: the scan of number 1 is flagged, that of number 2 is gone."""
    output = folder / "labels"
    (folder / "scans").mkdir(parents=True)
    output.mkdir()
    columns = ["participant_id", "session_id", "label_map", *(f"{name}_ml" for name in TISSUES)]
    columns += ["brain_ml", "intracranial_ml", "voxel_size_mm", "entropy", "agreement", "flagged"]
    rows = ["\t".join(columns)]
    for number in range(count):
        name = f"s{number:03}_dseg.nii.gz"
        scan_path = folder / "scans" / f"s{number:03}.nii.gz"
        if number != 2:
            save(scan_path, scan(), AFFINE)
        path = save(output / name, truth(), AFFINE)
        flagged = number == 1
        notices = ["It looks <b>odd</b>."] if flagged else []
        settings = {"LabelIds": {"background": 0, "CSF": 1, "GM": 2, "WM": 3}}
        content = {"SpatialReference": str(scan_path), "Notices": notices, "Settings": settings}
        sidecar_of(path).write_text(json.dumps(content), encoding="utf-8")
        values = [f"{100 + number}.0", "200.0", "300.0", "500.0", "600.0", "1x2x1.5"]
        certain = [f"0.{number % 10}", "n/a", "true" if flagged else "false"]
        rows.append("\t".join([f"sub-{number}", "n/a", name, *values, *certain]))
    (output / "tissue_volumes.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return output


def write_run(folder: Path, start: str = "", best: float = 0.5, steps: int = 4) -> Path:
    """The files of a run, made up."""
    folder.mkdir(parents=True)
    config = default_config()
    config.steps, config.init.checkpoint = steps, start
    (folder / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
    record = {
        "record_version": 2,
        "modalities": ["T1w"],
        "preparation": asdict(Preparation()),
        "extents": ["brain"],
        "subjects": {"train": ["a", "b"], "validation": ["c"]},
        "data": {"path": "prepared", "source": "folder"},
        "versions": {"jax": "0.0"},
        "git_commit": None,
        "devices": ["cpu", "cpu"],
    }
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    lines = [
        {"step": step, "loss": 2.0 / step, "learning_rate": 1e-3, "gradient_norm": 1.0}
        for step in range(1, steps + 1)
    ]
    dice = {f"dice_{name}": best for name in TISSUES}
    lines += [{"step": 2, **dice, "mean_dice": best}, {"step": steps, **dice, "mean_dice": 0.1}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    return folder
