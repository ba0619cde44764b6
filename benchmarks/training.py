"""Steps per second of real training steps, and how long they wait for patches.

Takes a config's own steps on a prepared set, without validation and checkpoints: patches are cut in
a thread and put on the device, as in a run. `waiting` is the share of the time in which no patch
was ready. Without any augmentation, with the config's, with all of the recipe `augment_fully`, and
with every example rendered from anatomies (the recipe `render_every_example`); each in a process of
its own, in turns.

    python benchmarks/training.py --config=configs/ibsr_cpu.py --data=PREPARED > training.json

Without `--anatomies` (what `infant-seg prepare-anatomies` wrote), phantoms are rendered from.
Prints JSON, and a table beside it on standard error.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from inputs import TINY, make_anatomies
from measuring import PLATFORMS, REPOSITORY, Found, Row, Way, compare, empty_cache, in_a_process
from table import print_one

EXAMPLES = {
    "none": "no augmentation",
    "config": "the config's augmentations",
    "full": "every augmentation",
    "rendered": "rendered and augmented",
}
CONFIG = REPOSITORY / "configs" / "ibsr_cpu.py"
WARM_UP = 3


def make_config(path: str, examples: str, anatomies: str, precision: str, tiny: bool) -> Any:
    """The config of a file with other examples."""
    import runpy

    from infant_seg_jax import recipes
    from infant_seg_jax.augmentation import AUGMENTATIONS

    config = runpy.run_path(path)["get_config"]()
    if examples != "config":
        for name in (one.name for one in AUGMENTATIONS):
            config.augmentation[name] = 0.0
    if examples == "full":
        recipes.augment_fully(config)
    if examples == "rendered":
        recipes.render_every_example(config, anatomies)
    if precision == "bfloat16":
        config.model.dtype = precision
    if tiny:
        config.model.update(TINY)
        config.patch.shape = (16, 16, 16)
    return config


def run_steps(
    config: str, data: str, anatomies: str, examples: str, steps: int, precision: str, tiny: bool
) -> Found:
    """Take steps, and tell their rate and how long patches kept them waiting."""
    import jax
    import numpy as np

    from infant_seg_jax.compilation import use_compilation_cache
    from infant_seg_jax.data.patches import PatchBatch, prefetch
    from infant_seg_jax.data.prepared import open_prepared
    from infant_seg_jax.models.factory import make_model
    from infant_seg_jax.models.variables import init_variables
    from infant_seg_jax.rendering.anatomies import open_anatomies
    from infant_seg_jax.rendering.patches import make_batch
    from infant_seg_jax.store.state import new_state
    from infant_seg_jax.training.parallel import choose_devices, map_step, replicate, shard
    from infant_seg_jax.training.step import make_train_step
    from infant_seg_jax.training.transfer import run_optimizer

    use_compilation_cache()
    settings = make_config(config, examples, anatomies, precision, tiny)
    prepared, patch = open_prepared(Path(data)), settings.patch
    cases, channels = prepared.split("train"), len(prepared.modalities)
    rendered_from = open_anatomies(Path(anatomies)) if settings.rendering.fraction else None
    devices = choose_devices(settings.parallel, patch.batch_size)
    step = map_step(
        make_train_step(make_model(settings, devices.axis_name, devices.onednn), settings), devices
    )
    variables = init_variables(make_model(settings), channels, settings.seed)
    first = new_state(variables, run_optimizer(settings), settings.average_decay > 0)
    state = replicate(first, devices)

    def make(number: int) -> PatchBatch:
        positions = range(patch.batch_size)
        batch = make_batch(cases, channels, rendered_from, settings, number, positions)
        return shard(batch, devices)

    metrics: Any = None
    batches = prefetch(make, range(WARM_UP + steps))
    batch, before = next(batches), time.perf_counter()
    state, metrics = step(state, batch)
    jax.block_until_ready((state, metrics))
    first_step = time.perf_counter() - before
    for _ in range(WARM_UP - 1):
        state, metrics = step(state, next(batches))
    jax.block_until_ready((state, metrics))

    waiting, before = 0.0, time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        batch = next(batches)
        waiting += time.perf_counter() - asked
        state, metrics = step(state, batch)
        jax.block_until_ready(metrics)  # Or the host would run ahead, and wait for no patch.
    jax.block_until_ready(state)
    seconds = time.perf_counter() - before
    made = time.perf_counter()
    for number in range(3):
        make(WARM_UP + steps + number)
    made = (time.perf_counter() - made) / 3
    return {
        "seconds": seconds / steps,
        "compile_seconds": max(0.0, first_step - seconds / steps),
        "also": {
            "steps_per_second": round(steps / seconds, 3),
            "waiting": round(waiting / seconds, 5),
            "seconds_to_make_a_batch": round(made, 4),
            "loss": round(float(np.asarray(metrics["loss"]).ravel()[0]), 4),
        },
    }


def rows(
    benchmark: str,
    *,
    data: Path,
    config: Path = CONFIG,
    anatomies: Path | None = None,
    examples: Sequence[str] = tuple(EXAMPLES),
    steps: int = 20,
    rounds: int = 2,
    device: str = "cpu",
    precision: str = "float32",
    tiny: bool = False,
) -> Iterator[Row]:
    """What a step of a config takes, with each kind of examples.

    Args:
        benchmark: what the rows are of.
        data: a prepared set.
        config: a config's file.
        anatomies: a set of them, to render from; None: phantoms.
        examples: of `EXAMPLES`; the first is what all are compared with.
        steps: to measure.
        rounds: turns of each.
        device: `"cpu"` or `"gpu"`.
        precision: `"bfloat16"`, or else the config's.
        tiny: another network and patch, to try this out.
    """
    with tempfile.TemporaryDirectory() as folder, empty_cache() as aside:
        if anatomies is None and "rendered" in examples:
            shape = {"shape": (40, 48, 40)} if tiny else {}
            in_a_process(make_anatomies, aside, folder=folder, **shape)
            anatomies = Path(folder) / "set"
        ways: dict[str, Way] = {
            EXAMPLES[name]: partial(
                in_a_process,
                run_steps,
                config=config.resolve(),
                data=data.resolve(),
                anatomies=anatomies.resolve() if anatomies else "",
                examples=name,
                steps=steps,
                precision=precision,
                tiny=tiny,
            )
            for name in examples
        }
        case = f"training, {config.name}" + ", bfloat16" * (precision == "bfloat16")
        yield from compare(benchmark, case, ways, rounds, device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--data", type=Path, required=True, help="a prepared set")
    parser.add_argument("--anatomies", type=Path, help="a set of anatomies to render from")
    parser.add_argument("--examples", nargs="+", choices=EXAMPLES, default=list(EXAMPLES))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2, help="turns of each")
    parser.add_argument("--device", choices=PLATFORMS, default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--tiny", action="store_true", help="a tiny network, to try this out")
    print_one("training", rows("training", **vars(parser.parse_args())))


if __name__ == "__main__":
    main()
