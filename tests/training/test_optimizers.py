"""Learning rates against closed forms; the optimizers against plain ones in NumPy and PyTorch's."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from infant_seg_jax.config import CHOICES, Config, default_config
from infant_seg_jax.training.optimizers import learning_rate, make_optimizer, rate_left

STEPS = 12


def settings(**changes) -> Config:
    optimizer = default_config().optimizer
    optimizer.update(changes)
    return optimizer


def rates(optimizer: Config, steps: int) -> Callable[[int], float]:
    """The rate of each step, and of the one after the last."""
    schedule = learning_rate(optimizer, steps)
    each = np.broadcast_to(schedule(np.arange(steps + 1)), steps + 1)
    return lambda step: each[step].item()


def gradients_of(steps: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [
        {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2) * 1e-3} for _ in range(steps)
    ]


def start() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)}


def in_single(tree):
    return jax.tree.map(lambda array: np.asarray(array, np.float32), tree)


def follow(optimizer: Config) -> list[dict[str, np.ndarray]]:
    """The parameters after each step of our optimizer."""
    transformation = make_optimizer(optimizer, STEPS)
    params = in_single(start())
    state = transformation.init(params)
    update = jax.jit(transformation.update)
    path = []
    for gradients in gradients_of(STEPS):
        updates, state = update(in_single(gradients), state, params)
        params = jax.tree.map(np.add, params, updates)
        path.append(params)
    return path


BRISK = {"l2": 0.3, "learning_rate": 0.05}
ADAMS = [
    settings(),
    settings(**BRISK),
    settings(**BRISK, b1=0.8, b2=0.9, schedule="cosine"),
    settings(l2=0.0, learning_rate=0.1, drops=()),
]
OPTIMIZERS = [
    *ADAMS,
    settings(**BRISK, warmup=4, clip_norm=0.7),
    settings(**BRISK, warmup=4, clip_norm=1e3, accumulate=3),
    settings(name="adamw"),
    settings(name="adamw", **BRISK, schedule="polynomial", clip_norm=0.7),
    settings(name="adamw", **BRISK, accumulate=2, clip_norm=0.7),
    settings(name="sgd", **BRISK, b1=0.9),
    settings(name="sgd", **BRISK, b1=0.5, schedule="constant", clip_norm=0.7),
    settings(name="sgd", **BRISK, b1=0.9, schedule="cosine", warmup=2, accumulate=4),
]


@pytest.mark.parametrize(
    ("drops", "steps"),
    [((0.5, 0.75), 20_000), ((0.5, 0.75), 8), ((0.1, 0.2, 0.9), 100), ((), 10), ((0.301,), 1000)],
)
def test_steps_divide_by_ten_at_shares_of_the_run(drops, steps):
    rate = rates(settings(learning_rate=2e-4, drops=drops), steps)
    for step in sorted({*range(0, steps, max(1, steps // 200)), steps - 1}):
        passed = sum(step >= share * steps for share in drops)
        assert rate(step) == pytest.approx(2e-4 / 10**passed, rel=1e-5), step


def test_steps_divide_at_the_very_step():
    rate = rates(settings(learning_rate=1.0), 20_000)
    at = [0, 9_999, 10_000, 14_999, 15_000, 19_999]
    assert [rate(step) for step in at] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_cosine_falls_from_the_learning_rate_to_nothing():
    rate = rates(settings(learning_rate=1e-3, schedule="cosine"), 400)
    for step in range(0, 401, 10):
        expected = 1e-3 * (1 + math.cos(math.pi * step / 400)) / 2
        assert rate(step) == pytest.approx(expected, rel=1e-4, abs=1e-9)
    assert rate(400) == 0


@pytest.mark.parametrize("power", [0.5, 0.9, 2.0])
def test_polynomial_falls_from_the_learning_rate_to_nothing(power):
    rate = rates(settings(learning_rate=1e-3, schedule="polynomial", power=power), 400)
    for step in range(0, 401, 10):
        expected = 1e-3 * (1 - step / 400) ** power
        assert rate(step) == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_constant_stays():
    rate = rates(settings(learning_rate=1e-3, schedule="constant"), 40)
    assert {rate(step) for step in range(40)} == {rate(0)} and rate(0) == pytest.approx(1e-3)


@pytest.mark.parametrize("schedule", CHOICES["optimizer.schedule"])
@pytest.mark.parametrize("warmup", [1, 2, 7, 30])
def test_warmup_rises_in_a_line_from_above_0_to_the_schedules_first_rate(schedule, warmup):
    described = {"learning_rate": 0.3, "schedule": schedule, "drops": (0.99,)}
    rate = rates(settings(**described, warmup=warmup), 40)
    for step in range(warmup + 1):
        assert rate(step) == pytest.approx(0.3 * (step + 1) / (warmup + 1), rel=1e-5)
    assert rate(warmup + 1) <= rate(warmup)


@pytest.mark.parametrize("schedule", ["cosine", "polynomial"])
def test_after_the_warmup_a_falling_schedule_has_the_rest_of_the_run(schedule):
    warm = rates(settings(schedule=schedule, warmup=30), 100)
    cold = rates(settings(schedule=schedule), 70)
    for step in range(71):
        assert warm(30 + step) == pytest.approx(cold(step), rel=1e-5)


@pytest.mark.parametrize("warmup", [0, 30, 50, 60])
def test_drops_stay_at_their_shares_of_the_run_after_a_warmup(warmup):
    rate = rates(settings(learning_rate=1.0, warmup=warmup), 100)
    for step in range(warmup + 1, 100):
        assert rate(step) == pytest.approx(10.0 ** -((step >= 50) + (step >= 75)), rel=1e-5), step


@pytest.mark.parametrize("schedule", CHOICES["optimizer.schedule"])
def test_a_run_that_ends_in_its_warmup(schedule):
    rate = rates(settings(learning_rate=1.0, schedule=schedule, warmup=99, drops=()), 5)
    assert [rate(step) for step in range(5)] == pytest.approx(
        [0.01, 0.02, 0.03, 0.04, 0.05], rel=1e-5
    )


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({"schedule": "cosine"}, lambda share: (1 + np.cos(np.pi * share)) / 2),
        ({"schedule": "polynomial", "power": 0.9}, lambda share: (1 - share) ** 0.9),
        ({"schedule": "constant"}, np.ones_like),
        (
            {"drops": (0.3, 0.6)},
            lambda share: np.where(share < 0.3, 1, 0.1 ** (1.0 + (share > 0.6))),
        ),
    ],
)
def test_with_a_time_limit_the_rate_follows_the_share_of_time(changes, left):
    optimizer = settings(learning_rate=0.02, warmup=3, **changes)
    shares = np.array([0, 0.1, 0.29, 0.31, 0.59, 0.61, 0.999, 1, 1.01])
    found = [float(rate_left(optimizer, share)) for share in shares]
    np.testing.assert_allclose(found, left(np.minimum(shares, 1)), rtol=1e-4, atol=1e-6)
    # What it multiplies rises by steps, whatever time they take, and stays.
    rate = np.asarray(learning_rate(optimizer, None)(np.arange(8)))
    np.testing.assert_allclose(rate, [0.005, 0.01, 0.015, *[0.02] * 5], rtol=1e-5)


@pytest.mark.parametrize("optimizer", ADAMS)
def test_optimizer_is_adam_with_the_weights_in_the_gradient(optimizer):
    rate = rates(optimizer, STEPS)
    b1, b2 = optimizer.b1, optimizer.b2
    weights = start()
    mean = {name: 0.0 for name in weights}
    square = {name: 0.0 for name in weights}
    for step, (gradients, ours) in enumerate(
        zip(gradients_of(STEPS), follow(optimizer), strict=True)
    ):
        for name, weight in weights.items():
            gradient = gradients[name] + optimizer.l2 * weight
            mean[name] = b1 * mean[name] + (1 - b1) * gradient
            square[name] = b2 * square[name] + (1 - b2) * gradient**2
            corrected = mean[name] / (1 - b1 ** (step + 1))
            scale = np.sqrt(square[name] / (1 - b2 ** (step + 1))) + 1e-8
            weights[name] = weight - rate(step) * corrected / scale
            np.testing.assert_allclose(ours[name], weights[name], rtol=1e-4, atol=1e-5)


def torch_optimizer(optimizer: Config, weights: Any) -> Any:
    torch = pytest.importorskip("torch")
    if optimizer.name == "sgd":
        return torch.optim.SGD(
            weights, momentum=optimizer.b1, nesterov=True, weight_decay=optimizer.l2
        )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimizer.name]
    return kind(weights, betas=(optimizer.b1, optimizer.b2), weight_decay=optimizer.l2)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizer_equals_torch_step_by_step(optimizer):
    torch = pytest.importorskip("torch")
    rate = rates(optimizer, STEPS)
    weights = {name: torch.tensor(value).requires_grad_() for name, value in start().items()}
    theirs = torch_optimizer(optimizer, weights.values())
    norms = []
    for step, (gradients, ours) in enumerate(
        zip(gradients_of(STEPS), follow(optimizer), strict=True)
    ):
        for name, weight in weights.items():
            share = torch.tensor(gradients[name]) / optimizer.accumulate
            weight.grad = share if weight.grad is None else weight.grad + share
        if (step + 1) % optimizer.accumulate == 0:
            if optimizer.clip_norm:
                norms.append(torch.nn.utils.clip_grad_norm_(weights.values(), optimizer.clip_norm))
            theirs.param_groups[0]["lr"] = rate(step)
            theirs.step()
            theirs.zero_grad()
        for name, weight in weights.items():
            np.testing.assert_allclose(ours[name], weight.detach(), rtol=1e-4, atol=1e-5)
    if optimizer.clip_norm and optimizer.clip_norm < 1e3:
        assert max(norms) > optimizer.clip_norm  # Or this would not show that they are clipped.


def test_clipping_is_of_all_gradients_together_and_before_the_weights_join():
    transformation = make_optimizer(
        settings(name="sgd", learning_rate=1.0, b1=0.0, l2=1.0, clip_norm=1.0, drops=()), STEPS
    )
    params = in_single({"kernel": [100.0], "bias": [7.0]})
    gradients = in_single({"kernel": [3.0], "bias": [-4.0]})
    updates: Any = transformation.update(gradients, transformation.init(params), params)[0]
    np.testing.assert_allclose(updates["kernel"], [-(100 + 3 / 5)], rtol=1e-6)
    np.testing.assert_allclose(updates["bias"], [-(7 - 4 / 5)], rtol=1e-6)


@pytest.mark.parametrize("name", CHOICES["optimizer.name"])
def test_accumulating_is_one_update_of_the_mean_gradient(name):
    changes = {**BRISK, "schedule": "constant", "clip_norm": 0.5, "name": name}
    accumulating = make_optimizer(settings(**changes, accumulate=4), STEPS)
    plain = make_optimizer(settings(**changes), STEPS)
    update, update_plain = jax.jit(accumulating.update), jax.jit(plain.update)
    params = in_single(start())
    ours, theirs = accumulating.init(params), plain.init(params)
    few = [in_single(gradients) for gradients in gradients_of(8)]
    for first in (0, 4):
        for gradients in few[first : first + 3]:
            updates, ours = update(gradients, ours, params)
            assert not any(leaf.any() for leaf in jax.tree.leaves(updates))
        updates, ours = update(few[first + 3], ours, params)
        mean = jax.tree.map(lambda *parts: np.mean(parts, 0), *few[first : first + 4])
        expected, theirs = update_plain(mean, theirs, params)
        for name in params:
            np.testing.assert_allclose(updates[name], expected[name], rtol=1e-4)
        params = jax.tree.map(np.add, params, updates)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_optimizer_goes_on_from_a_checkpoint_to_the_last_bit(optimizer, tmp_path: Path):
    transformation = make_optimizer(optimizer, STEPS)
    update = jax.jit(transformation.update)
    params = in_single(start())
    state = transformation.init(params)
    gradients = [in_single(each) for each in gradients_of(6)]
    for each in gradients[:5]:
        updates, state = update(each, state, params)
        params = jax.tree.map(np.add, params, updates)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", transformation.init(params))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    one, other = update(gradients[5], state, params), update(gradients[5], restored, params)
    jax.tree.map(np.testing.assert_array_equal, one, other)
