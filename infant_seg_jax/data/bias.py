"""Bias field correction, from an optional library."""

import numpy as np
from jaxtyping import Bool, Float32

from infant_seg_jax.errors import InputError

_SHRINK = 4


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
) -> Float32[np.ndarray, "x y z c"]:
    """Divide each channel by its smooth bias field over the mask (N4: Tustison et al., IEEE TMI 29,
    2010), estimated by SimpleITK at every fourth voxel. `spacing` is in mm.

    N4 works with logarithms: a channel with values below 0 is lifted to 0 for the estimate.

    Raises:
        InputError: SimpleITK is not installed.
    """
    check_bias_library()
    import SimpleITK as sitk

    shrink = [max(1, min(_SHRINK, size // 8)) for size in image.shape[:3]]
    inside = _to_itk(mask.astype(np.uint8), spacing)
    small_mask = sitk.Shrink(inside, shrink)
    corrected = np.empty_like(image)
    for channel in range(image.shape[-1]):
        values = image[..., channel]
        whole = _to_itk(np.maximum(values, 0), spacing)
        n4 = sitk.N4BiasFieldCorrectionImageFilter()
        n4.SetNumberOfThreads(1)  # its sums depend on the number of threads
        n4.Execute(sitk.Shrink(whole, shrink), small_mask)
        log_field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(whole)).transpose(2, 1, 0)
        corrected[..., channel] = values / np.exp(log_field)
    return corrected


def _to_itk(array: np.ndarray, spacing: tuple[float, float, float]):
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array.transpose(2, 1, 0))
    image.SetSpacing(spacing)
    return image
