"""Render a training example from a patch of an anatomy, on the device. Each has its own key.

The anatomy is moved and deformed, varied (thinner cortex, more fluid around the brain), rendered
with or without its head, and normalized like a real scan: by the mean and SD over everything that
is shown of the whole anatomy. Its census and the drawn contrast give both without rendering all of
it. The augmentations of real patches follow.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int32, Key, UInt8

from infant_seg_jax.augmentation import spatial
from infant_seg_jax.augmentation.spatial import AffineMotion
from infant_seg_jax.augmentation.splines import SmoothField, draw_field, evaluate_field
from infant_seg_jax.config import Config
from infant_seg_jax.data.labels import BACKGROUND, IGNORE, TISSUE_CLASSES, ClassSet
from infant_seg_jax.rendering import image
from infant_seg_jax.rendering.anatomies import STEPS_PER_MM
from infant_seg_jax.rendering.contrast import Prior
from infant_seg_jax.rendering.patches import MARGIN, AnatomyPatches
from infant_seg_jax.rendering.structures import BRAIN, Structure, classes_of_structures

CORTEX_MM = 1.75, 4.0
"""Thinned cortex: what is further than this from white matter becomes fluid."""
FLUID_MM = 1.5, 5.0
"""More fluid: what is nearer than this to the brain becomes fluid."""
TIGHT_MM = 0.75, 3.5
"""Stripped too closely: fluid is kept up to this distance."""
CRANIAL_MM = 12.0
"""Stripped well: fluid is kept up to this distance, which excludes most of the spinal canal."""
LOOSE_MM = 2.0, 9.0
"""Stripped too widely: everything is kept up to this distance."""

_FAR = 1e3
_WANDER_MM, _WANDER_WAVE_MM = 0.7, 12.0
_CHANCES = ("stripped", "tight", "loose", "thin_cortex", "more_fluid")


@flax.struct.dataclass
class Variant:
    """How an anatomy differs from its label map, and what of it is shown. All in mm.

    Attributes:
        cortex: the largest thickness of cortex.
        fluid: what is outside the brain becomes fluid up to this distance from it.
        inner: fluid is shown up to this distance.
        outer: everything is shown up to this distance.
        wander: how these distances vary from place to place, for cortex, fluid and what is shown.
    """

    cortex: Array
    fluid: Array
    inner: Array
    outer: Array
    wander: SmoothField


@flax.struct.dataclass
class DrawnExample:
    """All random draws of one example."""

    motion: AffineMotion
    displacement: SmoothField
    variant: Variant
    image: image.DrawnImage


def prior_of(config: Config) -> Prior:
    """The prior that a `config.rendering` describes."""
    first, *further = zip(config.ages[::2], config.ages[1::2], strict=True)
    return Prior(
        config.modality,
        *first,
        unordered=config.unordered,
        spread=config.spread,
        fluid_spread=config.fluid_spread,
        texture=config.texture,
        further=tuple(further),
    )


def quality_of(config: Config) -> image.Quality:
    """The quality of scans that a `config.rendering` describes."""
    return image.Quality(
        maturation=config.maturation,
        regions=config.regions,
        partial_volume=config.partial_volume,
        bias=config.bias,
        noise=config.noise,
    )


def render_batch(
    keys: Key[Array, " n"], patches: AnatomyPatches, config: Config, channels: int
) -> tuple[Float[Array, "n x y z c"], UInt8[Array, "n x y z"]]:
    """Render each patch with its key, according to `config.rendering`: images and labels."""
    x, y, z = (size - 2 * MARGIN for size in patches.structures.shape[1:])

    def one(key: Array, structures: Array, distances: Array, census: Array) -> tuple[Array, Array]:
        drawn = draw(key, config, (x, y, z), patches.spacing, channels)
        return apply(drawn, structures, distances, census, patches.classes)

    return jax.vmap(one)(keys, patches.structures, patches.distances, patches.census)


def draw(
    key: Key[Array, ""],
    config: Config,
    shape: tuple[int, int, int],
    spacing: float,
    channels: int = 1,
) -> DrawnExample:
    """Draw one example of `shape`, with voxels of `spacing` mm."""
    affine, elastic, variant, scan = jax.random.split(key, 4)
    return DrawnExample(
        motion=spatial.draw_affine(affine, config),
        displacement=spatial.draw_elastic(elastic, config, shape),
        variant=_draw_variant(variant, config, shape, spacing),
        image=image.draw(scan, prior_of(config), quality_of(config), shape, spacing, channels),
    )


def _draw_variant(
    key: Key[Array, ""], config: Config, shape: tuple[int, int, int], spacing: float
) -> Variant:
    *keys, wander = jax.random.split(key, 2 * len(_CHANCES) + 1)
    chosen = {
        name: jax.random.bernoulli(keys[index], config[name]) for index, name in enumerate(_CHANCES)
    }
    cortex, fluid, tight, loose = (
        jax.random.uniform(keys[len(_CHANCES) + index], (), minval=low, maxval=high)
        for index, (low, high) in enumerate((CORTEX_MM, FLUID_MM, TIGHT_MM, LOOSE_MM))
    )
    outer = jnp.where(chosen["loose"] & ~chosen["tight"], loose, -_FAR)
    return Variant(
        cortex=jnp.where(chosen["thin_cortex"], cortex, _FAR),
        fluid=jnp.where(chosen["more_fluid"], fluid, -_FAR),
        inner=jnp.where(chosen["stripped"], jnp.where(chosen["tight"], tight, CRANIAL_MM), _FAR),
        outer=jnp.where(chosen["stripped"], outer, _FAR),
        wander=draw_field(wander, shape, _WANDER_WAVE_MM / spacing, 3, _WANDER_MM),
    )


def apply(
    drawn: DrawnExample,
    structures: UInt8[Array, "X Y Z"],
    distances: UInt8[Array, "X Y Z"],
    census: Int32[Array, "s 256"],
    classes: ClassSet = TISSUE_CLASSES,
) -> tuple[Float[Array, "x y z c"], UInt8[Array, "x y z"]]:
    """Image and labels of a drawn example, from a patch `MARGIN` voxels larger on each side.

    Voxels from beyond that patch look like its border, and their label is `IGNORE`.
    """
    x, y, z = (size - 2 * MARGIN for size in structures.shape)
    points = spatial.elastic_points(drawn.displacement, spatial.voxel_points((x, y, z)))
    points = spatial.affine_points(drawn.motion, points, (x, y, z)) + MARGIN
    last = jnp.array(structures.shape, jnp.float32) - 1
    at = jnp.clip(points, 0, last)
    known = jnp.all(jnp.abs(points - at) <= 0.5, axis=-1)
    structures = spatial.nearest_labels(structures, at, Structure.OUTSIDE)
    mm = spatial.nearest_labels(distances, at, 255).astype(jnp.float32) / STEPS_PER_MM
    wander = evaluate_field(drawn.variant.wander, (x, y, z))
    structures, shown = vary(drawn.variant, structures, mm, wander)

    scan = image.apply(drawn.image, structures, shown)
    mean, deviation = image.statistics(drawn.image.contrast, shown_counts(drawn.variant, census))
    table = jnp.asarray(classes_of_structures(classes))
    labels = jnp.where(shown, table[structures], jnp.uint8(BACKGROUND))
    return (
        jnp.where(shown[..., None], (scan - mean) / deviation, 0),
        jnp.where(known, labels, jnp.uint8(IGNORE)),
    )


def vary(
    variant: Variant,
    structures: UInt8[Array, "*shape"],
    mm: Float[Array, "*shape"],
    wander: Float[Array, "*shape 3"] | float = 0.0,
) -> tuple[UInt8[Array, "*shape"], Bool[Array, "*shape"]]:
    """The structures of a variant, and which voxels of it are shown.

    Args:
        variant: the variant of one anatomy.
        structures: the structures of any voxels.
        mm: their distances, as in `PreparedAnatomy.distances`, but in mm.
        wander: added to the distances, for cortex, for fluid and for what is shown.
    """
    to_cortex, to_fluid, to_shown = jnp.moveaxis(jnp.broadcast_to(wander, (*mm.shape, 3)), -1, 0)
    cortex = structures == Structure.CORTEX
    around = structures >= BRAIN
    thinned = cortex & (mm + to_cortex > variant.cortex)
    flooded = around & (mm + to_fluid < variant.fluid)
    mm = jnp.where(cortex, 0, mm)
    structures = jnp.where(thinned | flooded, jnp.uint8(Structure.SULCAL_CSF), structures)
    fluid = structures == Structure.SULCAL_CSF
    around = structures >= BRAIN
    tissue = (structures != Structure.OUTSIDE) & ~around & ~fluid
    shown = tissue | (fluid & (mm + to_shown <= variant.inner))
    shown |= (fluid | around) & (mm + to_shown <= variant.outer)
    return structures, shown


def shown_counts(variant: Variant, census: Int32[Array, "s 256"]) -> Float[Array, " s"]:
    """The number of voxels of each structure that a variant of a whole anatomy shows."""
    structures = jnp.broadcast_to(
        jnp.arange(len(Structure), dtype=jnp.uint8)[:, None], (len(Structure), 256)
    )
    mm = jnp.broadcast_to(jnp.arange(256, dtype=jnp.float32) / STEPS_PER_MM, structures.shape)
    structures, shown = vary(variant, structures, mm)
    counts = jnp.where(shown, census, 0).astype(jnp.float32)
    same = structures[..., None] == np.arange(len(Structure))
    return jnp.sum(jnp.where(same, counts[..., None], 0), axis=(0, 1))
