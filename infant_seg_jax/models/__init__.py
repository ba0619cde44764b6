"""The network, its layers, and weights from elsewhere."""

from infant_seg_jax.models.skip_densenet import SkipDenseNet3D
from infant_seg_jax.models.torch_import import load_torch_state_dict

__all__ = ["SkipDenseNet3D", "load_torch_state_dict"]
