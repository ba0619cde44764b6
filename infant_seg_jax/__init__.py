"""Tissue segmentation of infant brain MRI with a skip-connected 3D DenseNet.

    import infant_seg_jax as seg

    model = seg.load("bundled")
    labels = model.segment("scan.nii.gz")
    labels.save("labels.nii.gz")

The names below are loaded when first used, so that importing the package costs nothing.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infant_seg_jax.api import Labels, Model, evaluate, evaluate_label_maps, load, train
    from infant_seg_jax.config import default_config, open_config
    from infant_seg_jax.errors import InputError
    from infant_seg_jax.models.skip_densenet import SkipDenseNet3D
    from infant_seg_jax.prediction.predictor import Predictor
    from infant_seg_jax.store.loading import open_predictor
    from infant_seg_jax.training.loop import train_and_evaluate

    __version__: str

__all__ = [
    "InputError",
    "Labels",
    "Model",
    "Predictor",
    "SkipDenseNet3D",
    "__version__",
    "default_config",
    "evaluate",
    "evaluate_label_maps",
    "load",
    "open_config",
    "open_predictor",
    "train",
    "train_and_evaluate",
]

_HOMES = {
    **dict.fromkeys(("Labels", "Model", "evaluate", "evaluate_label_maps", "load", "train"), "api"),
    **dict.fromkeys(("default_config", "open_config"), "config"),
    "InputError": "errors",
    "Predictor": "prediction.predictor",
    "SkipDenseNet3D": "models.skip_densenet",
    "open_predictor": "store.loading",
    "train_and_evaluate": "training.loop",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version(__name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
