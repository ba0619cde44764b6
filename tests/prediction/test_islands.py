"""Small pieces of a tissue go to what they touch most."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from infant_seg_jax.data.labels import BACKGROUND, CSF, GM, IGNORE, WM
from infant_seg_jax.prediction.islands import remove_islands


def neighbors(at, shape):
    for axis, step in itertools.product(range(3), (-1, 1)):
        beside = list(at)
        beside[axis] += step
        if 0 <= beside[axis] < shape[axis]:
            yield tuple(beside)


def by_hand(label_map, ml, voxel_ml):
    """The same voxel by voxel, with a flood fill."""
    result, seen = label_map.copy(), set()
    pieces = {tissue: [] for tissue in (CSF, GM, WM)}
    for start in np.ndindex(label_map.shape):
        tissue = label_map[start]
        if start in seen or tissue == BACKGROUND:
            continue
        piece, waiting = {start}, [start]
        while waiting:
            for beside in neighbors(waiting.pop(), label_map.shape):
                if label_map[beside] == tissue and beside not in piece:
                    piece.add(beside)
                    waiting.append(beside)
        seen |= piece
        pieces[tissue].append(piece)
    for tissue, found in pieces.items():
        if not found:
            continue
        largest = max(found, key=len)
        for piece in found:
            if len(piece) * voxel_ml >= ml or piece is largest:
                continue
            touched = [0, 0, 0, 0]
            for at in piece:
                for beside in neighbors(at, label_map.shape):
                    touched[label_map[beside]] += label_map[beside] != tissue
            for at in piece:
                result[at] = touched.index(max(touched))
    return result


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    voxels=st.integers(0, 12),
)
def test_as_by_hand(seed, shape, voxels):
    label_map = np.random.default_rng(seed).choice(4, shape, p=[0.2, 0.1, 0.5, 0.2])
    label_map = label_map.astype(np.uint8)
    found = remove_islands(label_map, voxels * 0.008, 0.008)
    expected = by_hand(label_map, voxels * 0.008, 0.008)
    np.testing.assert_array_equal(found, expected)


def test_an_island_in_gray_matter_becomes_gray_matter():
    label_map = np.zeros((12, 12, 12), np.uint8)
    label_map[1:11, 1:11, 1:11] = GM
    label_map[3:8, 3:8, 3:8] = WM
    clean = label_map.copy()
    label_map[9, 9, 8:10] = WM  # two voxels of 1 mm: 0.002 ml
    np.testing.assert_array_equal(remove_islands(label_map, 0.003, 0.001), clean)
    np.testing.assert_array_equal(remove_islands(label_map, 0.002, 0.001), label_map)
    # The largest piece stays, however small.
    np.testing.assert_array_equal(remove_islands(label_map, 100.0, 0.001), clean)


def test_pieces_of_finer_classes_go_and_what_is_ignored_stays():
    label_map = np.full((12, 12, 12), 5, np.uint8)
    label_map[:4] = 8
    label_map[6, 6, 6], label_map[11, 11, 11], label_map[9, 9, 8:10] = 8, IGNORE, 3
    label_map[9, 2, 2] = 3
    found = remove_islands(label_map, 0.002, 0.001)
    expected = label_map.copy()
    expected[6, 6, 6], expected[9, 2, 2] = 5, 5
    np.testing.assert_array_equal(found, expected)
