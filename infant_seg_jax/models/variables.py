"""A network's parameters and batch statistics: fresh ones, their shapes, their names."""

from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Key

from infant_seg_jax.models.factory import Network


def init_variables(model: Network, modalities: int, seed: int) -> dict[str, Any]:
    """Fresh parameters and batch statistics for a network of so many input channels."""
    return _init(model, modalities, jax.random.key(seed))


def abstract_variables(model: Network, modalities: int) -> dict[str, Any]:
    """The shapes and types of the variables, with nothing computed."""
    return cast(Any, _init).eval_shape(model, modalities, jax.random.key(0))


# The model is static and hashable, so equal models are traced once.
@partial(jax.jit, static_argnums=(0, 1))
def _init(model: Network, modalities: int, key: Key[Array, ""]) -> dict[str, Any]:
    """The variables; without batch statistics where the network has none."""
    patch = jnp.zeros((1, *(model.downsampling,) * 3, modalities))
    variables = cast(Any, model.init(key, patch))
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


def by_path(tree: Any) -> dict[str, Any]:
    """A tree's leaves by their paths, as in `params/stem_conv0/kernel`."""
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(key, simple=True, separator="/"): leaf for key, leaf in leaves}


def map_with_path(function: Any, tree: Any) -> Any:
    """`function(path, leaf)` of every leaf, with paths as `by_path` writes them."""
    return jax.tree_util.tree_map_with_path(
        lambda key, leaf: function(jax.tree_util.keystr(key, simple=True, separator="/"), leaf),
        tree,
    )
