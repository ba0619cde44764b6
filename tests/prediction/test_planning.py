"""What predictions take, against what XLA says they take, and the plans that follow."""

import math
from collections.abc import Iterator
from itertools import pairwise

import jax
import jax.numpy as jnp
import pytest

from infant_seg_jax.compilation import ONEDNN_OPTIONS, has_onednn
from infant_seg_jax.models.skip_densenet import SkipDenseNet3D
from infant_seg_jax.models.variables import abstract_variables
from infant_seg_jax.prediction.planning import (
    WholePlan,
    WindowPlan,
    make_plan,
    padded_shape,
    plan_bytes,
    plan_cores,
    smaller,
    stage_bytes,
    whole_cores,
)
from infant_seg_jax.prediction.slabs import cut_for_stage, run_stage

DEFAULT = SkipDenseNet3D()
WINDOWS = WindowPlan((64, 64, 64), 0.5, 4)
GIB = 2**30


def test_shapes_are_padded_to_what_the_network_takes() -> None:
    assert padded_shape(DEFAULT, (1, 16, 17)) == (16, 16, 32)
    assert whole_cores(DEFAULT, (96, 64, 80)) == (96, 48, 24, 12, 6)


@pytest.fixture
def nothing_cached() -> Iterator[None]:
    """Programs with oneDNN cannot be kept in the cache that an earlier test may have begun."""
    least = "jax_persistent_cache_min_compile_time_secs"
    before = jax.config.values[least]
    jax.config.update(least, float("inf"))
    yield
    jax.config.update(least, before)


@pytest.mark.usefixtures("nothing_cached")
@pytest.mark.parametrize("onednn", [False, True])
@pytest.mark.parametrize(
    ("model", "channels", "shape", "cores"),
    [
        pytest.param(DEFAULT, 1, (160, 128, 144), (160, 80, 40, 20, 10), marks=pytest.mark.slow),
        pytest.param(DEFAULT, 1, (304, 304, 304), (16, 8, 8, 8, 4), marks=pytest.mark.slow),
        pytest.param(
            SkipDenseNet3D(growth_rate=12, stem_features=16),
            2,
            (176, 128, 160),
            (36, 14, 10, 8, 4),
            marks=pytest.mark.slow,
        ),
        (SkipDenseNet3D(growth_rate=32, block_layers=(2, 6)), 1, (96, 64, 80), (96, 10, 24)),
    ],
)
def test_stages_take_what_xla_says(
    model: SkipDenseNet3D,
    channels: int,
    shape: tuple[int, int, int],
    cores: tuple[int, ...],
    onednn: bool,
) -> None:
    """Nothing is run."""
    if onednn and not has_onednn():
        pytest.skip("this JAX has no oneDNN")
    model = model.clone(onednn=onednn)
    variables = abstract_variables(model, channels)
    features = jax.ShapeDtypeStruct((1, *shape, channels), jnp.float32)
    logits = jax.ShapeDtypeStruct((1, *shape, model.num_classes), jnp.float32)
    stage = jax.jit(run_stage, static_argnums=(0, 1, 2), donate_argnums=5)
    takes, counts = [], []
    for level, core in enumerate(cores):
        lowered = stage.lower(model, level, core, variables, features, logits)
        stats = lowered.compile(ONEDNN_OPTIONS if onednn else {}).memory_analysis()
        assert stats is not None
        taken = stats.temp_size_in_bytes + stats.output_size_in_bytes
        taken += stats.argument_size_in_bytes - stats.alias_size_in_bytes
        taken += 4 * channels * math.prod(shape) * (1 if level == 0 else 2)  # The image.
        takes.append(taken)
        counts.append(stage_bytes(model, shape, channels, level, core))
        features = lowered.out_info[0]
    assert 0.95 < max(counts) / max(takes) < 1.2
    ratios = [count / taken for count, taken in zip(counts, takes, strict=True)]
    # The stem and the first block take the most.
    assert all(0.95 < ratio < 1.35 for ratio in ratios[:2])
    assert all(0.85 < ratio < 1.35 for ratio in ratios[2:])


def test_a_plan_is_the_cheapest_that_fits() -> None:
    shape = (304, 304, 304)

    def work(cores: tuple[int, ...]) -> list[int]:
        pairs = zip(whole_cores(DEFAULT, shape), cores, strict=True)
        cuts = [cut_for_stage(DEFAULT, level, *pair) for level, pair in enumerate(pairs)]
        return [slabs.count * slabs.length for slabs in cuts]

    budgets = [2 * GIB, 3 * GIB, 6 * GIB, 20 * GIB]
    plans = [plan_cores(DEFAULT, shape, 1, budget) for budget in budgets]
    for budget, cores in zip(budgets, plans, strict=True):
        assert cores is not None
        assert plan_bytes(DEFAULT, shape, 1, WholePlan(cores)) <= budget
        assert all(core % 2 == 0 or core == 19 for core in cores)
    for less, more in pairwise(plans):
        assert less and more
        assert all(a >= b for a, b in zip(work(less), work(more), strict=True))
    assert plans[-1] == whole_cores(DEFAULT, shape)
    # With 3 GiB, under a third of the stem's work is done twice.
    assert plans[1] and work(plans[1])[0] < 1.33 * 304


def test_with_little_memory_windows_shrink() -> None:
    shape = (304, 304, 304)
    assert plan_cores(DEFAULT, shape, 1, GIB) is None
    plan = make_plan(DEFAULT, shape, 1, GIB, WINDOWS)
    assert plan == WindowPlan((64, 64, 64), 0.5, 2)
    assert plan_bytes(DEFAULT, shape, 1, plan) <= GIB < plan_bytes(DEFAULT, shape, 1, WINDOWS)
    least = WindowPlan((16, 16, 16), 0.5, 1)
    assert make_plan(DEFAULT, shape, 1, 0, WINDOWS) == least
    assert make_plan(DEFAULT, shape, 1, 100 * GIB, WINDOWS, only=True) == WINDOWS
    assert isinstance(make_plan(DEFAULT, shape, 1, 100 * GIB, WINDOWS), WholePlan)


def test_plans_shrink_to_the_least_and_no_further() -> None:
    plan, sizes = WholePlan((64, 32, 16, 8, 5)), []
    while plan := smaller(DEFAULT, plan, WINDOWS):
        sizes.append(plan)
    assert sizes[:2] == [WholePlan((32, 16, 8, 4, 2)), WholePlan((16, 8, 4, 2, 2))]
    assert sizes[4] == WholePlan((2, 2, 2, 2, 2))
    assert sizes[5:] == [
        WINDOWS,
        WindowPlan((64, 64, 64), 0.5, 2),
        WindowPlan((64, 64, 64), 0.5, 1),
        WindowPlan((32, 32, 32), 0.5, 1),
        WindowPlan((16, 16, 16), 0.5, 1),
    ]
