"""Losses against NumPy in double precision, optax, closed forms and properties."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from infant_seg_jax.data.labels import IGNORE
from infant_seg_jax.training.losses import LOSSES, cross_entropy, cross_entropy_dice, soft_dice

SHAPE = (2, 3, 4, 2)
EACH_LOSS = pytest.mark.parametrize("loss", [cross_entropy, soft_dice, cross_entropy_dice])


def alone(value):
    return value


@partial(jax.jit, static_argnums=0)
def compiled(loss, logits, labels):
    return jax.value_and_grad(loss)(logits, labels, alone)


def value_and_gradient(loss, logits, labels) -> tuple[float, np.ndarray]:
    value, gradient = compiled(loss, logits, labels)
    assert value.shape == () and value.dtype == gradient.dtype == np.float32
    return float(value), np.asarray(gradient)


def examples(seed: int = 0, ignored: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels of which a share is ignored."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, SHAPE)
    labels[rng.random(SHAPE) < ignored] = IGNORE
    return rng.normal(0, 3, (*SHAPE, 4)).astype(np.float32), labels.astype(np.uint8)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def numpy_cross_entropy(logits, labels):
    losses = [
        -math.log(softmax(logits)[voxel][labels[voxel]])
        for voxel in np.ndindex(labels.shape)
        if labels[voxel] != IGNORE
    ]
    return sum(losses) / len(losses)


def numpy_soft_dice(logits, labels):
    counted = labels != IGNORE
    scores = []
    for tissue in (1, 2, 3):
        probabilities, truth = softmax(logits)[counted][:, tissue], labels[counted] == tissue
        overlap = probabilities[truth].sum()
        scores.append((2 * overlap + 1) / (probabilities.sum() + truth.sum() + 1))
    return 1 - sum(scores) / 3


@pytest.mark.parametrize("ignored", [0.0, 0.3, 0.9])
@pytest.mark.parametrize(
    ("loss", "twin"),
    [
        (cross_entropy, numpy_cross_entropy),
        (soft_dice, numpy_soft_dice),
        (cross_entropy_dice, lambda *x: numpy_cross_entropy(*x) + numpy_soft_dice(*x)),
    ],
)
def test_equals_numpy(loss, twin, ignored):
    logits, labels = examples(ignored=ignored)
    value, _ = value_and_gradient(loss, logits, labels)
    assert value == pytest.approx(twin(logits, labels), rel=1e-5)


def test_cross_entropy_equals_optax():
    logits, labels = examples(ignored=0)
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, labels.astype(int)).mean()
    value, _ = value_and_gradient(cross_entropy, logits, labels)
    assert value == pytest.approx(float(expected), rel=1e-6)


def test_gradient_of_cross_entropy_is_softmax_less_truth():
    logits, labels = examples()
    _, gradient = value_and_gradient(cross_entropy, logits, labels)
    counted = labels != IGNORE
    expected = (softmax(logits) - np.eye(4)[labels % 4]) * counted[..., None] / counted.sum()
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_cross_entropy_of_an_undecided_network():
    undecided = np.zeros((*SHAPE, 4), np.float32)
    value, _ = value_and_gradient(cross_entropy, undecided, examples()[1])
    assert value == pytest.approx(math.log(4), rel=1e-6)


def test_cross_entropy_of_a_certain_network_stays_finite():
    labels = examples(ignored=0)[1]
    right = 1e4 * np.eye(4, dtype=np.float32)[labels]
    # Certain of one wrong class costs its lead over the truth.
    for logits, expected in ((right, 0.0), (np.roll(right, 1, axis=-1), 1e4)):
        value, gradient = value_and_gradient(cross_entropy, logits, labels)
        assert value == pytest.approx(expected)
        assert np.isfinite(gradient).all()


def test_soft_dice_of_perfect_and_of_opposite_predictions():
    labels = examples()[1]
    right = 50 * np.eye(4, dtype=np.float32)[labels % 4]
    assert value_and_gradient(soft_dice, right, labels)[0] == pytest.approx(0, abs=1e-6)
    wrong = np.roll(right, 1, axis=-1)
    assert value_and_gradient(soft_dice, wrong, labels)[0] > 0.8


def test_soft_dice_of_a_tissue_that_nothing_has_is_perfect():
    labels = np.zeros(SHAPE, np.uint8)
    logits = 50 * np.eye(4, dtype=np.float32)[labels]
    assert value_and_gradient(soft_dice, logits, labels)[0] == pytest.approx(0, abs=1e-6)


@EACH_LOSS
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.125, 100))
def test_logits_of_ignored_voxels_change_nothing(loss, seed, scale):
    logits, labels = examples(seed)
    other = np.where(
        (labels == IGNORE)[..., None], np.float32(scale) * examples(seed + 1)[0], logits
    )
    value, gradient = value_and_gradient(loss, logits, labels)
    other_value, other_gradient = value_and_gradient(loss, other, labels)
    assert value == other_value
    np.testing.assert_array_equal(gradient, other_gradient)
    assert not gradient[labels == IGNORE].any() and gradient[labels != IGNORE].any()


@EACH_LOSS
def test_batch_of_ignored_voxels_only(loss):
    labels = np.full(SHAPE, IGNORE, np.uint8)
    value, gradient = value_and_gradient(loss, examples()[0], labels)
    assert value == pytest.approx(0, abs=1e-6)
    np.testing.assert_array_equal(gradient, np.zeros_like(gradient))


@EACH_LOSS
def test_devices_with_uneven_shares_know_the_loss_of_the_whole_batch(loss):
    logits, labels = examples()
    labels[1][labels[1] == 2] = IGNORE
    halves = jnp.asarray(logits[:, None]), jnp.asarray(labels[:, None])

    def reduce(value):
        return lax.psum(value, "halves")

    on_each = jax.jit(jax.vmap(lambda *half: loss(*half, reduce), axis_name="halves"))(*halves)
    whole, _ = value_and_gradient(loss, logits, labels)
    np.testing.assert_allclose(on_each, [whole, whole], rtol=1e-6)
    # The mean of the halves' own losses is something else, or this test would show nothing.
    by_themselves = jax.jit(jax.vmap(lambda *half: loss(*half, alone)))(*halves)
    assert float(by_themselves.mean()) != pytest.approx(whole, rel=1e-3)


def test_names_of_losses():
    assert LOSSES == {"cross_entropy": cross_entropy, "cross_entropy_dice": cross_entropy_dice}
