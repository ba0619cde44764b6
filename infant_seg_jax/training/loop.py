"""Training from start to end: resume, or fine-tune, or start from scratch; validate; save."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax
import numpy as np

from infant_seg_jax.config import Config, check_config
from infant_seg_jax.data.patches import check_patch_fits, patch_batch, prefetch
from infant_seg_jax.data.prepared import PreparedCase, PreparedSet, open_prepared
from infant_seg_jax.errors import InputError
from infant_seg_jax.inference.evaluation import score_cases
from infant_seg_jax.inference.predictor import Predictor, make_model
from infant_seg_jax.progress import progress, say
from infant_seg_jax.training import checkpoints
from infant_seg_jax.training.parallel import choose_devices, map_step, shard
from infant_seg_jax.training.run_folder import MetricsLog, record_of, start_run
from infant_seg_jax.training.schedules import learning_rate, make_optimizer
from infant_seg_jax.training.state import TrainState, init_variables, new_state
from infant_seg_jax.training.step import make_train_step


def train_and_evaluate(config: Config, workdir: Path | str) -> TrainState:
    """Train as the config says, in a run folder; an interrupted run goes on where it was saved.

    A run starts, in this order: from its own latest checkpoint; else from the best checkpoint of
    `config.init.checkpoint`, with a fresh optimiser; else from scratch.

    Raises:
        InputError: the config, the data or a checkpoint cannot be used, or the loss is not finite.
    """
    check_config(config)
    workdir = Path(workdir)
    prepared = open_prepared(Path(config.data.path))
    training, validation = _subjects(prepared, config)
    check_patch_fits(training, tuple(config.patch.shape))
    devices = choose_devices(config.parallel, config.patch.batch_size)
    model = make_model(config, devices.axis_name)
    resuming = checkpoints.exist(workdir)
    state = _first_state(config, len(prepared.modalities), load=not resuming)
    subjects = {"train": training, "validation": validation}
    start_run(
        workdir,
        config,
        prepared,
        {name: [case.case_id for case in cases] for name, cases in subjects.items()},
        resuming=resuming,
    )

    with checkpoints.open_checkpoints(workdir) as manager:
        if resuming:
            state = checkpoints.restore_latest(manager, state)
            say(f"Resuming {workdir} at step {int(state.step)} of {config.steps}.")
        first = int(state.step)
        step_function = map_step(make_train_step(model, config), devices)
        rate = learning_rate(config.optimizer, config.steps)
        make_batch = partial(
            patch_batch,
            training,
            tuple(config.patch.shape),
            config.patch.batch_size,
            config.seed,
        )
        batches = prefetch(
            lambda step: shard(make_batch(step), devices), range(first, config.steps)
        )

        with (
            MetricsLog(workdir, first) as log,
            progress("training", config.steps, first, unit="step") as bar,
        ):
            for step, batch in enumerate(batches, start=first + 1):
                state, metrics = step_function(state, batch)
                bar.update()
                if step % config.log_every == 0 or step == config.steps:
                    values = {name: float(value) for name, value in metrics.items()}
                    _check_finite(values["loss"], step, workdir)
                    log.write(step, {**values, "learning_rate": float(np.asarray(rate(step - 1)))})
                    bar.set_postfix(loss=f"{values['loss']:.3f}")
                    if bar.disable:  # No terminal, no bar: lines in its place.
                        say(f"Step {step} of {config.steps}: loss {values['loss']:.3f}.")
                if step % config.validate_every == 0 or step == config.steps:
                    score = _validate(config, prepared, validation, state, step, log)
                    checkpoints.save(manager, state, score)
    return state


def _subjects(
    prepared: PreparedSet, config: Config
) -> tuple[Sequence[PreparedCase], Sequence[PreparedCase]]:
    training = prepared.split("train", config.data.fold)
    if config.data.train_subjects:
        training = training[: config.data.train_subjects]
    if not training:
        raise InputError(f"{config.data.path} has no training subjects in fold {config.data.fold}.")
    validation = prepared.split("validation", config.data.fold)
    if not validation:
        say(f"{config.data.path} has no validation subjects: the latest checkpoint is the best.")
    return training, validation


def _first_state(config: Config, modalities: int, load: bool) -> TrainState:
    """Step 0, from scratch or, if `load`, from the checkpoint that the config names."""
    model = make_model(config)
    optimizer = make_optimizer(config.optimizer, config.steps)
    if not (load and config.init.checkpoint):
        return new_state(init_variables(model, modalities, config.seed), optimizer)
    loaded = checkpoints.load_variables(Path(config.init.checkpoint), model, modalities)
    score = "unscored" if loaded.mean_dice is None else f"mean Dice {loaded.mean_dice:.3f}"
    count = sum(leaf.size for leaf in jax.tree.leaves(loaded.variables["params"]))
    say(
        f"Starting from {config.init.checkpoint}, step {loaded.step} ({score}): loaded all "
        f"{count:,} parameters and the batch statistics, with a fresh optimiser."
    )
    return new_state(loaded.variables, optimizer)


def _validate(
    config: Config,
    prepared: PreparedSet,
    cases: Sequence[PreparedCase],
    state: TrainState,
    step: int,
    log: MetricsLog,
) -> float:
    """Dice on whole volumes through the same code as `predict`; returns the mean of all."""
    if not cases:
        return math.nan
    # On one device, for replicated weights would have every device predict the same windows.
    variables = jax.device_put(state.variables, jax.local_devices()[0])
    predictor = Predictor.from_config(config, variables, record_of(prepared))
    summary = score_cases(predictor, cases).summary()
    mean = summary.pop("mean")[0]
    tissues = {f"dice_{tissue}": dice for tissue, (dice, _) in summary.items()}
    log.write(step, {**tissues, "mean_dice": mean})
    shown = ", ".join(f"{name.removeprefix('dice_')} {v:.3f}" for name, v in tissues.items())
    say(f"Step {step}: validation Dice {mean:.3f} ({shown}).")
    return mean


def _check_finite(loss: float, step: int, workdir: Path) -> None:
    if not math.isfinite(loss):
        raise InputError(
            f"The loss is {loss} at step {step} of {workdir}: lower config.optimizer.learning_rate "
            "and run the same command to go on from the last checkpoint."
        )
