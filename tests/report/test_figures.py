"""Slices show the side that they say."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from infant_seg_jax.data.labels import TISSUE_CLASSES
from infant_seg_jax.data.phantom import render_phantom
from infant_seg_jax.report.figures import draw_slice
from infant_seg_jax.report.slices import plane_slice

matplotlib.use("agg")


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


def test_right_is_written_on_the_side_where_right_is() -> None:
    from pathlib import Path

    from infant_seg_jax.data.volumes import Grid, Volume

    phantom = render_phantom(0, shape=(32, 32, 32))
    image = np.zeros_like(phantom.image)
    image[20:] = phantom.image[20:]  # Nothing but the right side.
    grid = Grid((32, 32, 32), phantom.affine)
    volume = Volume(image[..., None], phantom.affine, grid, Path("scan"))
    figure, axes = plt.subplots()
    draw_slice(axes, volume, None, "axial", 16)
    letters = {text.get_text(): text.get_position()[0] for text in axes.texts}
    shown = np.asarray(axes.images[0].get_array())
    plt.close(figure)
    left_half = shown[:, : shown.shape[1] // 2].sum()
    right_half = shown[:, shown.shape[1] // 2 :].sum()
    assert left_half > right_half
    assert letters["R"] < letters["L"]


def test_tissue_colours_differ_for_everyone() -> None:
    """Luminance alone tells the tissues apart."""
    rgb = np.array([to_rgb(colour) for colour in TISSUE_CLASSES.colours.values()])
    luminance = np.sort(rgb @ [0.2126, 0.7152, 0.0722])
    assert np.diff(luminance).min() > 0.1
