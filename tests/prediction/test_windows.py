"""Windows over whole volumes: their places, their weights, and how their predictions blend."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infant_seg_jax.prediction.windows import gaussian_weights, predict_windows, window_starts

CLASSES = 4
OVERLAPS = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9])


def sides(low: int, high: int) -> st.SearchStrategy[tuple[int, int, int]]:
    side = st.integers(low, high)
    return st.tuples(side, side, side)


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def voxelwise(windows: np.ndarray) -> np.ndarray:
    """Probabilities that depend on a voxel's own intensities."""
    mixing = np.random.default_rng(0).normal(size=(windows.shape[-1], CLASSES))
    return softmax(windows @ mixing).astype(np.float32)


def placed(windows: np.ndarray) -> np.ndarray:
    """Probabilities that depend on the place in the window and on a voxel of its other end too."""
    _, x, y, z, _ = windows.shape
    ramps = np.add.outer(np.add.outer(np.arange(x), 2.0 * np.arange(y)), 3.0 * np.arange(z)) / 7
    scores = np.stack([np.cos(ramps + k) for k in range(CLASSES)], axis=-1)
    return softmax(scores + voxelwise(windows) + windows[:, ::-1, ::-1, ::-1, :1])


def scan(shape: tuple[int, ...], channels: int = 2) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(*shape, channels)).astype(np.float32)


@given(extent=st.integers(1, 300), window=st.integers(1, 100), overlap=st.floats(0, 0.99))
def test_starts_cover_the_axis(extent, window, overlap):
    starts = window_starts(extent, window, overlap)
    if extent <= window:
        assert starts == [0]
        return
    assert starts[0] == 0 and starts[-1] == extent - window
    gaps = np.diff(starts)
    # Neighbors share at least the overlap, save that a window moves by at least a voxel.
    assert gaps.min() >= 1
    assert gaps.max() <= max(1, window * (1 - overlap))
    assert gaps.max() - gaps.min() <= 1  # They lie evenly,
    longest = max(1, int(window * (1 - overlap)))
    assert (len(starts) - 2) * longest < extent - window  # and one fewer would not reach the end.


def test_starts_of_half_overlapping_windows():
    assert window_starts(128, 64, 0.5) == [0, 32, 64]
    assert window_starts(65, 64, 0.5) == [0, 1]
    assert window_starts(192, 64, 0.0) == [0, 64, 128]


@pytest.mark.parametrize("window", [(16, 16, 16), (8, 5, 1), (3, 64, 7)])
def test_weights_are_symmetric_and_positive_with_their_peak_at_the_center(window):
    weights = gaussian_weights(window)
    assert weights.shape == window and weights.dtype == np.float32
    assert weights.min() > 0
    np.testing.assert_allclose(weights, np.flip(weights), rtol=1e-6)
    for axis in range(3):
        np.testing.assert_allclose(weights, np.flip(weights, axis), rtol=1e-6)
        towards_the_center = np.diff(weights, axis=axis).take(range((window[axis] - 1) // 2), axis)
        assert (towards_the_center >= 0).all()
    assert weights.max() == 1
    assert weights[tuple(size // 2 for size in window)] == pytest.approx(1)


def test_weights_are_a_gaussian_of_an_eighth_of_the_window():
    weights = gaussian_weights((17, 33, 9))[8:, 16, 4]
    deviation = 17 / 8
    for distance in range(6):
        assert weights[distance] == pytest.approx(math.exp(-((distance / deviation) ** 2) / 2))
    assert gaussian_weights((64, 64, 64))[0, 0, 0] == np.float32(1e-6)


@settings(max_examples=60, deadline=None)
@given(shape=sides(1, 12), window=sides(1, 8), overlap=OVERLAPS, batch_size=st.integers(1, 4))
def test_voxelwise_predictions_come_back_as_they_are(shape, window, overlap, batch_size):
    image = scan(shape)
    seen = []

    def predict(windows):
        seen.append(windows.shape)
        assert windows.dtype == np.float32
        return voxelwise(windows)

    probabilities = predict_windows(predict, image, CLASSES, window, overlap, batch_size)
    assert probabilities.shape == (*shape, CLASSES) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, voxelwise(image), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)
    # It is asked for one shape only, and as often as the windows fill batches.
    assert set(seen) == {(batch_size, *window, 2)}
    windows = math.prod(
        len(window_starts(extent, size, overlap))
        for extent, size in zip(shape, window, strict=True)
    )
    assert len(seen) == math.ceil(windows / batch_size)


@pytest.mark.parametrize(
    ("shape", "window", "overlap", "batch_size"),
    [
        ((7, 6, 5), (4, 4, 4), 0.5, 1),
        ((9, 4, 6), (4, 4, 4), 0.75, 3),
        ((5, 3, 8), (4, 6, 3), 0.25, 4),
    ],
)
def test_equals_a_voxel_by_voxel_blend_in_double_precision(shape, window, overlap, batch_size):
    image = scan(shape)
    padded_shape = tuple(map(max, shape, window))
    padded = np.zeros((*padded_shape, 2))
    padded[: shape[0], : shape[1], : shape[2]] = image
    total = np.zeros((*padded_shape, CLASSES))
    weights = np.zeros(padded_shape)
    starts = [window_starts(*axis, overlap) for axis in zip(padded_shape, window, strict=True)]
    for start in itertools.product(*starts):
        x, y, z = (slice(a, a + size) for a, size in zip(start, window, strict=True))
        prediction = placed(padded[None, x, y, z])[0]
        for inside in np.ndindex(*window):
            squares = sum(
                ((i - (size - 1) / 2) / (size / 8)) ** 2
                for i, size in zip(inside, window, strict=True)
            )
            voxel = tuple(map(sum, zip(start, inside, strict=True)))
            total[voxel] += math.exp(-squares / 2) * prediction[inside]
            weights[voxel] += math.exp(-squares / 2)
    expected = (total / weights[..., None])[: shape[0], : shape[1], : shape[2]]

    result = predict_windows(placed, image, CLASSES, window, overlap, batch_size)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    # Windows do disagree, so it matters how they are blended.
    assert np.abs(result - placed(padded[None])[0][: shape[0], : shape[1], : shape[2]]).max() > 0.1


def test_volume_smaller_than_the_window_is_padded_with_zeros():
    image = scan((3, 4, 2))
    seen = []

    def predict(windows):
        seen.extend(windows.copy())
        return voxelwise(windows)

    predict_windows(predict, image, CLASSES, (4, 4, 4), 0.5, 1)
    (window,) = seen
    np.testing.assert_array_equal(window[:3, :, :2], image)
    assert not window[3:].any() and not window[:, :, 2:].any()


def test_windows_of_background_are_background_and_never_predicted():
    image = np.zeros((12, 10, 4, 1), np.float32)
    image[1:3, 2:4, 1:3] = 1.0
    image[9, 8, 3] = -0.5
    window, seen = (4, 4, 4), []

    def predict(windows):
        seen.extend(windows.copy())
        return np.broadcast_to(np.eye(CLASSES, dtype=np.float32)[3], (*windows.shape[:4], CLASSES))

    result = predict_windows(predict, image, CLASSES, window, 0.5, 3)
    predicted = np.zeros(image.shape[:3], bool)
    count = 0
    for a, b in itertools.product(window_starts(12, 4, 0.5), window_starts(10, 4, 0.5)):
        box = (slice(a, a + 4), slice(b, b + 4))
        if image[box].any():
            np.testing.assert_array_equal(seen[count], image[box])
            predicted[box] = True
            count += 1
    assert 0 < predicted.sum() < predicted.size
    # What is left of the last batch is filled with zeros.
    assert len(seen) == 3 * math.ceil(count / 3) and not np.any(seen[count:])
    np.testing.assert_array_equal(result.argmax(axis=-1), np.where(predicted, 3, 0))
    np.testing.assert_allclose(result.max(axis=-1), 1, rtol=1e-6)


def test_empty_volume_is_background():
    def predict(windows):
        raise AssertionError("there is nothing to predict")

    result = predict_windows(predict, np.zeros((5, 6, 7, 1)), CLASSES, (4, 4, 4), 0.5, 2)
    np.testing.assert_array_equal(result, np.broadcast_to([1.0, 0, 0, 0], (5, 6, 7, CLASSES)))
