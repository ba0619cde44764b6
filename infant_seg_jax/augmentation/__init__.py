"""Random changes to patches, made on the device, each example by its own key.

`draw` draws the parameters of one example and `apply` applies them; vmapped, they augment a batch,
which equals its examples one by one, on any number of devices.
"""

from infant_seg_jax.augmentation.pipeline import AUGMENTATIONS, Drawn, Draws, apply, draw

__all__ = ["AUGMENTATIONS", "Drawn", "Draws", "apply", "draw"]
