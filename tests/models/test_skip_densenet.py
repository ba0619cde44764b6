"""The network by itself: its sizes, initial values, dropout and batch statistics."""

import math
from functools import cache
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from infant_seg_jax.models.layers import dropout
from infant_seg_jax.models.skip_densenet import DenseLayer, SkipDenseNet3D

SMALL = SkipDenseNet3D(growth_rate=4, stem_features=8, block_layers=(1, 2, 1, 1))
KEYS = jax.random.split(jax.random.key(3), 3)


def shapes(model: SkipDenseNet3D, shape: tuple[int, ...]) -> dict[str, Any]:
    """The variables' shapes and dtypes, without computing them."""
    return _shapes(cast(Any, model), shape)


@cache
def _shapes(model: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    return jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))


@cache
def initial_variables() -> dict[str, Any]:
    """Variables of `SMALL` for two channels."""
    return jax.device_get(jax.jit(SMALL.init)(jax.random.key(1), jnp.zeros((1, 16, 16, 16, 2))))


def small_variables() -> dict[str, Any]:
    """Variables of `SMALL` with running statistics that are not the initial ones."""
    variables = initial_variables()
    rng = np.random.default_rng(1)
    statistics = jax.tree.map(
        lambda leaf: rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32), variables["batch_stats"]
    )
    return {"params": variables["params"], "batch_stats": statistics}


def patches(count: int = 3) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(count, 32, 16, 16, 2)).astype(np.float32)


@jax.jit
def train(variables: Any, x: Any, keys: Any) -> Any:
    """Logits, and the updated statistics with what each dense layer yielded."""
    return SMALL.apply(
        variables,
        x,
        train=True,
        example_keys=keys,
        mutable=["batch_stats", "intermediates"],
        capture_intermediates=lambda module, _: isinstance(module, DenseLayer),
    )


@jax.jit
def evaluate(variables: Any, x: Any, keys: Any) -> Any:
    """Logits, and the statistics, which have no reason to move."""
    return SMALL.apply(variables, x, example_keys=keys, mutable=["batch_stats"])


@pytest.mark.parametrize(("channels", "count"), [(2, 1_552_256), (1, 1_551_392)])
def test_parameter_count(channels, count):
    params = shapes(SkipDenseNet3D(), (1, 16, 16, 16, channels))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def test_channels_of_blocks_transitions_and_upsampling():
    params = shapes(SkipDenseNet3D(), (1, 16, 16, 16, 2))["params"]
    channels = []
    for block in range(1, 5):
        channels.append(params[f"block{block}"]["layer1"]["norm1"]["scale"].size)
        kernel = params[f"upsample{block}"]["kernel"]
        assert kernel.shape[:3] == (2**block + 2,) * 3 and kernel.shape[4] == 4
        channels.append(4 * kernel.shape[3])
        if block < 4:
            transition = params[f"transition{block}"]
            assert transition["norm"]["scale"].size == channels[-1]
            assert transition["pool"]["kernel"].shape == (2, 2, 2) + (channels[-1] // 2,) * 2
    assert channels == [32, 96, 48, 112, 56, 120, 60, 124]
    assert params["head_norm"]["scale"].size == 4 * 4 + 32


def test_only_the_transitions_pooling_and_the_classifier_have_biases():
    params = shapes(SkipDenseNet3D(), (1, 16, 16, 16, 2))["params"]
    paths, _ = jax.tree.flatten_with_path(params)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    with_bias = [n for n in names if n.endswith("/bias") and n.replace("bias", "kernel") in names]
    assert with_bias == ["head_conv/bias"] + [f"transition{i}/pool/bias" for i in (1, 2, 3)]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    ("shape", "num_classes"), [((2, 16, 48, 32, 1), 4), ((1, 64, 64, 64, 2), 3)]
)
def test_logits_are_float32_of_the_inputs_extent_whatever_the_computation(
    shape, num_classes, dtype
):
    model = SkipDenseNet3D(num_classes=num_classes, dtype=dtype)
    variables = shapes(model, shape)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    logits = jax.eval_shape(model.apply, variables, jax.ShapeDtypeStruct(shape, jnp.float32))
    assert (logits.shape, logits.dtype) == ((*shape[:4], num_classes), jnp.float32)


@pytest.mark.parametrize("shape", [(24, 16, 16), (16, 17, 16), (16, 16, 8)])
def test_extents_that_do_not_halve_four_times_are_an_error(shape):
    with pytest.raises(ValueError, match=rf"\({shape[0]}, {shape[1]}, {shape[2]}\).* 16"):
        shapes(SkipDenseNet3D(), (1, *shape, 1))


def test_extents_need_halve_only_once_for_each_block():
    model = SkipDenseNet3D(block_layers=(1, 1))
    assert model.downsampling == 4
    assert shapes(model, (1, 4, 8, 12, 1))
    with pytest.raises(ValueError, match=r"8, 10.* 4"):
        shapes(model, (1, 4, 8, 10, 1))


def test_initial_values_are_he_normal():
    variables = initial_variables()
    # Channels before upsampling are 12, 14, 11 and 9.
    groups = {f"upsample{i}/kernel": count for i, count in enumerate((4, 2, 1, 1), start=1)}
    paths, _ = jax.tree.flatten_with_path(variables["params"])
    standardized = []
    for path, values in paths:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name.endswith("/kernel"):
            assert (name in groups) == ("upsample" in name)
            taps, channels = math.prod(values.shape[:3]), values.shape[3]
            if name in groups:
                # PyTorch's fan-in of a transposed convolution: the classes of a group.
                fan_in = taps * SMALL.num_classes // groups[name]
            else:
                fan_in = taps * channels
            z = values / math.sqrt(2 / fan_in)
            # Five standard errors of a normal sample's mean and standard deviation.
            assert abs(z.mean()) < 5 / math.sqrt(z.size), name
            assert abs(z.std() - 1) < 5 / math.sqrt(2 * z.size), name
            standardized.append(z.ravel())
        else:
            assert np.all(values == (1 if name.endswith("/scale") else 0)), name
    assert len(standardized) == 3 + 1 + 2 * 5 + 4 + 2 * 3 + 1
    pooled = np.concatenate(standardized)
    assert abs(pooled.std() - 1) < 5 / math.sqrt(2 * pooled.size)
    # No two kernels share their draws.
    assert len({z[:20].tobytes() for z in standardized}) == len(standardized)
    for leaf, start in (("mean", 0), ("var", 1)):
        assert np.all(variables["batch_stats"]["block4"]["layer1"]["norm2"][leaf] == start)


def test_dropout_of_an_example_depends_on_its_own_key_alone():
    x = jax.random.normal(jax.random.key(0), (3, 4, 4, 4, 5))
    dropped = dropout(x, 0.3, KEYS, 7)
    order = np.array([2, 0, 1])
    np.testing.assert_array_equal(dropout(x[order], 0.3, KEYS[order], 7), dropped[order])
    np.testing.assert_array_equal(dropout(x[1:2], 0.3, KEYS[1:2], 7), dropped[1:2])
    twice = dropout(x[jnp.array([0, 0])], 0.3, KEYS[:2], 7)
    assert not np.array_equal(twice[0], twice[1])
    assert not np.array_equal(dropout(x, 0.3, KEYS, 8), dropped)


def test_dropout_drops_its_share_and_keeps_the_expectation():
    x = jnp.full((3, 16, 16, 16, 8), 2.0)
    dropped = np.asarray(dropout(x, 0.2, KEYS, 0))
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept], 2 / 0.8, rtol=1e-6)
    # Five standard errors of a share of 0.2 in each example.
    assert np.all(abs(kept.mean(axis=(1, 2, 3, 4)) - 0.8) < 5 * math.sqrt(0.16 / kept[0].size))


def test_every_dense_layer_drops_its_own_values_in_training():
    _, state = train(small_variables(), patches(), KEYS)
    masks = []
    for block, layers in enumerate(SMALL.block_layers, start=1):
        for layer in range(1, layers + 1):
            (output,) = state["intermediates"][f"block{block}"][f"layer{layer}"]["__call__"]
            mask = np.asarray(output[..., -SMALL.growth_rate :] == 0)
            assert abs(mask.mean() - 0.2) < 5 * math.sqrt(0.16 / mask.size), (block, layer)
            # The deepest block's extent, in which every layer's mask can be compared.
            masks.append(mask[:, :2, :1, :1].tobytes())
    assert len(set(masks)) == len(masks)


def test_permuting_examples_with_their_keys_permutes_the_training_outputs():
    variables, x, order = small_variables(), patches(), np.array([1, 2, 0])
    logits, state = train(variables, x, KEYS)
    permuted, permuted_state = train(variables, x[order], KEYS[order])
    np.testing.assert_allclose(permuted, logits[order], atol=1e-3)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        permuted_state["batch_stats"],
        state["batch_stats"],
    )
    # Their keys are what matters: left where they were, they give other outputs.
    mixed, _ = train(variables, x[order], KEYS)
    assert np.abs(mixed - logits[order]).max() > 0.1


def test_evaluation_drops_nothing_and_takes_each_example_by_itself():
    variables, x = small_variables(), patches()
    logits, _ = evaluate(variables, x, KEYS)
    np.testing.assert_array_equal(evaluate(variables, x, KEYS[::-1])[0], logits)
    without_dropout = jax.jit(SMALL.clone(dropout_rate=0.0).apply)(variables, x)
    np.testing.assert_allclose(without_dropout, logits, atol=1e-5)
    changed, _ = evaluate(variables, np.concatenate([x[:2], 3 * x[2:]]), KEYS)
    np.testing.assert_allclose(changed[:2], logits[:2], atol=1e-5)
    assert np.abs(changed[2] - logits[2]).max() > 0.1


def test_training_with_dropout_needs_keys():
    with pytest.raises(ValueError, match="example_keys"):
        train(small_variables(), patches(), None)


def test_running_statistics_keep_nine_tenths_of_the_old():
    variables, x = small_variables(), patches()
    _, state = train(variables, x, KEYS)
    # The first norm's input can be had without the network.
    kernel = variables["params"]["stem_conv0"]["kernel"]
    first = lax.conv_general_dilated(
        jnp.asarray(x), kernel, (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )
    old, new = variables["batch_stats"]["stem_norm0"], state["batch_stats"]["stem_norm0"]
    voxels = np.asarray(first, np.float64).reshape(-1, SMALL.stem_features)
    for name, statistic in (("mean", voxels.mean(axis=0)), ("var", voxels.var(axis=0))):
        expected = 0.9 * old[name] + 0.1 * statistic
        np.testing.assert_allclose(new[name], expected, rtol=1e-4, atol=1e-5)
    moved = jax.tree.map(
        lambda before, after: not np.allclose(before, after),
        variables["batch_stats"],
        state["batch_stats"],
    )
    assert jax.tree.all(moved)


def test_training_uses_the_batchs_statistics_and_evaluation_the_running_ones():
    variables, x = small_variables(), patches()
    other = {
        "params": variables["params"],
        "batch_stats": jax.tree.map(lambda leaf: leaf + 1, variables["batch_stats"]),
    }
    np.testing.assert_array_equal(train(variables, x, KEYS)[0], train(other, x, KEYS)[0])
    logits, state = evaluate(variables, x, KEYS)
    assert np.abs(evaluate(other, x, KEYS)[0] - logits).max() > 0.01
    unmoved = jax.tree.map(np.array_equal, state["batch_stats"], variables["batch_stats"])
    assert jax.tree.all(unmoved)


@jax.jit
def evaluate_deep(variables: Any, x: Any) -> Any:
    return SMALL.apply(variables, x, deep=True)


def test_deep_gives_each_blocks_upsampled_map_beside_the_same_logits():
    variables, x = small_variables(), patches()
    logits, maps = evaluate_deep(variables, x)
    np.testing.assert_allclose(logits, evaluate(variables, x, KEYS)[0], atol=1e-5)
    assert len(maps) == len(SMALL.block_layers)
    # They are what the classifier reads first: its norm and product give the logits again.
    skip_free = jax.tree.map(np.copy, variables)
    head = skip_free["params"]["head_conv"]
    channels = SMALL.num_classes * len(maps)
    head["kernel"][..., channels:, :] = 0
    norm = {
        name: leaf[:channels]
        for name, leaf in {
            **variables["params"]["head_norm"],
            **variables["batch_stats"]["head_norm"],
        }.items()
    }
    joined = np.concatenate(maps, axis=-1)
    normal = (joined - norm["mean"]) / np.sqrt(norm["var"] + 1e-5) * norm["scale"] + norm["bias"]
    expected = np.maximum(normal, 0) @ head["kernel"][0, 0, 0, :channels] + head["bias"]
    np.testing.assert_allclose(evaluate(skip_free, x, KEYS)[0], expected, atol=1e-4)


def test_deep_maps_of_a_class_read_their_own_share_of_the_channels():
    # 32 + 4 * 16 channels of the first block in four groups: a kernel per class and share.
    params = shapes(SkipDenseNet3D(), (1, 16, 16, 16, 2))["params"]
    assert params["upsample1"]["kernel"].shape == (4, 4, 4, 96 // 4, 4)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_deep_maps_are_float32_of_the_logits_shape(dtype):
    model = SkipDenseNet3D(dtype=dtype)
    x = jax.ShapeDtypeStruct((1, 32, 16, 16, 1), jnp.float32)
    outputs = jax.eval_shape(
        lambda variables, x: model.apply(variables, x, deep=True), shapes(model, x.shape), x
    )
    logits, maps = outputs
    assert [(m.shape, m.dtype) for m in maps] == [(logits.shape, jnp.float32)] * 4


VARIANTS = [{"dtype": jnp.bfloat16}, {"remat": True}, {"dtype": jnp.bfloat16, "remat": True}]


@pytest.mark.parametrize("changes", VARIANTS)
def test_variables_do_not_depend_on_how_they_are_computed_with(changes):
    plain = shapes(SMALL, (1, 16, 16, 16, 2))
    other = shapes(SMALL.clone(**changes), (1, 16, 16, 16, 2))
    assert jax.tree.structure(other) == jax.tree.structure(plain)
    assert jax.tree.leaves(other) == jax.tree.leaves(plain)


def test_first_values_do_not_depend_on_how_they_are_computed_with():
    init = jax.jit(SMALL.clone(dtype=jnp.bfloat16, remat=True).init)
    drawn = init(jax.random.key(1), jnp.zeros((1, 16, 16, 16, 2)))
    jax.tree.map(np.testing.assert_array_equal, drawn, initial_variables())


@cache
def gradients(**changes: Any) -> tuple[Any, Any, Any]:
    """Logits, the gradient of a function of them and of the maps, and the updated statistics."""
    model = SkipDenseNet3D(growth_rate=4, stem_features=4, block_layers=(1, 1)).clone(**changes)
    x = jnp.asarray(patches(2)[:, :8, :8, :8, :1])

    @jax.jit
    def function(key: Any) -> Any:
        variables = model.init(key, x)

        def objective(params: Any) -> Any:
            (logits, maps), state = model.apply(
                {**variables, "params": params},
                x,
                train=True,
                example_keys=KEYS[:2],
                mutable=["batch_stats"],
                deep=True,
            )
            total = sum(jnp.mean(jnp.square(each - 1)) for each in (logits, *maps))
            return total, (logits, state["batch_stats"])

        return jax.grad(objective, has_aux=True)(variables["params"])

    gradient, (logits, statistics) = function(jax.random.key(5))
    return logits, gradient, statistics


def assert_all_close(one: Any, other: Any, rtol: float) -> None:
    """Leaf by leaf, relative to the leaf's largest value."""
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=rtol * max(np.abs(b).max(), 1e-3)),
        one,
        other,
    )


def test_rematerialization_changes_no_number():
    logits, gradient, statistics = gradients(remat=True)
    expected_logits, expected, expected_statistics = gradients()
    np.testing.assert_allclose(logits, expected_logits, atol=1e-5)
    assert_all_close(statistics, expected_statistics, 1e-5)
    assert_all_close(gradient, expected, 1e-4)


def kept_bytes(model: SkipDenseNet3D) -> int:
    """What the way forward keeps for the way back."""

    def forward(variables: Any, x: Any, keys: Any) -> Any:
        def logits(params: Any) -> Any:
            own = {**variables, "params": params}
            return model.apply(own, x, train=True, example_keys=keys, mutable=["batch_stats"])

        return jax.vjp(logits, variables["params"], has_aux=True)[1]

    x = jax.ShapeDtypeStruct((2, 64, 64, 64, 1), jnp.float32)
    kept = jax.eval_shape(forward, shapes(model, x.shape), x, KEYS[:2])
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))


def test_rematerialization_keeps_less_of_the_blocks():
    # Block 1 alone keeps its four layers' 3x3x3 inputs, of 64 channels at half the extent.
    saved = 4 * 64 * 2 * 32**3 * 4
    assert kept_bytes(SkipDenseNet3D(remat=True)) < kept_bytes(SkipDenseNet3D()) - saved


def test_bfloat16_is_close_to_float32_and_keeps_its_variables_in_float32():
    logits, gradient, statistics = gradients(dtype=jnp.bfloat16)
    expected_logits, expected, expected_statistics = gradients()
    assert logits.dtype == np.float32
    assert {leaf.dtype for leaf in jax.tree.leaves((gradient, statistics))} == {
        np.dtype(np.float32)
    }
    difference = np.abs(logits - expected_logits)
    assert 0 < difference.mean() < 0.05 * np.std(expected_logits)
    assert_all_close(statistics, expected_statistics, 0.02)
    flat, expected_flat = (
        np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])
        for tree in (gradient, expected)
    )
    cosine = flat @ expected_flat / (np.linalg.norm(flat) * np.linalg.norm(expected_flat))
    assert cosine > 0.99


def test_bfloat16_computes_every_convolution_but_the_last_in_bfloat16():
    model = SMALL.clone(dtype=jnp.bfloat16)
    x = jax.ShapeDtypeStruct((1, 16, 16, 16, 2), jnp.float32)
    _, state = jax.eval_shape(
        lambda variables, x: model.apply(variables, x, capture_intermediates=True, mutable=True),
        shapes(model, x.shape),
        x,
    )
    outputs = jax.tree.leaves_with_path(state["intermediates"])
    found = {jax.tree_util.keystr(path, simple=True): leaf.dtype for path, leaf in outputs}
    single = {name for name, dtype in found.items() if dtype == jnp.float32}
    assert {name.split("__")[0] for name in single} == {"", "head_conv"}
    assert len(found) > 30
