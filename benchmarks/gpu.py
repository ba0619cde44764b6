"""The network on a GPU, within a few minutes: against PyTorch, and what makes up its time.

    benchmarks/gpu.sh --minutes=4 --output=results

Forward and training step of 16 and of 4 patches of 64-cubed, in bfloat16 and in TF32: ours, PyTorch
eager in both layouts, and by `torch.compile`. Where a step's time goes, by kind of operation; steps
with other flags of XLA; the network's pieces alone, in several forms. Each of these is a process of
its own, with a share of the time that is left; what the limit cuts off is named in the table.

Writes `table.md` and `table.json` after every measurement; the latter has a step's largest
operations, too. With `--device=cpu --tiny` everything is tried out on a CPU, at tiny sizes.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gpu_pieces
import gpu_profile
import network
import table
from measuring import (
    PLATFORMS,
    Call,
    Failed,
    Found,
    Row,
    describe_machine,
    empty_cache,
    in_one_process,
    summarize,
)

BENCHMARK = "gpu"


@dataclass(frozen=True)
class Measurement:
    """A line of the table, and the call that finds it."""

    case: str
    who: str
    call: Call


@dataclass(frozen=True)
class Process:
    """What is measured in one process.

    Attributes:
        weight: about the seconds that it needs; the time left is shared out by these.
        measurements: in their order, the most important first.
        flags: of XLA.
    """

    weight: int
    measurements: tuple[Measurement, ...]
    flags: str = ""


@dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Attributes:
        patch: voxels of a side.
        batches: of patches; the first one is that of the profile and the flags.
        seconds: of timing one thing.
        tiny: whether the network is, too.
    """

    patch: int = 64
    batches: tuple[int, ...] = (16, 4)
    seconds: float = 0.7
    tiny: bool = False


TINY = Sizes(16, (1,), 0.0, True)


def plan(sizes: Sizes, device: str, tuned: Path) -> list[Process]:
    """The processes, the most important first.

    Args:
        sizes: of everything.
        device: `"cpu"` or `"gpu"`.
        tuned: where the first process writes what autotuning found.
    """
    ours = _networks(sizes, device, "bfloat16", "ours")
    profile = Measurement(
        ours[1].case,
        "ours, profiled: all operations",
        (gpu_profile.run_profile, ours[1].call[1]),
    )
    dump = f"--xla_gpu_dump_autotune_results_to={tuned}"
    load = f"--xla_gpu_load_autotune_results_from={tuned}"
    variants = {
        "convolutions in NHWC": (25, f"--xla_gpu_force_conv_nhwc=true {load}"),
        "convolutions fused": (20, f"--xla_gpu_experimental_enable_conv_fusion=true {load}"),
        "autotuning read from a file": (15, load),
    }
    return [
        Process(75, (*ours[:2], profile, *ours[2:]), dump),
        Process(55, _peers(sizes, device, "bfloat16")),
        *(
            Process(weight, (replace(ours[1], who=f"ours, {name}"),), flags)
            for name, (weight, flags) in variants.items()
        ),
        Process(25, _pieces(sizes)),
        Process(15, _networks(sizes, device, "tf32", "ours")),
        Process(10, _peers(sizes, device, "tf32")),
        Process(10, _torch_pieces(sizes, device)),
    ]


def _networks(
    sizes: Sizes, device: str, precision: str, who: str, **of_torch: Any
) -> tuple[Measurement, ...]:
    """Forward pass and step with each batch; PyTorch's, if there is more to say of it."""
    function = network.run_torch if of_torch else network.run_ours
    settings = {"patch": sizes.patch, "seconds": sizes.seconds, "tiny": sizes.tiny, **of_torch}
    settings |= {"device": device, "precision": precision}
    return tuple(
        Measurement(
            _case(work, batch, precision),
            who,
            (function, {**settings, "work": work, "batch": batch}),
        )
        for batch in sizes.batches
        for work in network.WORK
    )


def _peers(sizes: Sizes, device: str, precision: str) -> tuple[Measurement, ...]:
    """PyTorch eager, then what takes long to compile; the first batch in the other layout, too."""
    eager, compiled, first = (
        _networks(
            sizes,
            device,
            precision,
            f"PyTorch, {who}",
            compiled=who == "compiled",
            channels_last=last,
        )
        for who, last in (("eager", True), ("compiled", True), ("eager, NCDHW", False))
    )
    return (*eager, *compiled[:2], *first[:2], *compiled[2:])


def _pieces(sizes: Sizes) -> tuple[Measurement, ...]:
    """Ours alone, forward passes and gradients."""
    return tuple(
        _piece(sizes, gpu_pieces.run_ours, name, f"ours, {form}", gradients, form=form)
        for name, forms in gpu_pieces.OURS.items()
        for gradients in (False, True)
        for form in forms
    )


def _torch_pieces(sizes: Sizes, device: str) -> tuple[Measurement, ...]:
    return tuple(
        _piece(sizes, gpu_pieces.run_torch, name, who, gradients, device=device, channels_last=last)
        for name in gpu_pieces.TORCH
        for gradients in (False, True)
        for last, who in ((True, "PyTorch, eager"), (False, "PyTorch, eager, NCDHW"))
    )


def _piece(
    sizes: Sizes,
    function: Callable[..., Found],
    name: str,
    who: str,
    gradients: bool,
    **more: Any,
) -> Measurement:
    batch, what = sizes.batches[-1], "gradients" if gradients else "forward"
    settings = {"piece": name, "gradients": gradients, "batch": batch, "tiny": sizes.tiny}
    settings |= {"seconds": sizes.seconds / 4, **more}
    return Measurement(_case(f"{name}, {what}", batch, "bfloat16"), who, (function, settings))


def _case(work: str, batch: int, precision: str) -> str:
    return f"{work}, batch {batch}, {precision}"


def measure(
    processes: Sequence[Process], device: str, seconds: float
) -> Iterator[tuple[Measurement, Found]]:
    """Yield what each measurement finds; `skipped` says why, where it could not be made."""
    until = time.monotonic() + seconds
    for number, process in enumerate(processes):
        left = until - time.monotonic()
        share = process.weight / sum(later.weight for later in processes[number:])
        flags = f"{os.environ.get('XLA_FLAGS', '')} {process.flags}".strip()
        waiting = iter(process.measurements)
        # Nothing compiled is kept from one process to the next, except what autotuning found.
        with empty_cache(device) as environment:
            try:
                calls = [measurement.call for measurement in process.measurements]
                limit = max(0.1, share * left)
                environment = {**environment, "XLA_FLAGS": flags}
                for found in in_one_process(calls, environment, limit):
                    failed = found.pop("failed", None)
                    yield next(waiting), {"skipped": failed} if failed else found
            except Failed as error:
                for measurement in waiting:
                    yield measurement, {"skipped": str(error)}


def row(measurement: Measurement, found: Found, base: float | None) -> Row:
    """A line of the table; `base` is what the seconds are compared with."""
    case, who = measurement.case, measurement.who
    if "skipped" in found:
        return Row(BENCHMARK, case, who, skipped=found["skipped"])
    return summarize(BENCHMARK, case, who, [found], base)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=4.0, help="in all")
    parser.add_argument("--output", type=Path, default=Path("gpu_results"), help="a folder")
    parser.add_argument("--device", choices=PLATFORMS, default="gpu")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to try it out")
    given = parser.parse_args()
    sizes = TINY if given.tiny else Sizes()
    machine = describe_machine()
    rows: list[Row] = []
    bases: dict[str, float] = {}
    operations: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        processes = plan(sizes, given.device, Path(folder) / "autotuning.pbtxt")
        every = [measurement for process in processes for measurement in process.measurements]
        cases = list(dict.fromkeys(measurement.case for measurement in every))
        for measurement, found in measure(processes, given.device, 60 * given.minutes):
            operations |= found.pop("operations", {})
            if "seconds" in found:
                bases.setdefault(measurement.case, found["seconds"])
            rows.append(row(measurement, found, bases.get(measurement.case)))
            print(measurement.case, measurement.who, found, sep="; ", file=sys.stderr)
            later = [row(one, {"skipped": "not reached"}, None) for one in every[len(rows) :]]
            ordered = sorted([*rows, *later], key=lambda one: cases.index(one.case))
            content = table.join({}, BENCHMARK, ordered, machine)
            table.write(given.output, {**content, "operations_ms": operations})
    print((given.output / "table.md").read_text())


if __name__ == "__main__":
    main()
