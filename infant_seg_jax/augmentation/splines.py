"""Smooth random fields: uniform cubic B-splines with random coefficients on a coarse grid.

The grid has a point every `spacing` voxels, the second of them on voxel 0, and reaches one point
beyond the patch on either side. All of this is known when a program is traced, so that the basis is
a constant and the field three small matrix products.
"""

import math

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Float32, Key

_POINT_GAIN = math.sqrt(8.0)
"""Undoes that a field's SD at a grid point is 1 / sqrt(8) of its coefficients': along each axis
their weights there are 1/6, 2/3 and 1/6, whose squares sum to 1/2."""


@flax.struct.dataclass
class SmoothField:
    """A field of one or more components.

    Attributes:
        coefficients: float32 `(i, j, k, c)`.
        spacing: voxels between the points of the grid.
    """

    coefficients: Array
    spacing: float = flax.struct.field(pytree_node=False)


def draw_field(
    key: Key[Array, ""],
    shape: tuple[int, int, int],
    spacing: float,
    components: int,
    deviation: float,
) -> SmoothField:
    """A field of mean 0, with the SD `deviation` at each point of the grid."""
    grid = (*(math.ceil((size - 1) / spacing) + 3 for size in shape), components)
    normal = jax.random.normal(key, (math.prod(grid),))  # Compiles in a fifth of the time so.
    return SmoothField(_POINT_GAIN * deviation * normal.reshape(grid), spacing)


def evaluate_field(field: SmoothField, shape: tuple[int, int, int]) -> Float[Array, "x y z c"]:
    """The field at each voxel of a patch; its second derivatives are continuous.

    Weights are positive and sum to 1: equal coefficients make a constant field, and no value leaves
    the coefficients' range.
    """
    x, y, z = (
        _basis(size, points, field.spacing)
        for size, points in zip(shape, field.coefficients.shape[:3], strict=True)
    )
    exact = lax.Precision.HIGHEST  # Some accelerators round the factors of products by default.
    values = jnp.einsum("zk,ijkc->ijzc", z, field.coefficients, precision=exact)
    values = jnp.einsum("yj,ijzc->iyzc", y, values, precision=exact)
    return jnp.einsum("xi,iyzc->xyzc", x, values, precision=exact)


def _basis(size: int, points: int, spacing: float) -> Float32[np.ndarray, "{size} {points}"]:
    """How much each voxel of an axis takes of each point's coefficient."""
    at = np.arange(size)[:, None] / spacing + 1
    distance = np.abs(at - np.arange(points))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.maximum(2 - distance, 0) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)
