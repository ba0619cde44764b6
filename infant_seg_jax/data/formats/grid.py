"""What every format's header must make sense of: shape, spacing, affine, scaling."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Float64, Integer

from infant_seg_jax.errors import InputError

Affine = Float64[np.ndarray, "4 4"]
Shape = tuple[int, int, int]
Scale = tuple[float, float]

MAX_VOXELS = 2**29
"""Four times 512 x 512 x 512, and 2 GiB as float32."""

_SPACING_MM = 1e-4, 1e3
_MAX_MM = 1e6
_MIN_INDEPENDENCE = 1e-3
_DIRECTIONS = {
    **{"L": "left", "R": "right", "P": "posterior", "A": "anterior"},
    **{"I": "inferior", "S": "superior"},
}


class SeveralVolumes(InputError):
    """A sound file that holds more than one 3D volume."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A scan's own voxel grid: the one that its file has and that results return to.

    Attributes:
        shape: voxels along the file's first three axes.
        affine: voxel indices to RAS+ millimeters.
        header: the NIfTI header it was read from, for its form codes, units and trailing axes of
            length 1; None for a grid that came from another format or from nowhere.
    """

    shape: Shape
    affine: Affine
    header: nib.Nifti1Header | None = None

    @property
    def trailing_axes(self) -> int:
        """How many axes of length 1 the file has after the first three."""
        return 0 if self.header is None else int(self.header["dim"][0]) - 3


@dataclass(frozen=True, eq=False)
class Layout:
    """What a file's header says of its voxels, checked as far as a header can be.

    Attributes:
        grid: shape, affine and, of a NIfTI file, the header.
        dtype: the type of the voxels as stored, byte order included.
        offset: how many bytes come before the first voxel.
        scale: slope and intercept; None where the stored values are the values.
        notices: what people should know about the file, in full sentences that name it.
    """

    grid: Grid
    dtype: np.dtype
    offset: int = 0
    scale: Scale | None = None
    notices: tuple[str, ...] = ()


def times(sizes: Iterable[int | float]) -> str:
    """Sizes in words, as in '256x128x256'."""
    return "x".join(f"{size:g}" if isinstance(size, float) else str(size) for size in sizes)


def axes_in_words(affine: Affine) -> str:
    """The directions that the three axes grow to, as in 'left, anterior, superior (LAS)'."""
    codes = [str(code) for code in nib.aff2axcodes(affine)]
    return f"{', '.join(_DIRECTIONS[code] for code in codes)} ({''.join(codes)})"


def apart(affine: Affine, reference: Affine, shape: Shape) -> tuple[float, float]:
    """How far apart two affines place the corners of one volume at most: in voxels, and in mm."""
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    corners = corners * [*(np.array(shape) - 1), 1]
    shifts = (corners @ (affine - reference).T)[:, :3]
    voxels = np.linalg.solve(reference[:3, :3], shifts.T)
    return float(np.linalg.norm(voxels, axis=0).max()), float(np.linalg.norm(shifts, axis=1).max())


def axis_sizes(dim: Integer[np.ndarray, "8"]) -> list[int]:
    """The sizes in the `dim` field of NIfTI and Analyze; none where its first entry is no count."""
    axes = int(dim[0])
    return [int(size) for size in dim[1 : axes + 1]] if 0 < axes < 8 else []


def check_shape(sizes: Sequence[int], path: Path) -> Shape:
    """The first three sizes, if they are those of one 3D volume that is not too large.

    Raises:
        InputError: there are fewer than three axes or one of no length, or the volume has more than
            `MAX_VOXELS`.
        SeveralVolumes: later axes are longer than 1.
    """
    if len(sizes) < 3 or min(sizes) < 1:
        found = f"axes of the sizes {list(sizes)}" if sizes else "no axes or too many"
        raise InputError(f"{path} has {found}, expected a 3D volume: is it corrupt?")
    shape = sizes[0], sizes[1], sizes[2]
    if math.prod(sizes[3:]) != 1:
        raise SeveralVolumes(
            f"{path} has the shape {times(sizes)}, a time series or several channels, expected "
            "one 3D volume: save each channel as a separate file."
        )
    if math.prod(shape) > MAX_VOXELS:
        raise InputError(
            f"{path} claims {times(shape)} voxels, expected at most {MAX_VOXELS}: is it corrupt?"
        )
    return shape


def check_spacing(sizes: Float64[np.ndarray, "3"], path: Path) -> None:
    """Check that voxel sizes are plausible millimeters.

    Raises:
        InputError: a size is not between 0.0001 and 1000 mm.
    """
    low, high = _SPACING_MM
    if not np.all((sizes >= low) & (sizes <= high)):
        raise InputError(
            f"{path} has the voxel size {times(sizes)} mm, expected sizes from {low:g} to {high:g}."
        )


def check_affine(affine: Affine, path: Path) -> Affine:
    """The affine, if volumes can be placed, measured and turned by it.

    Raises:
        InputError: a number is not finite or too large, axes depend on each other, or their
            lengths are no voxel size.
    """
    axes = affine[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    # The volume of a voxel relative to that of a box of its spacing: 1 for orthogonal axes.
    independence = abs(np.linalg.det(axes / spacing))
    if not (np.all(np.abs(affine) < _MAX_MM) and independence > _MIN_INDEPENDENCE):
        rows = "; ".join(" ".join(f"{value:g}" for value in row) for row in affine[:3])
        raise InputError(
            f"{path} has the affine [{rows}], expected three independent axes and no number "
            f"beyond {_MAX_MM:g}."
        )
    check_spacing(spacing, path)
    return affine


def check_scale(slope: Any, intercept: Any, path: Path) -> Scale | None:
    """Slope and intercept as nibabel's headers give them; None if they are the identity or absent.

    Raises:
        InputError: one of them is not finite.
    """
    scale = (1.0, 0.0) if slope is None else (float(slope), float(intercept or 0))
    if not all(map(math.isfinite, scale)):
        raise InputError(
            f"{path} has an unusable header (slope and intercept are {scale[0]:g} and "
            f"{scale[1]:g}), expected finite numbers."
        )
    return None if scale == (1, 0) else scale
