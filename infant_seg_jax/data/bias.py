"""Bias field correction, from an optional library."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32

from infant_seg_jax.data.formats.grid import times
from infant_seg_jax.errors import InputError

_COARSE_MM = 4.0


def check_bias_library() -> None:
    """Raise an InputError that says what to install if the library is not there."""
    try:
        import SimpleITK  # noqa: F401
    except ImportError as error:
        raise InputError(
            "Bias field correction needs SimpleITK, which is not installed: run "
            "`pip install 'infant_seg_jax[n4]'`, or `./launch/install.sh n4`."
        ) from error


def correct_bias(
    image: Float32[np.ndarray, "x y z c"],
    mask: Bool[np.ndarray, "x y z"],
    spacing: tuple[float, float, float],
    path: Path | str,
) -> Float32[np.ndarray, "x y z c"]:
    """Divide each channel, where the mask is, by its smooth bias field.

    The field is N4's (Tustison et al., IEEE TMI 29, 2010), estimated by SimpleITK on voxels of
    about 4 mm; `spacing` is in mm, and `path` is named in the error. N4 works with logarithms:
    values below 0 count as 0 for the estimate.

    Raises:
        InputError: SimpleITK is not installed, or finds no field, in a single slice for instance.
    """
    check_bias_library()
    import SimpleITK as sitk

    shrink = [
        max(1, min(round(_COARSE_MM / width), size // 8))
        for width, size in zip(spacing, mask.shape, strict=True)
    ]
    coarse_mask = sitk.Shrink(_to_itk(mask.astype(np.uint8), spacing), shrink)
    corrected = image.copy()
    for channel in range(image.shape[-1]):
        whole = _to_itk(np.maximum(image[..., channel], 0), spacing)
        n4 = sitk.N4BiasFieldCorrectionImageFilter()
        n4.SetNumberOfThreads(1)  # its sums depend on the number of threads
        try:
            n4.Execute(sitk.Shrink(whole, shrink), coarse_mask)
        except RuntimeError as error:
            raise InputError(
                f"N4 finds no bias field in {path}, where the brain has {times(mask.shape)} "
                "voxels, expected a 3D scan: prepare it without bias field correction."
            ) from error
        log_field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(whole)).transpose(2, 1, 0)
        corrected[mask, channel] /= np.exp(log_field[mask])
    return corrected


def _to_itk(array: np.ndarray, spacing: tuple[float, float, float]):
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array.transpose(2, 1, 0))
    image.SetSpacing(spacing)
    return image
