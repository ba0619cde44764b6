"""An average brain, and scans at the places of its voxels.

It is a cube of `SIDE` voxels along each side about the brain's center, in units of the brain's
size, the cube root of its volume. `benchmarks/average_brain.py` makes it.
"""

from functools import cache
from importlib.resources import files

import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped
from scipy import ndimage

SIDE = 20
"""Voxels of the average brain along each side."""

REACH = 0.85
"""How far it reaches from its center, as a multiple of the cube root of the brain's volume."""


def grid_points() -> Float[np.ndarray, "n 3"]:
    """The places of the average brain's voxels about its center, in units of the brain's size."""
    axis = (np.arange(SIDE) - (SIDE - 1) / 2) * (2 * REACH / SIDE)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)


@cache
def ball_points() -> Float[np.ndarray, "n 3"]:
    """Those that stay within the average brain's grid however it is turned."""
    grid = grid_points()
    return grid[np.linalg.norm(grid, axis=1) <= REACH]


def normalized(
    channels: Shaped[np.ndarray, "c x y z"],
    mask: Bool[np.ndarray, "x y z"],
    spacing: tuple[float, float, float],
    places: Float[np.ndarray, "n 3"],
) -> Float32[np.ndarray, "n c"]:
    """Channels of a scan at places given about the brain's center in units of its size.

    The center is that of the mask, the size the cube root of its volume. The channels are smoothed
    as the grid of the average brain requires.
    """
    voxel = np.array(spacing)
    center = np.argwhere(mask).mean(axis=0)
    size = float(np.cbrt(np.count_nonzero(mask) * np.prod(voxel)))
    at = (places * size / voxel + center).T
    blur = REACH / SIDE * size / voxel
    return np.stack(
        [
            ndimage.map_coordinates(
                ndimage.gaussian_filter(channel.astype(np.float32), blur), at, order=1
            )
            for channel in channels
        ],
        axis=-1,
    )


@cache
def template() -> Float32[np.ndarray, "c x y z"]:
    """The average brain: its outline and its tissues, from 0 to 1."""
    path = files("infant_seg_jax.data") / "average_brain.npy"
    with path.open("rb") as file:
        return np.load(file, allow_pickle=False).astype(np.float32) / 255


def brain_at(places: Float[np.ndarray, "*n 3"]) -> Float32[np.ndarray, "*n c"]:
    """The average brain at places in units of its size: outline and tissues, from 0 to 1."""
    index = places.reshape(-1, 3).T * (SIDE / (2 * REACH)) + (SIDE - 1) / 2
    values = [ndimage.map_coordinates(channel, index, order=1) for channel in template()]
    return np.stack(values, axis=-1).reshape(*places.shape[:-1], len(values))
