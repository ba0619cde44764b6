"""Time and memory of the network alone, forward and a training step, against PyTorch.

The peer is the same network in PyTorch (tests/torch_twin.py), channels last, eager and by
`torch.compile`. Both are given random patches; a step is a forward pass with batch statistics and
dropout, cross entropy, its gradients, and one of Adam's updates. Each measurement runs in a process
of its own, in turns, `--rounds` times; the least time counts. Several `--devices` are compared with
one another, each of them with a share of the batch.

    python benchmarks/network.py [--patches 64 --batches 1 4] [--devices 1 2] > network.json

On a GPU (`--device=gpu`) arithmetic is in `--precision` float32, in TF32, or in bfloat16, which is
`model.dtype` here and autocast in PyTorch; the patches are on the GPU before time is taken.

Prints JSON, and a table beside it on standard error. Needs the extra `benchmarks`.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
from inputs import TINY, network_config, torch_network
from measuring import PLATFORMS, Environment, Found, Row, Way, compare, in_a_process, timed
from table import print_one

PEERS = {"eager": "PyTorch, eager", "compiled": "PyTorch, compiled"}
WORK = ("forward", "step")
PRECISIONS = ("float32", "tf32", "bfloat16")
JAX_PRECISIONS = {"float32": "float32", "tf32": "tensorfloat32"}
MIB = 2**20
BASE_BYTES, VOXEL_BYTES = 2.2 * 2**30, 4 * 2**10
"""About what a step of the paper's network takes on a CPU: compiling it, and each voxel."""


def make_patches(patch: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images and labels, channels last."""
    random = np.random.default_rng(0)
    shape = (batch, patch, patch, patch)
    return (
        random.normal(size=(*shape, 1)).astype(np.float32),
        random.integers(0, 4, shape).astype(np.uint8),
    )


def run_ours(seconds: float, **settings: Any) -> Found:
    """Time `our_work`."""
    import jax

    def most() -> float:
        """MiB on the GPU, of the whole process so far; 0 without one."""
        return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0) / MIB

    before = most()
    found = timed(our_work(**settings), seconds)
    if most() > before:  # Or something larger was measured earlier in this process.
        found["gpu_mib"] = most()
    return found


@lru_cache(maxsize=1)  # What was timed may be profiled next, without being compiled again.
def our_work(
    work: str, patch: int, batch: int, device: str, precision: str, tiny: bool
) -> Callable[[], None]:
    """A forward pass or a step of ours; the first one compiles it."""
    import jax

    from infant_seg_jax.compilation import has_onednn, jit, use_compilation_cache
    from infant_seg_jax.data.patches import PatchBatch
    from infant_seg_jax.models.factory import make_model
    from infant_seg_jax.models.variables import init_variables
    from infant_seg_jax.store.state import new_state
    from infant_seg_jax.training.parallel import choose_devices, map_step, replicate, shard
    from infant_seg_jax.training.step import make_train_step
    from infant_seg_jax.training.transfer import run_optimizer

    use_compilation_cache()
    config = network_config(tiny)
    if precision == "bfloat16":
        config.model.dtype = precision
    elif device == "gpu":
        jax.config.update("jax_default_matmul_precision", JAX_PRECISIONS[precision])
    image, labels = make_patches(patch, batch)
    model = make_model(config, onednn=has_onednn())
    variables = init_variables(model, 1, seed=0)
    if work == "forward":
        forward = jit(model.apply, onednn=model.onednn)
        x = jax.device_put(image)

        def act() -> None:
            jax.block_until_ready(forward(variables, x))
    else:
        devices = choose_devices(config.parallel, batch)
        model = make_model(config, devices.axis_name, devices.onednn)
        step: Any = map_step(make_train_step(model, config), devices)
        state = replicate(new_state(variables, run_optimizer(config)), devices)
        patches = shard(PatchBatch(image, labels, np.arange(batch, dtype=np.int32)), devices)
        states = [state]

        def act() -> None:
            states[0], metrics = step(states[0], patches)
            jax.block_until_ready((states[0], metrics))

    return act


def run_torch(
    work: str,
    patch: int,
    batch: int,
    seconds: float,
    device: str,
    precision: str,
    tiny: bool,
    compiled: bool,
    channels_last: bool = True,
) -> Found:
    import torch

    kind = PLATFORMS[device]
    if kind == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = precision != "float32"
        torch.backends.cuda.matmul.allow_tf32 = precision != "float32"
    image, labels = make_patches(patch, batch)
    layout = torch.channels_last_3d if channels_last else torch.contiguous_format
    network = torch_network(1, **(TINY if tiny else {})).to(kind, memory_format=layout)
    x = torch.from_numpy(image).permute(0, 4, 1, 2, 3).to(kind).contiguous(memory_format=layout)
    truth = torch.from_numpy(labels).long().to(kind)
    optimizer = torch.optim.Adam(
        network.parameters(), 2e-4, (0.97, 0.999), weight_decay=6e-4, fused=kind == "cuda"
    )
    network.train(work == "step")
    run = torch.compile(network) if compiled else network

    def autocast() -> Any:
        return torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16")

    def forward() -> None:
        with torch.inference_mode(), autocast():
            run(x)

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            loss = torch.nn.functional.cross_entropy(run(x), truth)
        loss.backward()
        optimizer.step()
        loss.item()

    def act() -> None:
        (forward if work == "forward" else train)()
        if kind == "cuda":
            torch.cuda.synchronize()

    if kind == "cuda":
        torch.cuda.reset_peak_memory_stats()
    found = timed(act, seconds)
    if kind == "cuda":
        found["gpu_mib"] = torch.cuda.max_memory_allocated() / MIB
    return found


def on_devices(count: int, measure: Callable[..., Found], environment: Environment) -> Found:
    """Measure with so many CPU devices."""
    flags = f"{environment.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
    return measure({**environment, "XLA_FLAGS": flags})


def rows(
    benchmark: str,
    *,
    patches: Sequence[int] = (64,),
    batches: Sequence[int] = (1, 4),
    peers: Sequence[str] = tuple(PEERS),
    work: Sequence[str] = WORK,
    devices: Sequence[int] = (1,),
    device: str = "cpu",
    precision: str = "float32",
    rounds: int = 2,
    seconds: float = 8.0,
    tiny: bool = False,
) -> Iterator[Row]:
    """What each way takes, for each work, patch and batch.

    Args:
        benchmark: what the rows are of.
        patches: voxels of a side.
        batches: patches at once.
        peers: of `PEERS`.
        work: of `WORK`.
        devices: of ours, on a CPU; the first is what all are compared with.
        device: `"cpu"` or `"gpu"`.
        precision: of `PRECISIONS`.
        rounds: turns of each.
        seconds: of measuring in a turn.
        tiny: another network, to try this out.
    """
    for one_work in work:
        for patch in patches:
            for batch in batches:
                case = f"{one_work}, {patch}-cubed, batch {batch}"
                if precision != "float32":
                    case += f", {precision}"
                if one_work == "step" and device == "cpu" and (reason := _too_large(patch, batch)):
                    yield Row(benchmark, case, skipped=reason)
                    continue
                settings: dict[str, Any] = {"work": one_work, "patch": patch, "batch": batch}
                settings |= {"seconds": seconds, "device": device, "precision": precision}
                ours = partial(in_a_process, run_ours, **settings, tiny=tiny)
                ways: dict[str, Way] = {
                    "ours" if count == 1 else f"ours, {count} devices": partial(
                        on_devices, count, ours
                    )
                    for count in devices
                }
                for peer in peers:
                    torch = {**settings, "tiny": tiny, "compiled": peer == "compiled"}
                    ways[PEERS[peer]] = partial(in_a_process, run_torch, **torch)
                yield from compare(benchmark, case, ways, rounds, device)


def _too_large(patch: int, batch: int) -> str:
    """Why the machine has too little memory for a step; nothing if it has enough."""
    import psutil

    needed = BASE_BYTES + batch * patch**3 * VOXEL_BYTES
    free = psutil.virtual_memory().available
    if needed < free:
        return ""
    return f"about {needed / 2**30:.1f} GiB are needed, and {free / 2**30:.1f} GiB are free"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--patches", type=int, nargs="+", default=[64], help="voxels of a side")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--work", nargs="+", choices=WORK, default=list(WORK))
    parser.add_argument("--rounds", type=int, default=2, help="turns of each")
    parser.add_argument("--seconds", type=float, default=8.0, help="of measuring in a turn")
    parser.add_argument("--devices", type=int, nargs="+", default=[1], help="CPU devices of ours")
    parser.add_argument("--device", choices=PLATFORMS, default="cpu")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--tiny", action="store_true", help="a tiny network, to try this out")
    print_one("network", rows("network", **vars(parser.parse_args())))


if __name__ == "__main__":
    main()
