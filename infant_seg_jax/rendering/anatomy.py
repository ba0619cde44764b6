"""Anatomies to render: structures on a grid. What label maps often lack is added."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from infant_seg_jax.data.cropping import crop_box
from infant_seg_jax.data.formats import Affine, Grid, stem
from infant_seg_jax.data.labels import LabelSchema
from infant_seg_jax.data.volumes import read_label_map, spacing_of
from infant_seg_jax.errors import InputError
from infant_seg_jax.rendering.structures import BRAIN, Structure, to_structures

LEAST_SULCAL_CSF = 0.03
"""If CSF outside the ventricles is a smaller share of the brain, it counts as not drawn."""

CSF_GAP_MM = 1.5
"""Distance between the crowns of the gyri and the arachnoid, where sulcal CSF is added."""

SULCUS_MM = 5.0
"""Gaps of up to twice this width between gyri are filled with sulcal CSF."""

DEEP_MM = 4.0
"""White matter further than this from gray matter myelinates early."""

_GRAY = (Structure.CORTEX, Structure.DEEP_GRAY)


@dataclass(frozen=True)
class LabelMapFile:
    """A label map to render from.

    Attributes:
        schema: what its values mean.
        path: the file.
        size: the factor by which the brain is enlarged along each axis.
    """

    schema: LabelSchema
    path: Path
    size: float = 1.0

    @property
    def name(self) -> str:
        """The file's name without its ending, followed by the size unless that is 1."""
        return stem(self.path) + (f"_{self.size:g}" if self.size != 1 else "")


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One brain or head in RAS+ order.

    Attributes:
        structures: the `Structure` of each voxel.
        affine: voxel indices to RAS+ mm.
        native: the grid of the file.
        path: the label map.
        grown: whether sulcal CSF was added, because the label map has none.
    """

    structures: UInt8[np.ndarray, "x y z"]
    affine: Affine
    native: Grid
    path: Path
    grown: bool


def read_anatomy(path: Path, schema: LabelSchema, head: bool = False, size: float = 1.0) -> Anatomy:
    """Read a label map, add sulcal CSF if it has none, and separate deep white matter.

    Args:
        path: the label map.
        schema: what its values mean.
        head: whether to keep structures outside the brain.
        size: the factor by which to enlarge it along each axis.

    Raises:
        InputError: as `data.volumes.read_label_map`, a value is not in the schema's table, or the
            label map has no gray or no white matter.
    """
    label_map = read_label_map(path)
    structures = to_structures(label_map.data, schema, str(path))
    affine = label_map.affine @ np.diag([size, size, size, 1.0])
    if not head:
        structures[structures >= Structure.BONE] = Structure.OUTSIDE
    for structure, name in ((Structure.CORTEX, "gray"), (Structure.WHITE, "white")):
        if not (structures == structure).any():
            raise InputError(
                f"{path} has no {name} matter by the schema '{schema.name}', expected the label "
                "map of a brain: name its schema with --schema."
            )
    return Anatomy(
        complete(structures, spacing_of(affine)),
        affine,
        label_map.native,
        Path(path),
        not has_sulcal_csf(structures),
    )


def complete(
    structures: UInt8[np.ndarray, "x y z"], spacing: tuple[float, float, float]
) -> UInt8[np.ndarray, "x y z"]:
    """Add sulcal CSF if there is almost none, and split white matter by depth.

    Sulcal CSF is added where a closing of the brain by `SULCUS_MM` fills gaps, and for `CSF_GAP_MM`
    around that. White matter further than `DEEP_MM` from gray matter becomes `DEEP_WHITE`.
    """
    structures = structures.copy()
    inside = is_brain(structures)
    if not has_sulcal_csf(structures):
        part = structures[crop_box(inside, CSF_GAP_MM, spacing)]
        grown = _closed(is_brain(part), spacing)
        part[grown & (part == Structure.OUTSIDE)] = Structure.SULCAL_CSF
    white = structures == Structure.WHITE
    gray = np.isin(structures, _GRAY)
    structures[white & ~is_near(gray, DEEP_MM, white, spacing)] = Structure.DEEP_WHITE
    return structures


def is_brain(structures: UInt8[np.ndarray, "*shape"]) -> Bool[np.ndarray, "*shape"]:
    """Where the brain or its fluid is, without the head around it."""
    return (structures != Structure.OUTSIDE) & (structures < BRAIN)


def has_sulcal_csf(structures: UInt8[np.ndarray, "x y z"]) -> bool:
    """Whether the label map has a realistic amount of CSF outside the ventricles."""
    fluid = np.count_nonzero(structures == Structure.SULCAL_CSF)
    return bool(fluid >= LEAST_SULCAL_CSF * np.count_nonzero(is_brain(structures)))


def _closed(
    brain: Bool[np.ndarray, "x y z"], spacing: tuple[float, float, float]
) -> Bool[np.ndarray, "x y z"]:
    """The brain dilated by `SULCUS_MM`, then eroded by `CSF_GAP_MM` less."""
    margins = [int(np.ceil(SULCUS_MM / size)) + 1 for size in spacing]
    padded = np.pad(brain, [(margin, margin) for margin in margins])
    dilated = distance_to(padded, spacing) <= SULCUS_MM
    hull = distance_to(~dilated, spacing) > SULCUS_MM - CSF_GAP_MM
    x, y, z = (slice(margin, -margin) for margin in margins)
    return hull[x, y, z]


def distance_to(
    mask: Bool[np.ndarray, "x y z"], spacing: tuple[float, float, float]
) -> Float[np.ndarray, "x y z"]:
    """Distance in mm of each voxel to the nearest voxel of the mask."""
    # If SciPy computes the distances itself, it needs several volumes of float64.
    nearest = np.asarray(
        ndimage.distance_transform_edt(~mask, spacing, return_distances=False, return_indices=True)
    )
    distance = np.empty(mask.shape)
    size_x, size_y, size_z = spacing
    y, z = np.ogrid[: mask.shape[1], : mask.shape[2]]
    for x, (to_x, to_y, to_z) in enumerate(np.moveaxis(nearest, 0, 1)):
        squares = (size_x * (to_x - x)) ** 2
        squares += (size_y * (to_y - y)) ** 2
        squares += (size_z * (to_z - z)) ** 2
        np.sqrt(squares, out=distance[x])
    return distance


def is_near(
    mask: Bool[np.ndarray, "x y z"],
    reach_mm: float,
    among: Bool[np.ndarray, "x y z"],
    spacing: tuple[float, float, float],
) -> Bool[np.ndarray, "x y z"]:
    """The voxels of `among` that are within `reach_mm` of the mask.

    Only the part of the volume around `among` is searched.
    """
    near = np.zeros_like(among)
    if among.any():
        box = crop_box(among, reach_mm, spacing)
        if mask[box].any():
            near[box] = among[box] & (distance_to(mask[box], spacing) <= reach_mm)
    return near
