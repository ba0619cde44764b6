"""Pictures of slices: the side that they say, the colors that they say."""

import base64
import io
import re

import numpy as np
import pytest
from markupsafe import Markup
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from infant_seg_jax.data.labels import IGNORE, TISSUE_CLASSES
from infant_seg_jax.report.drawing.demo_figure import show_slice
from infant_seg_jax.report.drawing.slices import (
    LARGE,
    SMALL,
    WRONG_COLOR,
    Scan,
    error_picture,
    gray_slice,
    mosaic,
    plane_slice,
    wrong_voxels,
)


def pixels(picture: Markup) -> np.ndarray:
    """What the page shows."""
    match = re.fullmatch(
        r'<img class="slices" alt="[^"]*" width="(\d+)" height="(\d+)" '
        r'src="data:image/webp;base64,([A-Za-z0-9+/=]+)">',
        picture,
    )
    assert match
    image = Image.open(io.BytesIO(base64.b64decode(match[3]))).convert("RGB")
    assert image.size == (int(match[1]), int(match[2]))
    return np.asarray(image).astype(float) / 255


def share_of(picture: np.ndarray, color: str) -> float:
    """How much of a picture is about this color."""
    return float((np.abs(picture - to_rgb(color)).max(axis=-1) < 0.17).mean())


def brain(image: np.ndarray | None = None, **other) -> Scan:
    labels = np.zeros((40, 48, 32), np.uint8)
    labels[8:32, 8:40, 8:24] = 1
    labels[12:28, 12:36, 10:22] = 2
    labels[16:24, 16:32, 12:20] = 3
    return Scan(image, labels, np.eye(4), **other)


@pytest.mark.parametrize(
    ("plane", "corner", "voxel"),
    [
        ("axial", (0, 0), (-1, -1, 5)),  # Top left: right and anterior.
        ("coronal", (0, 0), (-1, 5, -1)),  # Top left: right and superior.
        ("sagittal", (0, 0), (5, -1, -1)),  # Top left: anterior and superior.
        ("axial", (-1, -1), (0, 0, 5)),
    ],
)
def test_slices_are_radiological(
    plane: str, corner: tuple[int, int], voxel: tuple[int, int, int]
) -> None:
    array = np.zeros((8, 9, 10))
    array[voxel] = 1
    picture = plane_slice(array, plane, 5)
    assert picture[corner] == 1
    assert picture.sum() == 1


def test_right_is_on_the_left_of_every_axial_and_coronal_slice() -> None:
    image = np.zeros((40, 48, 32), np.float32)
    image[20:] = 100.0  # The right half.
    scan = Scan(image, np.zeros(image.shape, np.uint8), np.eye(4))
    shown = pixels(mosaic(scan, "")).mean(axis=-1)
    rows = np.array_split(shown, 3)  # Sagittal, coronal, axial.
    for row in rows[1:]:
        for tile in np.array_split(row[25:-8], 3, axis=1):
            half = tile.shape[1] // 2
            assert tile[:, :half].mean() > 2 * tile[:, half:].mean()


def test_anterior_is_on_the_left_of_sagittal_slices_and_superior_on_top() -> None:
    for axis, (vertical, far) in ((1, (False, 8)), (2, (True, 6))):
        image = np.zeros((40, 48, 32), np.float32)
        where = [slice(None)] * 3
        where[axis] = slice(image.shape[axis] - far, None)
        image[tuple(where)] = 100.0
        scan = Scan(image, np.zeros(image.shape, np.uint8), np.eye(4))
        sagittal = np.array_split(pixels(mosaic(scan, "")).mean(axis=-1), 3)[0][20:]
        tile = np.array_split(sagittal, 3, axis=1)[1]
        v, u = (np.average(index, weights=tile + 1e-9) for index in np.indices(tile.shape))
        assert (v < 0.45 * tile.shape[0]) if vertical else (u < 0.45 * tile.shape[1])


def test_outlines_have_the_tissues_colors_and_leave_the_scan_to_be_seen() -> None:
    image = np.full((40, 48, 32), 10.0, np.float32)
    image[8:32, 8:40, 8:24] = 100.0
    shown = pixels(mosaic(brain(image), ""))
    without = pixels(mosaic(Scan(image, np.zeros(image.shape, np.uint8), np.eye(4)), ""))
    for color in TISSUE_CLASSES.colors.values():
        assert 0.001 < share_of(shown, color) < 0.08
        assert share_of(without, color) < 0.001


def test_what_is_wrong_is_colored_and_nothing_else() -> None:
    labels = brain().labels
    wrong = labels.copy()
    wrong[20:24, 20:28, 14:18] = 1
    right, faulty = (
        pixels(error_picture(Scan(None, found, np.eye(4), labels), "")) for found in (labels, wrong)
    )
    for picture, low, high in ((right, 0, 0.0005), (faulty, 0.002, 0.05)):
        last = np.array_split(picture, 3, axis=1)[2]  # No scan, so three columns.
        assert low <= share_of(last, WRONG_COLOR) <= high


def test_no_slice_is_empty_however_the_tissue_lies() -> None:
    """Two lumps far apart, between which is nothing: a third of the way would show none."""
    labels = np.zeros((90, 90, 90), np.uint8)
    labels[:12, :12, :12] = labels[-9:, -9:, -9:] = 3
    image = np.where(labels, 100.0, 0.0).astype(np.float32)
    shown = pixels(mosaic(Scan(image, labels, np.eye(4)), ""))
    for row in np.array_split(shown, 3):
        for tile in np.array_split(row[25:-8], 3, axis=1):
            assert share_of(tile, TISSUE_CLASSES.colors["WM"]) > 0


def test_pictures_of_a_few_scans_are_larger() -> None:
    small, large = (pixels(mosaic(brain(), "", size)) for size in (SMALL, LARGE))
    assert large.shape[1] > 1000 > small.shape[1]


def test_slices_keep_the_voxels_proportions() -> None:
    thin = Scan(None, np.ones((20, 20, 20), np.uint8), np.diag([1.0, 1.0, 3.0, 1.0]))
    cube = Scan(None, np.ones((20, 20, 20), np.uint8), np.eye(4))
    heights = [pixels(mosaic(one, "")).shape[0] for one in (thin, cube)]
    widths = [pixels(mosaic(one, "")).shape[1] for one in (thin, cube)]
    assert heights[0] > 1.5 * widths[0] and abs(heights[1] - widths[1]) < 60


def test_ignored_voxels_are_not_wrong() -> None:
    truth, prediction = np.zeros((2, 1, 4, 1), np.uint8)
    truth[0, :, 0], prediction[0, :, 0] = [1, IGNORE, 2, 3], [2, 1, IGNORE, 3]
    assert wrong_voxels(prediction, truth)[0, :, 0].tolist() == [True, False, False, False]


def test_a_picture_of_errors_takes_a_truth() -> None:
    with pytest.raises(ValueError):
        error_picture(brain(), "")


def test_a_name_cannot_leave_the_description() -> None:
    assert 'alt="a&#34;&gt;&lt;script&gt;"' in mosaic(brain(), 'a"><script>')


def test_letters_of_a_figure_are_at_the_sides_that_they_name() -> None:
    axes = Figure().subplots()
    show_slice(axes, gray_slice(brain(), "axial", 16), "axial")
    letters = {text.get_text(): text.get_position()[0] for text in axes.texts}
    assert letters["R"] < letters["L"]


def test_tissue_colors_differ_for_everyone() -> None:
    """Luminance alone tells the tissues apart."""
    rgb = np.array([to_rgb(color) for color in TISSUE_CLASSES.colors.values()])
    luminance = np.sort(rgb @ [0.2126, 0.7152, 0.0722])
    assert np.diff(luminance).min() > 0.1
