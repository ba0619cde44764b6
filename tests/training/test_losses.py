"""Losses against NumPy in double precision, optax, PyTorch, closed forms and properties."""

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

from infant_seg_jax.config import CHOICES, Config, default_config
from infant_seg_jax.data.labels import IGNORE
from infant_seg_jax.errors import InputError
from infant_seg_jax.training.losses import (
    LOSSES,
    cross_entropy,
    cross_entropy_dice,
    focal,
    make_loss,
    soft_dice,
)
from tests.input_errors import input_error

SHAPE = (2, 3, 4, 2)
WEIGHTS = (0.25, 3.0, 0.0, 1.5)
EACH_LOSS = pytest.mark.parametrize("loss", list(LOSSES.values()))


def alone(value):
    return value


@partial(jax.jit, static_argnums=(0, 3))
def compiled(loss, logits, labels, weights):
    return jax.value_and_grad(loss)(logits, labels, alone, weights)


def value_and_gradient(loss, logits, labels, weights=None) -> tuple[float, np.ndarray]:
    value, gradient = compiled(loss, logits, labels, weights)
    assert value.shape == () and value.dtype == gradient.dtype == np.float32
    return float(value), np.asarray(gradient)


def examples(seed: int = 0, ignored: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels of which a share is ignored."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, SHAPE)
    labels[rng.random(SHAPE) < ignored] = IGNORE
    return rng.normal(0, 3, (*SHAPE, 4)).astype(np.float32), labels.astype(np.uint8)


def on_device(*arrays: np.ndarray) -> list[jax.Array]:
    return [jnp.asarray(array) for array in arrays]


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def numpy_cross_entropy(logits, labels, weights):
    return numpy_focal(logits, labels, weights, gamma=0)


def numpy_focal(logits, labels, weights, gamma=2.0):
    total = weight = 0.0
    for voxel in np.ndindex(labels.shape):
        if labels[voxel] != IGNORE:
            p = softmax(logits)[voxel][labels[voxel]]
            total -= weights[labels[voxel]] * (1 - p) ** gamma * math.log(p)
            weight += weights[labels[voxel]]
    return total / weight


def numpy_soft_dice(logits, labels, weights):
    counted = labels != IGNORE
    scores = []
    for tissue in (1, 2, 3):
        probabilities, truth = softmax(logits)[counted][:, tissue], labels[counted] == tissue
        overlap = probabilities[truth].sum()
        scores.append((2 * overlap + 1) / (probabilities.sum() + truth.sum() + 1))
    return 1 - np.average(scores, weights=weights[1:])


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("ignored", [0.0, 0.3, 0.9])
@pytest.mark.parametrize(
    ("loss", "twin"),
    [
        (cross_entropy, numpy_cross_entropy),
        (soft_dice, numpy_soft_dice),
        (cross_entropy_dice, lambda *x: numpy_cross_entropy(*x) + numpy_soft_dice(*x)),
        (focal, numpy_focal),
        (partial(focal, gamma=0.5), partial(numpy_focal, gamma=0.5)),
    ],
)
def test_equals_numpy(loss, twin, ignored, weights):
    logits, labels = examples(ignored=ignored)
    value, _ = value_and_gradient(loss, logits, labels, weights)
    assert value == pytest.approx(twin(logits, labels, weights or (1,) * 4), rel=1e-5)


def test_cross_entropy_equals_optax():
    logits, labels = examples(ignored=0)
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, labels.astype(int)).mean()
    value, _ = value_and_gradient(cross_entropy, logits, labels)
    assert value == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_and_its_gradient_equal_torch(weights):
    torch = pytest.importorskip("torch")
    logits, labels = examples()
    theirs = torch.tensor(logits.astype(np.float64)).requires_grad_()
    expected = torch.nn.functional.cross_entropy(
        theirs.movedim(-1, 1),
        torch.tensor(labels.astype(np.int64)),
        weight=None if weights is None else torch.tensor(weights, dtype=torch.float64),
        ignore_index=IGNORE,
    )
    expected.backward()
    value, gradient = value_and_gradient(cross_entropy, logits, labels, weights)
    assert value == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(gradient, theirs.grad, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_of_two_classes_is_optaxs_of_one_logit(gamma):
    logits, labels = examples(ignored=0)
    logits, labels = logits[..., :2], labels % 2
    margin = logits[..., 1] - logits[..., 0]

    def theirs(margin):
        return optax.sigmoid_focal_loss(margin, labels.astype(np.float32), gamma=gamma).mean()

    expected, slope = jax.value_and_grad(theirs)(margin)
    value, gradient = value_and_gradient(partial(focal, gamma=gamma), logits, labels)
    assert value == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_allclose(gradient[..., 1], slope, atol=1e-6)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("loss", [*LOSSES.values(), partial(focal, gamma=0.5)])
def test_gradient_equals_finite_differences(loss, weights):
    logits, labels = on_device(*examples())
    with jax.enable_x64(True):
        logits = logits.astype(jnp.float64)
        gradient = jax.jit(lambda x: jax.grad(loss)(x, labels, alone, weights))(logits)
        each = 1e-5 * jnp.eye(logits.size).reshape(-1, *logits.shape)
        moved = jax.jit(jax.vmap(lambda by: loss(logits + by, labels, alone, weights)))
        differences = (moved(each) - moved(-each)) / 2e-5
        assert differences.dtype == np.float64
        np.testing.assert_allclose(gradient.ravel(), differences, rtol=1e-6, atol=1e-10)


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


@pytest.mark.parametrize(
    "loss", [cross_entropy, *(partial(focal, gamma=gamma) for gamma in (0.0, 0.5, 2.0))]
)
def test_a_certain_network_stays_finite(loss):
    labels = examples(ignored=0)[1]
    right = 1e4 * np.eye(4, dtype=np.float32)[labels]
    # Certain of one wrong class costs its lead over the truth.
    for logits, expected in ((right, 0.0), (np.roll(right, 1, axis=-1), 1e4)):
        value, gradient = value_and_gradient(loss, logits, labels)
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
def test_even_weights_of_any_size_are_none(loss):
    logits, labels = examples()
    value, gradient = value_and_gradient(loss, logits, labels)
    for weights in ((1.0,) * 4, (40.0,) * 4, (1e-6,) * 4):
        weighted, weighted_gradient = value_and_gradient(loss, logits, labels, weights)
        assert weighted == pytest.approx(value, rel=1e-6)
        np.testing.assert_allclose(weighted_gradient, gradient, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("loss", [cross_entropy, focal])
def test_a_class_without_weight_is_ignored(loss):
    logits, labels = examples()
    value, gradient = value_and_gradient(loss, logits, labels, (1.0, 1.0, 0.0, 1.0))
    without = np.where(labels == 2, np.uint8(IGNORE), labels)
    expected, expected_gradient = value_and_gradient(loss, logits, without)
    assert value == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-7)


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
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_batch_of_ignored_voxels_only(loss, weights):
    labels = np.full(SHAPE, IGNORE, np.uint8)
    value, gradient = value_and_gradient(loss, examples()[0], labels, weights)
    assert value == pytest.approx(0, abs=1e-6)
    np.testing.assert_array_equal(gradient, np.zeros_like(gradient))


def described(**changes) -> Config:
    loss = default_config().loss
    loss.update(changes)
    return loss


@pytest.mark.parametrize("weights", [(1.0,) * 4, WEIGHTS])
@pytest.mark.parametrize("name", list(LOSSES))
def test_devices_with_uneven_shares_know_the_loss_of_the_whole_batch(name, weights):
    loss = make_loss(described(name=name, class_weights=weights, deep_supervision=0.5), 4)
    logits, labels = examples()
    labels[1][labels[1] == 1] = IGNORE
    each = tuple(np.stack([logits, *(examples(seed)[0] for seed in (1, 2))]))

    @partial(jax.jit, static_argnums=0)
    def total(reduce, labels, logits, *maps):
        return loss(logits, labels, reduce, maps)

    def on_halves(reduce):
        on_one = jax.vmap(partial(total, reduce), axis_name="halves")
        return on_one(labels[:, None], *(part[:, None] for part in each))

    whole = float(total(alone, labels, *each))
    known = on_halves(lambda value: lax.psum(value, "halves"))
    np.testing.assert_allclose(known, [whole, whole], rtol=1e-6)
    # The mean of the halves' own losses is something else, or this test would show nothing.
    assert float(on_halves(alone).mean()) != pytest.approx(whole, rel=1e-3)


def test_the_config_names_every_loss():
    assert set(CHOICES["loss.name"]) == set(LOSSES)


def test_a_loss_is_what_the_config_describes():
    logits, labels = on_device(*examples())
    for name, function in LOSSES.items():
        ours = make_loss(described(name=name, class_weights=WEIGHTS), 4)(logits, labels, alone)
        assert float(ours) == pytest.approx(float(function(logits, labels, alone, WEIGHTS)))
    sharper = make_loss(described(name="focal", focal_gamma=5.0), 4)(logits, labels, alone)
    expected = numpy_focal(*examples(), weights=(1,) * 4, gamma=5)
    assert float(sharper) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", list(LOSSES))
def test_deep_supervision_adds_its_weight_times_the_mean_loss_of_the_maps(name):
    labels = jnp.asarray(examples()[1])
    logits, *maps = on_device(*(examples(seed)[0] for seed in range(4)))
    plain = make_loss(described(name=name), 4)
    terms = [float(plain(each, labels, alone)) for each in (logits, *maps)]
    total = make_loss(described(name=name, deep_supervision=0.4), 4)(logits, labels, alone, maps)
    assert float(total) == pytest.approx(terms[0] + 0.4 * np.mean(terms[1:]), rel=1e-6)
    # Off, the maps are not looked at.
    assert float(plain(logits, labels, alone, maps)) == terms[0]


@pytest.mark.parametrize("name", ["dice", "cross_entropy_dice"])
def test_soft_dice_of_background_alone_is_refused(name):
    with pytest.raises(InputError) as caught:
        make_loss(described(name=name, class_weights=(1.0, 0.0, 0.0, 0.0)), 4)
    assert str(caught.value) == (
        "config.loss.class_weights is (1.0, 0.0, 0.0, 0.0), expected a weight above 0 "
        f"for at least one tissue with '{name}': soft Dice leaves out the background."
    )
    make_loss(described(class_weights=(1.0, 0.0, 0.0, 0.0)), 4)


def test_weights_are_one_for_each_class_but_equal_ones_suit_any_number():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(1, 4, 4, 4, 9)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 9, (1, 4, 4, 4)), jnp.uint8)
    ours = make_loss(described(), 9)(logits, labels, alone)
    assert float(ours) == pytest.approx(float(cross_entropy(logits, labels, alone)), rel=1e-6)
    with input_error("class_weights", (1.0, 2.0, 1.0, 1.0), " 9 "):
        make_loss(described(class_weights=(1.0, 2.0, 1.0, 1.0)), 9)
    with input_error("class_weights", (1.0, 2.0, 1.0), " 4 "):
        make_loss(described(class_weights=(1.0, 2.0, 1.0)), 4)
