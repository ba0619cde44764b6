"""Networks by name, as `config.model` describes them."""

from typing import TypeAlias

import jax.numpy as jnp

from infant_seg_jax.config import RESIDUAL_UNET, Config
from infant_seg_jax.data.labels import TISSUE_CLASSES
from infant_seg_jax.models.residual_unet import ResidualUNet
from infant_seg_jax.models.skip_densenet import SkipDenseNet3D

Network: TypeAlias = SkipDenseNet3D | ResidualUNet


def make_model(
    config: Config,
    axis_name: str | None = None,
    onednn: bool = False,
    num_classes: int = len(TISSUE_CLASSES),
) -> Network:
    """The network that `config.model` describes.

    Args:
        config: a whole config.
        axis_name: the mapped device axis over which batch statistics are averaged, if any.
        onednn: whether its programs are compiled with oneDNN.
        num_classes: K, the classes; background is one of them.
    """
    settings = config.model
    if settings.name == RESIDUAL_UNET:
        return ResidualUNet(
            num_classes=num_classes,
            widths=tuple(settings.widths),
            axis_name=axis_name,
            dtype=jnp.dtype(settings.dtype),
            onednn=onednn,
        )
    return SkipDenseNet3D(
        num_classes=num_classes,
        growth_rate=settings.growth_rate,
        stem_features=settings.stem_features,
        block_layers=tuple(settings.block_layers),
        dropout_rate=settings.dropout_rate,
        axis_name=axis_name,
        dtype=jnp.dtype(settings.dtype),
        remat=settings.remat,
        onednn=onednn,
    )
