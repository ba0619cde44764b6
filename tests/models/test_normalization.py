"""Batch normalization against Flax's, and volumes side by side against the joined one."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infant_seg_jax.models.layers import Conv, PointwiseOfParts
from infant_seg_jax.models.normalization import EPSILON, BatchNorm

WIDTHS = (3, 1, 5)


def parts() -> list[jax.Array]:
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(2, 3, (2, 4, 3, 5, width)), jnp.float32) for width in WIDTHS]


def random_like(tree):
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: rng.uniform(0.5, 2, leaf.shape).astype(np.float32), tree)


@pytest.mark.parametrize("running", [False, True])
def test_outputs_gradients_and_statistics_equal_those_of_flax(running):
    x = jnp.concatenate(parts(), axis=-1)
    theirs = nn.BatchNorm(momentum=0.9, epsilon=EPSILON)
    variables = random_like(theirs.init(jax.random.key(0), x, True))

    def act(x, params, norm):
        given = {"params": params, "batch_stats": variables["batch_stats"]}
        return norm.apply(given, x, running, mutable=["batch_stats"])

    results = []
    for norm in (BatchNorm(), theirs):
        (y, updates), pull_back = jax.vjp(partial(act, norm=norm), x, variables["params"])
        no_updates = jax.tree.map(jnp.zeros_like, updates)
        results.append((y, updates, pull_back((jnp.cos(y), no_updates))))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), *results)


def test_parts_are_normalized_as_if_they_were_joined():
    given, norm = parts(), BatchNorm()
    joined = jnp.concatenate(given, axis=-1)
    variables = random_like(norm.init(jax.random.key(0), joined))
    whole, updates = norm.apply(variables, joined, False, mutable=["batch_stats"])
    apart, other = norm.apply(
        variables, tuple(given), False, mutable=["batch_stats"], method="normalize_parts"
    )
    np.testing.assert_array_equal(np.concatenate(apart, axis=-1), whole)
    jax.tree.map(np.testing.assert_array_equal, updates, other)


def test_a_part_in_evaluation_is_what_it_is_of_all_parts():
    given, norm, conv = parts(), BatchNorm(), PointwiseOfParts(4)
    variables = random_like(norm.init(jax.random.key(0), jnp.concatenate(given, axis=-1)))
    together: Any = norm.apply(variables, tuple(given), method="normalize_parts")
    weights = random_like(conv.init(jax.random.key(0), given))
    products = []
    for first, part, expected in zip((0, 3, 4), given, together, strict=True):
        found: Any = norm.apply(variables, first, part, method="normalize_part")
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        products.append(conv.apply(weights, first, part, method="product_of_part"))
    whole: Any = conv.apply(weights, given)
    expected = whole - weights["params"]["bias"]
    np.testing.assert_allclose(sum(products), expected, rtol=1e-4, atol=1e-4)


def test_statistics_of_bfloat16_are_summed_in_float32():
    x = np.full((1, 64, 64, 8, 1), 1.5)
    x[:, ::2] = 0.5
    x = jnp.asarray(x, jnp.bfloat16)
    norm = BatchNorm(dtype=jnp.bfloat16)
    results: Any = norm.init_with_output(jax.random.key(0), x, False)
    y, updates = results
    assert y.dtype == jnp.bfloat16 and updates["batch_stats"]["mean"].dtype == jnp.float32
    np.testing.assert_allclose(np.unique(np.asarray(y, np.float32)), [-1, 1], atol=0.01)


def test_a_pointwise_convolution_of_parts_is_that_of_the_joined_volume():
    given = parts()
    joined = jnp.concatenate(given, axis=-1)
    conv, of_parts = Conv(4, 1, use_bias=True), PointwiseOfParts(4)
    variables = conv.init(jax.random.key(0), joined)
    jax.tree.map(np.testing.assert_array_equal, variables, of_parts.init(jax.random.key(0), given))
    variables = random_like(variables)
    found: Any = of_parts.apply(variables, given)
    expected: Any = conv.apply(variables, joined)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
