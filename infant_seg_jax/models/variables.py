"""A network's parameters and batch statistics: fresh ones, their shapes, their names."""

from typing import Any

import jax
import jax.numpy as jnp

from infant_seg_jax.models.factory import Network


def init_variables(model: Network, modalities: int, seed: int) -> dict[str, Any]:
    """Fresh parameters and batch statistics for a network of so many input channels."""
    patch = jnp.zeros((1, *(model.downsampling,) * 3, modalities))
    return _with_statistics(jax.jit(model.init)(jax.random.key(seed), patch))


def abstract_variables(model: Network, modalities: int) -> dict[str, Any]:
    """The shapes and types of the variables, with nothing computed."""
    patch = jax.ShapeDtypeStruct((1, *(model.downsampling,) * 3, modalities), jnp.float32)
    return _with_statistics(jax.eval_shape(model.init, jax.random.key(0), patch))


def _with_statistics(variables: dict[str, Any]) -> dict[str, Any]:
    """With none where the network has none."""
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
