"""Training from start to end: resume, or fine-tune, or start from scratch; validate; save."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from infant_seg_jax.compilation import note_slow_convolutions
from infant_seg_jax.config import Config, check_config
from infant_seg_jax.data.patches import check_patch_fits, prefetch
from infant_seg_jax.data.prepared import PreparedCase, PreparedSet, open_prepared
from infant_seg_jax.errors import InputError
from infant_seg_jax.models.factory import make_model
from infant_seg_jax.models.variables import init_variables
from infant_seg_jax.prediction.predictor import Predictor
from infant_seg_jax.progress import log, progress
from infant_seg_jax.rendering.anatomies import AnatomySet, open_anatomies
from infant_seg_jax.rendering.patches import make_batch
from infant_seg_jax.store import checkpoints
from infant_seg_jax.store.loading import read_start
from infant_seg_jax.store.run_folder import read_metrics, start_run
from infant_seg_jax.store.state import TrainState, new_state
from infant_seg_jax.training import transfer
from infant_seg_jax.training.architecture import with_architecture
from infant_seg_jax.training.calibration import calibrate
from infant_seg_jax.training.clock import Clock
from infant_seg_jax.training.examples import example_names, training_cases
from infant_seg_jax.training.interruption import Stopped, StopSignal, exclusive_lock
from infant_seg_jax.training.losses import make_loss
from infant_seg_jax.training.metrics_log import MetricsLog
from infant_seg_jax.training.parallel import (
    Devices,
    as_global,
    choose_devices,
    local_positions,
    local_value,
    map_step,
    replicate,
    shard,
)
from infant_seg_jax.training.peak_memory import record_peak_memory
from infant_seg_jax.training.step import Metrics, make_train_step
from infant_seg_jax.training.validation import Scores, validate


def train_and_evaluate(config: Config, workdir: Path | str) -> TrainState:
    """Train as the config says, in a run folder, or continue an interrupted run.

    A run starts from its own latest checkpoint; if there is none, from the checkpoint that
    `config.init` names, with a new optimizer state; otherwise from scratch. On a CPU, a run that
    was interrupted and continued ends with the same bits as one that was not.

    It ends after `config.steps` steps, after `config.minutes`, or after `config.patience`
    validations without improvement.

    Raises:
        Stopped: after SIGTERM, once the step is saved; an exit with status 0, which also ends
            whatever would follow the run.
        InputError: the config, the data or a checkpoint cannot be used, another process is training
            in the folder, or the loss is not finite.
    """
    workdir = Path(workdir)
    resuming = checkpoints.exist(workdir)
    config, changed = with_architecture(config, workdir, resuming=resuming)
    check_config(config)
    prepared = open_prepared(Path(config.data.path))
    rendering = config.rendering
    anatomies = open_anatomies(Path(rendering.path)) if rendering.fraction else None
    if anatomies and prepared.classes != anatomies.classes:
        raise InputError(
            f"{prepared.folder} has the classes {prepared.classes}, but the examples rendered from "
            f"{anatomies.folder} have {anatomies.classes}: set config.rendering.fraction to 0, or "
            "prepare both with the same classes."
        )
    make_loss(config.loss, len(prepared.classes))  # which refuses weights of others
    training, validation = _subjects(prepared, config)
    check_patch_fits(training, tuple(config.patch.shape))
    devices = choose_devices(config.parallel, config.patch.batch_size)
    if jax.process_index() == 0:
        note_slow_convolutions()
    if changed and not resuming:
        _log_once(changed)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("all have looked whether there is a run")
    state, starts = _first_state(config, prepared, load=not resuming)
    with exclusive_lock(workdir):
        start_run(workdir, config, prepared, training, validation, anatomies, resuming=resuming)
        if starts and not resuming:
            transfer.write_table(workdir / "start.tsv", starts)
        with checkpoints.open_checkpoints(workdir) as manager:
            if resuming:
                state = checkpoints.restore_latest(manager, state)
                position = _position(config, int(state.step), _trained(state))
                _log_once(f"Resuming {workdir} at {position}.")
            clock = Clock(config.minutes, _trained(state))
            run = _Run(
                config, workdir, prepared, training, validation, anatomies, devices, manager, clock
            )
            state = run.train(replicate(state, devices))
        calibrate(workdir, validation)
        return state


class _Run:
    """What a run needs at every step."""

    def __init__(
        self,
        config: Config,
        workdir: Path,
        prepared: PreparedSet,
        training: Sequence[PreparedCase],
        validation: Sequence[PreparedCase],
        anatomies: AnatomySet | None,
        devices: Devices,
        manager: ocp.CheckpointManager,
        clock: Clock,
    ) -> None:
        self.config, self.workdir, self.devices = config, workdir, devices
        self.prepared, self.training, self.validation = prepared, training, validation
        self.anatomies, self.manager, self.clock = anatomies, manager, clock
        self.losses: list[tuple[int, Any]] = []
        """Steps since the last look at their losses, which stay on the device until then."""

    def train(self, state: TrainState) -> TrainState:
        """Take the steps that are left."""
        config = self.config
        devices, classes = self.devices, len(self.prepared.classes)
        model = make_model(config, devices.axis_name, devices.onednn, classes)
        step_function = map_step(make_train_step(model, config), devices)
        first, seconds = int(local_value(state.step)), self.clock.seconds()
        batches = prefetch(self._batch, range(first, config.steps))
        with (
            StopSignal().listen() as stop,
            MetricsLog(self.workdir, first, config.trackers) as log,
            progress("training", config.steps, first, unit="step") as bar,
        ):
            if self._has_converged() or self.clock.is_over(seconds):
                return state
            if first < config.steps:
                _log_once("Compiling the training step, which may take two minutes.")
            pending = None
            for step, batch in enumerate(batches, start=first + 1):
                state, metrics = step_function(state.after(seconds), batch)
                # No more than a step ahead of the device: the clock is to tell the device's time.
                jax.block_until_ready(pending)
                pending, seconds = metrics["loss"], self.clock.seconds()
                self.losses.append((step, metrics["loss"]))
                if step == first + 1:
                    jax.block_until_ready(pending)
                    self.clock.start()  # Compiling does not count.
                    bar.count_untimed()
                    _log_once("Compiled; training.")
                else:
                    bar.update()
                last = step == config.steps or self.clock.is_over(seconds)
                if step % config.log_every == 0 or last:
                    self._log(step, seconds, metrics, log, bar)
                if step % config.validate_every == 0 or last:
                    self._check_losses()
                    scores = self._validate(state, step, log)
                    self._save(state, scores.chosen)
                    if self._has_converged():
                        _log_once(
                            f"Stopping at step {step}: the last {config.patience} validations were "
                            "no better than the best before them."
                        )
                        break
                elif config.save_every and step % config.save_every == 0:
                    self._save(state)
                if last:
                    break
                if stop.received(step):
                    self._save(state)
                    _log_once(
                        f"Stopped by SIGTERM at {_position(config, step, seconds)} and saved: run "
                        "the same command again to continue."
                    )
                    raise Stopped
        return state

    def _batch(self, step: int) -> Any:
        positions = local_positions(self.devices, self.config.patch.batch_size)
        channels = len(self.prepared.modalities)
        batch = make_batch(self.training, channels, self.anatomies, self.config, step, positions)
        return shard(batch, self.devices)

    def _log(self, step: int, seconds: float, metrics: Metrics, log: MetricsLog, bar: Any) -> None:
        self._check_losses()
        values = {name: float(local_value(value)) for name, value in metrics.items()}
        log.write(step, values)
        bar.set_postfix(loss=f"{values['loss']:.3f}")
        if seconds:  # Of a time limit: as many steps as it is likely to allow.
            bar.total = min(self.config.steps, round(step * 60 * self.config.minutes / seconds))
        if bar.disable:  # No terminal, no bar: lines in its place.
            position = _position(self.config, step, seconds)
            _log_once(f"{position.capitalize()}: loss {values['loss']:.3f}.")

    def _check_losses(self) -> None:
        """Raise an InputError for the first loss since the last look that is not finite."""
        for step, loss in self.losses:
            value = float(local_value(loss))
            if not math.isfinite(value):
                names = example_names(self.training, self.anatomies, self.config, step - 1)
                saved = self.manager.latest_step()
                raise InputError(
                    f"The loss is {value} at step {step} of {self.workdir}, in patches of "
                    f"{', '.join(dict.fromkeys(names))}: look at their scans, lower "
                    "config.optimizer.learning_rate, or set config.optimizer.clip_norm; the last "
                    f"good checkpoint is {'none' if saved is None else f'that of step {saved}'}."
                )
        self.losses.clear()

    def _validate(self, state: TrainState, step: int, log: MetricsLog) -> Scores:
        # On one device, for replicated weights would have every device predict the same windows.
        expects = self.prepared.expected_scans
        to_predictor = partial(Predictor.from_config, self.config, expects=expects)
        scores = validate(self.validation, state, to_predictor)
        record_peak_memory(self.workdir)
        if scores.metrics:
            log.write(step, scores.metrics)
            _log_once(f"Step {step}: {scores}.")
        return scores

    def _save(self, state: TrainState, score: float = math.nan) -> None:
        self._check_losses()
        checkpoints.save(self.manager, as_global(state.after(self.clock.seconds())), score)

    def _has_converged(self) -> bool:
        """Whether the run's last validations, over all its interruptions, brought nothing."""
        if not self.config.patience:
            return False
        lines = read_metrics(self.workdir)
        found = [line["score"] for line in lines if line.get("score") is not None]
        return len(found) - 1 - int(np.argmax(found)) >= self.config.patience if found else False


def _trained(state: TrainState) -> float:
    """The seconds of training so far; 0 where no time limit is set."""
    return 0.0 if state.clock is None else float(local_value(state.clock["seconds"]))


def _position(config: Config, step: int, seconds: float) -> str:
    """How far a run is, in words."""
    if not config.minutes:
        return f"step {step} of {config.steps}"
    return f"step {step}, after {seconds / 60:.1f} of {config.minutes:g} minutes"


def _log_once(line: str) -> None:
    """Print a line, once if several processes train together."""
    if jax.process_index() == 0:
        log(line)


def _subjects(
    prepared: PreparedSet, config: Config
) -> tuple[Sequence[PreparedCase], Sequence[PreparedCase]]:
    training = training_cases(prepared, config)
    validation = prepared.split("validation", config.data.fold)
    if not validation:
        _log_once(
            f"{config.data.path} has no validation subjects: the latest checkpoint counts as the "
            "best."
        )
    return training, validation


def _first_state(
    config: Config, prepared: PreparedSet, load: bool
) -> tuple[TrainState, tuple[transfer.PartStart, ...]]:
    """Step 0, from scratch or, if `load`, from the checkpoint that the config names."""
    modalities = len(prepared.modalities)
    model = make_model(config, num_classes=len(prepared.classes))
    variables = init_variables(model, modalities, config.seed)
    starts: tuple[transfer.PartStart, ...] = ()
    if load and config.init.checkpoint:
        source = config.init.checkpoint
        loaded, which = read_start(config.init)
        variables, starts = transfer.merge(
            variables, loaded, config.init, model, modalities, source
        )
        _log_once(
            f"Starting from {source}, {which}, with a new optimizer state: "
            f"{transfer.summary(starts)} parameters and batch statistics."
        )
    average, timed = config.average_decay > 0, config.minutes > 0
    return new_state(variables, transfer.run_optimizer(config), average, timed), starts
