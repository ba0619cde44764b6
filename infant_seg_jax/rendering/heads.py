"""Add a random head around a brain whose label map ends at the brain.

Meninges, bone with marrow, muscle and fat surround the brain in layers of varying thickness. In
front of it and below it, a face and a neck are made of random patches of these and of air. They are
not anatomically correct, only as varied as real heads.
"""

import numpy as np
from jaxtyping import Bool, Float32, Float64, Integer, UInt8

from infant_seg_jax.rendering.anatomy import distance_to, is_brain, is_near
from infant_seg_jax.rendering.structures import Structure

MENINGES_MM = 0.5, 1.5
BONE_MM = 1.5, 5.0
SCALP_MM = 3.0, 8.0
"""Smallest and largest mean thickness of each layer."""

FACE_MM = 12.0, 40.0
"""How far the face and the neck extend in front of the brain and below it."""

VARIATION = 0.3
"""SD of the logarithm of a layer's thickness, which stays within two SDs."""

_LAYER_WAVE_MM, _FACE_WAVE_MM = 20.0, 7.0
_FACE = (
    *(Structure.MUSCLE, Structure.MUSCLE, Structure.FAT, Structure.BONE, Structure.MARROW),
    *(Structure.VESSELS, Structure.OUTSIDE, Structure.EYES),
)


def grow_head(
    structures: UInt8[np.ndarray, "x y z"], spacing: float, random: np.random.Generator
) -> UInt8[np.ndarray, "x y z"]:
    """Add a head around a brain, on a RAS+ grid with voxels of `spacing` mm."""
    brain, size = is_brain(structures), (spacing, spacing, spacing)
    distance = distance_to(brain, size)

    def thickness(ends: tuple[float, float]) -> Float32[np.ndarray, "x y z"]:
        wave = smooth_noise(brain.shape, _LAYER_WAVE_MM / spacing, random)
        return np.float32(random.uniform(*ends)) * np.exp(VARIATION * np.clip(wave, -2, 2))

    meninges = thickness(MENINGES_MM)
    bone = meninges + thickness(BONE_MM)
    scalp = bone + thickness(SCALP_MM)
    depth = (distance - meninges) / (bone - meninges)  # of the bone
    wave = smooth_noise(brain.shape, _LAYER_WAVE_MM / spacing, random)
    head = np.full(brain.shape, Structure.OUTSIDE, np.uint8)
    face = _face(brain, distance, spacing, random)
    wave_face = _FACE_WAVE_MM / spacing
    parts = np.stack([smooth_noise(brain.shape, wave_face, random)[face] for _ in _FACE])
    head[face] = np.array(_FACE, np.uint8)[parts.argmax(axis=0)]
    head[distance <= scalp] = Structure.FAT
    head[(distance <= bone + 0.6 * (scalp - bone)) & (wave > 0)] = Structure.MUSCLE
    head[distance <= bone] = Structure.BONE
    head[(distance <= bone) & (abs(depth - 0.5) < 0.2 + 0.1 * wave)] = Structure.MARROW
    head[distance <= meninges] = Structure.VESSELS
    # Skin covers the face.
    beyond = face & (distance > scalp)
    head[is_near(head == Structure.OUTSIDE, 2.0, beyond, size)] = Structure.FAT
    return np.where(brain, structures, head)


def _face(
    brain: Bool[np.ndarray, "x y z"],
    distance: np.ndarray,
    spacing: float,
    random: np.random.Generator,
) -> Bool[np.ndarray, "x y z"]:
    """The region near the brain and below a plane that rises towards the front."""
    low, high = (np.array([f(axis) for axis in np.nonzero(brain)]) for f in (np.min, np.max))
    _, y, z = np.meshgrid(*(np.arange(n) for n in brain.shape), indexing="ij", sparse=True)
    ahead = (y - low[1]) / (high[1] - low[1] + 1)
    up = (z - low[2]) / (high[2] - low[2] + 1)
    wave = smooth_noise(brain.shape, 2 * _LAYER_WAVE_MM / spacing, random)
    reach = random.uniform(*FACE_MM) * np.exp(0.5 * VARIATION * wave)
    return (up < 0.05 + random.uniform(0.2, 0.4) * ahead) & (distance < reach)


def smooth_noise(
    shape: tuple[int, ...], wave: float, random: np.random.Generator
) -> Float32[np.ndarray, "x y z"]:
    """Smooth noise with mean 0, SD of about 1 and a wavelength of about `wave` voxels."""
    coarse = [int(np.ceil(n / wave)) + 2 for n in shape]
    noise = random.standard_normal(coarse, np.float32)
    x, y, z = (_between(n, c) for n, c in zip(shape, coarse, strict=True))
    noise = _mix(noise.astype(np.float64), x, 0)
    # The padding fixes the memory layout, on which the last bit of NumPy's sums depends.
    fine = np.empty((shape[0], shape[1] + 1, shape[2] + 1), np.float32)[:, : shape[1], : shape[2]]
    for plane, coarse_plane in zip(fine, noise, strict=True):
        plane[:] = _mix(_mix(coarse_plane, y, 0), z, 1)
    return fine / max(float(fine.std()), 1e-6)


def _between(n: int, coarse: int) -> tuple[Integer[np.ndarray, "{n}"], Float64[np.ndarray, "{n}"]]:
    """For each of `n` voxels, the point before it on a coarser axis, and its offset from there."""
    at = (coarse - 1) / (round(coarse * n / (coarse - 1)) - 1) * np.arange(n)
    before = np.floor(at).astype(int)
    return before, at - before


def _mix(
    points: Float64[np.ndarray, "..."],
    between: tuple[Integer[np.ndarray, " n"], Float64[np.ndarray, " n"]],
    axis: int,
) -> Float64[np.ndarray, "..."]:
    """Interpolate linearly along an axis. A matrix product would start more threads."""
    before, share = between
    share = share.reshape([-1 if other == axis else 1 for other in range(points.ndim)])
    low, high = np.take(points, before, axis), np.take(points, before + 1, axis)
    low *= 1 - share
    high *= share
    low += high
    return low
