"""Training on rendered examples: alone, beside real ones, on several devices; or not at all."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from infant_seg_jax.config import Config, check_config
from infant_seg_jax.data.patches import PatchBatch
from infant_seg_jax.data.prepared import open_prepared
from infant_seg_jax.models.factory import make_model
from infant_seg_jax.models.variables import init_variables
from infant_seg_jax.rendering.anatomies import AnatomySet, open_anatomies
from infant_seg_jax.rendering.patches import make_batch
from infant_seg_jax.report.report import write_report
from infant_seg_jax.store.loading import open_model, open_predictor
from infant_seg_jax.store.model_folder import write_model
from infant_seg_jax.store.run_folder import read_metrics, start_run
from infant_seg_jax.store.state import new_state
from infant_seg_jax.training.loop import train_and_evaluate
from infant_seg_jax.training.optimizers import make_optimizer
from infant_seg_jax.training.parallel import choose_devices, map_step, replicate, shard
from infant_seg_jax.training.step import make_train_step
from tests.input_errors import input_error
from tests.training.tiny import tiny_anatomies, tiny_config


@pytest.fixture(scope="module")
def anatomies(tmp_path_factory: pytest.TempPathFactory) -> AnatomySet:
    """Two anatomies to train on and one held out."""
    return tiny_anatomies(tmp_path_factory.mktemp("anatomies"), (40, 48, 40), 3)


def rendering_config(anatomies: AnatomySet, fraction: float, steps: int = 4) -> Config:
    config = tiny_config(anatomies.folder / "held_out", steps)
    config.rendering.path = str(anatomies.folder)
    config.rendering.fraction = fraction
    return config


def test_a_run_on_rendered_examples_needs_no_scan(anatomies: AnatomySet, tmp_path: Path) -> None:
    train_and_evaluate(rendering_config(anatomies, 1.0), tmp_path / "run")
    lines = read_metrics(tmp_path / "run")
    assert [line["step"] for line in lines if "mean_dice" in line] == [4]
    assert all(np.isfinite(line["loss"]) for line in lines if "loss" in line)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["subjects"]["train"] == []
    assert record["anatomies"]["train"] == ["map0", "map1"]
    assert record["extents"] == ["brain", "head"]


def set_without_training_and_validation(anatomies: AnatomySet, data: Path) -> None:
    """One that is kept for a test, and tells a training alone what scans are to be like."""
    shutil.copytree(anatomies.folder / "held_out", data)
    cases = [case.case_id for case in open_prepared(data).cases]
    splits = [{"train": [], "validation": [], "test": cases}]
    (data / "splits.json").write_text(json.dumps(splits))


def test_a_run_without_any_scan_is_recorded(anatomies: AnatomySet, tmp_path: Path) -> None:
    set_without_training_and_validation(anatomies, tmp_path / "data")
    prepared = open_prepared(tmp_path / "data")
    config = rendering_config(anatomies, 1.0)
    start_run(tmp_path / "run", config, prepared, (), (), anatomies, resuming=False)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["subjects"] == {"train": [], "validation": []}
    assert record["data"]["smallest_voxel_mm"] == pytest.approx([4, 4, 4])


@pytest.mark.slow
def test_a_run_on_rendered_examples_needs_no_scan_to_validate_on(
    anatomies: AnatomySet, tmp_path: Path
) -> None:
    set_without_training_and_validation(anatomies, tmp_path / "data")
    config, run = rendering_config(anatomies, 1.0), tmp_path / "run"
    config.data.path = str(tmp_path / "data")
    train_and_evaluate(config, run)
    assert json.loads((run / "run.json").read_text())["subjects"] == {"train": [], "validation": []}
    exported = tmp_path / "model"
    write_model(exported, open_model(run))
    assert open_predictor(exported).expects == open_predictor(run).expects
    assert write_report([run]).is_file()


@pytest.mark.slow
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    anatomies: AnatomySet, prepared: Path, tmp_path: Path
) -> None:
    config = rendering_config(anatomies, 0.5)
    config.data.path = str(prepared)
    config.validate_every = 2
    whole = train_and_evaluate(config, tmp_path / "whole")
    train_and_evaluate(config, tmp_path / "parts")
    checkpoints = tmp_path / "parts" / "checkpoints"
    for last in checkpoints.glob("4*"):
        last.rename(tmp_path / "put_away")
    resumed = train_and_evaluate(config, tmp_path / "parts")
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        assert np.array_equal(np.asarray(a), np.asarray(b))


def stepper(config: Config, mode: str = "jit") -> Callable[[PatchBatch], tuple[float, Any]]:
    """The loss and batch statistics of a first step, compiled once."""
    devices = choose_devices(mode, config.patch.batch_size)
    model = make_model(config, devices.axis_name, devices.onednn)
    optimizer = make_optimizer(config.optimizer, config.steps)
    step = map_step(make_train_step(model, config), devices)

    def one_step(batch: PatchBatch) -> tuple[float, Any]:
        state = replicate(new_state(init_variables(make_model(config), 1, 1), optimizer), devices)
        state, metrics = step(state, shard(batch, devices))
        return float(metrics["loss"]), state.batch_stats

    return one_step


def alike(a: Any, b: Any) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)


MIXED = ((True, True, True, True), (True, False, False, True), (False,) * 4)


def real_and_rendered(anatomies: AnatomySet) -> tuple[Config, PatchBatch, list[PatchBatch]]:
    """A batch of real patches, and the same with some of them rendered in their place."""
    config = rendering_config(anatomies, 1.0)
    config.patch.batch_size = 4
    rendered = make_batch((), 1, anatomies, config, 0, range(4))
    random = np.random.default_rng(0)
    image = random.normal(size=rendered.image.shape).astype(np.float32)
    labels = random.integers(0, 4, rendered.labels.shape).astype(np.uint8)
    real = PatchBatch(image, labels, rendered.position)
    return (
        *(config, real),
        [replace(real, anatomy=replace(rendered.anatomy, chosen=np.array(c))) for c in MIXED],
    )


def test_rendered_and_real_examples_share_a_batch(anatomies: AnatomySet) -> None:
    config, real, batches = real_and_rendered(anatomies)
    step = stepper(config)
    losses = [step(batch)[0] for batch in batches]
    assert len({round(loss, 4) for loss in losses}) == 3
    # With none rendered it is the step on real examples alone.
    loss, statistics = step(real)
    assert loss == pytest.approx(losses[-1], rel=1e-6)
    alike(statistics, step(batches[-1])[1])


@pytest.mark.slow
def test_rendered_and_real_examples_on_one_device_and_on_four(anatomies: AnatomySet) -> None:
    assert jax.local_device_count() == 4
    config, _, batches = real_and_rendered(anatomies)
    on_one, on_four = stepper(config), stepper(config, "pmap")
    for batch in batches:
        (one, its), (four, theirs) = on_one(batch), on_four(batch)
        assert four == pytest.approx(one, rel=1e-4)
        alike(its, theirs)


def test_without_rendering_the_compiled_step_does_not_know_of_it(prepared: Path) -> None:
    config = tiny_config(prepared, steps=2)
    model = make_model(config)
    state = new_state(init_variables(model, 1, 1), make_optimizer(config.optimizer, 2))
    batch = PatchBatch(
        np.zeros((2, 16, 16, 16, 1), np.float32),
        np.zeros((2, 16, 16, 16), np.uint8),
        np.arange(2, dtype=np.int32),
    )

    def program(**values: float) -> str:
        one = config.copy_and_resolve_references()
        for key, value in values.items():
            one.rendering[key] = value
        return str(jax.make_jaxpr(make_train_step(model, one))(state, batch))

    assert program() == program(unordered=0.9, noise=0.5, rotation=90.0)


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("fraction", 1.5, "1.5"),
        ("fraction", 0.5, "rendering.path is ''"),
        ("ages", (3.0,), "(3.0,)"),
        ("ages", (6.0, 3.0), "(6.0, 3.0)"),
        ("modality", "FLAIR", "'FLAIR'"),
        ("noise", -0.1, "-0.1"),
    ],
)
def test_values_that_cannot_work_are_refused(
    prepared: Path, key: str, value: Any, found: str
) -> None:
    config = tiny_config(prepared, steps=1)
    config.rendering[key] = value
    with input_error("config.rendering.", found):
        check_config(config)


def test_a_prepared_set_is_no_set_of_anatomies(
    anatomies: AnatomySet, prepared: Path, tmp_path: Path
) -> None:
    config = rendering_config(anatomies, 1.0)
    config.rendering.path = str(prepared)
    with input_error(prepared):
        train_and_evaluate(config, tmp_path / "run")
    assert open_anatomies(anatomies.folder).training
