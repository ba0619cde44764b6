"""Refinement against drawn scans whose tissues are known, and by its symmetries."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Float32, UInt8
from scipy import ndimage
from scipy.interpolate import interpn

from infant_seg_jax.data.labels import BACKGROUND, CSF, GM, WM
from infant_seg_jax.inference.refinement import Surroundings, refine
from infant_seg_jax.metrics.overlap import dice_per_tissue

MM = (1.0, 1.0, 1.0)
BRIGHTNESS = {
    "adult T1w": (0.0, -1.5, 0.0, 1.2),
    "newborn T1w": (0.0, -1.5, 1.0, 0.0),
    "newborn T2w": (0.0, 2.0, -1.0, 0.3),
}

Labels = UInt8[np.ndarray, "x y z"]


def brain(side: int = 48) -> Labels:
    """Shells of fluid and gray matter, and folded white matter around a ventricle."""
    x, y, z = (np.indices((side,) * 3) - (side - 1) / 2) * (48 / side)
    radius = np.sqrt(x**2 + y**2 + 0.8 * z**2)
    folds = 2.5 * np.sin(x / 2) * np.cos(y / 2.5)
    labels = np.full(radius.shape, BACKGROUND, np.uint8)
    for index, limit in ((CSF, 22), (GM, 19), (WM, 13 + folds), (CSF, 5)):
        labels[radius < limit] = index
    return labels


def scan(labels: Labels, brightness: tuple[float, ...], noise: float = 0.2, coil: float = 0.5):
    """Intensities of each tissue with noise, brighter towards the front by `coil`."""
    generator = np.random.default_rng(5)
    image = np.array(brightness, np.float32)[labels] + generator.normal(0, noise, labels.shape)
    image += coil * np.linspace(-1, 1, labels.shape[1])[:, None]
    return np.where(labels == BACKGROUND, 0, image).astype(np.float32)[..., None]


def unsure(labels: Labels, blur: float = 3.0) -> Float32[np.ndarray, "x y z k"]:
    """What a network says that knows where tissues lie, not where they end."""
    shares = [ndimage.gaussian_filter((labels == k).astype(np.float32), blur) for k in range(4)]
    probabilities = np.stack(shares, axis=-1)
    probabilities[labels == BACKGROUND] = (1, 0, 0, 0)
    probabilities[labels != BACKGROUND, BACKGROUND] = 0
    return probabilities / probabilities.sum(axis=-1, keepdims=True)


def labels_of(probabilities: Float32[np.ndarray, "x y z k"]) -> Labels:
    return probabilities.argmax(axis=-1).astype(np.uint8)


@pytest.mark.parametrize("brightness", BRIGHTNESS.values(), ids=BRIGHTNESS)
def test_the_scan_tells_where_tissues_end(brightness: tuple[float, ...]) -> None:
    truth = brain()
    before = unsure(truth)
    after = refine(before, scan(truth, brightness), truth != BACKGROUND, MM)
    assert min(dice_per_tissue(labels_of(before), truth).values()) < 0.88
    assert min(dice_per_tissue(labels_of(after), truth).values()) > 0.95


def test_white_matter_may_be_myelinated_here_and_not_yet_there() -> None:
    """Brighter than gray matter in one half of the brain, darker in the other."""
    truth = brain()
    image = scan(truth, (0.0, -2.5, 0.0, 1.2), coil=0.0)
    unmyelinated = truth == WM
    unmyelinated[24:] = False
    image[unmyelinated] -= 2.4
    after = refine(unsure(truth), image, truth != BACKGROUND, MM)
    assert min(dice_per_tissue(labels_of(after), truth).values()) > 0.995


def test_it_matters_how_far_intensities_are_apart_and_not_which_is_higher() -> None:
    truth = brain()
    image = scan(truth, BRIGHTNESS["adult T1w"])
    found = refine(unsure(truth), image, truth != BACKGROUND, MM)
    inverted = refine(unsure(truth), -image, truth != BACKGROUND, MM)
    np.testing.assert_allclose(inverted, found, atol=1e-3)


def test_a_mirrored_scan_is_refined_to_the_mirror_image() -> None:
    truth = brain()[3:, 2:]
    image = scan(truth, BRIGHTNESS["newborn T2w"])
    found = refine(unsure(truth), image, truth != BACKGROUND, MM)
    flipped = refine(unsure(truth)[::-1], image[::-1], truth[::-1] != BACKGROUND, MM)
    np.testing.assert_allclose(flipped[::-1], found, atol=2e-3)


def test_a_scan_that_shows_nothing_moves_borders_by_no_more_than_the_blur() -> None:
    """All tissues equally bright: what is deep in one stays."""
    truth = np.repeat(np.array([CSF, GM, WM], np.uint8), 16)[:, None, None] + np.zeros(
        (48, 48, 48), np.uint8
    )
    image = scan(truth, (0.0, 0.5, 0.5, 0.5), coil=0.0)
    after = labels_of(refine(unsure(truth, blur=1.0), image, truth != BACKGROUND, MM))
    borders = np.array([16, 32])
    deep = np.abs(np.arange(48) + 0.5 - borders[:, None]).min(axis=0) > 2
    np.testing.assert_array_equal(after[deep], truth[deep])


def test_probabilities_still_sum_to_1_and_background_stays() -> None:
    truth = brain()
    before = unsure(truth)
    rim = truth == CSF
    before[rim] = 0.7 * before[rim] + np.float32(0.3) * np.eye(4, dtype=np.float32)[BACKGROUND]
    kept = before.copy()
    after = refine(before, scan(truth, BRIGHTNESS["adult T1w"]), truth != BACKGROUND, MM)
    np.testing.assert_array_equal(before, kept)
    np.testing.assert_allclose(after.sum(axis=-1), 1, atol=1e-5)
    assert after.dtype == np.float32
    assert after.min() >= 0
    np.testing.assert_allclose(after[..., BACKGROUND], before[..., BACKGROUND], atol=1e-6)


def test_a_hole_in_the_tissue_is_filled_and_air_is_not() -> None:
    """As where the darkest fluid in the ventricles was called background."""
    truth = brain()
    before = unsure(truth)
    hole = np.zeros(truth.shape, bool)
    hole[23:25, 23:25, 23:25] = True
    before[hole] = (0.9, 0.05, 0.03, 0.02)
    after = labels_of(refine(before, scan(truth, BRIGHTNESS["adult T1w"]), truth > 0, MM))
    assert np.all(after[hole] == CSF)
    np.testing.assert_array_equal(after == BACKGROUND, truth == BACKGROUND)


def test_without_tissue_nothing_changes() -> None:
    nothing = np.zeros((6, 7, 8, 4), np.float32)
    nothing[..., BACKGROUND] = 1
    image = np.ones((6, 7, 8, 1), np.float32)
    found = refine(nothing, image, np.ones((6, 7, 8), bool), MM)
    np.testing.assert_array_equal(found, nothing)


def test_a_single_voxel_of_one_tissue_is_kept() -> None:
    probabilities = np.zeros((5, 5, 5, 4), np.float32)
    probabilities[..., BACKGROUND] = 1
    probabilities[2, 2, 2] = (0.1, 0.1, 0.2, 0.6)
    found = refine(probabilities, np.ones((5, 5, 5, 1), np.float32), np.ones((5, 5, 5), bool), MM)
    assert labels_of(found)[2, 2, 2] == WM


def test_two_modalities_are_used_together() -> None:
    """One tells fluid from tissue, the other gray from white matter."""
    truth = brain()
    fluid = scan(truth, (0.0, 2.0, 0.0, 0.0))
    matter = scan(truth, (0.0, 0.0, 0.0, 1.5))
    both = np.concatenate([fluid, matter], axis=-1)
    worst = {
        name: min(
            dice_per_tissue(
                labels_of(refine(unsure(truth), image, truth != BACKGROUND, MM)), truth
            ).values()
        )
        for name, image in {"fluid": fluid, "matter": matter, "both": both}.items()
    }
    assert worst["both"] > 0.95 > max(worst["fluid"], worst["matter"])


def test_millimetres_count_and_not_voxels() -> None:
    """The same brain in half the voxel size is refined alike."""
    coarse, fine = brain(32), brain(64)
    found = []
    for labels, size in ((coarse, 1.5), (fine, 0.75)):
        image = scan(labels, BRIGHTNESS["newborn T1w"], noise=0.05)
        probabilities = unsure(labels, blur=3 / size)
        refined = refine(probabilities, image, labels != BACKGROUND, (size, size, size))
        found.append(dice_per_tissue(labels_of(refined), labels))
    for tissue, value in found[0].items():
        assert value == pytest.approx(found[1][tissue], abs=0.03)
        assert value > 0.93


def test_surroundings_are_gaussian_and_what_is_smooth_comes_back() -> None:
    """Local means as `scipy.ndimage` finds them, also with voxels that are no cubes."""
    generator = np.random.default_rng(3)
    values = generator.normal(size=(40, 30, 20)).astype(np.float32)
    spacing, reach = (1.0, 1.5, 2.0), 10.0
    surroundings = Surroundings.of(values.shape, spacing, reach)
    ones = np.ones_like(values)

    def total(array: Float32[np.ndarray, "x y z"]) -> Any:
        return surroundings.sum_planes(surroundings.sum_plane(jnp.asarray(array)))

    between = surroundings.interpolate_planes(total(values) / total(ones))
    mean = np.asarray(surroundings.interpolate_plane(between))
    sigma = [reach / size for size in spacing]
    blurred = [
        ndimage.gaussian_filter(array, sigma, mode="constant", truncate=6)
        for array in (values, ones)
    ]
    np.testing.assert_allclose(mean, blurred[0] / blurred[1], atol=0.05 * np.ptp(mean))


def test_the_posteriors_are_those_of_expectation_maximisation_voxel_by_voxel() -> None:
    """Against its definition, in double precision and without any grid of nodes to hide behind."""
    truth = brain(20)
    image = scan(truth, BRIGHTNESS["adult T1w"])
    spacing = (1.0, 1.5, 2.0)
    found = refine(unsure(truth, blur=1.0), image, truth != BACKGROUND, spacing)
    box = tuple(slice(n.min(), n.max() + 1) for n in np.nonzero(truth))
    expected = by_definition(
        unsure(truth, blur=1.0)[box], image[box][..., 0], truth[box] != BACKGROUND, spacing
    )
    np.testing.assert_allclose(found[box][..., 1:], expected, atol=2e-4)


def by_definition(probabilities: Any, image: Any, inside: Any, spacing: Any) -> Any:
    """Posteriors of CSF, GM, WM, by arrays of all voxels against all nodes."""
    shape, image = inside.shape, image.astype(np.float64)
    weights, hats = nodes(shape, spacing, 30.0), nodes(shape, spacing, 10.0)
    around = [weights, hats, hats]
    posterior = np.moveaxis(probabilities[..., 1:].astype(np.float64), -1, 0) * inside
    posterior /= np.maximum(posterior.sum(axis=0), 1e-6)
    blurred = np.stack([blur(part, 1.0, spacing) for part in posterior])
    prior = 0.75 * np.log(blurred / np.maximum(blurred.sum(axis=0), 1e-6) + 0.01)
    mean, deviation = moments(posterior[2], image)
    brighter = 1 / (1 + np.exp(-4 * (image - mean) / max(deviation, 0.1)))
    parts = [
        [posterior[0]],
        [posterior[1]],
        [posterior[2] * (1 - brighter), posterior[2] * brighter],
    ]
    shrinkage = 50 / np.prod(spacing)
    for _ in range(10):
        logarithms = []
        for row, gaussians in enumerate(parts):
            to_nodes, to_voxels = around[row]
            alike = prior[row] + 2 * blur(np.sum(gaussians, axis=0), 0.8, spacing)
            seen = sum(to_nodes(part) for part in gaussians) + shrinkage
            for part in gaussians:
                mean, deviation = moments(part, image)
                own = part.sum() / np.sum(gaussians)
                amount = to_nodes(part) + shrinkage
                first = (to_nodes(part * image) + shrinkage * mean) / amount
                second = to_nodes(part * image**2) + shrinkage * (deviation**2 + mean**2)
                variance = to_voxels(np.maximum(second / amount - first**2, 0.01))
                share = np.maximum(to_voxels((amount - shrinkage * (1 - own)) / seen), 1e-3)
                apart = (image - to_voxels(first)) ** 2 / variance
                logarithms.append(alike + np.log(share) - 0.5 * (apart + np.log(variance)))
        likely = np.exp(logarithms - np.max(logarithms, axis=0)) * inside
        likely /= np.maximum(likely.sum(axis=0), 1e-30)
        parts = [[likely[0]], [likely[1]], [likely[2], likely[3]]]
    return np.stack([np.sum(gaussians, axis=0) for gaussians in parts], axis=-1)


def blur(values: Any, mm: float, spacing: Any) -> Any:
    return ndimage.gaussian_filter(values, [mm / size for size in spacing], mode="constant")


def moments(weights: Any, values: Any) -> tuple[float, float]:
    mean = (weights * values).sum() / weights.sum()
    return mean, np.sqrt((weights * (values - mean) ** 2).sum() / weights.sum())


def nodes(shape: Any, spacing: Any, reach: float) -> Any:
    """What sums around nodes half a reach apart, and what lies between them linearly."""
    voxels = [np.arange(length) * size for length, size in zip(shape, spacing, strict=True)]
    places = [np.linspace(0, v[-1], int(np.ceil(2 * v[-1] / reach)) + 1) for v in voxels]
    weights = [
        np.exp(-0.5 * ((n[:, None] - v) / reach) ** 2) for n, v in zip(places, voxels, strict=True)
    ]

    def to_voxels(values: Any) -> Any:
        grid = np.stack(np.meshgrid(*voxels, indexing="ij"), axis=-1)
        return interpn(places, values, grid)

    return lambda values: np.einsum("ix,jy,kz,xyz->ijk", *weights, values), to_voxels
