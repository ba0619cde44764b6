"""Tissue segmentation of infant brain MRI with a skip-connected 3D DenseNet.

The names below are loaded when first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infant_seg_jax.models.skip_densenet import SkipDenseNet3D
    from infant_seg_jax.prediction.predictor import Predictor
    from infant_seg_jax.store.loading import open_predictor
    from infant_seg_jax.training.loop import train_and_evaluate

__all__ = ["Predictor", "SkipDenseNet3D", "open_predictor", "train_and_evaluate"]

_HOMES = {
    "Predictor": "infant_seg_jax.prediction.predictor",
    "SkipDenseNet3D": "infant_seg_jax.models.skip_densenet",
    "open_predictor": "infant_seg_jax.store.loading",
    "train_and_evaluate": "infant_seg_jax.training.loop",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
