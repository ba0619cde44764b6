"""What training carries from one step to the next, and a checkpoint holds."""

from typing import TYPE_CHECKING, Any

import flax.struct
import jax
import jax.numpy as jnp

if TYPE_CHECKING:  # Predictions come this way and need none; it takes long to import.
    import optax


@flax.struct.dataclass
class TrainState:
    """Parameters, batch statistics, optimizer state, and the number of steps taken (int32).

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


def new_state(
    variables: dict[str, Any],
    optimizer: "optax.GradientTransformation",
    average: bool = False,
) -> TrainState:
    """Step 0 from the given variables, with a fresh optimizer; keeps an average if asked to."""
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
