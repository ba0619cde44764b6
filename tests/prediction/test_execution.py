"""Plans carried out, and what happens where memory runs out."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infant_seg_jax.models.skip_densenet import SkipDenseNet3D
from infant_seg_jax.models.variables import init_variables
from infant_seg_jax.prediction import execution
from infant_seg_jax.prediction.execution import execute, execute_or_shrink
from infant_seg_jax.prediction.planning import Plan, WholePlan, WindowPlan
from infant_seg_jax.prediction.windows import predict_windows

MODEL = SkipDenseNet3D(growth_rate=4, stem_features=4, block_layers=(1, 1))
WINDOWS = WindowPlan((16, 16, 16), 0.5, 2)


@pytest.fixture(scope="module")
def variables() -> dict[str, Any]:
    return init_variables(MODEL, 1, seed=0)


@jax.jit
def network(variables: dict[str, Any], images: jax.Array) -> jax.Array:
    return jax.nn.softmax(jnp.asarray(MODEL.apply(variables, images)))


def scan(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(*shape, 1)).astype(np.float32)


def test_a_whole_volume_is_the_network_on_the_padded_volume(variables: dict[str, Any]) -> None:
    image = scan(30, 17, 20)
    padded = np.pad(image, [(0, 2), (0, 3), (0, 0), (0, 0)])[None]
    expected = np.asarray(network(variables, padded))[0, :30, :17]
    found = execute(MODEL, variables, image, WholePlan((10, 6, 4)))
    np.testing.assert_allclose(found, expected, atol=2e-6)
    # A mirror image is a view of NumPy's with negative strides.
    flipped = execute(MODEL, variables, image[::-1], WholePlan((32, 16, 8)))
    again = execute(MODEL, variables, image[::-1].copy(), WholePlan((32, 16, 8)))
    np.testing.assert_array_equal(flipped, again)


def test_windows_are_the_network_on_each_window(variables: dict[str, Any]) -> None:
    image = scan(30, 17, 20)

    expected = predict_windows(
        lambda windows: np.asarray(network(variables, windows)), image, 4, (16, 16, 16), 0.5, 2
    )
    found = execute(MODEL, variables, image, WINDOWS)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_where_memory_runs_out_parts_are_halved(
    variables: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, tried = scan(64, 16, 16), []
    expected = execute(MODEL, variables, image, WholePlan((64, 32, 16)))

    def limited(*arguments: Any) -> Any:
        plan: Plan = arguments[-1]
        tried.append(plan)
        if isinstance(plan, WholePlan) and plan.cores[0] > 16:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")
        return execute(*arguments)

    monkeypatch.setattr(execution, "execute", limited)
    found, plan = execute_or_shrink(MODEL, variables, image, WholePlan((64, 32, 16)), WINDOWS)
    assert tried == [WholePlan((64, 32, 16)), WholePlan((32, 16, 8)), WholePlan((16, 8, 4))]
    assert plan == tried[-1]
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_other_errors_and_the_end_of_all_memory_are_raised(
    variables: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, message = [], "RESOURCE_EXHAUSTED: Out of memory"

    def failing(*arguments: Any) -> Any:
        tried.append(arguments[-1])
        raise jax.errors.JaxRuntimeError(message)

    monkeypatch.setattr(execution, "execute", failing)
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        execute_or_shrink(MODEL, variables, scan(16, 16, 16), WholePlan((16, 8, 4)), WINDOWS)
    assert tried[-1] == WindowPlan((4, 4, 4), 0.5, 1)
    tried.clear()
    message = "INTERNAL: the device is on fire"
    with pytest.raises(jax.errors.JaxRuntimeError, match="on fire"):
        execute_or_shrink(MODEL, variables, scan(16, 16, 16), WholePlan((16, 8, 4)), WINDOWS)
    assert len(tried) == 1
