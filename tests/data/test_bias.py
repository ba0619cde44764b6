import sys

import numpy as np
import pytest

from infant_seg_jax.data.bias import check_bias_library, correct_bias
from infant_seg_jax.errors import InputError

SHAPE = (48, 56, 44)
SPACING = (1.0, 1.0, 1.0)


@pytest.fixture
def library():
    return pytest.importorskip("SimpleITK")


def phantom(sign: float = 1.0):
    """White matter within gray, under a smooth field: scan, brain, white matter, truth."""
    center = np.reshape([size / 2 for size in SHAPE], (3, 1, 1, 1))
    x, y, z = (np.indices(SHAPE) - center) / center
    radius = np.sqrt(x**2 + y**2 + z**2)
    brain, white = radius < 0.85, radius < 0.6
    truth = np.where(white, 1000.0, 700.0) * brain
    field = np.exp(sign * (0.35 * x + 0.2 * y**2 - 0.25 * z))
    noise = np.random.default_rng(0).normal(0, 10, SHAPE) * brain
    return (truth * field + noise).astype(np.float32), brain, white, truth


def spread(values: np.ndarray) -> float:
    """The coefficient of variation."""
    return float(values.std() / values.mean())


def test_smooth_field_is_taken_out(library):
    scan, brain, white, truth = phantom()
    (corrected,) = np.moveaxis(correct_bias(scan[..., None], brain, SPACING, "scan.nii"), -1, 0)
    assert corrected.dtype == np.float32 and corrected.shape == scan.shape
    assert spread(scan[white]) > 0.1
    assert spread(corrected[white]) < spread(scan[white]) / 5
    # The ratio to the truth is flat everywhere, and so tissues stay apart.
    ratio = corrected[brain] / truth[brain]
    assert spread(ratio) < spread(scan[brain] / truth[brain]) / 5
    gray = brain & ~white
    assert corrected[white].mean() / corrected[gray].mean() == pytest.approx(10 / 7, rel=0.03)


def test_channels_have_fields_of_their_own_and_the_outside_stays(library):
    first, brain, white, _ = phantom()
    second = phantom(sign=-1.0)[0] * 0.01
    scan = np.stack([first, second], -1)
    scan[~brain] = np.random.default_rng(1).uniform(0, 5, (np.count_nonzero(~brain), 2))
    before = scan.copy()
    corrected = correct_bias(scan, brain, SPACING, "scan.nii")
    np.testing.assert_array_equal(scan, before)
    np.testing.assert_array_equal(corrected[~brain], scan[~brain])
    for channel in range(2):
        alone = correct_bias(scan[..., channel : channel + 1], brain, SPACING, "scan.nii")
        np.testing.assert_array_equal(alone[..., 0], corrected[..., channel])
        assert spread(corrected[white, channel]) < spread(scan[white, channel]) / 5


def test_axes_and_spacing_go_along(library):
    """A turned volume gets the turned field: no axis is taken for another on the way."""
    scan, brain, white, _ = phantom()
    turned = scan.transpose(2, 0, 1)[..., None]
    corrected = correct_bias(turned, brain.transpose(2, 0, 1), SPACING, "scan.nii")[..., 0]
    assert spread(corrected[white.transpose(2, 0, 1)]) < spread(scan[white]) / 5
    thick, core = scan[:, :, ::4], white[:, :, ::4]
    flat = correct_bias(thick[..., None], brain[:, :, ::4], (1.0, 1.0, 4.0), "scan.nii")[..., 0]
    assert spread(flat[core]) < spread(thick[core]) / 5


def test_same_input_gives_the_same_bytes(library):
    scan, brain, _, _ = phantom()
    first, second = (correct_bias(scan[..., None], brain, SPACING, "x") for _ in range(2))
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("value", [0.0, -500.0])
def test_values_whose_logarithm_does_not_exist(library, value):
    scan, brain, white, _ = phantom()
    scan[20:26, 24:30, 18:24] = value  # ventricles
    corrected = correct_bias(scan[..., None], brain, SPACING, "scan.nii")[..., 0]
    assert np.isfinite(corrected).all()
    assert (np.sign(corrected) == np.sign(scan)).all()
    rest = white & (scan > 100)
    assert spread(corrected[rest]) < spread(scan[rest]) / 5


def test_single_slice_is_one_sentence(library):
    scan, brain, _, _ = phantom()
    with pytest.raises(InputError) as caught:
        correct_bias(scan[20:21, ..., None], brain[20:21], SPACING, "/data/slice.nii")
    assert str(caught.value) == (
        "N4 finds no bias field in /data/slice.nii, where the brain has 1x56x44 voxels, expected "
        "a 3D scan: prepare it without bias field correction."
    )


def test_missing_library_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    scan, brain, _, _ = phantom()
    for use in (check_bias_library, lambda: correct_bias(scan[..., None], brain, SPACING, "x")):
        with pytest.raises(InputError) as caught:
            use()
        assert str(caught.value) == (
            "Bias field correction needs SimpleITK, which is not installed: run "
            "`pip install 'infant_seg_jax[n4]'`, or `./launch/install.sh n4`."
        )
