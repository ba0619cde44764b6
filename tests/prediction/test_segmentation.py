"""Probabilities and label maps on the scan's own grid."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infant_seg_jax.data.class_sets import DRAWEM9_CLASSES
from infant_seg_jax.data.formats.grid import Grid
from infant_seg_jax.data.labels import GM, IGNORE, TISSUE_CLASSES
from infant_seg_jax.data.preprocessing import (
    Preparation,
    PreparedVolume,
    most_probable,
    prepare_volume,
    restore_label_map,
)
from infant_seg_jax.data.volumes import Volume
from infant_seg_jax.prediction.confidence import Confidence
from infant_seg_jax.prediction.segmentation import Placement, Segmentation

AFFINE = np.diag([0.9, 1.0, 1.2, 1.0])


@pytest.fixture(scope="module")
def volume() -> Volume:
    """A ball in a corner of a field of view."""
    x, y, z = np.indices((40, 36, 30))
    ball = (x - 14) ** 2 + (y - 16) ** 2 + (z - 12) ** 2 < 81
    data = np.where(ball, 100 + x + 2 * y, 0).astype(np.float32)
    return Volume(data[..., None], AFFINE, Grid((40, 36, 30), AFFINE), Path("ball.nii"))


def segmentation(volume: Volume, prepared: PreparedVolume) -> Segmentation:
    """Smooth random probabilities on the prepared grid."""
    coarse = np.random.default_rng(0).normal(size=(4, 4, 4, 4))
    scores = coarse
    for axis, extent in enumerate(prepared.shape):
        at = np.linspace(0, 2.99, extent)
        low, share = at.astype(int), at % 1
        shape = [-1 if i == axis else 1 for i in range(4)]
        share = share.reshape(shape)
        scores = scores.take(low, axis) * (1 - share) + scores.take(low + 1, axis) * share
    powers = np.exp(3 * scores)
    probabilities = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
    return Segmentation(
        restore_label_map(probabilities, prepared, volume.shape),
        (),
        Confidence(0.0, 1.0),
        probabilities,
        Placement.of(prepared, volume.shape),
    )


@pytest.mark.parametrize("spacing_mm", [0.0, 1.3, 0.7])
def test_maps_agree_with_the_label_map_and_sum_to_1(volume: Volume, spacing_mm: float) -> None:
    prepared = prepare_volume(volume, Preparation(margin_mm=2.0, spacing_mm=spacing_mm))
    assert prepared.resampled == (spacing_mm > 0)
    found = segmentation(volume, prepared)
    maps = np.stack([found.probability(index) for index in range(4)], axis=-1)
    assert maps.dtype == np.float32 and maps.shape == (*volume.shape, 4)
    np.testing.assert_allclose(maps.sum(axis=-1), 1, atol=1e-6)
    assert maps.min() >= -1e-6
    np.testing.assert_array_equal(maps.argmax(axis=-1), found.label_map)
    assert len(np.unique(found.label_map)) == 4
    outside = np.ones(volume.shape, bool)
    outside[prepared.box] = False
    assert outside.any()
    np.testing.assert_array_equal(maps[outside], [[1, 0, 0, 0]] * np.count_nonzero(outside))


def test_maps_of_a_scan_at_its_own_spacing_are_the_networks(volume: Volume) -> None:
    prepared = prepare_volume(volume, Preparation(margin_mm=2.0))
    found = segmentation(volume, prepared)
    for index in range(1, 4):
        np.testing.assert_array_equal(
            found.probability(index)[prepared.box], found.probabilities[..., index]
        )


def test_maps_are_where_the_scan_is(volume: Volume) -> None:
    """A ramp of probability along x, in mm, is the same ramp at another voxel size."""
    prepared = prepare_volume(volume, Preparation(margin_mm=4.0, spacing_mm=1.3))
    x, y, z = prepared.shape
    ramp = prepared.affine[0, 3] + prepared.affine[0, 0] * np.arange(x)
    share = np.broadcast_to((0.01 * ramp)[:, None, None], prepared.shape)
    probabilities = np.stack([1 - share, share, 0 * share, 0 * share], axis=-1)
    found = replace(segmentation(volume, prepared), probabilities=probabilities.astype(np.float32))
    inner = tuple(slice(side.start + 2, side.stop - 2) for side in prepared.box)
    mm = volume.affine[0, 3] + volume.affine[0, 0] * np.arange(volume.shape[0])
    expected = np.broadcast_to((0.01 * mm)[:, None, None], volume.shape)
    np.testing.assert_allclose(found.probability(1)[inner], expected[inner], atol=1e-4)


def test_the_most_probable_class_is_the_first_of_equals() -> None:
    random = np.random.default_rng(0)
    probabilities = random.integers(0, 3, (37, 5, 4, 4)).astype(np.float32)
    found = most_probable(probabilities)
    assert found.dtype == np.uint8
    for at in np.ndindex(37, 5, 4):
        values = probabilities[at].tolist()
        assert found[at] == values.index(max(values))


def test_finer_classes_are_summed_by_tissue(volume: Volume) -> None:
    prepared = prepare_volume(volume, Preparation())
    tissues = segmentation(volume, prepared)
    assert tissues.of_tissues() is tissues
    probabilities = np.random.default_rng(0).dirichlet(np.ones(9), prepared.shape)
    probabilities = probabilities.astype(np.float32)
    finer = replace(
        tissues,
        label_map=restore_label_map(probabilities, prepared, volume.shape),
        probabilities=probabilities,
        classes=DRAWEM9_CLASSES,
    )
    found = finer.of_tissues()
    assert found.classes == TISSUE_CLASSES and found.placement == finer.placement
    gray = sum(finer.probability(DRAWEM9_CLASSES.foreground[n]) for n in ("CGM", "SGM", "HA"))
    np.testing.assert_allclose(found.probability(GM), gray, atol=1e-6)
    for index, tissue in enumerate(DRAWEM9_CLASSES.tissues):
        assert set(np.unique(found.label_map[finer.label_map == index])) <= {tissue}
    assert (found.label_map == IGNORE).any()
