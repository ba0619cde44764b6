"""The moving average, against NumPy; other properties of the step are those of its parts."""

import jax
import numpy as np
import pytest

from infant_seg_jax.store.state import TrainState
from infant_seg_jax.training.step import moving_average

DECAY = 0.6


def follow(values: np.ndarray, accumulate: int) -> np.ndarray:
    """The averages of a run whose weight takes these values, from 0 on."""
    average, found = np.float32(0), []
    for step, value in enumerate(values):
        state = TrainState(step, {}, {}, (), average={"w": average})
        average = moving_average(state, {"w": value}, DECAY, accumulate)["w"]
        found.append(float(average))
    return np.array(found)


def expected(values: np.ndarray) -> np.ndarray:
    """The textbook's recursion, with the decay of the first updates."""
    average, found = 0.0, []
    for update, value in enumerate(values):
        decay = min(DECAY, (1 + update) / (10 + update))
        average = decay * average + (1 - decay) * value
        found.append(average)
    return np.array(found)


def test_the_average_follows_the_textbook() -> None:
    values = np.random.default_rng(0).normal(size=30).astype(np.float32)
    np.testing.assert_allclose(follow(values, 1), expected(values), rtol=1e-5)


@pytest.mark.parametrize("accumulate", [2, 3])
def test_it_moves_with_updates_not_with_batches(accumulate: int) -> None:
    updates = np.random.default_rng(1).normal(size=10).astype(np.float32)
    # What a weight is after each batch: it changes with the last batch of an update.
    after = np.repeat(np.concatenate([[0], updates]), accumulate)[1:][: 10 * accumulate]
    found = follow(after.astype(np.float32), accumulate)
    np.testing.assert_allclose(found[accumulate - 1 :: accumulate], expected(updates), rtol=1e-5)
    between = found.reshape(10, accumulate)
    assert (between[:, :-1] == np.concatenate([[0], between[:-1, -1]])[:, None]).all()


def test_it_is_the_same_compiled() -> None:
    state = TrainState(5, {}, {}, (), average={"w": np.float32(0.25)})
    plain = moving_average(state, {"w": np.float32(1)}, DECAY, 2)["w"]
    compiled = jax.jit(moving_average, static_argnums=(2, 3))(state, {"w": np.float32(1)}, DECAY, 2)
    assert float(plain) == float(compiled["w"])
