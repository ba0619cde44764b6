"""Orbax checkpoints: parameters, batch statistics, optimizer and so on as separate items.

Separate, so that prediction and fine-tuning never read an optimizer. Restoring always names the
shapes that are expected; nothing is padded, cut or converted to fit.
"""

import errno
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from infant_seg_jax.errors import InputError, some_of
from infant_seg_jax.models.factory import Network
from infant_seg_jax.models.variables import abstract_variables, by_path
from infant_seg_jax.progress import log_always
from infant_seg_jax.store.run_folder import AVERAGED, RAW
from infant_seg_jax.store.state import TrainState

ITEMS = ("params", "batch_stats", "opt_state", "average", "clock")
MAX_VALUES = 2**28
"""More parameters than this, 1 GiB of them, are no network of ours."""

_BYTES_ABOUT = 2**13
"""What Orbax writes about an array, at most, in whole blocks of a disk."""
_UNSCORED = -1.0


@contextmanager
def open_checkpoints(workdir: Path, *, read_only: bool = False) -> Iterator[ocp.CheckpointManager]:
    """The checkpoints of a run: kept are the two latest and the one of the best mean Dice.

    Saving is asynchronous; leaving the context waits for it.

    Raises:
        InputError: a checkpoint could not be written.
    """
    best = BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False)
    options = ocp.CheckpointManagerOptions(
        best_fn=_score,
        preservation_policy=AnyPreservationPolicy([LatestN(2), best]),
        read_only=read_only,
        create=not read_only,
        save_interval_steps=0 if read_only else 1,
    )
    folder = (workdir / "checkpoints").absolute()
    handlers = {name: ocp.StandardCheckpointHandler() for name in ITEMS}
    with _write_errors(folder), _without_warnings():
        manager = ocp.CheckpointManager(folder, options=options, item_handlers=handlers)
    try:
        yield manager
    finally:
        with _write_errors(folder):
            manager.close()


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Orbax warns that a folder is only read, as it was asked to."""
    before = logging.get_verbosity()
    logging.set_verbosity(min(before, logging.ERROR))
    try:
        yield
    finally:
        logging.set_verbosity(before)


def save(manager: ocp.CheckpointManager, state: TrainState, mean_dice: float) -> None:
    """Write the state under its step, with the score that chooses the best (NaN: unscored).

    A step that is there already, saved before it had a score, is replaced if it now has one. Of
    several processes that train together all must call it, with arrays that they own together.

    Raises:
        InputError: this checkpoint, or the one before it, could not be written.
    """
    step = int(state.step)
    trees = {name: getattr(state, name) for name in ITEMS}
    items = {
        name: ocp.args.StandardSave(tree) for name, tree in trees.items() if jax.tree.leaves(tree)
    }
    metrics = {} if math.isnan(mean_dice) else {"mean_dice": mean_dice}
    with _write_errors(Path(manager.directory)):
        if step in manager.all_steps():
            if not metrics:
                return
            manager.delete(step)
        _check_room(Path(manager.directory), trees)
        manager.save(step, args=ocp.args.Composite(**items), metrics=metrics, force=True)


def _check_room(folder: Path, trees: Any) -> None:
    """Before Orbax begins, whose threads print tracebacks where a disk becomes full meanwhile."""
    needed = sum(leaf.nbytes + _BYTES_ABOUT for leaf in jax.tree.leaves(trees))
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def exist(workdir: Path) -> bool:
    """Whether a run has a finished checkpoint; Orbax names those by their step alone."""
    return any(path.name.isdecimal() for path in (workdir / "checkpoints").glob("*"))


def restore_latest(manager: ocp.CheckpointManager, like: TrainState) -> TrainState:
    """The latest state of a run that can be read, with the shapes and on the devices of `like`.

    Checkpoints that are damaged are passed over, and deleted, with a word about it.

    Raises:
        InputError: none can be read, or the latest that can does not fit.
    """
    names = [name for name in ITEMS if jax.tree.leaves(getattr(like, name))]
    damaged: list[tuple[int, InputError]] = []
    for step in sorted(manager.all_steps(), reverse=True):
        try:
            items = _restore(manager, step, {name: getattr(like, name) for name in names})
        except DamagedError as error:
            damaged.append((step, error))
            continue
        for broken, error in damaged:
            log_always(f"{error} Continuing from the checkpoint before it, of step {step}.")
            manager.delete(broken)
        return replace(like, step=jax.numpy.asarray(step, jax.numpy.int32), **items)
    raise damaged[0][1]


@dataclass(frozen=True)
class Loaded:
    """Variables from a checkpoint, and which one it was.

    Attributes:
        variables: `params` and `batch_stats`, as NumPy arrays.
        step: the checkpoint's.
        mean_dice: what it scored; None if it was never validated.
        weights: `"raw"` or `"averaged"`.
    """

    variables: dict[str, Any]
    step: int
    mean_dice: float | None
    weights: str


def read_variables(run: Path, which: str = "best", weights: str | None = None) -> Loaded:
    """Parameters and batch statistics of a run's checkpoint, in whatever shapes they have.

    Args:
        run: the run's folder.
        which: `"best"`, `"latest"` or the number of a step.
        weights: `"raw"` or `"averaged"`; None: averaged if the run has them.

    Raises:
        InputError: the run has no checkpoint, or not that one or those weights, or it is damaged.
    """
    run = Path(run)
    if not exist(run):
        raise InputError(f"{run} has no checkpoints: name a run folder with at least one.")
    with open_checkpoints(run, read_only=True) as manager:
        scores = {step: _score(manager.metrics(step)) for step in manager.all_steps()}
        if which.isdecimal() and int(which) not in scores:
            raise InputError(
                f"{run} has no checkpoint of step {which}, expected best, latest or one of "
                f"{', '.join(map(str, sorted(scores)))}."
            )
        best = max(scores, key=lambda step: (scores[step], step))
        step = {"best": best, "latest": max(scores)}.get(which) or int(which)
        folder = Path(manager.directory) / str(step)
        averaged = (folder / "average").is_dir()
        if weights == AVERAGED and not averaged:
            raise InputError(
                f"{run} keeps no averaged weights, expected config.init.weights=raw, or a run with "
                "config.average_decay."
            )
        averaged = averaged and weights != RAW
        kinds = ("average",) if averaged else ("params", "batch_stats")
        names = tuple(name for name in kinds if (folder / name).is_dir())
        targets = _stored_shapes(manager, step, names, folder)
        items = _restore(manager, step, targets)
        variables = {"batch_stats": {}} | (items["average"] if averaged else items)
        score = scores[step] if scores[step] > _UNSCORED else None
        return Loaded(
            jax.tree.map(np.asarray, variables), step, score, AVERAGED if averaged else RAW
        )


def load_variables(
    run: Path,
    model: Network,
    modalities: int,
    which: str = "best",
    weights: str | None = None,
) -> Loaded:
    """As `read_variables`, but for a network that they must fit.

    Raises:
        InputError: as there, or shapes differ; the sentence names them.
    """
    loaded = read_variables(run, which, weights)
    _check_shapes(loaded.variables, abstract_variables(model, modalities), Path(run))
    return loaded


class DamagedError(InputError):
    """A checkpoint that cannot be read, as opposed to one that does not fit."""


def _restore(manager: ocp.CheckpointManager, step: int, targets: dict[str, Any]) -> dict[str, Any]:
    folder = Path(manager.directory) / str(step)
    try:
        stored = manager.item_metadata(step)
        for name, target in targets.items():
            _check_shapes(stored[name], target, folder / name)
        items = {name: ocp.args.StandardRestore(target) for name, target in targets.items()}
        restored = manager.restore(step, args=ocp.args.Composite(**items))
    except InputError:
        raise
    except Exception as error:  # Orbax and tensorstore raise many kinds for damaged files.
        raise _damaged(folder, error) from error
    return {name: restored[name] for name in targets}


def _stored_shapes(
    manager: ocp.CheckpointManager, step: int, names: tuple[str, ...], folder: Path
) -> dict[str, Any]:
    """Targets to restore items with the shapes that they say they have, on the first device."""
    try:
        stored = manager.item_metadata(step)
        trees = {name: stored[name] for name in names}
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        targets = {
            name: jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
                dict(tree),
            )
            for name, tree in trees.items()
        }
        values = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(targets))
    except Exception as error:
        raise _damaged(folder, error) from error
    if values > MAX_VALUES:
        raise DamagedError(
            f"The checkpoint {folder} claims {values} values, expected at most {MAX_VALUES}: it is "
            "damaged, or not a checkpoint of infant-seg."
        )
    return targets


def _damaged(folder: Path, error: Exception) -> DamagedError:
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    return DamagedError(f"The checkpoint {folder} cannot be read ({reason}).")


def _check_shapes(stored: Any, target: Any, path: Path) -> None:
    found, expected = (
        {name: tuple(leaf.shape) for name, leaf in by_path(tree).items()}
        for tree in (stored, target)
    )
    differing = [
        f"{name} is {found.get(name, 'absent')}, expected {expected.get(name, 'none')}"
        for name in sorted(found | expected)
        if found.get(name) != expected.get(name)
    ]
    if differing:
        raise InputError(
            f"The checkpoint {path} does not fit the config's network: "
            f"{some_of(differing, 3, '; ')}; use the model settings and modalities of its training."
        )


@contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # tensorstore's are no OSErrors
        reason = getattr(error, "strerror", None) or str(error).strip().split("\n")[0][:300]
        raise InputError(
            f"The checkpoint in {folder} could not be written ({reason}): make room or choose "
            "another --workdir; earlier checkpoints are intact, and the same command continues "
            "from the latest."
        ) from error


def _score(metrics: Any) -> float:
    """The mean Dice that a checkpoint was saved with; worse than any where there is none."""
    return float((metrics or {}).get("mean_dice", _UNSCORED))
