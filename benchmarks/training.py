"""Steps per second of real training steps, and how long they wait for patches.

Takes a config's own steps on a prepared set, without validation and checkpoints: patches are cut in
a thread and put on the device, as in a run. `waiting` is the share of the time in which no patch
was ready; the same with every augmentation of the recipe `augment_fully` shows what that costs.

    python benchmarks/training.py --config=configs/ibsr_cpu.py --data=PREPARED > training.json
"""

import argparse
import json
import os
import runpy
import subprocess
import sys
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from infant_seg_jax import recipes
from infant_seg_jax.compilation import use_compilation_cache
from infant_seg_jax.config import Config
from infant_seg_jax.data.patches import PatchBatch, patch_batch, prefetch
from infant_seg_jax.data.prepared import open_prepared
from infant_seg_jax.inference.predictor import make_model
from infant_seg_jax.training.parallel import choose_devices, map_step, replicate, shard
from infant_seg_jax.training.state import init_variables, new_state
from infant_seg_jax.training.step import make_train_step
from infant_seg_jax.training.transfer import run_optimizer

AUGMENTATIONS = ("none", "config", "full")
WARM_UP = 3


def measure(config: Config, data: Path, steps: int) -> dict[str, float]:
    """Take steps, and tell their rate and how long patches kept them waiting."""
    prepared = open_prepared(data)
    cases, patch = prepared.split("train"), config.patch
    devices = choose_devices(config.parallel, patch.batch_size)
    step = map_step(make_train_step(make_model(config, devices.axis_name), config), devices)
    variables = init_variables(make_model(config), len(prepared.modalities), config.seed)
    first = new_state(variables, run_optimizer(config), config.average_decay > 0)
    state = replicate(first, devices)

    def make(number: int) -> PatchBatch:
        cut = partial(patch_batch, cases, tuple(patch.shape), patch.batch_size, config.seed)
        return shard(cut(number, balanced=patch.balanced), devices)

    metrics: Any = None
    batches = prefetch(make, range(WARM_UP + steps))
    for _ in range(WARM_UP):
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
    return {
        "steps_per_second": round(steps / seconds, 3),
        "waiting": round(waiting / seconds, 5),
        "seconds_to_make_a_batch": round((time.perf_counter() - made) / 3, 4),
        "loss": round(float(np.asarray(metrics["loss"]).ravel()[0]), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="a prepared set")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--augmentation", choices=AUGMENTATIONS, help="one of them, in here")
    arguments = parser.parse_args()
    if arguments.augmentation:
        config = runpy.run_path(str(arguments.config))["get_config"]()
        if arguments.augmentation != "config":
            for name, value in config.augmentation.items():
                config.augmentation[name] = type(value)(0) if _switches(name) else value
        if arguments.augmentation == "full":
            recipes.augment_fully(config)
        use_compilation_cache()
        print(json.dumps(measure(config, arguments.data, arguments.steps)))
        return
    found: dict[str, Any] = {
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "recipe": arguments.config.name,
        "jax": version("jax"),
    }
    for name in AUGMENTATIONS:
        command = [sys.executable, *sys.argv, f"--augmentation={name}"]
        result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found[name] = json.loads(result.stdout.splitlines()[-1])
    print(json.dumps(found, indent=2))


def _switches(name: str) -> bool:
    """Whether a key of `config.augmentation` turns an augmentation on."""
    from infant_seg_jax.augmentation.pipeline import NAMES

    return name in NAMES


if __name__ == "__main__":
    main()
