"""Starting from other weights: what is loaded, what starts anew, what learns and how fast."""

import csv
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infant_seg_jax.config import Config, default_config
from infant_seg_jax.data.patches import PatchBatch
from infant_seg_jax.errors import InputError
from infant_seg_jax.models.skip_densenet import SkipDenseNet3D
from infant_seg_jax.models.variables import by_path, init_variables
from infant_seg_jax.store.state import TrainState, new_state
from infant_seg_jax.training.optimizers import make_optimizer
from infant_seg_jax.training.step import make_train_step
from infant_seg_jax.training.transfer import learn_by_parts, merge, summary, write_table
from tests.input_errors import input_error

STEPS: dict[str, Any] = {}
"""Compiled once for each config."""
TINY = {"growth_rate": 4, "stem_features": 4, "block_layers": (1, 1), "dropout_rate": 0.0}


def network(**changes: Any) -> SkipDenseNet3D:
    return SkipDenseNet3D(**{**TINY, **changes})


@pytest.fixture(scope="module")
def adult() -> dict[str, Any]:
    """Variables of one modality whose every value differs from any fresh one."""
    variables = init_variables(network(), 1, seed=11)
    return jax.tree.map(lambda x: x + 0.25, variables)


@pytest.fixture(scope="module")
def fresh() -> dict[str, Any]:
    return init_variables(network(), 1, seed=3)


def logits(model: SkipDenseNet3D, variables: Any, image: Any) -> np.ndarray:
    return np.asarray(model.apply(variables, image))


def init(**changes: Any) -> Config:
    config = default_config().init
    config.checkpoint = "runs/adult"
    config.update(changes)
    return config


def merged(fresh, adult, config, model=None, modalities=1):
    model = model or network()
    variables, rows = merge(fresh, adult, config, model, modalities, "runs/adult")
    assert jax.tree.structure(variables) == jax.tree.structure(fresh)
    assert [row.path for row in rows] == list(by_path(fresh))
    return by_path(variables), {row.path: row for row in rows}


def same_as(tree, other, path) -> bool:
    return np.array_equal(tree[path], by_path(other)[path])


def test_all_is_loaded_by_default(fresh, adult):
    variables, rows = merged(fresh, adult, init())
    assert all(same_as(variables, adult, path) for path in variables)
    assert {row.start for row in rows.values()} == {"loaded"}
    assert not any(row.frozen or row.multiplier != 1 for row in rows.values())
    assert rows["params/stem_conv0/kernel"].shape == "3x3x3x1x4"


def test_parts_start_anew_by_pattern(fresh, adult):
    config = init(reinitialise=("head_", "block2*conv1"))
    variables, rows = merged(fresh, adult, config)
    anew = {path for path, row in rows.items() if row.start == "fresh, as asked"}
    assert anew == {
        path for path in variables if "head_" in path or ("block2" in path and "conv1" in path)
    }
    assert 4 < len(anew) < len(variables)
    for path in variables:
        assert same_as(variables, fresh if path in anew else adult, path)


def test_running_statistics_start_anew_if_reset(fresh, adult):
    variables, rows = merged(fresh, adult, init(batch_norm="reset"))
    for path in variables:
        statistics = path.startswith("batch_stats/")
        assert (rows[path].start == "fresh, reset") == statistics
        assert same_as(variables, fresh if statistics else adult, path)


def test_other_classes_get_a_fresh_head_and_nothing_else(adult):
    model = network(num_classes=5)
    fresh = init_variables(model, 1, seed=3)
    variables, rows = merged(fresh, adult, init(), model)
    head = {path for path, row in rows.items() if row.start != "loaded"}
    assert {rows[path].start for path in head} == {"fresh, for another number of classes"}
    assert {path.split("/")[1] for path in head} == {
        *("upsample1", "upsample2", "head_norm", "head_conv")
    }
    for path in variables:
        assert same_as(variables, fresh if path in head else adult, path)
    assert summary(tuple(rows.values())).count("fresh, for another number of classes") == 1


def test_kernel_spread_over_channels_answers_equal_channels_as_before(adult):
    model = network()
    fresh = init_variables(model, 3, seed=3)
    variables, rows = merge(fresh, adult, init(input_channels="spread"), model, 3, "x")
    (row,) = [row for row in rows if row.start != "loaded"]
    assert (row.path, row.start) == (*("params/stem_conv0/kernel", "loaded, spread over channels"),)
    image = jax.random.normal(jax.random.key(0), (1, 8, 8, 8, 1))
    np.testing.assert_allclose(
        logits(model, variables, jnp.repeat(image, 3, axis=-1)),
        logits(model, adult, image),
        rtol=1e-4,
        atol=1e-4,
    )


def test_kernel_summed_over_channels_answers_as_equal_channels_were(fresh):
    model = network()
    both = init_variables(model, 2, seed=8)
    variables, _ = merge(fresh, both, init(input_channels="sum"), model, 1, "x")
    image = jax.random.normal(jax.random.key(0), (1, 8, 8, 8, 1))
    np.testing.assert_allclose(
        logits(model, variables, image),
        logits(model, both, jnp.repeat(image, 2, axis=-1)),
        rtol=1e-4,
        atol=1e-4,
    )
    with input_error("config.init.input_channels", "sum", 3, "spread"):
        merge(init_variables(model, 3, 0), both, init(input_channels="sum"), model, 3, "x")


def test_differences_that_nothing_explains_are_counted_and_some_shown(adult):
    model = network(growth_rate=6)
    fresh = init_variables(model, 2, seed=3)
    with pytest.raises(InputError) as caught:
        merge(fresh, adult, init(), model, 2, "runs/adult")
    old, new = by_path(adult), by_path(fresh)
    differing = [path for path in new if old[path].shape != new[path].shape]
    assert "params/stem_conv0/kernel" in differing and len(differing) > 10
    shown = set()
    for path in new:
        shapes = ["x".join(map(str, tree[path].shape)) for tree in (old, new)]
        if f"{path} is {shapes[0]}, expected {shapes[1]}" in str(caught.value):
            shown.add(path)
    assert shown and shown < set(differing)
    assert f"and {len(differing) - len(shown)} more" in str(caught.value)
    assert len(str(caught.value)) < 600
    assert "runs/adult" in str(caught.value) and "config.init.reinitialise" in str(caught.value)


def test_missing_and_further_parameters_are_listed(adult, fresh):
    deeper = init_variables(network(block_layers=(2, 1)), 1, seed=0)
    with input_error("block1/layer2/norm1/mean is 8, expected none"):
        merge(fresh, deeper, init(), network(), 1, "x")
    with input_error("block1/layer2/norm1/mean is absent, expected 8"):
        merge(deeper, adult, init(), network(block_layers=(2, 1)), 1, "x")


@pytest.mark.parametrize(
    "changes, found",
    [
        ({"freeze": ("stemm",)}, "'stemm'"),
        ({"reinitialise": ("haed",)}, "'haed'"),
        ({"multipliers": ("0.1:nowhere",)}, "'nowhere'"),
        ({"multipliers": ("stem",)}, "'stem', expected FACTOR:PATTERN"),
        ({"multipliers": ("-1:stem",)}, "'-1:stem', expected FACTOR:PATTERN"),
        ({"multipliers": ("0.1:",)}, "'0.1:', expected FACTOR:PATTERN"),
    ],
)
def test_patterns_that_mean_nothing_are_refused(fresh, adult, changes, found):
    with input_error("config.init", found):
        merged(fresh, adult, init(**changes))


def train(variables: dict[str, Any], settings: Config, steps: int, **optimizer: Any) -> TrainState:
    config = default_config()
    config.model.update(TINY)
    config.init = settings
    config.optimizer.update(optimizer)
    config.steps = 10
    transformation = learn_by_parts(make_optimizer(config.optimizer, config.steps), config.init)
    state = new_state(jax.tree.map(jnp.asarray, variables), transformation)
    described = json.dumps(config.to_dict())
    if described not in STEPS:
        STEPS[described] = jax.jit(make_train_step(network(), config))
    random = np.random.default_rng(0)
    image = random.normal(size=(2, 8, 8, 8, 1)).astype(np.float32)
    labels = random.integers(0, 4, (2, 8, 8, 8)).astype(np.uint8)
    batch = PatchBatch(image, labels, np.arange(2, dtype=np.int32))
    for _ in range(steps):
        state, _ = STEPS[described](state, batch)
    return state


@pytest.mark.parametrize(
    "optimizer", ["adam", pytest.param("adamw", marks=pytest.mark.slow), "sgd"]
)
def test_frozen_parameters_stay_to_the_last_bit_and_others_learn(adult, optimizer):
    settings = init(freeze=("stem_", "block1"))
    state = train(adult, settings, 2, name=optimizer, clip_norm=1.0)
    before, after = by_path(adult["params"]), by_path(state.params)
    for path in before:
        frozen = path.startswith(("stem_", "block1"))
        assert np.array_equal(before[path], after[path]) == frozen, path


def test_frozen_parameters_learn_from_the_step_asked_for(adult):
    settings = init(freeze=("stem_",), unfreeze_at=2)
    path = "stem_conv0/kernel"
    for steps, still in ((2, True), (3, False)):
        after = by_path(train(adult, settings, steps).params)[path]
        assert np.array_equal(after, by_path(adult["params"])[path]) == still


def test_frozen_gradients_take_no_share_in_clipping(adult):
    """With all but the head frozen, clipping is by the norm of the head's gradient alone."""
    rest = tuple(path for path in by_path(adult["params"]) if "head_conv" not in path)
    settings = dict(name="sgd", b1=0.0, l2=0.0, learning_rate=1.0, clip_norm=1e-3)
    state = train(adult, init(freeze=rest), 1, schedule="constant", **settings)
    moved = jax.tree.map(lambda a, b: np.asarray(a) - b, state.params, adult["params"])
    norm = np.sqrt(sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(moved)))
    assert norm == pytest.approx(1e-3, rel=1e-2)


def test_multipliers_scale_the_steps_of_their_parts(adult):
    settings = dict(name="sgd", b1=0.0, l2=0.0, learning_rate=0.1, schedule="constant")
    plain = by_path(train(adult, init(), 1, **settings).params)
    multiplied = init(multipliers=("0.5:stem", "0.25:stem_conv1"))
    scaled = by_path(train(adult, multiplied, 1, **settings).params)
    for path, start in by_path(adult["params"]).items():
        factor = 0.25 if "stem_conv1" in path else 0.5 if "stem" in path else 1.0
        expected = start + factor * (np.asarray(plain[path]) - start)
        np.testing.assert_allclose(scaled[path], expected, atol=2e-7)


@pytest.mark.parametrize("batch_norm, moves", [("update", True), ("freeze", False)])
def test_running_statistics_move_unless_frozen(adult, batch_norm, moves):
    state = train(adult, init(batch_norm=batch_norm), 2)
    for path, before in by_path(adult["batch_stats"]).items():
        assert np.array_equal(before, by_path(state.batch_stats)[path]) != moves
    # Frozen, they are what normalizes: other statistics, other steps.
    other = {**adult, "batch_stats": jax.tree.map(lambda x: x + 1, adult["batch_stats"])}
    changed = train(other, init(batch_norm=batch_norm), 1, name="sgd")
    steady = train(adult, init(batch_norm=batch_norm), 1, name="sgd")
    differ = not np.array_equal(
        changed.params["head_conv"]["kernel"], steady.params["head_conv"]["kernel"]
    )
    assert differ != moves


def test_table_of_starts(fresh, adult, tmp_path):
    config = init(freeze=("stem",), reinitialise=("head_conv",), multipliers=("0.1:block1",))
    _, rows = merge(fresh, adult, config, network(), 1, "x")
    write_table(tmp_path / "start.tsv", rows)
    with open(tmp_path / "start.tsv", newline="") as file:
        table = {row["path"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert list(table) == list(by_path(fresh))
    assert table["params/head_conv/kernel"]["start"] == "fresh, as asked"
    assert table["params/stem_conv0/kernel"]["frozen"] == "True"
    assert table["batch_stats/stem_norm0/mean"]["frozen"] == "False"
    assert table["params/block1/layer1/conv1/kernel"]["multiplier"] == "0.1"
    table = summary(rows)
    assert (
        "2 fresh, as asked" in table
        and " frozen" in table
        and "learning rate of their own" in table
    )
