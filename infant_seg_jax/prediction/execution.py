"""A plan carried out, and with smaller parts where it took more memory than there was."""

from typing import cast

import jax
import numpy as np
from jax import Array
from jaxtyping import Float, Float32

from infant_seg_jax.compilation import jit
from infant_seg_jax.models.factory import Network
from infant_seg_jax.models.skip_densenet import SkipDenseNet3D
from infant_seg_jax.prediction.planning import (
    OnePassPlan,
    Plan,
    WholePlan,
    WindowPlan,
    padded_shape,
    smaller,
    whole_plan,
)
from infant_seg_jax.prediction.slabs import Variables, predict_slabs
from infant_seg_jax.prediction.windows import predict_windows


def execute(
    model: Network, variables: Variables, image: Float[np.ndarray, "x y z c"], plan: Plan
) -> Float32[np.ndarray, "x y z k"]:
    """Class probabilities of a prepared image."""
    if isinstance(plan, WindowPlan):
        whole = whole_plan(model, plan.window)
        return predict_windows(
            lambda windows: np.asarray(_predict(model, variables, windows, whole)),
            image,
            model.num_classes,
            plan.window,
            plan.overlap,
            plan.batch_size,
        )
    x, y, z, channels = image.shape
    padded = np.zeros((1, *padded_shape(model, (x, y, z)), channels), np.float32)
    padded[0, :x, :y, :z] = image
    return np.asarray(_predict(model, variables, padded, plan))[0, :x, :y, :z]


def _predict(
    model: Network,
    variables: Variables,
    images: Float[np.ndarray, "n x y z c"],
    plan: WholePlan | OnePassPlan,
) -> Float[Array, "n x y z k"]:
    if isinstance(plan, OnePassPlan):
        return _PROGRAMS[model.onednn](model, variables, images)
    assert isinstance(model, SkipDenseNet3D)
    return predict_slabs(model, variables, images, plan.cores)


def _predict_at_once(
    model: Network, variables: Variables, images: Float[Array, "n x y z c"]
) -> Float[Array, "n x y z k"]:
    return jax.nn.softmax(cast(Array, model.apply(variables, images)))


_PROGRAMS = {
    onednn: jit(_predict_at_once, onednn=onednn, static_argnums=0) for onednn in (False, True)
}


def execute_or_shrink(
    model: Network,
    variables: Variables,
    image: Float[np.ndarray, "x y z c"],
    plan: Plan,
    windows: WindowPlan,
) -> tuple[Float32[np.ndarray, "x y z k"], Plan]:
    """As `execute`; where memory runs out, with a plan of half the size, and again.

    Args:
        model: the network.
        variables: its parameters and batch statistics.
        image: a prepared image.
        plan: how to predict it.
        windows: what to try when slabs cannot be thinner.

    Returns:
        The probabilities, and the plan that they were predicted with.

    Raises:
        JaxRuntimeError: another error, or memory runs out even with the least plan.
    """
    while True:
        try:
            return execute(model, variables, image, plan), plan
        except jax.errors.JaxRuntimeError as error:
            less = smaller(model, plan, windows)
            if "RESOURCE_EXHAUSTED" not in str(error) or less is None:
                raise
        # Out of the clause above, so that the error no longer keeps what was in memory.
        plan = less
