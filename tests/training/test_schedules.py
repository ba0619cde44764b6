"""Learning rates against closed forms; the optimiser against plain Adam in NumPy and PyTorch's."""

import math
from collections.abc import Callable

import jax
import numpy as np
import optax
import pytest

from infant_seg_jax.config import Config, default_config
from infant_seg_jax.training.schedules import learning_rate, make_optimizer

STEPS = 12


def settings(**changes) -> Config:
    optimizer = default_config().optimizer
    optimizer.update(changes)
    return optimizer


def rates(optimizer: Config, steps: int) -> Callable[[int], float]:
    schedule = learning_rate(optimizer, steps)
    return lambda step: np.asarray(schedule(step)).item()


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
    """The parameters after each step of our optimiser."""
    transformation = make_optimizer(optimizer, STEPS)
    params = in_single(start())
    state = transformation.init(params)
    path = []
    for gradients in gradients_of(STEPS):
        updates, state = transformation.update(in_single(gradients), state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return path


OPTIMIZERS = [
    settings(),
    settings(l2=0.3, learning_rate=0.05),
    settings(l2=0.3, learning_rate=0.05, b1=0.8, b2=0.9, schedule="cosine"),
    settings(l2=0.0, learning_rate=0.1, drops=()),
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


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
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


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizer_equals_torch(optimizer):
    torch = pytest.importorskip("torch")
    rate = rates(optimizer, STEPS)
    weights = {name: torch.tensor(value).requires_grad_() for name, value in start().items()}
    adam = torch.optim.Adam(
        weights.values(), betas=(optimizer.b1, optimizer.b2), weight_decay=optimizer.l2
    )
    for step, (gradients, ours) in enumerate(
        zip(gradients_of(STEPS), follow(optimizer), strict=True)
    ):
        adam.param_groups[0]["lr"] = rate(step)
        for name, weight in weights.items():
            weight.grad = torch.tensor(gradients[name])
        adam.step()
        for name, weight in weights.items():
            np.testing.assert_allclose(ours[name], weight.detach(), rtol=1e-4, atol=1e-5)
