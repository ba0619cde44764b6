"""Volumes in and out: work happens in RAS+, results return to the scan's own grid exactly."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float, Float32, Integer, Shaped
from scipy import ndimage

from infant_seg_jax.data.formats import (
    Affine,
    Grid,
    Shape,
    read_voxels,
    times,
    write_mgh,
    write_nifti,
)
from infant_seg_jax.data.formats.grid import Scale, apart, check_affine, check_shape
from infant_seg_jax.data.resampling import resample_image
from infant_seg_jax.errors import InputError

SAME_GRID = 0.01
"""Two grids are one grid if no corner of theirs is further apart than this share of a voxel."""
_ROUNDING = 0.001
"""What headers round makes less of a difference than this share of a voxel."""


class _OnGrid:
    """What everything with voxels in RAS+ order has."""

    data: np.ndarray
    affine: Affine

    @property
    def shape(self) -> Shape:
        """Voxels along x, y, z."""
        return _shape3(self.data)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along x, y, z in mm."""
        return spacing_of(self.affine)


@dataclass(frozen=True, eq=False)
class Volume(_OnGrid):
    """A scan in RAS+ order: axis 0 grows to the subject's right, 1 to anterior, 2 to superior.

    Attributes:
        data: intensities as the file means them, one channel per modality.
        affine: voxel indices of `data` to RAS+ millimeters.
        native: the grid of the file.
        path: the file, for messages; the first one where several were stacked.
        notices: what people should know about the files, in full sentences that name them.
    """

    data: Float32[np.ndarray, "x y z c"]
    affine: Affine
    native: Grid
    path: Path
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class LabelMap(_OnGrid):
    """A label map in RAS+ order, its ids as found, before any schema; otherwise as `Volume`."""

    data: Integer[np.ndarray, "x y z"]
    affine: Affine
    native: Grid
    path: Path
    notices: tuple[str, ...] = ()


def spacing_of(affine: Affine) -> tuple[float, float, float]:
    """The voxel size in mm: the lengths of the affine's three columns."""
    x, y, z = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    return x, y, z


def voxel_ml(affine: Affine) -> float:
    """The volume of a voxel in ml; right too where axes are not at right angles."""
    return abs(float(np.linalg.det(affine[:3, :3]))) / 1000


def read_image(path: Path) -> Volume:
    """Read one scan (NIfTI, Analyze or MGH) as a volume with one channel.

    Trailing axes of length 1 are dropped, slope and intercept applied, axes flipped and exchanged
    to the closest RAS+ order; nothing is resampled. NaN that reaches the border of the volume is
    background, and becomes 0.

    Raises:
        InputError: the file is missing, of no such format, truncated or corrupt, holds more than
            one 3D volume or too large a one, has no usable affine or spacing, has voxels that are
            NaN or infinite but no background, or the same value everywhere.
    """
    path = Path(path)
    return _as_volume(*read_voxels(path), path)


def volume_of(
    array: Shaped[np.ndarray, "*i"],
    affine: Float[np.ndarray, "4 4"],
    header: nib.Nifti1Header | None = None,
    path: Path = Path("the array"),
) -> Volume:
    """A scan at hand as a volume with one channel, as `read_image` makes one of a file.

    Args:
        array: intensities, three axes in any order; further ones have to be of length 1.
        affine: voxel indices to RAS+ millimeters.
        header: of the NIfTI file that they are from, whose units and form codes results get.
        path: what messages call it.

    Raises:
        InputError: as `read_image`.
    """
    if array.dtype.kind not in "iufb":
        raise InputError(f"{path} has {array.dtype} voxels, expected real numbers.")
    shape = check_shape(array.shape, path)
    native = Grid(shape, check_affine(np.asarray(affine, np.float64), path), header)
    return _as_volume(array.reshape(shape), None, native, (), path)


def _as_volume(
    raw: Shaped[np.ndarray, "i j k"],
    scale: Scale | None,
    native: Grid,
    notices: tuple[str, ...],
    path: Path,
) -> Volume:
    # What float32 cannot hold becomes infinite or NaN, and is refused below.
    with np.errstate(over="ignore", invalid="ignore"):
        data = _to_ras(raw, native.affine).astype(np.float32, order="C")
        if scale is not None:
            data *= np.float32(scale[0])
            data += np.float32(scale[1])
    notices += _fill_background(data, path)
    low, high = float(data.min()), float(data.max())
    if low == high:
        what = "is empty: every voxel is 0" if low == 0 else f"is constant: every voxel is {low:g}"
        raise InputError(f"{path} {what}, expected a scan of a brain.")
    return Volume(data[..., None], _ras_affine(native), native, path, notices)


def read_images(paths: Sequence[Path], strict: bool = False) -> Volume:
    """Read several modalities of one subject, in that order, as the channels of one volume.

    Those that are not on the first one's grid are resampled to it, linearly, and a notice says so;
    or refused, if `strict`.

    Raises:
        InputError: as `read_image`, or the files do not share one grid and `strict` is set, or one
            lies elsewhere altogether.
    """
    return stack([read_image(path) for path in paths], strict)


def stack(volumes: Sequence[Volume], strict: bool = False) -> Volume:
    """Several modalities of one subject as the channels of one volume, as `read_images` does it."""
    first, *others = volumes
    if not others:
        return first
    channels, notices = [first.data], list(first.notices)
    for other in others:
        notices += other.notices
        try:
            notices += check_same_grid(other, first)
            channels.append(other.data)
        except InputError as error:
            if strict:
                raise
            channels.append(_on_grid_of(first, other))
            notices.append(f"{other.path} was resampled to another grid: {error}")
    data = np.concatenate(channels, axis=-1)
    return replace(first, data=data, notices=tuple(notices))


def _on_grid_of(first: Volume, other: Volume) -> Float32[np.ndarray, "x y z 1"]:
    data = resample_image(other.data, other.affine, first.shape, first.affine)
    if data.min() == data.max():
        raise InputError(
            f"{other.path} lies outside {first.path}, expected images of one head in one space: "
            "register them first."
        )
    return data


def read_label_map(path: Path) -> LabelMap:
    """Read a label map: integers, or floats that hold whole numbers.

    Raises:
        InputError: as `read_image` (save that it may be constant), or values that are not whole
            numbers.
    """
    path = Path(path)
    raw, scale, native, notices = read_voxels(path)
    data = _to_ras(raw, native.affine)
    if scale is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            data = data.astype(np.float64) * scale[0] + scale[1]
    if data.dtype.kind == "f":
        notices += _fill_background(data, path)
        whole = np.round(data)  # a stored slope may leave 2.9999998 for 3
        wrong = (np.abs(data - whole) > 1e-3) | (np.abs(whole) > np.iinfo(np.int32).max)
        if wrong.any():
            raise InputError(
                f"{path} has values such as {float(data[wrong][0]):g} in "
                f"{np.count_nonzero(wrong)} voxels, expected the whole numbers of a label map."
            )
        data = whole.astype(np.int32)
    data = np.ascontiguousarray(data.astype(data.dtype.newbyteorder("="), copy=False))
    return LabelMap(data, _ras_affine(native), native, path, notices)


def read_mask(path: Path, scan: Volume) -> tuple[Bool[np.ndarray, "x y z"], tuple[str, ...]]:
    """Read a brain mask: where it is not 0, on the RAS+ grid of its scan; and notices.

    Raises:
        InputError: as `read_label_map`, or the mask is empty or not on the scan's grid.
    """
    mask = read_label_map(path)
    notices = check_same_grid(mask, scan)
    return _mask(mask.data, path, scan), (*mask.notices, *notices)


def mask_of(
    array: Shaped[np.ndarray, "*i"], scan: Volume, path: Path = Path("the mask")
) -> Bool[np.ndarray, "x y z"]:
    """A brain mask at hand, in the axis order of its scan's own grid, as `read_mask` reads one.

    Raises:
        InputError: it has another shape than the scan, or is empty.
    """
    shape = check_shape(array.shape, path)
    if shape != scan.native.shape:
        raise InputError(
            f"{path} has the shape {times(shape)}, expected {times(scan.native.shape)} as "
            f"{scan.path}."
        )
    return _mask(_to_ras(array.reshape(shape), scan.native.affine), path, scan)


def _mask(array: Shaped[np.ndarray, "x y z"], path: Path, scan: Volume) -> np.ndarray:
    mask = array != 0
    if not mask.any():
        raise InputError(f"{path} is empty, expected the brain of {scan.path}.")
    return mask


def check_same_grid(volume: Volume | LabelMap, reference: Volume | LabelMap) -> tuple[str, ...]:
    """Check that two volumes share one RAS+ grid, whatever the axis order of their files.

    Returns:
        A sentence if they differ by more than headers round, as other tools may round them.

    Raises:
        InputError: their shapes differ, or their corners lie more than `SAME_GRID` apart.
    """
    if volume.shape != reference.shape:
        # The file's own axis order is the one that people see in other tools.
        shapes = volume.native.shape, reference.native.shape
        if shapes[0] == shapes[1]:
            shapes = volume.shape, reference.shape
        raise InputError(
            f"{volume.path} has the shape {times(shapes[0])} but {reference.path} has "
            f"{times(shapes[1])}, expected one grid for both."
        )
    share, mm = apart(volume.affine, reference.affine, volume.shape)
    if share <= _ROUNDING:
        return ()
    lies = f"lies up to {mm:.3g} mm away from {reference.path}"
    if share > SAME_GRID:
        raise InputError(f"{volume.path} {lies}, expected one grid (the same affine) for both.")
    return (f"{volume.path} {lies} ({share:.1%} of a voxel) and is treated as being on its grid.",)


def is_same_grid(grid: Grid, reference: Grid) -> bool:
    """Whether two files have one grid, by their headers: axis order, shape and affine."""
    same = grid.shape == reference.shape
    return same and apart(grid.affine, reference.affine, grid.shape)[0] <= SAME_GRID


def to_native(
    array: Shaped[np.ndarray, "x y z *c"], native: Grid
) -> Shaped[np.ndarray, "i j k *c"]:
    """Bring an array in RAS+ order back to the axis order and flips of `native`."""
    orientation = nib.orientations.io_orientation(native.affine)
    ras = nib.orientations.axcodes2ornt("RAS")
    array = nib.orientations.apply_orientation(
        array, nib.orientations.ornt_transform(ras, orientation)
    )
    if array.shape[:3] != native.shape:
        raise ValueError(f"an array of shape {array.shape[:3]} does not fit {native.shape}")
    return array


def write_label_map(path: Path, label_map: Integer[np.ndarray, "x y z"], native: Grid) -> None:
    """Write a RAS+ label map in its dtype, on a scan's own grid, whole or not at all.

    It is NIfTI, or MGH by its name (`.mgz`, `.mgh`), which has three axes and a coarser affine.

    The file has the scan's shape (its trailing axes of length 1 too), orientation, units, form
    codes and, bit for bit, affine, and is marked as a label map. A NIfTI-2 scan gets a NIfTI-2
    label map; one that was not NIfTI gets NIfTI-1 with its three axes and its affine.

    Raises:
        InputError: the file's name is of no such format, MGH has not its dtype, or its folder
            cannot be written to.
    """
    stored = label_map.reshape(label_map.shape + (1,) * native.trailing_axes)
    _write(Path(path), stored, native, labels=True)


def write_volume(
    path: Path,
    array: Shaped[np.ndarray, "x y z *c"],
    native: Grid,
    slope: float | None = None,
) -> None:
    """Write any RAS+ array, a map of probabilities say, as `write_label_map` does, in its dtype.

    With a `slope` the voxels mean that many times what is stored.
    """
    _write(Path(path), array, native, slope)


def _write(
    path: Path,
    array: Shaped[np.ndarray, "x y z *c"],
    native: Grid,
    slope: float | None = None,
    *,
    labels: bool = False,
) -> None:
    if path.name.lower().endswith((".mgz", ".mgh")):
        write_mgh(path, to_native(array, native), native)
        return
    write_nifti(path, to_native(array, native), native, slope, labels=labels)


def _fill_background(data: Float[np.ndarray, "x y z"], path: Path) -> tuple[str, ...]:
    """Set to 0, in place, the NaN around a brain, as SPM and nilearn write it; and say so.

    Raises:
        InputError: there is NaN that does not reach the border of the volume, or infinity.
    """
    finite = np.isfinite(data)
    if finite.all():
        return ()
    background = ~np.asarray(ndimage.binary_fill_holes(~np.isnan(data)))
    if bad := finite.size - np.count_nonzero(finite | background):
        raise InputError(
            f"{path} has {bad} voxels that are NaN or infinite and not background, expected finite "
            "numbers: set them to 0 if they are not in the brain."
        )
    data[background] = 0
    share = np.count_nonzero(background) / background.size
    return (f"{path} is NaN in {share:.1%} of its voxels, which are treated as background.",)


def _to_ras(array: Shaped[np.ndarray, "i j k"], affine: Affine) -> Shaped[np.ndarray, "x y z"]:
    return nib.orientations.apply_orientation(array, nib.orientations.io_orientation(affine))


def _ras_affine(native: Grid) -> Affine:
    orientation = nib.orientations.io_orientation(native.affine)
    return native.affine @ nib.orientations.inv_ornt_aff(orientation, native.shape)


def _shape3(array: np.ndarray) -> Shape:
    x, y, z = array.shape[:3]
    return x, y, z
