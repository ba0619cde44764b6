"""What both viewers, the served one and the one within a page, take to show volumes by NiiVue.

NiiVue comes from the wheel of ipyniivue, which the `viewer` extra brings; that is not imported.
"""

import io
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Shaped
from PIL import ImageColor

from infant_seg_jax.data.formats.grid import Affine
from infant_seg_jax.data.labels import IGNORE, ClassSet
from infant_seg_jax.errors import InputError

_WIDGET = "ipyniivue/static/widget.js"
_IGNORED_COLOR = "#999999"


def niivue_script() -> bytes:
    """NiiVue's script.

    Raises:
        InputError: it is not installed.
    """
    try:
        return Path(str(_package().locate_file(_WIDGET))).read_bytes()
    except OSError as error:
        raise _missing() from error


def niivue_license() -> str:
    """The terms on which a page may carry NiiVue, which have to come with it.

    Raises:
        InputError: it is not installed.
    """
    package = _package()
    named = [file for file in package.files or () if "licen" in file.name.lower()]
    try:
        return "\n".join(file.read_text(encoding="utf-8") for file in named)
    except OSError as error:
        raise _missing() from error


def nifti_bytes(
    array: Shaped[np.ndarray, "x y z"], affine: Affine, *, of_labels: bool = False
) -> bytes:
    """A NIfTI-1 file in RAS+ order, its voxels from byte 352 on, as the viewer's script expects."""
    image = nib.Nifti1Image(array, affine, dtype=array.dtype)
    if of_labels:  # NiiVue takes colors by value only for what says so.
        image.header.set_intent("label")
    file = io.BytesIO()
    image.to_stream(file)
    return file.getvalue()


def label_colors(classes: ClassSet) -> list[dict[str, object]]:
    """Each class's index, what is said of it, and its color; background has none."""
    named = [(index, one.value, one.name, one.color) for index, one in enumerate(classes.classes)]
    return [
        {
            "value": index,
            "name": f"{value} {name}",
            "rgba": [*ImageColor.getrgb(color), 255 if index else 0],
        }
        for index, value, name, color in (*named, (IGNORE, IGNORE, "ignored", _IGNORED_COLOR))
    ]


def _package() -> Distribution:
    try:
        return distribution("ipyniivue")
    except PackageNotFoundError as error:
        raise _missing() from error


def _missing() -> InputError:
    return InputError(
        "The viewer is not installed (NiiVue, from the package ipyniivue): "
        "pip install 'infant_seg_jax[viewer]'."
    )
