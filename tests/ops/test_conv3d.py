"""The 3x3x3 convolution against XLA's own, PyTorch's, finite differences and plain shifts."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from jax.test_util import check_grads

from infant_seg_jax.compilation import has_onednn, jit
from infant_seg_jax.ops.conv3d import conv3x3x3, conv3x3x3_plain

# Batch, depth, height, width, channels, features.
SHAPES = [
    (1, 1, 1, 1, 1, 1),
    (1, 1, 4, 3, 2, 3),
    (3, 5, 3, 7, 1, 4),
    (3, 2, 1, 6, 4, 1),
    (1, 6, 5, 4, 3, 5),
]


@pytest.fixture
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def arrays(shape: tuple[int, ...], dtype: type) -> tuple[Array, Array, Array]:
    """An input, a kernel and a gradient of the output."""
    *sizes, channels, features = shape
    rng = np.random.default_rng(0)
    drawn = (
        rng.normal(size=(*sizes, channels)),
        rng.normal(size=(3, 3, 3, channels, features)),
        rng.normal(size=(*sizes, features)),
    )
    x, kernel, gradient = (jnp.asarray(array, dtype) for array in drawn)
    return x, kernel, gradient


def output_and_gradients(convolve, x, kernel, gradient):
    output, pull_back = jax.vjp(convolve, x, kernel)
    return output, *pull_back(gradient)


def ours(x, kernel, gradient, onednn=False):
    return output_and_gradients(partial(conv3x3x3, onednn=onednn), x, kernel, gradient)


@pytest.fixture(params=[False, True], ids=["slicewise", "oneDNN"])
def compiled(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`ours` as it is compiled in each of the two ways."""
    if request.param and not has_onednn():
        pytest.skip("this JAX has no oneDNN")
    return jit(partial(ours, onednn=request.param), onednn=request.param)


def oracle(x, kernel, gradient):
    return output_and_gradients(conv3x3x3_plain, x, kernel, gradient)


def assert_equals_oracle(compiled, shape, dtype, tolerance):
    given = arrays(shape, dtype)
    results, expected = compiled(*given), jax.jit(oracle)(*given)
    for result, wanted in zip(results, expected, strict=True):
        assert result.dtype == wanted.dtype == dtype
        np.testing.assert_allclose(result, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", SHAPES[2:])
def test_equals_xla_in_single_precision(compiled, shape):
    assert_equals_oracle(compiled, shape, np.float32, 1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_xla_in_double_precision(compiled, shape, x64):
    assert_equals_oracle(compiled, shape, np.float64, 1e-12)


def test_double_precision_does_not_outlive_its_test():
    with jax.enable_x64(True):
        assert conv3x3x3(*arrays(SHAPES[1], np.float64)[:2]).dtype == np.float64
    assert jnp.ones(1, float).dtype == np.float32


@pytest.mark.parametrize("onednn", [False, True])
@pytest.mark.parametrize("shape", SHAPES[1:3])
def test_gradients_equal_finite_differences(shape, onednn, x64):
    x, kernel, _ = arrays(shape, np.float64)

    @jax.jit
    def function(x, kernel):
        return jnp.sin(conv3x3x3(x, kernel, onednn))

    check_grads(function, (x, kernel), order=1, modes=["rev"], atol=1e-6, rtol=1e-6, eps=1e-6)


@pytest.mark.parametrize("shape", SHAPES[1:3])
def test_equals_torch(compiled, shape):
    torch = pytest.importorskip("torch")
    given = arrays(shape, np.float32)

    def channels_first(array):
        return torch.tensor(np.moveaxis(array, -1, 1)).requires_grad_()

    x, kernel, gradient = (np.asarray(array) for array in given)
    their_x, their_gradient = channels_first(x), channels_first(gradient)
    their_kernel = torch.tensor(kernel.transpose(4, 3, 0, 1, 2)).requires_grad_()
    output = torch.nn.functional.conv3d(their_x, their_kernel, padding=1)
    output.backward(their_gradient)
    expected = (
        np.moveaxis(output.detach().numpy(), 1, -1),
        np.moveaxis(their_x.grad.numpy(), 1, -1),
        their_kernel.grad.numpy().transpose(2, 3, 4, 1, 0),
    )
    for result, wanted in zip(compiled(*given), expected, strict=True):
        np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tap", [(1, 1, 1), (0, 1, 2), (2, 0, 0), (1, 2, 1)])
def test_one_tap_shifts_the_volume(tap):
    x = np.random.default_rng(1).normal(size=(2, 4, 3, 5, 1)).astype(np.float32)
    kernel = np.zeros((3, 3, 3, 1, 1), np.float32)
    kernel[tap] = 1
    d, h, w = tap
    padded = np.pad(x, np.array([(0, 0), (1, 1), (1, 1), (1, 1), (0, 0)]))
    expected = padded[:, d : d + 4, h : h + 3, w : w + 5]
    np.testing.assert_array_equal(jax.jit(conv3x3x3)(x, kernel), expected)


def test_cpus_get_the_slicewise_form():
    given = arrays(SHAPES[-1], np.float32)
    # The words that the absence of is asserted below are those that XLA uses.
    assert "stablehlo.convolution" in jax.jit(oracle).lower(*given).as_text()
    assert " convolution(" in str(jax.jit(oracle).lower(*given).compile().as_text())

    lowered = jax.jit(ours).lower(*given)
    assert "stablehlo.convolution" not in lowered.as_text()
    assert lowered.as_text().count("stablehlo.while") == 3  # The output and both gradients.
    assert " convolution(" not in str(lowered.compile().as_text())


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_accelerators_get_xlas_own_convolution(platform):
    given = arrays(SHAPES[-1], np.float32)
    text = jax.jit(ours).trace(*given).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == 3
    assert "stablehlo.while" not in text and "stablehlo.dot_general" not in text


def test_program_lowered_for_several_platforms_still_computes_it():
    x, kernel, _ = arrays(SHAPES[-1], np.float32)
    exported = jax.export.export(jax.jit(conv3x3x3), platforms=["cpu", "cuda"])(x, kernel)
    np.testing.assert_allclose(
        exported.call(x, kernel), conv3x3x3_plain(x, kernel), rtol=1e-4, atol=1e-4
    )
