"""The brightness of structures by modality and age, and how much it varies.

The tables follow published descriptions of how contrast matures (Barkovich et al., Radiology 166,
1988; Paus et al., Brain Research Bulletin 54, 2001; Dubois et al., Neuroscience 276, 2014). In a
newborn, white matter is darker than gray matter in T1w and brighter in T2w. The two are equally
bright at about six months; from then on the contrast is reversed. The cerebellum and the brainstem
mature first. Deep white matter is the least mature at birth and matures before the rest of the
white matter.

The values at birth follow ratios to the cortex, measured on eleven newborns. T1w: white matter
0.94, deep white matter 0.91, CSF (with partial volume) 0.76, deep gray matter 1.04, brainstem 1.09.
T2w: white matter 1.34, deep white matter 1.54, CSF 2.2, brainstem 0.83. The values at other ages
are not measurements; they only reproduce the order of the tissues.
"""

from dataclasses import dataclass

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Integer, Key

from infant_seg_jax.rendering.structures import BRAIN, Structure

MODALITIES = ("T1w", "T2w")

ADULT_MONTHS = 60.0
"""The last age of the tables; from here on the contrast is that of an adult."""

_MONTHS = (0.0, 3.0, 6.0, 9.0, 12.0, 24.0, ADULT_MONTHS)
_T1W = {
    Structure.SULCAL_CSF: (0.38, 0.34, 0.30, 0.28, 0.27, 0.26, 0.25),
    Structure.CORTEX: (0.62, 0.60, 0.62, 0.63, 0.64, 0.66, 0.68),
    Structure.DEEP_GRAY: (0.65, 0.66, 0.68, 0.70, 0.72, 0.76, 0.80),
    Structure.WHITE: (0.57, 0.57, 0.61, 0.70, 0.80, 0.92, 0.97),
    Structure.DEEP_WHITE: (0.55, 0.60, 0.68, 0.80, 0.88, 0.97, 1.00),
    Structure.CEREBELLAR_CORTEX: (0.62, 0.62, 0.64, 0.65, 0.66, 0.67, 0.68),
    Structure.CEREBELLAR_WHITE: (0.64, 0.70, 0.78, 0.86, 0.92, 0.97, 1.00),
    Structure.BRAINSTEM: (0.68, 0.71, 0.76, 0.80, 0.84, 0.87, 0.90),
}
"""An adult's white matter is 1."""
_T2W = {
    Structure.SULCAL_CSF: (1.00, 1.00, 1.00, 1.00, 1.00, 1.00, 1.00),
    Structure.CORTEX: (0.46, 0.51, 0.56, 0.56, 0.56, 0.55, 0.54),
    Structure.DEEP_GRAY: (0.43, 0.47, 0.52, 0.52, 0.51, 0.50, 0.48),
    Structure.WHITE: (0.62, 0.62, 0.57, 0.52, 0.49, 0.44, 0.40),
    Structure.DEEP_WHITE: (0.70, 0.60, 0.52, 0.48, 0.46, 0.42, 0.38),
    Structure.CEREBELLAR_CORTEX: (0.47, 0.51, 0.54, 0.54, 0.54, 0.54, 0.53),
    Structure.CEREBELLAR_WHITE: (0.48, 0.45, 0.43, 0.41, 0.40, 0.39, 0.38),
    Structure.BRAINSTEM: (0.39, 0.42, 0.44, 0.43, 0.42, 0.41, 0.40),
}
"""CSF is 1."""


_AROUND = {
    Structure.BONE: (0.02, 0.30),
    Structure.MARROW: (0.10, 1.10),
    Structure.FAT: (0.15, 1.20),
    Structure.MUSCLE: (0.15, 0.80),
    Structure.VESSELS: (0.02, 0.90),
    Structure.EYES: (0.05, 1.10),
}
"""Lowest and highest brightness. Here sequence and coil matter more than age and modality."""


def _table(rows: dict[Structure, tuple[float, ...]]) -> np.ndarray:
    rows = rows | {
        **{structure: (sum(ends) / 2,) * len(_MONTHS) for structure, ends in _AROUND.items()},
        Structure.OUTSIDE: (0.0,) * len(_MONTHS),
        Structure.VENTRICLES: rows[Structure.SULCAL_CSF],
        Structure.MIXED: rows[Structure.DEEP_GRAY],
    }
    return np.array([rows[structure] for structure in Structure], np.float32)


_MEANS = np.stack([_table(_T1W), _table(_T2W)])


@flax.struct.dataclass
class Contrast:
    """How the structures of one scan look, in each channel.

    Attributes:
        means: float32 `(s, c)`, by `Structure`; 0 is no signal, about 1 is the brightest tissue.
        deviations: float32 `(s, c)`, the SD within a structure.
    """

    means: Array
    deviations: Array


@dataclass(frozen=True)
class Prior:
    """The distribution of contrasts.

    Attributes:
        modality: one of `MODALITIES`, or `"any"`.
        youngest, oldest: ages in months.
        unordered: the chance that the brightness of each structure is drawn independently of age
            and modality (Billot et al., Medical Image Analysis 86, 2023).
        spread: SD of a tissue's mean between scans.
        fluid_spread: the same for CSF, whose brightness depends more on the sequence.
        texture: the largest SD of a structure within a scan.
        further: further ranges of ages in months; each is as likely as that from youngest to
            oldest.
    """

    modality: str = "any"
    youngest: float = 0.0
    oldest: float = ADULT_MONTHS
    unordered: float = 0.0
    spread: float = 0.02
    fluid_spread: float = 0.02
    texture: float = 0.06
    further: tuple[tuple[float, float], ...] = ()


def typical_means(
    modality: Integer[Array, ""] | int, months: Float[Array, ""] | float
) -> Float[Array, " s"]:
    """Brightness of each structure at an age, interpolated linearly between the table's ages.

    Args:
        modality: an index into `MODALITIES`.
        months: the age; ages beyond the table's last are treated as the last.
    """
    table = jnp.asarray(_MEANS)[modality]
    return jax.vmap(lambda row: jnp.interp(jnp.asarray(months), jnp.array(_MONTHS), row))(table)


def draw_contrast(key: Key[Array, ""], prior: Prior, channels: int = 1) -> Contrast:
    """Draw one scan's contrast. Channels may differ in modality but have the same age."""
    age, kind, *keys = jax.random.split(key, 2 + channels)
    # Contrast changes fastest in the first months, so the square root of the age is uniform.
    low, high = np.sqrt([(prior.youngest, prior.oldest), *prior.further]).T.astype(np.float32)
    if prior.further:
        age, which = jax.random.split(age)
        index = jax.random.randint(which, (), 0, len(low))
        low, high = jnp.asarray(low)[index], jnp.asarray(high)[index]
    else:
        low, high = low[0], high[0]
    months = jax.random.uniform(age, (), minval=low, maxval=high) ** 2
    unordered = jax.random.bernoulli(kind, prior.unordered)
    drawn = [_draw_channel(key, prior, months, unordered) for key in keys]
    means, deviations = (jnp.stack(part, axis=-1) for part in zip(*drawn, strict=True))
    return Contrast(means, deviations)


def _draw_channel(
    key: Key[Array, ""], prior: Prior, months: Float[Array, ""], unordered: Array
) -> tuple[Array, Array]:
    modality, jitter, anything, texture = jax.random.split(key, 4)
    if prior.modality == "any":
        index = jax.random.randint(modality, (), 0, len(MODALITIES))
    else:
        index = MODALITIES.index(prior.modality)
    ordered = typical_means(index, months)[:BRAIN]
    fluids = np.isin(np.arange(BRAIN), (Structure.SULCAL_CSF, Structure.VENTRICLES))
    spread = np.where(fluids, prior.fluid_spread, prior.spread)
    ordered += spread * jax.random.normal(jitter, (BRAIN,))
    means = jnp.where(unordered, jax.random.uniform(anything, (BRAIN,)), ordered)
    # The ventricles are about as bright as sulcal CSF.
    fluid = means[Structure.SULCAL_CSF]
    means = means.at[Structure.VENTRICLES].set(fluid + 0.3 * (means[Structure.VENTRICLES] - fluid))
    # Keys of their own, so that the brain looks the same with and without a head.
    lows, highs = np.array([_AROUND[structure] for structure in list(Structure)[BRAIN:]]).T
    around, around_texture = (jax.random.fold_in(key, 1) for key in (anything, texture))
    around = jax.random.uniform(around, lows.shape, minval=lows, maxval=highs)
    means = jnp.concatenate([jnp.clip(means, 0.02, 1.2).at[Structure.OUTSIDE].set(0), around])
    deviations = jnp.concatenate(
        [
            jax.random.uniform(texture, (BRAIN,), maxval=prior.texture),
            jax.random.uniform(around_texture, lows.shape, maxval=2 * prior.texture),
        ]
    )
    return means, deviations.at[Structure.OUTSIDE].set(0)
