"""Where things are: mirroring, affine and elastic motion, and the one resampling of the latter two.

Motions are described by points: for each voxel of the result, where in the patch it takes its value
from, in voxels. They are composed as points, and image and labels are then resampled once.
Everything is in voxels: where these are not cubes, a rotation also shears a little.
"""

from collections.abc import Sequence
from itertools import product

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Key, UInt8

from infant_seg_jax.augmentation.augmentation import Augmentation, Shape, listed
from infant_seg_jax.augmentation.splines import SmoothField, draw_field, evaluate_field
from infant_seg_jax.config import Config
from infant_seg_jax.data.labels import IGNORE


@flax.struct.dataclass
class AffineMotion:
    """How one patch moves about its center: sheared, then scaled, rotated, and translated.

    Attributes:
        rotation: float32 `(3,)`, degrees about x, then y, then z, by the right-hand rule.
        scale: float32 `(3,)`, what lengths along x, y, z are multiplied by.
        shear: float32 `(3,)`: how far x moves per voxel of y, x per voxel of z, y per voxel of z.
        translation: float32 `(3,)`, voxels towards right, anterior, superior.
    """

    rotation: Array
    scale: Array
    shear: Array
    translation: Array


def mirror(
    image: Float[Array, "x y z c"], labels: UInt8[Array, "x y z"]
) -> tuple[Float[Array, "x y z c"], UInt8[Array, "x y z"]]:
    """Exchange left and right (axis 0 of RAS), exactly."""
    return image[::-1], labels[::-1]


def draw_affine(key: Key[Array, ""], config: Config) -> AffineMotion:
    """Uniform within the config's ranges, along or about each axis by itself."""
    keys = jax.random.split(key, 4)

    def draw(index: int, reach: float, middle: float = 0.0) -> Array:
        return middle + jax.random.uniform(keys[index], (3,), minval=-reach, maxval=reach)

    return AffineMotion(
        rotation=draw(0, config.rotation),
        scale=draw(1, config.scale, middle=1.0),
        shear=draw(2, config.shear),
        translation=draw(3, config.translation),
    )


def affine_matrix(motion: AffineMotion) -> Float[Array, "3 3"]:
    """What the motion multiplies an offset from the patch's center by, before it is translated."""
    (sx, sy, sz), (cx, cy, cz) = (f(jnp.deg2rad(motion.rotation)) for f in (jnp.sin, jnp.cos))
    about_x = jnp.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = jnp.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = jnp.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    xy, xz, yz = motion.shear
    shear = jnp.array([[1, xy, xz], [0, 1, yz], [0, 0, 1]])
    rotation = _product(about_z, _product(about_y, about_x))
    return _product(rotation, motion.scale[:, None] * shear)


def affine_points(
    motion: AffineMotion, points: Float[Array, "x y z 3"], shape: tuple[int, int, int]
) -> Float[Array, "x y z 3"]:
    """Where what the motion brings to `points` comes from, in a patch of `shape`."""
    columns = affine_matrix(motion).T
    crosses = jnp.stack([jnp.cross(columns[i - 2], columns[i - 1]) for i in range(3)])
    inverse = crosses / jnp.sum(crosses[0] * columns[0])
    center = (jnp.array(shape, jnp.float32) - 1) / 2
    offset = points - center - motion.translation
    return center + jnp.sum(offset[..., None, :] * inverse, axis=-1)


def draw_elastic(key: Key[Array, ""], config: Config, shape: tuple[int, int, int]) -> SmoothField:
    """A smooth displacement along x, y and z, in voxels.

    Free-form deformation by cubic B-splines (Rueckert et al., 1999). It hardly ever folds while the
    displacement's SD is below a fifth of the spacing.
    """
    return draw_field(key, shape, config.elastic_spacing, 3, config.elastic_displacement)


def elastic_points(
    displacement: SmoothField, points: Float[Array, "x y z 3"]
) -> Float[Array, "x y z 3"]:
    """The points, each displaced by the field's value at its voxel."""
    x, y, z, _ = points.shape
    return points + evaluate_field(displacement, (x, y, z))


def voxel_points(shape: tuple[int, int, int]) -> Float[Array, "{shape[0]} {shape[1]} {shape[2]} 3"]:
    """The points of a patch that does not move: each voxel's own indices."""
    return jnp.stack(
        jnp.meshgrid(*(jnp.arange(n, dtype=jnp.float32) for n in shape), indexing="ij"), -1
    )


def resample(
    image: Float[Array, "x y z c"], labels: UInt8[Array, "x y z"], points: Float[Array, "x y z 3"]
) -> tuple[Float[Array, "x y z c"], UInt8[Array, "x y z"]]:
    """Image (linear) and labels (nearest neighbor) at `points`.

    - A voxel is outside the brain, exactly 0, where the nearest voxel is, as with labels; inside,
      only brain voxels are averaged. Averaging over the border as well would lay a rim of 0, which
      is the brain's mean intensity, around it.
    - What comes from beyond the patch is 0 in the image and `IGNORE` in the labels: nothing is
      known of it, and to call it background would teach that brains end at a plane.
    """
    sizes = image.shape[:3]
    flat = image.reshape(-1, image.shape[-1])
    new_labels = nearest_labels(labels, points, IGNORE)
    at, inside = _nearest(points, sizes)
    brain = inside[..., None] & (flat[at] != 0)

    lower = jnp.floor(points)
    upper_share = points - lower
    lower = lower.astype(jnp.int32)
    total = weight = jnp.zeros(())
    for corner in product((0, 1), repeat=3):
        at, known = _flat_index([lower[..., axis] + corner[axis] for axis in range(3)], sizes)
        shares = [
            upper_share[..., i] if c else 1 - upper_share[..., i] for i, c in enumerate(corner)
        ]
        share = jnp.where(known, shares[0] * shares[1] * shares[2], 0)[..., None]
        values = flat[at]
        total += share * values
        weight += jnp.where(values != 0, share, 0)
    # The nearest voxel alone weighs an eighth or more.
    return jnp.where(brain, total / jnp.where(brain, weight, 1), 0), new_labels


def nearest_labels(
    labels: UInt8[Array, "x y z"], points: Float[Array, "i j k 3"], beyond: int
) -> UInt8[Array, "i j k"]:
    """The label of the voxel nearest to each point; `beyond` for points outside the patch."""
    at, inside = _nearest(points, labels.shape)
    return jnp.where(inside, labels.reshape(-1)[at], jnp.uint8(beyond))


def _nearest(points: Float[Array, "x y z 3"], shape: Sequence[int]) -> tuple[Array, Array]:
    voxels = [jnp.floor(points[..., axis] + 0.5).astype(jnp.int32) for axis in range(3)]
    return _flat_index(voxels, shape)


def _flat_index(indices: Sequence[Array], shape: Sequence[int]) -> tuple[Array, Array]:
    """Indices into the flattened patch, moved into it if need be; and which are in it."""
    inside = jnp.ones((), bool)
    flat = jnp.zeros((), jnp.int32)
    for index, size in zip(indices, shape, strict=True):
        inside &= (index >= 0) & (index < size)
        flat = flat * size + jnp.clip(index, 0, size - 1)
    return flat, inside


def _product(a: Float[Array, "3 3"], b: Float[Array, "3 3"]) -> Float[Array, "3 3"]:
    """As `a @ b`, whose factors some accelerators round by default."""
    return jnp.sum(a[:, :, None] * b[None], axis=1)


def _describe_affine(motion: AffineMotion, shape: Shape) -> str:
    return (
        f"turned {listed(motion.rotation, 0)} degrees, scaled {listed(motion.scale)}, "
        f"sheared {listed(motion.shear)}, moved {listed(motion.translation, 1)}"
    )


def _describe_elastic(displacement: SmoothField, shape: Shape) -> str:
    lengths = np.linalg.norm(evaluate_field(displacement, shape), axis=-1)
    return f"displaced by up to {lengths.max():.1f} voxels"


FLIP = Augmentation(
    "flip",
    draw=lambda key, config, shape, channels: (),
    describe=lambda values, shape: "mirrored",
)
AFFINE = Augmentation(
    "affine",
    draw=lambda key, config, shape, channels: draw_affine(key, config),
    describe=_describe_affine,
)
ELASTIC = Augmentation(
    "elastic",
    draw=lambda key, config, shape, channels: draw_elastic(key, config, shape),
    describe=_describe_elastic,
)
AUGMENTATIONS = (FLIP, AFFINE, ELASTIC)
