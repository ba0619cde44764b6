"""Orbax checkpoints: parameters, batch statistics and optimiser as separate items.

Separate, so that prediction and fine-tuning never read an optimiser. Restoring always names the
shapes that are expected; nothing is padded, cut or converted to fit.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from infant_seg_jax.errors import InputError
from infant_seg_jax.models.skip_densenet import SkipDenseNet3D
from infant_seg_jax.training.state import TrainState, abstract_variables

ITEMS = ("params", "batch_stats", "opt_state")
_UNSCORED = -1.0


def open_checkpoints(workdir: Path, *, read_only: bool = False) -> ocp.CheckpointManager:
    """The checkpoints of a run: kept are the latest and the one of the best mean Dice.

    Saving is asynchronous, so use it as a context manager, which waits at its end.
    """
    best = BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False)
    options = ocp.CheckpointManagerOptions(
        best_fn=_score,
        preservation_policy=AnyPreservationPolicy([LatestN(1), best]),
        read_only=read_only,
        create=not read_only,
        save_interval_steps=0 if read_only else 1,
    )
    return ocp.CheckpointManager(
        (workdir / "checkpoints").absolute(),
        options=options,
        item_handlers={name: ocp.StandardCheckpointHandler() for name in ITEMS},
    )


def save(manager: ocp.CheckpointManager, state: TrainState, mean_dice: float) -> None:
    """Write the state under its step, with the score that chooses the best (NaN: unscored)."""
    items = {name: ocp.args.StandardSave(getattr(state, name)) for name in ITEMS}
    metrics = {} if math.isnan(mean_dice) else {"mean_dice": mean_dice}
    manager.save(int(state.step), args=ocp.args.Composite(**items), metrics=metrics)


def exist(workdir: Path) -> bool:
    """Whether a run has a finished checkpoint; Orbax names those by their step alone."""
    return any(path.name.isdecimal() for path in (workdir / "checkpoints").glob("*"))


def restore_latest(manager: ocp.CheckpointManager, like: TrainState) -> TrainState:
    """The latest state of a run that has one, with the shapes and on the devices of `like`.

    Raises:
        InputError: the checkpoint is damaged or does not fit.
    """
    step = manager.latest_step()
    assert step is not None, "asked for the latest of no checkpoints"
    items = _restore(manager, step, {name: getattr(like, name) for name in ITEMS})
    return TrainState(step=jax.numpy.asarray(step, jax.numpy.int32), **items)


@dataclass(frozen=True)
class Loaded:
    """Variables from a checkpoint, and which one it was."""

    variables: dict[str, Any]
    step: int
    mean_dice: float | None


def load_variables(
    run: Path, model: SkipDenseNet3D, modalities: int, which: str = "best"
) -> Loaded:
    """Parameters and batch statistics of a run's `"best"` or `"latest"` checkpoint.

    Raises:
        InputError: the run has no checkpoint, or it does not fit the network.
    """
    run = Path(run)
    if not exist(run):
        raise InputError(
            f"{run} has no checkpoints: name the --workdir of a training run that has saved one."
        )
    with open_checkpoints(run, read_only=True) as manager:
        scores = {step: _score(manager.metrics(step)) for step in manager.all_steps()}
        best = max(scores, key=lambda step: (scores[step], step))
        step = best if which == "best" else max(scores)
        targets = jax.tree.map(_on_first_device, abstract_variables(model, modalities))
        score = scores[step] if scores[step] > _UNSCORED else None
        return Loaded(_restore(manager, step, targets), step, score)


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
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"The checkpoint {folder} cannot be read ({reason}).") from error
    return {name: restored[name] for name in targets}


def _check_shapes(stored: Any, target: Any, path: Path) -> None:
    def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
        leaves = jax.tree.leaves_with_path(tree)
        names = [jax.tree_util.keystr(key, simple=True, separator="/") for key, _ in leaves]
        return dict(zip(names, (tuple(leaf.shape) for _, leaf in leaves), strict=True))

    found, expected = shapes(stored), shapes(target)
    differing = [
        f"{name} is {found.get(name, 'absent')}, expected {expected.get(name, 'none')}"
        for name in sorted(found | expected)
        if found.get(name) != expected.get(name)
    ]
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise InputError(
            f"The checkpoint {path} does not fit the config's network: {'; '.join(differing[:3])}"
            f"{more}; use the model settings and modalities that it was trained with."
        )


def _on_first_device(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _score(metrics: Any) -> float:
    """The mean Dice that a checkpoint was saved with; worse than any where there is none."""
    return float((metrics or {}).get("mean_dice", _UNSCORED))
