"""A volume in slabs is the volume at once."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infant_seg_jax.models.skip_densenet import SkipDenseNet3D
from infant_seg_jax.models.variables import init_variables
from infant_seg_jax.prediction.slabs import cut, predict_slabs

SHAPE = (64, 16, 24)
SMALL = SkipDenseNet3D(growth_rate=4, stem_features=6, block_layers=(1, 2, 1))
ODD = SkipDenseNet3D(growth_rate=3, stem_features=5, block_layers=(3, 1))


def trained(model: SkipDenseNet3D, channels: int) -> dict[str, Any]:
    """Variables with statistics, scales and biases of their own, as after a training."""
    variables = init_variables(model, channels, seed=0)
    leaves, tree = jax.tree.flatten(variables)
    random = np.random.default_rng(2)
    # Positive, since variances are among them; near 1, so that every channel stays in play.
    changed = [
        leaf * random.uniform(0.5, 1.5, leaf.shape) + random.uniform(0, 0.2, leaf.shape)
        if leaf.ndim == 1
        else leaf
        for leaf in leaves
    ]
    return jax.tree.unflatten(tree, [jnp.asarray(leaf, jnp.float32) for leaf in changed])


@partial(jax.jit, static_argnums=0)
def network(model: SkipDenseNet3D, variables: dict[str, Any], images: jax.Array) -> jax.Array:
    return jax.nn.softmax(jnp.asarray(model.apply(variables, images)))


def scans(channels: int, count: int = 1) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, *SHAPE, channels)).astype(np.float32)


@given(extent=st.integers(1, 100), core=st.integers(1, 50), rim=st.integers(0, 8))
def test_cores_cover_an_axis_with_their_rims(extent: int, core: int, rim: int) -> None:
    slabs = cut(extent, core, rim)
    assert slabs.length <= extent
    starts = [min(i * slabs.core, extent - slabs.core) for i in range(slabs.count)]
    covered = np.zeros(extent, int)
    for start in starts:
        covered[start : start + slabs.core] += 1
        # Around its core there is a slab within the axis that has the rim, or the axis' end.
        first = min(max(start - slabs.rim, 0), extent - slabs.length)
        assert first <= max(start - rim, 0)
        assert first + slabs.length >= min(start + slabs.core + rim, extent)
    assert covered.min() == 1
    assert slabs.count == 1 or (slabs.core, slabs.rim) == (core, rim)


@pytest.mark.parametrize(
    ("model", "channels", "count", "cores"),
    [
        pytest.param(SMALL, 1, 1, (64, 32, 16, 8), marks=pytest.mark.slow),
        pytest.param(SMALL, 2, 2, (2, 2, 2, 1), marks=pytest.mark.slow),
        (SMALL, 1, 1, (24, 6, 10, 3)),
        (ODD, 2, 1, (10, 14, 7)),
    ],
)
def test_slabs_give_what_the_network_gives(
    model: SkipDenseNet3D, channels: int, count: int, cores: tuple[int, ...]
) -> None:
    variables, images = trained(model, channels), scans(channels, count)
    expected = network(model, variables, images)
    found = predict_slabs(model, variables, images, cores)
    assert found.dtype == jnp.float32
    assert np.asarray(expected).std() > 0.05
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_bfloat16_networks_are_predicted_in_slabs_too() -> None:
    model = ODD.clone(dtype=jnp.bfloat16)
    variables, images = trained(ODD, 2), scans(2)
    expected = network(model, variables, images)
    found = predict_slabs(model, variables, images, (10, 14, 7))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=0.05)
