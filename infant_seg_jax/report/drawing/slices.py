"""Slices of scans as pictures that stand in a page, with tissues in color and sides marked.

Slices are in the radiological convention: the subject's right is on the picture's left. Both sides
are marked on every slice; on sagittal ones, anterior and posterior.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8
from markupsafe import Markup, escape
from PIL import Image, ImageColor, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion, map_coordinates

from infant_seg_jax.data.cropping import Box, crop_affine, crop_box
from infant_seg_jax.data.formats.grid import Affine
from infant_seg_jax.data.labels import BACKGROUND, IGNORE, TISSUE_CLASSES, ClassSet
from infant_seg_jax.data.volumes import spacing_of

PLANES = ("sagittal", "coronal", "axial")
"""In the order of the axes that they cut."""
ENDS = {"sagittal": ("A", "P"), "coronal": ("R", "L"), "axial": ("R", "L")}
"""What is on the left and on the right of a picture."""
WRONG_COLOR = "#CC79A7"

SMALL, LARGE = 210, 370
"""Pixels of the longest side that a slice may have: of many scans, and of a few."""

_GAP, _CAPTION = 6, 18  # Pixels.
_LETTERS = 10  # Pixels.
_FILLED = 0.6
_SHARES = (0.25, 0.5, 0.75)
_MARGIN_MM = 5.0


@dataclass(frozen=True, eq=False)
class Scan:
    """What pictures are made of, in RAS+ order.

    Attributes:
        image: gray values; None where there is no scan to see.
        labels: the predicted classes.
        affine: voxel indices to RAS+ millimeters.
        truth: the true classes, if they are known.
        classes: which they are.
        window: the gray values that are shown as black and as white; None: as `gray_window` has it.
    """

    image: Float[np.ndarray, "x y z"] | None
    labels: UInt8[np.ndarray, "x y z"]
    affine: Affine
    truth: UInt8[np.ndarray, "x y z"] | None = None
    classes: ClassSet = TISSUE_CLASSES
    window: tuple[float, float] | None = None

    @property
    def spacing(self) -> tuple[float, float, float]:
        """The voxel size along x, y, z in mm."""
        return spacing_of(self.affine)


@dataclass(frozen=True, eq=False)
class _Tile:
    """A slice that is drawn: what is written above it, the letters at its sides, its pixels."""

    caption: str
    ends: tuple[str, str]
    pixels: Float[np.ndarray, "v u 3"]


def plane_slice(
    array: Shaped[np.ndarray, "x y z"], plane: str, at: int
) -> Shaped[np.ndarray, "u v"]:
    """A slice of a RAS volume as a picture: superior (or anterior, in axial slices) on top, and
    the subject's right (or anterior, in sagittal slices) on the left."""
    flat = np.take(array, at, axis=PLANES.index(plane))
    return flat.T[::-1, ::-1]


def rgb(color: str) -> Float[np.ndarray, "3"]:
    """Red, green and blue, from 0 to 1, of a color as in `#0072B2`."""
    return np.array(ImageColor.getrgb(color)[:3]) / 255


def mosaic(scan: Scan, alt: str, longest: int = SMALL) -> Markup:
    """Three planes, one a row, at three depths of the tissues, with their outlines.

    At the depths a quarter, a half and three quarters of the tissues' voxels are passed, so that
    there are some in each slice.
    """
    scan, _ = cropped(scan)
    rows = []
    for axis, plane in enumerate(PLANES):
        row = []
        for at in _depths(scan.labels, axis):
            share = at / max(1, scan.labels.shape[axis] - 1)
            shown = outlined_slice(scan, plane, at, longest)
            row.append(_Tile(f"{plane}, {share:.0%}", ENDS[plane], shown))
        rows.append(row)
    return _picture(rows, alt)


def error_picture(scan: Scan, alt: str) -> Markup:
    """A row for each plane: the scan if there is one, truth, prediction, and what is wrong.

    Each plane is cut where most voxels are wrong, or in the middle if none is.

    Raises:
        ValueError: there is no truth.
    """
    scan, _ = cropped(scan)
    if scan.truth is None:
        raise ValueError("there is no truth")
    wrong = wrong_voxels(scan.labels, scan.truth)
    rows = []
    for plane, at in zip(PLANES, worst_slices(wrong), strict=True):
        gray = gray_slice(scan, plane, at)
        errors = gray.copy()
        errors[class_slice(scan, wrong, plane, at)] = rgb(WRONG_COLOR)
        pictures = {
            "scan": gray,
            "truth": filled_slice(scan, scan.truth, plane, at),
            "prediction": filled_slice(scan, scan.labels, plane, at),
            "wrong": errors,
        }
        if scan.image is None:
            del pictures["scan"]
        rows.append(
            [_Tile(f"{plane}: {name}", ENDS[plane], shown) for name, shown in pictures.items()]
        )
    return _picture(rows, alt)


def _depths(labels: UInt8[np.ndarray, "x y z"], axis: int) -> list[int]:
    """Where along an axis these shares of the tissues' voxels are passed."""
    others = tuple(other for other in range(3) if other != axis)
    passed = np.cumsum(tissues([labels]).sum(axis=others))
    return [int(np.searchsorted(passed, share * passed[-1])) for share in _SHARES]


def wrong_voxels(
    prediction: UInt8[np.ndarray, "x y z"], truth: UInt8[np.ndarray, "x y z"]
) -> Bool[np.ndarray, "x y z"]:
    """Where the classes differ; nowhere where either is ignored."""
    return (prediction != truth) & (prediction != IGNORE) & (truth != IGNORE)


def middle(mask: Bool[np.ndarray, "x y z"]) -> tuple[int, int, int]:
    """The voxel in the middle of what is true."""
    x, y, z = (int(np.median(index)) for index in np.nonzero(mask))
    return x, y, z


def worst_slices(wrong: Bool[np.ndarray, "x y z"]) -> tuple[int, int, int]:
    """Along each axis, where most voxels are wrong; the middle, if none is."""
    x, y, z = (
        int(counts.argmax()) if counts.any() else len(counts) // 2
        for counts in (wrong.sum(axis=axes) for axes in ((1, 2), (0, 2), (0, 1)))
    )
    return x, y, z


def gray_window(image: Float[np.ndarray, "x y z"]) -> tuple[float, float]:
    """The gray values that are shown as black and as white, the first below the second."""
    low, high = (float(value) for value in np.percentile(image, (0.5, 99.8)))
    return low, max(high, low + 1e-6)


def cropped(scan: Scan, margin_mm: float = _MARGIN_MM) -> tuple[Scan, Box]:
    """With little around the tissues, and which box that is; all of a scan that has none.

    Black and white are then those of what is left, unless the scan has its own.
    """
    maps = [scan.labels] if scan.truth is None else [scan.labels, scan.truth]
    box = crop_box(tissues(maps), margin_mm, scan.spacing)
    image = None if scan.image is None else scan.image[box]
    crop = replace(
        scan,
        image=image,
        labels=scan.labels[box],
        affine=crop_affine(scan.affine, box),
        truth=None if scan.truth is None else scan.truth[box],
        window=scan.window or (None if image is None else gray_window(image)),
    )
    return crop, box


def tissues(maps: Sequence[UInt8[np.ndarray, "x y z"]]) -> Bool[np.ndarray, "x y z"]:
    """Where any of the maps has a class but background; everywhere, if none has one anywhere."""
    found = np.logical_or.reduce([~np.isin(one, (BACKGROUND, IGNORE)) for one in maps])
    return found if found.any() else np.ones_like(found)


def _size(scan: Scan, plane: str, longest: int) -> tuple[int, int]:
    """Height and width in pixels, the scan's longest side being that long."""
    extents = [count * size for count, size in zip(scan.labels.shape, scan.spacing, strict=True)]
    scale = longest / max(extents)
    del extents[PLANES.index(plane)]
    width, height = (max(8, round(extent * scale)) for extent in extents)
    return height, width


def gray_slice(scan: Scan, plane: str, at: int, longest: int = SMALL) -> Float[np.ndarray, "v u 3"]:
    """A slice of the scan from black to white; black where there is no scan."""
    height, width = _size(scan, plane, longest)
    if scan.image is None:
        return np.zeros((height, width, 3))
    flat = plane_slice(scan.image, plane, at).astype(np.float64)
    low, high = scan.window or gray_window(scan.image)
    where = np.meshgrid(
        *(
            (np.arange(many) + 0.5) * few / many - 0.5
            for many, few in zip((height, width), flat.shape, strict=True)
        ),
        indexing="ij",
    )
    shown = map_coordinates(flat, where, order=1, mode="nearest")
    shown = np.clip((shown - low) / (high - low), 0, 1)
    return np.repeat(shown[..., None], 3, axis=-1)


def class_slice(
    scan: Scan, classes: Shaped[np.ndarray, "x y z"], plane: str, at: int, longest: int = SMALL
) -> Shaped[np.ndarray, "v u"]:
    """A slice of classes on the scan's grid, at the size of its picture."""
    flat = plane_slice(classes, plane, at)
    rows, columns = (
        (np.arange(many) * few) // many
        for many, few in zip(_size(scan, plane, longest), flat.shape, strict=True)
    )
    return flat[np.ix_(rows, columns)]


def filled_slice(
    scan: Scan, labels: UInt8[np.ndarray, "x y z"], plane: str, at: int
) -> Float[np.ndarray, "v u 3"]:
    """A slice with tissues in color, through which the scan is seen."""
    pixels, shown = gray_slice(scan, plane, at), class_slice(scan, labels, plane, at)
    share = _FILLED if scan.image is not None else 1.0
    for index, color in enumerate(scan.classes.colors.values(), start=1):
        tissue = shown == index
        pixels[tissue] = share * rgb(color) + (1 - share) * pixels[tissue]
    return pixels


def outlined_slice(
    scan: Scan, plane: str, at: int, longest: int = SMALL
) -> Float[np.ndarray, "v u 3"]:
    """A slice with the outlines of tissues in color."""
    pixels = gray_slice(scan, plane, at, longest)
    shown = class_slice(scan, scan.labels, plane, at, longest)
    for index, color in enumerate(scan.classes.colors.values(), start=1):
        tissue = shown == index
        pixels[tissue & ~np.asarray(binary_erosion(tissue), bool)] = rgb(color)
    return pixels


def _picture(rows: Sequence[Sequence[_Tile]], alt: str) -> Markup:
    """Tiles beside and below each other, as an image within the page."""
    widths = [max(row[n].pixels.shape[1] for row in rows) + _GAP for n in range(len(rows[0]))]
    heights = [max(tile.pixels.shape[0] for tile in row) + _CAPTION + _GAP for row in rows]
    canvas = np.zeros((sum(heights), sum(widths), 3))
    texts = []
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for tile, width in zip(row, widths, strict=True):
            v, u = tile.pixels.shape[:2]
            # In the middle of its cell, so that the planes stand below each other.
            x, y = left + (width - u) // 2, top + _CAPTION
            canvas[y : y + v, x : x + u] = tile.pixels
            texts += [
                (left + width / 2, top + _CAPTION / 2, tile.caption, "mm"),
                (x + 2, y + v / 2, tile.ends[0], "lm"),
                (x + u - 2, y + v / 2, tile.ends[1], "rm"),
            ]
            left += width
        top += height
    picture = Image.fromarray(np.rint(255 * canvas).astype(np.uint8))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(_LETTERS)
    for x, y, text, anchor in texts:
        draw.text((x, y), text, "white", font, anchor)
    file = io.BytesIO()
    # WebP: half of a PNG's size. Without losses, which would take the color of thin lines.
    picture.save(file, "webp", lossless=True)
    encoded = base64.b64encode(file.getvalue()).decode("ascii")
    return Markup(
        f'<img class="slices" alt="{escape(alt)}" width="{canvas.shape[1]}" '
        f'height="{canvas.shape[0]}" src="data:image/webp;base64,{encoded}">'
    )
