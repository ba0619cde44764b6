"""Whole volumes from overlapping windows, blended with Gaussian weights.

The weights follow nnU-Net (Isensee et al., Nature Methods 18, 2021): a Gaussian of an eighth of
the window's extent about its center, since predictions are worst at a window's rim.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Float32

from infant_seg_jax.data.cropping import Box
from infant_seg_jax.data.formats.grid import Shape
from infant_seg_jax.progress import parts

WindowFunction = Callable[[Float[np.ndarray, "n x y z c"]], Float[np.ndarray, "n x y z k"]]


def window_starts(extent: int, window: int, overlap: float) -> list[int]:
    """Starts of windows that cover an axis evenly, neighbors sharing at least `overlap`."""
    if extent <= window:
        return [0]
    stride = max(1, int(window * (1 - overlap)))
    count = -(-(extent - window) // stride) + 1
    return [round(i * (extent - window) / (count - 1)) for i in range(count)]


def gaussian_weights(window: Shape) -> Float[np.ndarray, "x y z"]:
    """Weights of a window's voxels, 1 at its center and never 0, float32."""
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
) -> Float32[np.ndarray, "x y z k"]:
    """Class probabilities of every voxel, float32, summing to 1.

    `predict` maps `batch_size` windows to probabilities; the last batch is filled with zeros, so
    that it always sees one shape. A volume smaller than the window is padded with zeros. Windows
    without any brain are background without being predicted.
    """
    shape = image.shape[:3]
    weights = gaussian_weights(window)
    total = np.zeros((*shape, classes), np.float32)
    total_weight = np.zeros(shape, np.float32)
    boxes = [box for box in _boxes(shape, window, overlap) if image[box].any()]
    with parts("network", len(boxes), "window") as bar:
        for first in range(0, len(boxes), batch_size):
            batch = boxes[first : first + batch_size]
            windows = np.zeros((batch_size, *window, image.shape[3]), np.float32)
            for i, box in enumerate(batch):
                part = image[box]
                windows[i][_corner(part.shape)] = part
            for box, probabilities in zip(batch, np.asarray(predict(windows)), strict=False):
                inside = _corner(total_weight[box].shape)
                total[box] += probabilities[inside] * weights[inside][..., None]
                total_weight[box] += weights[inside]
            bar.update(len(batch))

    unseen = total_weight == 0
    total[unseen, 0] = 1.0
    total_weight[unseen] = 1.0
    total /= total_weight[..., None]
    return total


def _boxes(shape: Sequence[int], window: Shape, overlap: float) -> Iterator[Box]:
    """The windows' places; along an axis shorter than the window they reach beyond its end."""
    starts = (window_starts(*axis, overlap) for axis in zip(shape, window, strict=True))
    for start in itertools.product(*starts):
        x, y, z = (slice(a, a + size) for a, size in zip(start, window, strict=True))
        yield x, y, z


def _corner(shape: Sequence[int]) -> Box:
    """The corner, of whatever is larger, that has a shape."""
    x, y, z = (slice(0, extent) for extent in shape[:3])
    return x, y, z
