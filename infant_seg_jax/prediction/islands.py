"""Small islands of a tissue amid others, given to what is around them."""

import itertools

import numpy as np
from jaxtyping import Bool, Int32, UInt8
from scipy import ndimage

from infant_seg_jax.data.labels import BACKGROUND, IGNORE


def remove_islands(
    label_map: UInt8[np.ndarray, "x y z"], ml: float, voxel_ml: float
) -> UInt8[np.ndarray, "x y z"]:
    """Give every piece of a tissue that is smaller than `ml` to the class that it touches most.

    A piece is a set of voxels of one tissue that are joined by their faces. It touches a class as
    often as a face of its voxels is a face of a voxel of that class, background included; of
    classes touched equally often the first is taken, background before all. All pieces are
    judged by `label_map` as it was given, so the order does not matter. The largest piece of a
    tissue always stays. Holes, which are pieces of background, are left as they are.

    Args:
        label_map: classes.
        ml: pieces of less than this go.
        voxel_ml: the volume of a voxel.
    """
    result = label_map.copy()
    present = np.flatnonzero(np.bincount(label_map.ravel())).astype(np.uint8)
    for tissue in np.setdiff1d(present, (BACKGROUND, IGNORE)):
        parts, count = _pieces(label_map == tissue)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)
        islands = sizes * voxel_ml < ml
        islands[0] = False
        if count:
            islands[1 + sizes[1:].argmax()] = False
        at = np.argwhere(islands[parts])
        piece = parts[tuple(at.T)]
        touched = np.zeros((count + 1, len(present)), np.int64)
        for axis, step in itertools.product(range(3), (-1, 1)):
            beside = at.copy()
            beside[:, axis] += step
            inside = (beside[:, axis] >= 0) & (beside[:, axis] < label_map.shape[axis])
            neighbor = label_map[tuple(beside[inside].T)]
            other = neighbor != tissue
            neighbors = np.searchsorted(present, neighbor)
            np.add.at(touched, (piece[inside][other], neighbors[other]), 1)
        result[tuple(at.T)] = present[touched.argmax(axis=1)[piece]]
    return result


def _pieces(mask: Bool[np.ndarray, "x y z"]) -> tuple[Int32[np.ndarray, "x y z"], int]:
    """Numbers from 1 for sets of voxels that are joined by their faces, and how many there are."""
    parts, count = ndimage.label(mask)  # pyright: ignore[reportGeneralTypeIssues]
    return parts, count
