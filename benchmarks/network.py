"""Time and memory of the network alone, forward and a training step, against PyTorch.

The peer is the same network in PyTorch (tests/torch_twin.py), channels last, eager and by
`torch.compile`. Both are given random patches; a step is a forward pass with batch statistics and
dropout, cross entropy, its gradients, and one of Adam's updates. Each measurement runs in a process
of its own, in turns, `--rounds` times; the least time counts. `compile_cold` is our step's first
compilation, `compile_cached` the same found in the cache.

    python benchmarks/network.py [--patches 64 --batches 1 4] [--devices 1] > network.json

Prints JSON, and a table beside it on standard error. Needs the extra `benchmarks`.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).parents[1]
PEERS = ("ours", "torch_eager", "torch_compile")
WORK = ("forward", "step")
Times = dict[str, float]


def repeat(work: Callable[[], Any], seconds: float) -> float:
    """The least seconds that the work took, repeated for so long but at least three times."""
    found: list[float] = []
    work()  # What is done once only.
    until = time.perf_counter() + seconds
    while len(found) < 3 or time.perf_counter() < until:
        before = time.perf_counter()
        work()
        found.append(time.perf_counter() - before)
    return min(found)


def make_patches(patch: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images and labels, channels last."""
    random = np.random.default_rng(0)
    shape = (batch, patch, patch, patch)
    return (
        random.normal(size=(*shape, 1)).astype(np.float32),
        random.integers(0, 4, shape).astype(np.uint8),
    )


def run_ours(work: str, patch: int, batch: int, seconds: float) -> Times:
    import jax

    from infant_seg_jax.compilation import use_compilation_cache
    from infant_seg_jax.config import default_config
    from infant_seg_jax.data.patches import PatchBatch
    from infant_seg_jax.inference.predictor import make_model
    from infant_seg_jax.training.parallel import choose_devices, map_step, replicate, shard
    from infant_seg_jax.training.state import init_variables, new_state
    from infant_seg_jax.training.step import make_train_step
    from infant_seg_jax.training.transfer import run_optimizer

    use_compilation_cache()
    config = default_config()
    image, labels = make_patches(patch, batch)
    model = make_model(config)
    variables = init_variables(model, 1, seed=0)
    if work == "forward":
        forward = jax.jit(model.apply)
        x = jax.device_put(image)
        compiling = time.perf_counter()
        compiled = forward.lower(variables, x).compile()
        compiling = time.perf_counter() - compiling
        taken = repeat(lambda: jax.block_until_ready(compiled(variables, x)), seconds)
        return {"seconds": taken, "compile": compiling}

    devices = choose_devices(config.parallel, batch)
    model = make_model(config, devices.axis_name)
    step = map_step(make_train_step(model, config), devices)
    state = replicate(new_state(variables, run_optimizer(config)), devices)
    patches = shard(PatchBatch(image, labels, np.arange(batch, dtype=np.int32)), devices)
    compiling = time.perf_counter()
    step.lower(state, patches).compile()
    compiling = time.perf_counter() - compiling
    states = [state]

    def train() -> None:
        states[0], metrics = step(states[0], patches)
        jax.block_until_ready((states[0], metrics))

    return {"seconds": repeat(train, seconds), "compile": compiling}


def run_torch(work: str, patch: int, batch: int, seconds: float, *, compiled: bool) -> Times:
    import torch

    sys.path.insert(0, str(REPOSITORY / "tests"))
    from torch_twin import TorchSkipDenseNet3D  # pyright: ignore[reportMissingImports]

    image, labels = make_patches(patch, batch)
    network = TorchSkipDenseNet3D(1).to(memory_format=torch.channels_last_3d)
    x = torch.from_numpy(image).permute(0, 4, 1, 2, 3)
    x = x.contiguous(memory_format=torch.channels_last_3d)
    truth = torch.from_numpy(labels).long()
    optimizer = torch.optim.Adam(network.parameters(), 2e-4, betas=(0.97, 0.999), weight_decay=6e-4)
    network.train(work == "step")
    run = torch.compile(network) if compiled else network

    def forward() -> Any:
        with torch.inference_mode():
            return run(x)

    def train() -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(run(x), truth)
        loss.backward()
        optimizer.step()
        return loss.item()

    action = forward if work == "forward" else train
    compiling = time.perf_counter()
    action()
    compiling = time.perf_counter() - compiling
    return {"seconds": repeat(action, seconds), "compile": compiling}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--patches", type=int, nargs="+", default=[64], help="voxels of a side")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--work", nargs="+", choices=WORK, default=list(WORK))
    parser.add_argument("--rounds", type=int, default=2, help="turns of each")
    parser.add_argument("--seconds", type=float, default=8.0, help="of measuring in a turn")
    parser.add_argument("--devices", type=int, default=1, help="CPU devices of ours")
    parser.add_argument("--who", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.who:
        who, work = arguments.who
        size = arguments.patches[0], arguments.batches[0], arguments.seconds
        if who == "ours":
            found = run_ours(work, *size)
        else:
            found = run_torch(work, *size, compiled=who == "torch_compile")
        found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(found))
        return
    rows = list(compare(arguments))
    for line in table(rows):
        print(line, file=sys.stderr)
    about = {
        "cores": os.cpu_count(),
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        **{library: version(library) for library in ("jax", "flax", "torch")},
        "commit": _commit(),
        "rows": rows,
    }
    print(json.dumps(about, indent=2))


def compare(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each work and size: what each takes, and PyTorch's time to ours."""
    for work in arguments.work:
        for patch in arguments.patches:
            for batch in arguments.batches:
                yield compare_one(arguments, work, patch, batch)


def compare_one(arguments: argparse.Namespace, work: str, patch: int, batch: int) -> dict[str, Any]:
    row: dict[str, Any] = {"work": work, "patch": patch, "batch": batch}
    found: dict[str, list[Times]] = {who: [] for who in arguments.peers}
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "XDG_CACHE_HOME": cache}
        if arguments.devices > 1:
            flags = f"--xla_force_host_platform_device_count={arguments.devices}"
            environment["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
        for _ in range(arguments.rounds):
            for who in arguments.peers:
                flags = ["--who", who, work, "--patches", str(patch), "--batches", str(batch)]
                command = [sys.executable, sys.argv[0], *flags, f"--seconds={arguments.seconds}"]
                result = subprocess.run(
                    command, env=environment, stdout=subprocess.PIPE, text=True, check=False
                )
                if result.returncode == 0:
                    found[who].append(json.loads(result.stdout.splitlines()[-1]))
    for who, turns in found.items():
        if turns:
            row[who] = round(min(turn["seconds"] for turn in turns), 4)
            row[f"{who}_peak_mib"] = round(max(turn["peak_mib"] for turn in turns))
            row[f"{who}_compile_cold"] = round(turns[0]["compile"], 2)
            if who == "ours" and len(turns) > 1:
                row["ours_compile_cached"] = round(turns[1]["compile"], 2)
            if who != "ours" and "ours" in row:
                row[f"{who}_to_ours"] = round(row[who] / row["ours"], 2)
    return row


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The rows' times in seconds and PyTorch's ratios to ours, in Markdown."""
    columns = ("work", "patch", "batch", "ours", "torch_eager", "torch_compile")
    ratios = ("torch_eager_to_ours", "torch_compile_to_ours")
    compiling = ("ours_compile_cold", "ours_compile_cached", "ours_peak_mib")
    names = (*columns, *ratios, *compiling)
    yield f"| {' | '.join(names)} |"
    yield f"|{'---|' * len(names)}"
    for row in rows:
        yield f"| {' | '.join(str(row.get(name, '')) for name in names)} |"


def _commit() -> str:
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()
