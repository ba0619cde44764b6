"""Refinement against drawn scans whose tissues are known, and by its symmetries."""

import tracemalloc

import numpy as np
import pytest
from jaxtyping import Bool, Float32, Float64, UInt8
from scipy import ndimage

from infant_seg_jax.data.class_sets import DRAWEM9_CLASSES
from infant_seg_jax.data.cropping import crop_box
from infant_seg_jax.data.labels import (
    BACKGROUND,
    CSF,
    GM,
    IGNORE,
    TISSUE_CLASSES,
    WM,
    ClassSet,
)
from infant_seg_jax.metrics.overlap import dice_per_tissue
from infant_seg_jax.prediction import refinement
from infant_seg_jax.prediction.refinement import ROUNDS, Surroundings, refine, refine_classes
from tests.input_errors import input_error

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


@pytest.mark.parametrize("brightness", BRIGHTNESS.values(), ids=BRIGHTNESS)
def test_a_ventricle_that_was_taken_for_gray_matter_is_found(brightness: tuple[float, ...]) -> None:
    """It is wider than the reach of a tissue's brightness, so that this alone would fit it."""
    truth = brain(64)
    x, y, z = np.indices(truth.shape) - 31.5
    ventricle = np.sqrt(x**2 + y**2 + z**2) < 13
    truth[ventricle] = CSF
    wrong = np.where(ventricle, GM, truth).astype(np.uint8)
    after = labels_of(refine(unsure(wrong), scan(truth, brightness), truth != BACKGROUND, MM))
    assert np.mean(after[ventricle] == CSF) > 0.9
    assert min(dice_per_tissue(after, truth).values()) > 0.9


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


def test_millimeters_count_and_not_voxels() -> None:
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


def test_slabs_of_planes_find_what_all_voxels_at_once_do() -> None:
    """Against the same mathematics for all voxels at once, in double precision."""
    spacing = (2.0, 2.5, 1.5)
    truth = brain(18)[crop_box(brain(18) != BACKGROUND, 0.0, spacing)]
    images = [scan(truth, BRIGHTNESS[name]) for name in ("adult T1w", "newborn T2w")]
    image, inside = np.concatenate(images, axis=-1), truth != BACKGROUND
    probabilities = unsure(truth, 1.0)
    found = refine(probabilities, image, inside, spacing)
    expected = _all_at_once(probabilities, image, inside, spacing)
    np.testing.assert_allclose(found[inside][:, 1:], expected.T, atol=2e-5)


def _all_at_once(
    probabilities: Float32[np.ndarray, "x y z k"],
    image: Float32[np.ndarray, "x y z c"],
    inside: Bool[np.ndarray, "x y z"],
    spacing: tuple[float, float, float],
) -> Float64[np.ndarray, "t n"]:
    """The tissues' posteriors after as many rounds, at the voxels inside."""
    tissue_of = [0, 1, 2, 2]  # white matter's darker and its brighter part
    at = np.argwhere(inside) * spacing
    values = image[inside].astype(np.float64)
    volume = float(np.prod(spacing))

    def blur(tissue: np.ndarray, mm: float) -> np.ndarray:
        whole = np.zeros(inside.shape)
        whole[inside] = tissue
        return ndimage.gaussian_filter(whole, [mm / s for s in spacing], mode="constant")[inside]

    def between_nodes(reach: float):
        """From voxels to sums around nodes, and from nodes to voxels."""
        weights, shares = np.ones((1, len(at))), np.ones((1, len(at)))
        for axis, (count, size) in enumerate(zip(inside.shape, spacing, strict=True)):
            extent = (count - 1) * size
            nodes = np.linspace(0, extent, int(np.ceil(2 * extent / reach)) + 1)[:, None]
            near = np.exp(-0.5 * ((nodes - at[:, axis]) / reach) ** 2)
            hats = np.maximum(1 - np.abs(nodes - at[:, axis]) / max(nodes[1, 0], 1e-9), 0)
            weights = (weights[:, None] * near).reshape(-1, len(at))
            shares = (shares[:, None] * hats).reshape(-1, len(at))
        return weights, shares

    around = [between_nodes(30.0), *2 * [between_nodes(10.0)]]
    shares = probabilities[inside].astype(np.float64)[:, 1:].T
    prior = np.stack([blur(share, 1.0) for share in shares])
    powers = np.array([0.75, 0.5, 0.5])[:, None]
    prior = powers * np.log(prior / prior.sum(axis=0) + 0.01)
    likelihoods = np.zeros_like(prior)
    for likelihood, share in zip(likelihoods, shares, strict=True):
        for channel in values.T:
            low, middle, high = np.percentile(channel[share > 0.5], (16, 50, 84))
            likelihood -= ((channel - middle) / max((high - low) / 2, 0.1)) ** 2 / 2
    fluid, gray, white = np.maximum(likelihoods, -20)
    evidence = 0.6 * (fluid - np.maximum(gray, white))
    wide = blur((evidence > 0).astype(float), 2.5) >= 0.5
    prior[0] += np.where((evidence > 0) & ~wide, 0, evidence)
    tissues = shares / shares.sum(axis=0)
    matter = values[:, 0]
    mean = np.average(matter, weights=tissues[2])
    deviation = np.sqrt(np.average((matter - mean) ** 2, weights=tissues[2]))
    brighter = 1 / (1 + np.exp(-4 * (matter - mean) / deviation))
    parts = np.stack([*tissues[:2], tissues[2] * (1 - brighter), tissues[2] * brighter])
    for _ in range(ROUNDS):
        tissues = np.stack([parts[0], parts[1], parts[2] + parts[3]])
        logs = np.empty_like(parts)
        for row, tissue in enumerate(tissue_of):
            weights, back = around[tissue]
            few, own = 50.0 / volume, parts[row]
            total = tissues[tissue].sum()
            share = (weights @ own + few * own.sum() / total) / (weights @ tissues[tissue] + few)
            logs[row] = np.log(np.maximum(share @ back, 1e-3)) + prior[tissue]
            logs[row] += 2.0 * blur(tissues[tissue], 0.8)
            for channel in values.T:
                mean = np.average(channel, weights=own)
                variance = np.average((channel - mean) ** 2, weights=own)
                off, seen = channel - mean, weights @ own + few
                first = weights @ (own * off) / seen
                second = (weights @ (own * off**2) + few * variance) / seen
                local = np.maximum(second - first**2, 0.01) @ back
                logs[row] -= 0.5 * ((off - first @ back) ** 2 / local + np.log(local))
        parts = np.exp(logs - logs.max(axis=0))
        parts /= parts.sum(axis=0)
    return np.stack([parts[0], parts[1], parts[2] + parts[3]])


def test_surroundings_are_gaussian_and_what_is_smooth_comes_back() -> None:
    """Local means as `scipy.ndimage` finds them, also with voxels that are no cubes."""
    generator = np.random.default_rng(3)
    values = generator.normal(size=(40, 30, 20)).astype(np.float32)
    spacing, reach = (1.0, 1.5, 2.0), 10.0
    surroundings = Surroundings.of(values.shape, spacing, reach)
    ones = np.ones_like(values)
    sums = [surroundings.sum(array) for array in (values, ones)]
    assert sums[0][-1, -1, -1] == pytest.approx(values.sum(), abs=1e-2)
    mean = surroundings.interpolate((sums[0] / sums[1])[:-1, :-1, :-1])
    sigma = [reach / size for size in spacing]
    blurred = [
        ndimage.gaussian_filter(array, sigma, mode="constant", truncate=6)
        for array in (values, ones)
    ]
    np.testing.assert_allclose(mean, blurred[0] / blurred[1], atol=0.05 * np.ptp(mean))


def split(probabilities: Float32[np.ndarray, "x y z 4"]) -> Float32[np.ndarray, "x y z 9"]:
    """The tissues' probabilities shared out among DrawEM's classes, in shares that vary."""
    shares = np.random.default_rng(2).dirichlet(np.ones(9), probabilities.shape[:3])
    tissues = np.array(DRAWEM9_CLASSES.tissues)
    found = np.zeros(shares.shape, np.float32)
    for tissue in TISSUE_CLASSES.tissues:
        own = shares[..., tissues == tissue]
        own = own / own.sum(axis=-1, keepdims=True)
        found[..., tissues == tissue] = own * probabilities[..., tissue, None]
    return found


def test_finer_classes_share_what_their_tissue_comes_to_as_they_did_before() -> None:
    truth = brain()
    image, mask = scan(truth, BRIGHTNESS["adult T1w"]), truth != BACKGROUND
    tissues = unsure(truth)
    finer = split(tissues)
    found = refine_classes(finer, image, mask, MM, DRAWEM9_CLASSES)
    expected = refine(tissues, image, mask, MM)
    of = np.array(DRAWEM9_CLASSES.tissues)
    for tissue in TISSUE_CLASSES.tissues:
        summed = found[..., of == tissue].sum(axis=-1)
        np.testing.assert_allclose(summed, expected[..., tissue], atol=2e-5)
        before = finer[..., of == tissue]
        np.testing.assert_allclose(
            found[..., of == tissue] * before.sum(axis=-1, keepdims=True),
            before * summed[..., None],
            atol=2e-5,
        )
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)


def test_what_is_of_no_single_tissue_stays_as_it_is() -> None:
    """A cerebellum at the bottom, of which the network is sure."""
    truth = brain()
    image, mask = scan(truth, BRIGHTNESS["adult T1w"]), truth != BACKGROUND
    finer = split(unsure(truth))
    cerebellum = mask & (np.indices(truth.shape)[2] < 14)
    finer[cerebellum] = 0
    finer[cerebellum, DRAWEM9_CLASSES.foreground["CBM"]] = 1
    found = refine_classes(finer, image, mask, MM, DRAWEM9_CLASSES)
    np.testing.assert_array_equal(found[cerebellum], finer[cerebellum])
    assert np.abs(found - finer)[mask & ~cerebellum].max() > 0.1
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)


def test_classes_are_refined_where_the_network_rules_their_tissue_out() -> None:
    """A probability of exactly 0 has no shares: the classes have even ones."""
    truth = brain()
    image, mask = scan(truth, BRIGHTNESS["adult T1w"], noise=0.05), truth != BACKGROUND
    certain = np.zeros((*truth.shape, 9), np.float32)
    labels = np.where(truth == GM, DRAWEM9_CLASSES.foreground["CGM"], truth)
    wrong = (truth == GM) & (np.indices(truth.shape)[0] == 24)
    labels[wrong] = WM
    np.put_along_axis(certain, labels[..., None].astype(int), np.float32(1), axis=-1)
    found = refine_classes(certain, image, mask, MM, DRAWEM9_CLASSES)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)
    gray = found[..., np.array(DRAWEM9_CLASSES.tissues) == GM].sum(axis=-1)
    assert gray[wrong].max() > 0.5


def test_tissues_themselves_are_refined_as_ever_and_sets_without_one_are_not() -> None:
    truth = brain(24)
    image, mask = scan(truth, BRIGHTNESS["adult T1w"]), truth != BACKGROUND
    tissues = unsure(truth)
    found = refine_classes(tissues, image, mask, MM, TISSUE_CLASSES)
    np.testing.assert_array_equal(found, refine(tissues, image, mask, MM))
    few = ClassSet("few", tuple(c for c in DRAWEM9_CLASSES.classes if c.tissue in (0, GM, IGNORE)))
    with input_error("CSF or WM", "--norefine"):
        refine_classes(split(tissues)[..., : len(few)], image, mask, MM, few)


def test_refining_in_place_says_the_same_and_takes_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside what it is given, three maps of the tissues, one of the scan, and slabs of planes."""
    monkeypatch.setattr(refinement, "count_cores", lambda: 2)
    random = np.random.default_rng(0)
    probabilities = random.random((64, 64, 64, 4), np.float32) * np.array(
        [0.2, 1, 1, 1], np.float32
    )
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    image = random.normal(size=(64, 64, 64, 1)).astype(np.float32)
    mask, spacing = np.ones((64, 64, 64), bool), (1.0, 1.0, 1.0)
    before = probabilities.copy()
    expected = refine(probabilities, image, mask, spacing)
    np.testing.assert_array_equal(probabilities, before)
    tracemalloc.start()
    try:
        found = refine(probabilities, image, mask, spacing, in_place=True)
        taken = tracemalloc.get_traced_memory()[1] / mask.size
    finally:
        tracemalloc.stop()
    assert found is probabilities
    np.testing.assert_array_equal(found, expected)
    assert taken < 4 * (3 * 3 + 1) + 16
