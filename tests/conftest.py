import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Four CPU devices for the tests of pmap; to be set before JAX starts.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# Caches of this process alone: tests kill processes that write to them, and warnings are errors.
_caches = tempfile.TemporaryDirectory(prefix="infant_seg_caches_")
os.environ["XDG_CACHE_HOME"] = _caches.name
# No test knows the models that somebody installed.
os.environ["INFANT_SEG_MODELS"] = os.path.join(_caches.name, "models")

_MOST_MAPS = 25_000

# No test is about time, which a busy machine has less of.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real scans named by INFANT_SEG_TEST_DATA."""
    folder = os.environ.get("INFANT_SEG_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("INFANT_SEG_TEST_DATA names no folder of real scans")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def _programs_are_compiled_once() -> None:
    """In each process of tests: many of them compile the same small network."""
    from infant_seg_jax.compilation import use_compilation_cache

    use_compilation_cache()


@pytest.fixture(scope="module", autouse=True)
def _programs_are_dropped_before_they_are_too_many() -> Iterator[None]:
    """Each compiled network takes some ninety memory maps, and Linux allows a process 65,530."""
    yield
    import jax  # after what is set above

    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > _MOST_MAPS:
        jax.clear_caches()


@pytest.fixture(scope="session", autouse=True)
def _steps_are_compiled_once() -> Iterator[None]:
    """Runs of one config share the program of their step: to compile it takes longest.

    A step is a function of the network and the config, but for where files are, and nothing else.
    """
    from infant_seg_jax.training import loop
    from infant_seg_jax.training.losses import LOSSES

    make_step, map_step = loop.make_train_step, loop.map_step
    steps: dict[Any, Any] = {}
    programs: dict[Any, Any] = {}

    def make_once(model: Any, config: Any) -> Any:
        settings = config.to_dict()
        del settings["data"]
        settings["init"]["checkpoint"] = bool(config.init.checkpoint)
        key = model, json.dumps(settings), LOSSES[config.loss.name]
        if key not in steps:
            steps[key] = make_step(model, config)
        return steps[key]

    def map_once(step: Any, devices: Any) -> Any:
        if (step, devices) not in programs:
            programs[step, devices] = map_step(step, devices)
        return programs[step, devices]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_train_step", make_once)
        patch.setattr(loop, "map_step", map_once)
        yield


@pytest.fixture(scope="session", autouse=True)
def _orientations_are_found_once() -> Iterator[None]:
    """Many tests prepare and label the same few phantoms: how each lies takes most of the time."""
    from infant_seg_jax.data import orientation

    find = orientation.find_orientation
    found: dict[Any, orientation.Orientation] = {}

    def find_once(image: Any, mask: Any, spacing: Any) -> orientation.Orientation:
        key = image.shape, image.tobytes(), mask.tobytes(), spacing
        if key not in found:
            found[key] = find(image, mask, spacing)
        return found[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orientation, "find_orientation", find_once)
        yield
