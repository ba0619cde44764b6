"""A run folder explains itself: what was trained, on what, with what, and how it went.

config.json      the resolved config
run.json         classes, modalities, preparation, subjects, the data's voxel sizes and hashes,
                 versions, commit, devices
start.tsv        of a run that began with another's weights: how each parameter started
familiar.json    what the finished network measures on scans like its training's
memory.json      the most memory that it has held
metrics.jsonl    one JSON object per line: `step` and what was measured
tensorboard/     the same for TensorBoard
checkpoints/     the latest and the best, named by step
"""

import json
import math
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from infant_seg_jax.config import Config, flatten, load_config
from infant_seg_jax.data.prepared import (
    MANIFEST,
    SPLITS_FILE,
    ExpectedScans,
    PreparedCase,
    PreparedSet,
    expected_scans_from_record,
)
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import read_json, sha256, write_json
from infant_seg_jax.prediction.reference_statistics import (
    NOTHING_KNOWN,
    ReferenceStatistics,
    statistics_from_record,
)
from infant_seg_jax.rendering.anatomies import AnatomySet

BEST, LATEST = "best", "latest"
"""Which of a run's checkpoints, beside the number of a step."""
RAW, AVERAGED = "raw", "averaged"
"""The weights that a step left, and their moving average."""

REFERENCE = "familiar.json"
"""What was measured on scans like the training's; the name is that of version 0.1."""

RECORD_VERSION = 2
MAY_CHANGE = ("parallel", "trackers", "log_every", "save_every", "init.architecture")
"""Keys of a config that may be other ones when a run is resumed."""
_LIBRARIES = ("infant_seg_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def start_run(
    workdir: Path,
    config: Config,
    prepared: PreparedSet,
    training: Sequence[PreparedCase],
    validation: Sequence[PreparedCase],
    anatomies: AnatomySet | None = None,
    *,
    resuming: bool,
) -> None:
    """Write the run's config and record; a run that is resumed must have the same config.

    The first of several processes writes for all. What changes nothing of the result may change:
    the devices' mapping, where it is logged and how often.

    Raises:
        InputError: the folder holds a run with another config; the sentence names the keys.
    """
    path = workdir / "config.json"
    if resuming:
        before, now = flatten(load_config(path)), flatten(config)
        changed = [
            f"{key}: {before[key]!r}, not {now[key]!r}"
            for key in now
            if now[key] != before[key] and key not in MAY_CHANGE
        ]
        if changed:
            raise InputError(
                f"{workdir} contains a run with another config ({'; '.join(changed)}): continue it "
                "with its own config, or name another --workdir."
            )
    if jax.process_index() != 0:
        return
    write_json(path, config.to_dict())
    subjects = {"train": training, "validation": validation}
    write_json(
        workdir / "run.json",
        {
            "record_version": RECORD_VERSION,
            **prepared.expected_scans.record(),
            "subjects": {name: [c.case_id for c in cases] for name, cases in subjects.items()},
            "data": _describe_data(prepared, training or validation or prepared.cases),
            **({} if anatomies is None else {"anatomies": _describe_anatomies(anatomies)}),
            "versions": {"python": platform.python_version()}
            | {library: version(library) for library in _LIBRARIES},
            "git_commit": _git_commit(),
            "processes": jax.process_count(),
            "devices": [device.device_kind for device in jax.devices()],
        },
    )


def _describe_data(prepared: PreparedSet, cases: Sequence[PreparedCase]) -> dict[str, Any]:
    sizes = np.array([case.spacing for case in cases])
    return {
        "path": str(prepared.folder),
        "source": prepared.source,
        "schema": prepared.schema.name,
        "smallest_voxel_mm": sizes.min(axis=0).round(4).tolist(),
        "largest_voxel_mm": sizes.max(axis=0).round(4).tolist(),
        "manifest_sha256": sha256(prepared.folder / MANIFEST),
        "splits_sha256": sha256(prepared.folder / SPLITS_FILE),
    }


def _describe_anatomies(anatomies: AnatomySet) -> dict[str, Any]:
    return {
        "path": str(anatomies.folder),
        "voxel_mm": anatomies.spacing_mm,
        "train": [anatomy.name for anatomy in anatomies.training],
        "manifest_sha256": sha256(anatomies.folder / MANIFEST),
        "splits_sha256": sha256(anatomies.folder / SPLITS_FILE),
    }


def _git_commit() -> str | None:
    """The commit of the code, with a + if files differ from it; None for an installed copy."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != folder.parents[1]:
            return None  # The package lies, installed, in somebody else's repository.
        return git("rev-parse", "HEAD") + "+" * bool(git("status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        return None


def read_run(run: Path) -> tuple[Config, ExpectedScans]:
    """A run's config, and what its network expects of a scan.

    Raises:
        InputError: the folder is missing or is not a run's, or was written by a newer version.
    """
    run = Path(run)
    if not (run / "config.json").is_file() or not (run / "run.json").is_file():
        raise InputError(
            f"{run} is not a run folder (it has no config.json and run.json): name the --workdir "
            "of a training run."
        )
    content = read_json(run / "run.json")
    try:
        found = content["record_version"]
        if found != RECORD_VERSION:
            raise InputError(
                f"{run / 'run.json'} has the record version {found!r}, expected {RECORD_VERSION}: "
                "use the version of infant_seg_jax that wrote it."
            )
        expects = expected_scans_from_record(content)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{run / 'run.json'} is damaged ({error!r}).") from error
    return load_config(run / "config.json"), expects


def training_summary(run: Path, step: int, weights: str) -> dict[str, Any]:
    """How a checkpoint came to be, for those who get its weights without the run folder.

    No paths, and no names of subjects: how many they were, and the hashes of the data's manifest
    and splits. What an older run did not record is left out.

    Args:
        run: the run's folder.
        step: the checkpoint's.
        weights: `"raw"` or `"averaged"`, which the validation's Dice depends on.
    """
    (config, expects), path = read_run(run), run / "run.json"
    record = read_json(path)
    prefix = "averaged_" if weights == "averaged" else ""
    names = expects.classes.foreground
    keys = {"mean": f"{prefix}mean_dice", **{name: f"{prefix}dice_{name}" for name in names}}
    scores: dict[str, Any] = {}
    for line in read_metrics(run):
        if line.get("step") == step and keys["mean"] in line:
            found = {name: line.get(key) for name, key in keys.items()}
            scores = {  # JSON has no NaN
                name: value if isinstance(value, float) and math.isfinite(value) else None
                for name, value in found.items()
            }
    try:
        return {
            "step": step,
            "steps": config.steps,
            **({"minutes": config.minutes} if config.minutes else {}),
            "weights": weights,
            "validation_dice": scores or None,
            "subjects": {name: len(cases) for name, cases in record["subjects"].items()},
            "data": {key: value for key, value in record["data"].items() if key != "path"},
            "started_from": Path(config.init.checkpoint).name or None,
            "versions": record["versions"],
            "git_commit": record["git_commit"],
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error!r}).") from error


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`; a last line cut short by a crash is left out."""
    path = Path(run) / "metrics.jsonl"
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def read_statistics(run: Path) -> ReferenceStatistics:
    """What was measured on scans like a run's; nothing where nothing was.

    Raises:
        InputError: it cannot be read.
    """
    path = Path(run) / REFERENCE
    if not path.exists():
        return NOTHING_KNOWN
    try:
        return statistics_from_record(dict(read_json(path)))
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged ({error}): delete it.") from error


def write_statistics(run: Path, reference: ReferenceStatistics) -> None:
    """Write what was measured to a run folder.

    Raises:
        InputError: the folder cannot be written to.
    """
    write_json(Path(run) / REFERENCE, asdict(reference))
