"""Render label maps to scans on disk."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import numpy as np
from jax import Array
from jaxtyping import Float32, Key, UInt8
from ml_collections import FrozenConfigDict

from infant_seg_jax.augmentation import spatial
from infant_seg_jax.config import Config, default_config
from infant_seg_jax.data.formats import stem
from infant_seg_jax.data.labels import LabelSchema
from infant_seg_jax.data.volumes import spacing_of, write_label_map, write_volume
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import atomic_folder, legible
from infant_seg_jax.progress import progress
from infant_seg_jax.rendering import image
from infant_seg_jax.rendering.anatomy import Anatomy, read_anatomy
from infant_seg_jax.rendering.contrast import Prior
from infant_seg_jax.rendering.structures import Structure, to_classes

BRIGHTNESS = 1000.0
"""The voxel value in a file for a brightness of 1."""


@dataclass(frozen=True, eq=False)
class Rendered:
    """One rendered scan with its classes, on the anatomy's grid; 0 outside the head."""

    image: Float32[np.ndarray, "x y z"]
    label_map: UInt8[np.ndarray, "x y z"]


def render(
    anatomy: Anatomy,
    prior: Prior,
    quality: image.Quality,
    seed: int,
    deformation: Config | None = None,
) -> Rendered:
    """Render one scan of an anatomy.

    Args:
        anatomy: the anatomy.
        prior: the possible contrasts.
        quality: the possible quality.
        seed: determines the scan, together with the anatomy's name.
        deformation: a `config.augmentation` whose affine and elastic settings deform the anatomy
            into another individual; None: the anatomy is not deformed.
    """
    x, y, z = anatomy.structures.shape
    spacing = float(np.cbrt(np.prod(spacing_of(anatomy.affine))))
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(legible(stem(anatomy.path)).encode()))
    moving, drawing = jax.random.split(key)
    structures = jax.numpy.asarray(anatomy.structures)
    if deformation is not None:
        structures = _deform(moving, structures, FrozenConfigDict(deformation))
    drawn = image.draw(drawing, prior, quality, (x, y, z), spacing)
    scan = _apply(drawn, structures)
    return Rendered(np.asarray(scan[..., 0]), to_classes(np.asarray(structures)))


def render_cohort(
    label_maps: Sequence[Path],
    schema: LabelSchema,
    output: Path,
    prior: Prior,
    per_map: int = 1,
    seed: int = 0,
    quality: image.Quality = image.GOOD,
) -> list[Path]:
    """Render scans of label maps into a new folder, which appears only once it is complete.

    `sub-NAME_ses-N_T1w.nii.gz` (or `_T2w`, or `_image` for any modality) and
    `sub-NAME_ses-N_dseg.nii.gz` have the grid of the label map NAME. All scans of a label map
    are of one subject. From the second scan on, the anatomy is deformed at random.

    Returns:
        The scans.

    Raises:
        InputError: as `read_anatomy`, two label maps have the same name, or the folder exists and
            is not empty.
    """
    names = [_alphanumeric(stem(path)) for path in label_maps]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise InputError(
            f"Two label maps would both become sub-{double}: render them into different folders."
        )
    suffix = "image" if prior.modality == "any" else prior.modality
    found = []
    with atomic_folder(output) as aside, progress("rendering", len(names) * per_map) as bar:
        for name, path in zip(names, label_maps, strict=True):
            anatomy = read_anatomy(path, schema)
            for number in range(per_map):
                deformation = default_config().augmentation if number else None
                rendered = render(anatomy, prior, quality, seed + number, deformation)
                case = f"sub-{name}_ses-{number + 1}"
                scan = (BRIGHTNESS * rendered.image).astype(np.float32)
                write_volume(aside / f"{case}_{suffix}.nii.gz", scan, anatomy.native)
                write_label_map(aside / f"{case}_dseg.nii.gz", rendered.label_map, anatomy.native)
                found.append(Path(output) / f"{case}_{suffix}.nii.gz")
                bar.update()
    return found


_apply = jax.jit(image.apply)


@partial(jax.jit, static_argnums=2)
def _deform(
    key: Key[Array, ""], structures: UInt8[Array, "x y z"], config: Config
) -> UInt8[Array, "x y z"]:
    affine, elastic = jax.random.split(key)
    x, y, z = structures.shape
    points = spatial.voxel_points((x, y, z))
    points = spatial.elastic_points(spatial.draw_elastic(elastic, config, (x, y, z)), points)
    points = spatial.affine_points(spatial.draw_affine(affine, config), points, (x, y, z))
    return spatial.nearest_labels(structures, points, Structure.OUTSIDE)


def _alphanumeric(name: str) -> str:
    """The letters and digits of a name, as BIDS requires of a subject's name."""
    return "".join(part for part in name if part.isalnum())
