"""What an augmentation is: its name, how it is drawn, what it does, and how that is described."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax import Array

from infant_seg_jax.config import Config

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Augmentation:
    """One kind of random change to a patch.

    Attributes:
        name: its key of `config.augmentation`, which is 0 where it is off.
        draw: from a key, a `config.augmentation`, a patch's shape and its number of channels to
            what is drawn.
        describe: from that and a shape to words.
        change: from an image `(x, y, z, c)` and what was drawn to another image; None of those that
            move the anatomy, which `pipeline` composes.
        in_every_patch: whether its key is how far it reaches, and no chance.
    """

    name: str
    draw: Callable[[Array, Config, Shape, int], Any]
    describe: Callable[[Any, Shape], str]
    change: Callable[[Array, Any], Array] | None = None
    in_every_patch: bool = False


def of_channels(draw: Callable[[Array, Config, int], Any]) -> Callable[..., Any]:
    """`Augmentation.draw` of what is drawn for each channel, whatever the patch's shape."""
    return lambda key, config, shape, channels: draw(key, config, channels)


def listed(values: Iterable[Any], digits: int = 2) -> str:
    """Numbers in words."""
    rounded = np.round(np.ravel(np.asarray(values, np.float64)), digits) + 0.0  # No "-0".
    return ", ".join(f"{value:.{digits}f}" for value in rounded)
