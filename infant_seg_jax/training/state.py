"""What training carries from one step to the next."""

from typing import TYPE_CHECKING, Any

import flax.struct
import jax
import jax.numpy as jnp

from infant_seg_jax.models.factory import Network

if TYPE_CHECKING:  # Predictions come this way and need none; it takes long to import.
    import optax

RAW, AVERAGED = "raw", "averaged"
"""The weights that a step left, and their moving average."""


@flax.struct.dataclass
class TrainState:
    """Parameters, batch statistics, optimiser state, and the number of steps taken (int32).

    `average` is the moving average of parameters and batch statistics, under these two names, or
    None where the run keeps none.
    """

    step: Any
    params: Any
    batch_stats: Any
    opt_state: Any
    average: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """What the network is applied with."""
        return {"params": self.params, "batch_stats": self.batch_stats}


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


def new_state(
    variables: dict[str, Any],
    optimizer: "optax.GradientTransformation",
    average: bool = False,
) -> TrainState:
    """Step 0 from the given variables, with a fresh optimiser; keeps an average if asked to."""
    names = ("params", "batch_stats")
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(variables["params"]),
        # A copy, because a step uses up what it is given, and nothing twice.
        average={name: jax.tree.map(jnp.copy, variables[name]) for name in names}
        if average
        else None,
    )


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
