"""Whole volumes from overlapping windows, blended with Gaussian weights.

The weights follow nnU-Net (Isensee et al., Nature Methods 18, 2021): a Gaussian of an eighth of
the window's extent about its centre, since predictions are worst at a window's rim.
"""

import itertools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Shape = tuple[int, int, int]
WindowFunction = Callable[[Float[np.ndarray, "n x y z c"]], Float[np.ndarray, "n x y z k"]]


def window_starts(extent: int, window: int, overlap: float) -> list[int]:
    """Starts of windows that cover an axis evenly, neighbours sharing at least `overlap`."""
    if extent <= window:
        return [0]
    stride = max(1, int(window * (1 - overlap)))
    count = -(-(extent - window) // stride) + 1
    return [round(i * (extent - window) / (count - 1)) for i in range(count)]


def gaussian_weights(window: Shape) -> Float[np.ndarray, "x y z"]:
    """Weights of a window's voxels, 1 at its centre and never 0, float32."""
    axes = []
    for extent in window:
        offsets = np.arange(extent) - (extent - 1) / 2
        axes.append(np.exp(-0.5 * (offsets / (extent / 8)) ** 2))
    x, y, z = axes
    weights = x[:, None, None] * y[:, None] * z
    return np.maximum(weights / weights.max(), 1e-6).astype(np.float32)


def predict_windows(
    predict: WindowFunction,
    image: Float[np.ndarray, "x y z c"],
    classes: int,
    window: Shape,
    overlap: float,
    batch_size: int,
) -> Float[np.ndarray, "x y z k"]:
    """Class probabilities of every voxel, float32, summing to 1.

    `predict` maps `batch_size` windows to probabilities; the last batch is filled with zeros, so
    that it always sees one shape. A volume smaller than the window is padded with zeros. Windows
    without any brain are background without being predicted.
    """
    padded_shape = tuple(
        max(extent, size) for extent, size in zip(image.shape[:3], window, strict=True)
    )
    padding = [(0, new - old) for new, old in zip(padded_shape, image.shape[:3], strict=True)]
    padded = np.pad(image, np.array([*padding, (0, 0)]))
    weights = gaussian_weights(window)
    total = np.zeros((*padded_shape, classes), np.float32)
    total_weight = np.zeros(padded_shape, np.float32)

    starts = itertools.product(
        *(
            window_starts(extent, size, overlap)
            for extent, size in zip(padded_shape, window, strict=True)
        )
    )
    boxes = [
        tuple(slice(a, a + size) for a, size in zip(start, window, strict=True)) for start in starts
    ]
    boxes = [box for box in boxes if padded[box].any()]
    for first in range(0, len(boxes), batch_size):
        batch = boxes[first : first + batch_size]
        windows = np.zeros((batch_size, *window, image.shape[3]), np.float32)
        for i, box in enumerate(batch):
            windows[i] = padded[box]
        for box, probabilities in zip(batch, np.asarray(predict(windows)), strict=False):
            total[box] += probabilities * weights[..., None]
            total_weight[box] += weights

    unseen = total_weight == 0
    total[unseen, 0] = 1.0
    total_weight[unseen] = 1.0
    total /= total_weight[..., None]
    x, y, z = image.shape[:3]
    return total[:x, :y, :z]
