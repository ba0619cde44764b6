"""What a file is, by its voxels alone."""

import numpy as np

from infant_seg_jax.data.inspection import LABEL_MAP, MASK, SCAN
from infant_seg_jax.data.inspection.kinds import kind_of
from infant_seg_jax.data.phantom import Phantom
from tests.data.inspection.remarks import whole


def test_scans(phantom: Phantom) -> None:
    rng = np.random.default_rng(0)
    coarse = np.round(30 * phantom.image).astype(np.float32)  # about 40 gray values
    assert len(np.unique(coarse)) < 50
    for scan in (
        phantom.image,
        whole(phantom).astype(np.float32),
        coarse,
        coarse - 1000,  # air is not always 0
        rng.poisson(4, (20, 20, 20)).astype(np.float32),
        phantom.label_map * np.float32(0.5),  # no whole numbers
    ):
        assert kind_of(scan) == (SCAN, {})


def test_label_maps(phantom: Phantom) -> None:
    label_map = phantom.label_map.astype(np.float32)
    parcels = np.kron(np.arange(400).reshape(10, 10, 4), np.ones((3, 3, 3))).astype(np.float32)
    for array in (label_map, label_map[20:60, 20:60, 20:60], label_map + 7, parcels):
        kind, counts = kind_of(array)
        values, voxels = np.unique(array, return_counts=True)
        assert kind == LABEL_MAP
        assert counts == dict(zip(values.astype(int), voxels, strict=True))


def test_a_slope_may_leave_labels_that_are_not_quite_whole(phantom: Phantom) -> None:
    label_map = phantom.label_map * np.float32(1.00001)
    kind, counts = kind_of(label_map)
    assert kind == LABEL_MAP
    assert sorted(counts) == [0, 1, 2, 3]


def test_large_ids() -> None:
    label_map = np.repeat(np.array([0, 5, 3_000_000], np.float32), 9).reshape(3, 3, 3)
    assert kind_of(label_map) == (LABEL_MAP, {0: 9, 5: 9, 3_000_000: 9})


def test_masks(phantom: Phantom) -> None:
    for value in (1, 255, -1):
        mask = np.where(phantom.label_map > 0, value, 0).astype(np.float32)
        assert kind_of(mask)[0] == MASK
    assert kind_of(mask + 3)[0] == LABEL_MAP  # without 0, two tissues


def test_single_voxels_are_a_label_map() -> None:
    points = np.zeros((9, 9, 9), np.float32)
    points[2, 2, 2], points[6, 6, 6] = 1, 2
    assert kind_of(points)[0] == LABEL_MAP
