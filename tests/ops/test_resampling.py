"""Changes of resolution against XLA's general convolution and PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from infant_seg_jax.compilation import has_onednn, jit
from infant_seg_jax.ops.resampling import downsample, upsample

LAYOUT = ("NDHWC", "DHWIO", "NDHWC")
compiled = {onednn: jit(upsample, onednn=onednn, static_argnums=(2, 3)) for onednn in (False, True)}

# Stride, batch with depth, height and width, channels, groups, outputs.
UPSAMPLINGS = [
    (2, (2, 3, 1, 4), 4, 4, 4),
    (2, (1, 2, 3, 3), 6, 2, 4),
    (2, (1, 1, 1, 1), 3, 1, 2),
    (4, (1, 2, 3, 1), 8, 4, 4),
    (4, (2, 1, 2, 2), 5, 1, 4),
    (8, (1, 2, 1, 3), 6, 3, 3),
    (8, (2, 1, 2, 1), 4, 2, 2),
    (16, (1, 2, 1, 1), 4, 4, 4),
]


def plain_downsample(x, kernel):
    return lax.conv_general_dilated(x, kernel, (2, 2, 2), "VALID", dimension_numbers=LAYOUT)


def plain_upsample(x, kernel, stride):
    """A transposed convolution is one of the flipped kernel over the input spread by zeros."""
    reach = kernel.shape[0] - 1 - 1  # The kernel's last tap, less the padding of 1.
    return lax.conv_general_dilated(
        x,
        kernel[::-1, ::-1, ::-1],
        (1, 1, 1),
        [(reach, reach)] * 3,
        lhs_dilation=(stride,) * 3,
        dimension_numbers=LAYOUT,
        feature_group_count=x.shape[-1] // kernel.shape[3],
    )


def upsampling_arrays(stride, sizes, channels, groups, outputs):
    rng = np.random.default_rng(stride)
    x = rng.normal(size=(*sizes, channels))
    return x, rng.normal(size=(*(stride + 2,) * 3, channels // groups, outputs))


def output_and_gradients(function, x, kernel):
    """The output, and the gradients for a gradient of the output that is not constant."""
    output, pull_back = jax.vjp(function, x, kernel)
    return output, *pull_back(jnp.cos(jnp.arange(output.size, dtype=x.dtype)).reshape(output.shape))


def assert_same_in_double_precision(function, plain, x, kernel):
    with jax.enable_x64(True):
        results, expected = (
            jax.jit(lambda x, kernel, form=form: output_and_gradients(form, x, kernel))(x, kernel)
            for form in (function, plain)
        )
    for result, wanted in zip(results, expected, strict=True):
        assert result.dtype == np.float64 and result.shape == wanted.shape
        np.testing.assert_allclose(result, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("sizes", [(1, 2, 2, 2), (3, 4, 2, 6)])
@pytest.mark.parametrize(("channels", "features"), [(1, 1), (3, 2), (2, 5)])
def test_downsample_equals_the_strided_convolution(sizes, channels, features):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(*sizes, channels))
    kernel = rng.normal(size=(2, 2, 2, channels, features))
    assert_same_in_double_precision(downsample, plain_downsample, x, kernel)


def test_downsample_of_ones_counts_its_taps():
    output = downsample(jnp.ones((1, 4, 2, 6, 3)), jnp.ones((2, 2, 2, 3, 1)))
    np.testing.assert_array_equal(output, np.full((1, 2, 1, 3, 1), 24.0))


@pytest.mark.parametrize("onednn", [False, True])
@pytest.mark.parametrize("case", UPSAMPLINGS)
def test_upsample_equals_the_dilated_convolution(case, onednn):
    stride = case[0]
    x, kernel = upsampling_arrays(*case)
    assert_same_in_double_precision(
        lambda x, kernel: upsample(x, kernel, stride, onednn),
        lambda x, kernel: plain_upsample(x, kernel, stride),
        x,
        kernel,
    )


@pytest.mark.parametrize("onednn", [False, True])
@pytest.mark.parametrize("case", UPSAMPLINGS)
def test_upsample_equals_torch(case, onednn):
    torch = pytest.importorskip("torch")
    if onednn and not has_onednn():
        pytest.skip("this JAX has no oneDNN")
    stride, _, channels, groups, outputs = case
    x, kernel = (array.astype(np.float32) for array in upsampling_arrays(*case))
    # PyTorch has the group with the input channels, we have it with the outputs.
    split = kernel.reshape(*kernel.shape[:4], groups, outputs // groups)
    their_kernel = split.transpose(4, 3, 5, 0, 1, 2).reshape(channels, -1, *kernel.shape[:3])
    expected = torch.nn.functional.conv_transpose3d(
        torch.tensor(np.moveaxis(x, -1, 1)),
        torch.tensor(their_kernel),
        stride=stride,
        padding=1,
        groups=groups,
    ).numpy()
    output = compiled[onednn](x, kernel, stride, onednn)
    np.testing.assert_allclose(output, np.moveaxis(expected, 1, -1), rtol=1e-4, atol=1e-4)


def test_a_voxel_reaches_one_voxel_into_its_neighbors():
    """Tap t of voxel i lands at stride * i + t - 1, and what leaves the volume is dropped."""
    kernel = np.zeros((6, 6, 6, 1, 1), np.float32)
    kernel[..., 0, 0] = np.arange(1, 7)[:, None, None]
    for voxel, expected in [
        (0, [2, 3, 4, 5, 6, 0, 0, 0, 0, 0, 0, 0]),
        (1, [0, 0, 0, 1, 2, 3, 4, 5, 6, 0, 0, 0]),
        (2, [0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5]),
    ]:
        x = np.zeros((1, 3, 1, 1, 1), np.float32)
        x[0, voxel] = 1
        np.testing.assert_array_equal(compiled[False](x, kernel, 4)[0, :, 1, 2, 0], expected)


def test_each_group_of_outputs_reads_its_own_channels():
    x = np.zeros((1, 1, 1, 1, 6), np.float32)
    x[..., 4:] = 1
    output = np.asarray(compiled[False](x, np.ones((4, 4, 4, 2, 3), np.float32), 2))
    np.testing.assert_array_equal(output[0, 0, 0, 0], [0, 0, 2])
