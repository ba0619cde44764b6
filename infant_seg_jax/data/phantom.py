"""Brain phantoms rendered on the spot: no data needed, another individual for each seed.

The anatomy is a handful of smooth functions of place (depth beneath the hull, distance to the
nearest sulcus, ...), evaluated on the image's grid, interpolated to a grid twice as fine and
compared there; averaging that grid down gives true partial volume. Sulci are the zero level set of
a band-passed random field, which winds and branches as they do, and cortex is what lies within its
thickness of the pial surface, so the ribbon keeps its thickness along every fold.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from scipy import ndimage

from infant_seg_jax.data.labels import BACKGROUND, CSF, GM, WM
from infant_seg_jax.files import atomic_folder

Field = Float32[np.ndarray, "x y z"]

_DEEP_GRAY = 4
"""Beside the classes, while drawing: gray matter that is not cortex."""


@dataclass(frozen=True)
class Contrast:
    """How tissues look: intensities in arbitrary units where adult white matter is 1."""

    csf: float
    gm: float
    deep_gray: float
    wm: float
    myelination: float
    """White matter is brighter by this much in the depth and darker beneath the cortex."""
    variation: float
    """Standard deviation of each tissue's mean from one individual to the next."""
    texture: float
    """Standard deviation within a tissue, over a voxel or two."""
    noise: float
    """Standard deviation of the Gaussian noise in both channels of the magnitude (Rician) image."""
    bias: float
    """Standard deviation of the logarithm of the smooth multiplicative field."""


ADULT_T1 = Contrast(
    csf=0.28,
    gm=0.72,
    deep_gray=0.80,
    wm=1.0,
    myelination=0.03,
    variation=0.02,
    texture=0.03,
    noise=0.055,
    bias=0.08,
)
INFANT_T1 = Contrast(
    csf=0.32,
    gm=0.70,
    deep_gray=0.73,
    wm=0.71,
    myelination=0.07,
    variation=0.01,
    texture=0.03,
    noise=0.04,
    bias=0.08,
)
"""About six months: white matter passes from darker than gray to brighter as it myelinates."""


@dataclass(frozen=True)
class Anatomy:
    """What a cohort's brains have in common; lengths in mm, except where they are factors."""

    size: float
    """Length of the brain, as a factor of the adult's."""
    fold_wavelength: float
    """Twice the distance between neighboring sulci, before scaling by `size`."""
    sulcal_depth: float
    thickness: float
    """Of the cortex."""
    csf_gap: float
    """Between the crowns of the gyri and the hull."""
    ventricles: float
    """Radius of the lateral ventricles, before scaling by `size`."""


ADULT = Anatomy(
    size=1.0, fold_wavelength=24.5, sulcal_depth=14.5, thickness=3.0, csf_gap=1.0, ventricles=5.5
)
INFANT = Anatomy(
    size=0.84, fold_wavelength=24.5, sulcal_depth=12.0, thickness=2.7, csf_gap=1.3, ventricles=6.2
)

_SEMI_AXES = np.array([63.0, 82.0, 62.0])
"""Of an average adult brain's hull, mm along x, y, z."""
_LARGEST = 1.14
"""How far large individuals reach, as a factor of `_SEMI_AXES`."""
_SPACING = 2.0


@dataclass(frozen=True)
class Phantom:
    """A rendered scan: `image` is 0 outside the brain; `affine` maps voxels to RAS+ mm."""

    image: Float32[np.ndarray, "x y z"]
    label_map: UInt8[np.ndarray, "x y z"]
    affine: Float[np.ndarray, "4 4"]


def render_phantom(
    seed: int,
    contrast: Contrast = ADULT_T1,
    anatomy: Anatomy = ADULT,
    shape: tuple[int, int, int] = (80, 96, 80),
    spacing: float | None = None,
) -> Phantom:
    """Render the individual that `seed` stands for.

    Args:
        seed: the individual; its shape is the same under every contrast, shape and spacing.
        contrast: how its tissues look.
        anatomy: the cohort that it comes from.
        shape: voxels along x (to the right), y (anterior) and z (superior).
        spacing: the isotropic voxel size in mm; by default 2 mm, or what it takes for the
            largest brain of this anatomy to fit.

    Returns:
        Image, label map in the classes of `infant_seg_jax.data.labels` and affine.
    """
    if spacing is None:
        extent = 2 * _LARGEST * anatomy.size * _SEMI_AXES
        spacing = max(_SPACING, *map(float, extent / (np.array(shape) - 2)))
    shape_seed, image_seed = np.random.SeedSequence(seed).spawn(2)
    axes = [((np.arange(n) - (n - 1) / 2) * spacing).astype(np.float32) for n in shape]
    fractions, depth = _draw_anatomy(np.random.default_rng(shape_seed), anatomy, axes, spacing)
    tissues = np.stack([fractions[CSF], fractions[GM] + fractions[_DEEP_GRAY], fractions[WM]])
    brain = tissues.sum(axis=0) > 0.5
    label_map = np.where(brain, tissues.argmax(axis=0) + 1, BACKGROUND).astype(np.uint8)
    image = _draw_image(np.random.default_rng(image_seed), contrast, axes, fractions, depth)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [axis[0] for axis in axes]
    return Phantom(np.where(brain, image, np.float32(0)), label_map, affine)


def write_cohort(
    folder: Path,
    seeds: Iterable[int],
    contrast: Contrast = ADULT_T1,
    anatomy: Anatomy = ADULT,
    prefix: str = "",
    shape: tuple[int, int, int] = (80, 96, 80),
    spacing: float | None = None,
) -> list[Path]:
    """Render one individual per seed and write `sub-PREFIXSEED/sub-PREFIXSEED_T1w.nii.gz` and
    `..._dseg.nii.gz` beneath `folder`, which appears only when it is complete.

    Returns:
        The subjects' folders.

    Raises:
        InputError: `folder` exists already and is not empty, or cannot be written.
    """
    names = []
    with atomic_folder(folder) as aside:
        for seed in seeds:
            phantom = render_phantom(seed, contrast, anatomy, shape, spacing)
            name = f"sub-{prefix}{seed:03d}"
            (aside / name).mkdir()
            for suffix, array in (("T1w", phantom.image), ("dseg", phantom.label_map)):
                image = nib.Nifti1Image(array, phantom.affine)
                image.header.set_xyzt_units("mm")
                nib.save(image, aside / name / f"{name}_{suffix}.nii.gz")
            names.append(name)
    return [Path(folder) / name for name in names]


def _draw_anatomy(
    rng: np.random.Generator, anatomy: Anatomy, axes: list[np.ndarray], spacing: float
) -> tuple[dict[int, Field], Field]:
    """The share of each structure in each voxel, and the depth beneath the surface in mm."""
    size = anatomy.size * float(np.clip(rng.normal(1, 0.025), 0.95, 1.05))
    x, y, z = head = _head_coordinates(rng, axes, size)
    across, midline = np.abs(x), size * x

    # The hull: a blunt egg, narrower in front, flatter below.
    width, height = 63 * (1 - 0.1 * y / 82), np.where(z < 0, np.float32(52), np.float32(62))
    radius = sum(np.abs(part) ** 2.2 for part in (x / width, y / 82, z / height)) ** (1 / 2.2)
    steepness = np.linalg.norm(_gradient(radius, spacing), axis=0)
    hull = (1 - radius) / np.maximum(steepness, np.float32(1e-3))
    # The interhemispheric fissure ends at this core: corpus callosum, thalami and brain stem.
    core = size * 36 * (1 - np.hypot((y + 4) / 36, (z + 16) / 40))
    depth = _smooth_minimum(hull, np.abs(midline), 12.0)

    sulcus = _distance_to_sulci(rng, anatomy.fold_wavelength, size, head, depth, spacing)
    reach = anatomy.sulcal_depth * (1 + 0.25 * _smooth_field(rng, axes, 45.0))
    thickness = anatomy.thickness * (1 + 0.1 * _smooth_field(rng, axes, 40.0))
    # No cortex where the corpus callosum meets the fissure.
    thickness *= np.clip(np.maximum(size * across - 1.5, -core) / 3, 0, 1)
    # The lateral (Sylvian) fissure: part of a tilted, wavy plane.
    tilt = z + 10 + 0.5 * y + 0.3 * (across - 50) + 4 * _smooth_field(rng, axes, 50.0)
    sylvian = size * tilt / 1.16  # the norm of (0.3, 0.5, 1): a distance in mm
    sylvian_end = size * np.maximum(np.maximum(43 - across, np.abs(y - 2) - 30), 0)
    ventricles = size * _ventricles(x, y, z, anatomy.ventricles)
    deep_gray = size * _deep_gray(across, y, z)

    # From here on the fine grid: creases and thin sheets need it.
    hull, core, midline = _refine(hull), _refine(core), np.abs(_refine(midline))
    ventricles, deep_gray = _refine(ventricles), _refine(deep_gray)
    fissure = np.hypot(np.maximum(midline - 0.8, 0), np.maximum(core, 0))
    surface = np.minimum(hull - anatomy.csf_gap, fissure)
    beneath = np.maximum(surface - _refine(reach), 0)
    # Folds keep clear of the structures in the depth.
    clear = np.maximum(np.maximum(ventricles, deep_gray) + 7, np.minimum(5 - midline, core + 3))
    sulci = np.hypot(_refine(sulcus), beneath) - 0.6 + np.maximum(clear, 0)
    lateral = np.hypot(_refine(sylvian), _refine(sylvian_end)) - 1.0
    pial = _smooth_minimum(surface, _smooth_minimum(sulci, lateral, 1.5), 2.0)
    ribbon = _refine(thickness)

    structures = np.where(pial > ribbon, np.uint8(WM), np.uint8(GM))
    structures[pial < 0] = CSF
    inside = pial > ribbon + 1.5 * spacing
    structures[inside & (deep_gray > 0)] = _DEEP_GRAY
    structures[inside & (ventricles > 0)] = CSF
    structures[hull < 0] = BACKGROUND
    fractions = {part: _average(structures == part) for part in (CSF, GM, WM, _DEEP_GRAY)}
    return fractions, depth


def _head_coordinates(
    rng: np.random.Generator, axes: list[np.ndarray], size: float
) -> tuple[Field, Field, Field]:
    """Each voxel's place in an average adult head, mm, for an individual of another shape."""
    proportions = size * np.clip(rng.normal(1, 0.02, 3), 0.96, 1.04)
    a, b, c = rng.normal(0, np.deg2rad(3), 3)
    turn = np.array([[1, -c, b], [c, 1, -a], [-b, a, 1]], np.float32)
    grid = np.meshgrid(*axes, indexing="ij", sparse=True)
    coordinates = []
    for row, proportion in zip(turn, proportions.astype(np.float32), strict=True):
        bend = 2 * _smooth_field(rng, axes, 80.0)
        turned = row[0] * grid[0] + row[1] * grid[1] + row[2] * grid[2]
        coordinates.append((turned + bend) / proportion)
    x, y, z = coordinates
    return x, y, z


def _distance_to_sulci(
    rng: np.random.Generator,
    wavelength: float,
    size: float,
    head: tuple[Field, Field, Field],
    depth: Field,
    spacing: float,
) -> Field:
    """Signed distance in mm to the middle of the nearest sulcus, were sulci endlessly deep.

    Sulci are where the field is zero. It is read not at the voxel but near the surface above, so
    that they run inwards from there; and elsewhere on the right than on the left.
    """
    inward = _gradient(depth, spacing)
    x, y, z = (q - 0.85 / size * depth * part for q, part in zip(head, inward, strict=True))
    y = y + np.where(x > 0, np.float32(96), np.float32(0))
    field = _sample_band(rng, wavelength, x, y, z)
    slope = _gradient(field, spacing)
    slope -= inward * np.sum(inward * slope, axis=0)  # no sulcus runs along the surface
    # For a plane wave this is the distance to its zero, exactly. In the depth waves are a fifth
    # shorter, the surface being convex.
    wavenumber = 1.2 * 2 * np.pi / (wavelength * size)
    return np.arctan2(wavenumber * field, np.linalg.norm(slope, axis=0)) / wavenumber


def _ventricles(x: Field, y: Field, z: Field, radius: float) -> Field:
    """Depth in mm inside the ventricles: a C-shaped pair, and the third ventricle's slit.

    The left one is the larger, as in most people, so that a mirrored brain can be told.
    """
    forward, up = y + 6, z + 8
    # From the frontal horn (0.35 rad) over the body and the atrium to the temporal horn (3.9 rad).
    angle = np.arctan2(up, forward)
    angle += np.where(angle < -np.pi / 2, np.float32(2 * np.pi), np.float32(0))
    beyond = 24 * np.maximum(np.maximum(0.35 - angle, angle - 3.9), 0)
    aside = np.abs(x) - 8 - 5 * np.clip(angle - 1.6, 0, 2.2)
    wide = radius * np.where(x < 0, np.float32(1.12), np.float32(0.88))
    wide *= 1 + 0.25 * np.cos(2 * (angle - 0.7))
    tubes = wide - np.sqrt((np.hypot(forward / 1.25, up) - 20) ** 2 + aside**2 + beyond**2)
    third = 1.8 - np.hypot(x, np.maximum(np.hypot(y + 4, z + 6) - 9, 0))
    return np.maximum(tubes, third)


def _deep_gray(across: Field, y: Field, z: Field) -> Field:
    """Depth in mm inside thalamus, caudate head and lentiform nucleus, drawn as ellipsoids."""
    nuclei = (
        ((11, -12, -2), (8, 14, 9)),
        ((13, 18, 2), (5, 11, 9)),
        ((26, 4, -6), (6.5, 17, 10)),
    )
    depths = []
    for center, (a, b, c) in nuclei:
        parts = ((across - center[0]) / a, (y - center[1]) / b, (z - center[2]) / c)
        depths.append(min(a, b, c) * (1 - np.linalg.norm(np.stack(parts), axis=0)))
    return np.maximum.reduce(depths)


def _draw_image(
    rng: np.random.Generator,
    contrast: Contrast,
    axes: list[np.ndarray],
    fractions: dict[int, Field],
    depth: Field,
) -> Field:
    """The scan before it is stripped; outside the hull there is CSF, as around a real brain."""
    means = (contrast.csf, contrast.gm, contrast.deep_gray, contrast.wm)
    csf, gm, deep_gray, wm = rng.normal(means, contrast.variation).astype(np.float32)
    ripeness = np.clip(depth / 10 - 1.6 + 0.5 * _smooth_field(rng, axes, 60.0), -1, 1)
    image = (
        csf
        + (gm - csf) * fractions[GM]
        + (deep_gray - csf) * fractions[_DEEP_GRAY]
        + (wm - csf + contrast.myelination * ripeness) * fractions[WM]
    )
    texture = ndimage.gaussian_filter(rng.standard_normal(depth.shape, np.float32), 0.8)
    image += contrast.texture / texture.std() * texture
    image *= np.exp(contrast.bias * _smooth_field(rng, axes, 90.0))
    real, imaginary = contrast.noise * rng.standard_normal((2, *depth.shape), np.float32)
    return np.hypot(image + real, imaginary)


def _smooth_field(rng: np.random.Generator, axes: list[np.ndarray], wavelength: float) -> Field:
    """A random field of mean 0 and variance about 1 without waves shorter than `wavelength` mm.

    A cosine series over a cube of 240 mm, so that the field does not depend on the grid.
    """
    orders = np.arange(int(2 * 240 / wavelength) + 1)
    i, j, k = np.ix_(orders, orders, orders)
    squares = i**2 + j**2 + k**2
    series = rng.standard_normal(squares.shape) * (squares <= orders[-1] ** 2) * (squares > 0)
    series *= np.sqrt(8 / np.count_nonzero(series))
    for axis in axes:
        basis = np.cos(np.pi * orders * (axis[:, None] / 240 + 0.5))
        series = np.tensordot(series, basis, axes=(0, 1))
    return series.astype(np.float32)


def _sample_band(
    rng: np.random.Generator, wavelength: float, x: Field, y: Field, z: Field
) -> Field:
    """A random field of waves of about `wavelength` mm, periodic in 192 mm, at the given points."""
    count, step = 96, 2.0
    full, half = np.fft.fftfreq(count, step), np.fft.rfftfreq(count, step)
    frequency = np.sqrt(sum(np.square(part) for part in np.ix_(full, full, half)))
    band = np.exp(-0.5 * ((frequency * wavelength - 1) / 0.1) ** 2)
    noise = np.fft.rfftn(rng.standard_normal((count, count, count), np.float32))
    field = np.fft.irfftn(noise * band.astype(np.float32)).astype(np.float32)
    points = np.stack([x, y, z]) / np.float32(step)
    return ndimage.map_coordinates(field / field.std(), points, order=1, mode="grid-wrap")


def _gradient(field: Field, spacing: float) -> Float32[np.ndarray, "3 x y z"]:
    """Per mm; the flatter of the two one-sided differences, which keeps clear of jumps."""
    parts = []
    for axis in range(3):
        step = np.moveaxis(np.diff(field, axis=axis), axis, 0) / np.float32(spacing)
        before, after = np.concatenate([step[:1], step]), np.concatenate([step, step[-1:]])
        flatter = np.where(np.abs(before) < np.abs(after), before, after)
        parts.append(np.moveaxis(flatter, 0, axis))
    return np.stack(parts)


def _smooth_minimum(first: Field, second: Field, rounding: float) -> Field:
    """The minimum with its crease rounded over `rounding` mm; never above the minimum."""
    blend = np.maximum(rounding - np.abs(first - second), 0)
    return np.minimum(first, second) - blend * blend / (4 * rounding)


def _refine(field: Field) -> Float32[np.ndarray, "2*x 2*y 2*z"]:
    """Linear interpolation to the centers of voxels of half the size."""
    for axis in (2, 1, 0):
        shape = list(field.shape)
        shape[axis] *= 2
        fine = np.empty(shape, field.dtype)
        source, target = np.moveaxis(field, axis, 0), np.moveaxis(fine, axis, 0)
        near, far = 0.75 * source, 0.25 * source
        target[0], target[-1] = source[0], source[-1]
        np.add(near[1:], far[:-1], out=target[2::2])
        np.add(near[:-1], far[1:], out=target[1:-1:2])
        field = fine
    return field


def _average(fine: Bool[np.ndarray, "x y z"]) -> Float32[np.ndarray, "x/2 y/2 z/2"]:
    """The share of each voxel's eight parts."""
    count = fine.astype(np.uint8)
    count = count[0::2] + count[1::2]
    count = count[:, 0::2] + count[:, 1::2]
    count = count[..., 0::2] + count[..., 1::2]
    return count / np.float32(8)
