"""What training carries from one step to the next, and a checkpoint holds."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:  # Predictions come this way and need none; it takes long to import.
    import optax


@flax.struct.dataclass
class TrainState:
    """Parameters, batch statistics, optimizer state, and the number of steps taken (int32).

    `average` is the moving average of parameters and batch statistics, under these two names, or
    None where the run keeps none. `clock` has the `seconds` trained so far (float32), or is None
    where no time limit is set.
    """

    step: Any
    params: Any
    batch_stats: Any
    opt_state: Any
    average: Any = None
    clock: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """What the network is applied with."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    def after(self, seconds: float) -> "TrainState":
        """The same after so many seconds of training; as it is where no time limit is set."""
        if self.clock is None:
            return self
        return replace(self, clock={"seconds": np.asarray(seconds, np.float32)})


def new_state(
    variables: dict[str, Any],
    optimizer: "optax.GradientTransformation",
    average: bool = False,
    timed: bool = False,
) -> TrainState:
    """Step 0 from the given variables, with a fresh optimizer.

    Args:
        variables: `params` and `batch_stats`.
        optimizer: of the run.
        average: whether to keep a moving average.
        timed: whether the run has a time limit.
    """
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
        clock={"seconds": jnp.zeros(())} if timed else None,
    )
