"""All benchmarks, or some of them, in one table.

    python benchmarks/run.py --output=results [--only network predict] [--ibsr=IBSR]

Writes `table.md` and `table.json` to the output folder, after every line, with the machine, the
versions, the commit and the date. Every measurement runs in a process of its own, and those that
are compared take turns. What cannot run has a line that says why. A table that is there already
keeps the lines of other benchmarks, so the whole can be measured in pieces:

    startup    `--help`, and predicting a scan as small as one window
    prepare    a dataset, against a plain loop
    evaluate   a pair of label maps, against distance transforms
    network    forward and training step of patches of 64-cubed by batch, against PyTorch
    patches    the same by the patch's size
    devices    a training step on one and on two CPU devices
    training   steps of a config on real patches, with and without augmentation, and rendered
    predict    a whole scan, against MONAI and a loop of windows
    volumes    inference by the volume's size, against MONAI
    throughput scans an hour by the bundled model, in one process and in two with shards

`--quick` has tiny networks and sizes: it shows that all works, and its times mean nothing. On a
GPU, `--device=gpu --only network patches training predict volumes` runs the networks there, here
and in PyTorch, in TF32 and in bfloat16. Needs the extra `benchmarks`, which brings PyTorch and
MONAI; a PyTorch for GPUs has to be installed by hand.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import evaluate
import inputs
import network
import predict
import prepare
import startup
import table
import throughput
import training
from measuring import PLATFORMS, Failed, Row, describe_machine, empty_cache, in_a_process

NO_IBSR = "no --ibsr was given, so phantoms are measured"


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes:
        patch: voxels of a side, where it is one.
        patches: of a side, how time grows by.
        batches: of patches, likewise.
        volumes: voxels of a side, likewise.
        window: of MONAI and the loop.
        brain: voxels of a phantom.
        side: of the volume that a phantom's label map is in.
        examples: of training.
        steps: likewise.
        seconds: of measuring a network, in a turn.
    """

    patch: int = 64
    patches: tuple[int, ...] = (32, 48, 64, 96)
    batches: tuple[int, ...] = (1, 2, 4)
    volumes: tuple[int, ...] = (128, 192, 256)
    window: int = predict.WINDOW
    brain: inputs.Sizes = inputs.BRAIN
    side: int = evaluate.SIDE
    examples: tuple[str, ...] = tuple(training.EXAMPLES)
    steps: int = 20
    seconds: float = 8.0


SCALES = {"cpu": Scale(), "gpu": Scale(batches=(1, 4, 16), steps=100)}
QUICK = Scale(16, (16,), (1,), (32,), 16, (40, 48, 40), 64, ("none", "rendered"), 2, 0.0)


@dataclass(frozen=True)
class Options:
    """What a person chose; `scale` follows from that."""

    ibsr: Path | None
    anatomies: Path | None
    checkpoint: Path | None
    config: Path
    device: str
    precisions: tuple[str, ...]
    rounds: int
    quick: bool

    @property
    def scale(self) -> Scale:
        return QUICK if self.quick else SCALES[self.device]


def run_startup(name: str, options: Options) -> Iterator[Row]:
    yield from startup.rows(name, rounds=1 if options.quick else 5)


def run_prepare(name: str, options: Options) -> Iterator[Row]:
    if options.ibsr:
        yield from prepare.rows(
            name, source="ibsr", data=options.ibsr, labeled=True, rounds=options.rounds
        )
        return
    yield Row(name, "preparing, ibsr", skipped=NO_IBSR)
    with tempfile.TemporaryDirectory() as folder:
        scans = make_phantoms(folder, options)
        yield from prepare.rows(name, source="phantom", data=scans, rounds=options.rounds)


def run_evaluate(name: str, options: Options) -> Iterator[Row]:
    scale = options.scale
    yield from evaluate.rows(name, side=scale.side, brain=scale.brain, rounds=options.rounds)


def run_network(name: str, options: Options) -> Iterator[Row]:
    scale = options.scale
    yield from _networks(name, options, [scale.patch], scale.batches, list(network.PEERS))


def run_patches(name: str, options: Options) -> Iterator[Row]:
    yield from _networks(name, options, options.scale.patches, [1], ["eager"])


def _networks(
    name: str,
    options: Options,
    patches: Sequence[int],
    batches: Sequence[int],
    peers: Sequence[str],
) -> Iterator[Row]:
    for precision in options.precisions:
        yield from network.rows(
            name,
            patches=patches,
            batches=batches,
            peers=peers,
            device=options.device,
            precision=precision,
            rounds=options.rounds,
            seconds=options.scale.seconds,
            tiny=options.quick,
        )


def run_devices(name: str, options: Options) -> Iterator[Row]:
    if options.device != "cpu":
        yield Row(name, "step by devices", skipped="it is of CPU devices")
        return
    scale = options.scale
    yield from network.rows(
        name,
        patches=[scale.patch],
        batches=[2],
        peers=[],
        work=["step"],
        devices=[1, 2],
        rounds=options.rounds,
        seconds=scale.seconds,
        tiny=options.quick,
    )


def run_training(name: str, options: Options) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder, empty_cache() as aside:
        prepared = Path(folder) / "prepared"
        source, data = "ibsr", options.ibsr
        if not data:
            yield Row(name, "training, ibsr", skipped=NO_IBSR)
            source, data = "phantom", make_phantoms(folder, options)
        in_a_process(
            inputs.make_prepared, aside, folder=prepared, source=source, data=data.resolve()
        )
        for precision in options.precisions:
            yield from training.rows(
                name,
                data=prepared,
                config=options.config,
                anatomies=options.anatomies,
                examples=options.scale.examples,
                steps=options.scale.steps,
                rounds=options.rounds,
                device=options.device,
                precision=precision,
                tiny=options.quick,
            )


def run_predict(name: str, options: Options) -> Iterator[Row]:
    whole = partial(
        predict.rows,
        name,
        checkpoint=options.checkpoint,
        window=options.scale.window,
        device=options.device,
        rounds=options.rounds,
        tiny=options.quick,
    )
    if options.ibsr:
        found = in_a_process(inputs.find_scan, source="ibsr", data=options.ibsr.resolve())
        truth = Path(found["truth"]) if options.checkpoint else None  # random weights have none
        yield from whole(scan=Path(found["scan"]), truth=truth, schema=found["schema"])
        return
    yield Row(name, "a scan of IBSR", skipped=NO_IBSR)
    with tempfile.TemporaryDirectory() as folder:
        scans = make_phantoms(folder, options, count=1)
        yield from whole(scan=next(scans.rglob("*_T1w.nii.gz")))


def run_volumes(name: str, options: Options) -> Iterator[Row]:
    yield from predict.rows(
        name,
        checkpoint=options.checkpoint,
        sides=options.scale.volumes,
        window=options.scale.window,
        device=options.device,
        rounds=options.rounds,
        tiny=options.quick,
    )


def run_throughput(name: str, options: Options) -> Iterator[Row]:
    scale = options.scale
    per_map = 1 if options.quick else 4
    yield from throughput.rows(name, per_map=per_map, shape=scale.brain, rounds=options.rounds)


def make_phantoms(folder: str, options: Options, count: int = 5) -> Path:
    """A folder of phantoms in `folder`."""
    scans = Path(folder) / "scans"
    in_a_process(inputs.make_phantoms, folder=scans, shape=options.scale.brain, count=count)
    return scans


BENCHMARKS: dict[str, Callable[[str, Options], Iterator[Row]]] = {
    "startup": run_startup,
    "prepare": run_prepare,
    "evaluate": run_evaluate,
    "network": run_network,
    "patches": run_patches,
    "devices": run_devices,
    "training": run_training,
    "predict": run_predict,
    "volumes": run_volumes,
    "throughput": run_throughput,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="the table's folder")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS))
    parser.add_argument("--ibsr", type=Path, help="the folder of IBSR's scans; else phantoms")
    parser.add_argument("--anatomies", type=Path, help="what to render from; else phantoms")
    parser.add_argument("--checkpoint", type=Path, help="a run or model to predict with")
    parser.add_argument("--config", type=Path, default=training.CONFIG, help="what to train")
    parser.add_argument("--device", choices=PLATFORMS, default="cpu")
    parser.add_argument("--precisions", nargs="+", choices=network.PRECISIONS)
    parser.add_argument("--rounds", type=int, help="turns of each; 2, or 1 if --quick")
    parser.add_argument("--quick", action="store_true", help="tiny, to try it out")
    given = vars(parser.parse_args())
    output, only = given.pop("output"), given.pop("only")
    given["rounds"] = given["rounds"] or (1 if given["quick"] else 2)
    by_device = {"cpu": ("float32",), "gpu": ("tf32", "bfloat16")}
    given["precisions"] = tuple(given["precisions"] or by_device[given["device"]])
    run(output, only, Options(**given))


def run(output: Path, only: list[str], options: Options) -> None:
    """Run these benchmarks, and write the table after every line."""
    content, machine = table.read(output), describe_machine()
    for name in only:
        rows: list[Row] = []
        try:
            for row in BENCHMARKS[name](name, options):
                rows.append(row)
                result = f"{row.seconds} s" if row.seconds is not None else row.skipped or "done"
                print(f"{name}: {row.case}, {row.who}: {result}", file=sys.stderr)
                table.write(output, table.join(content, name, rows, machine))
        except Failed as error:
            rows.append(Row(name, "what it is measured with", skipped=str(error)))
        content = table.join(content, name, rows, machine)
        table.write(output, content)
    print(table.to_markdown(content))


if __name__ == "__main__":
    main()
