"""How many scans an hour `infant-seg predict` labels: in one process, and in several with shards.

Each way labels the same scans, rendered from label maps, with the bundled model; the several
processes have `--shard=1/N` to `--shard=N/N`, write to one folder, and have the cores divided among
them. A way's time is from starting the first process to the end of the last, without the report.

    python benchmarks/throughput.py > throughput.json
    python benchmarks/throughput.py --schema=freesurfer --label-maps MAP... > throughput.json

Prints JSON, and a table beside it on standard error.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import inputs
from measuring import Found, Row, compare, in_a_process, run_command
from table import print_one

AGES = "6,24"
"""In months, of the scans."""


def render(folder: str, label_maps: Sequence[str], schema: str, per_map: int) -> Found:
    """Render T1w scans, so many from each label map."""
    flags = [f"--schema={schema}", f"--age={AGES}", f"--per_map={per_map}", f"--output={folder}"]
    return run_command("render", *flags, *label_maps)


def run_predict(scans: str, count: int, processes: int, checkpoint: str) -> Found:
    """Label all scans in so many processes at once."""
    threads = max(1, (os.cpu_count() or 1) // processes)
    with tempfile.TemporaryDirectory() as output:
        flags = [f"--checkpoint={checkpoint}", f"--input={scans}", f"--output={output}"]
        flags += ["--noreport", f"--threads={threads}"]
        shards = [f"--shard={number}/{processes}" for number in range(1, processes + 1)]
        before = time.perf_counter()
        with ThreadPoolExecutor(processes) as pool:
            found = list(pool.map(partial(run_command, "predict", *flags), shards))
        seconds = time.perf_counter() - before
        labeled = len(list(Path(output).rglob("*_dseg.nii.gz")))
    if labeled != count:
        raise RuntimeError(f"{labeled} of {count} scans were labeled")
    return {
        "seconds": seconds,
        "peak_mib": max(one["peak_mib"] for one in found),
        "also": {"scans_an_hour": round(3600 * count / seconds, 1)},
    }


def rows(
    benchmark: str,
    *,
    label_maps: Sequence[str] = (),
    schema: str = "tissues",
    per_map: int = 4,
    processes: int = 2,
    checkpoint: str = "bundled",
    shape: inputs.Sizes = inputs.BRAIN,
    rounds: int = 2,
) -> Iterator[Row]:
    """One process against several; without label maps, those of two phantoms are rendered."""
    with tempfile.TemporaryDirectory() as folder:
        if not label_maps:
            in_a_process(inputs.make_phantoms, folder=f"{folder}/phantoms", shape=shape, count=2)
            label_maps = list(map(str, sorted(Path(folder).rglob("*_dseg.nii.gz"))))
        scans = f"{folder}/scans"
        in_a_process(render, folder=scans, label_maps=label_maps, schema=schema, per_map=per_map)
        count = per_map * len(label_maps)
        ways = {
            f"{number} process{'es' * (number > 1)}": partial(
                in_a_process,
                run_predict,
                scans=scans,
                count=count,
                processes=number,
                checkpoint=checkpoint,
            )
            for number in (1, processes)
        }
        yield from compare(benchmark, f"{count} scans", ways, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--label-maps", nargs="+", default=[], help="files; else phantoms'")
    parser.add_argument("--schema", default="tissues", help="what their values mean")
    parser.add_argument("--per-map", type=int, default=4, help="scans of each label map")
    parser.add_argument("--processes", type=int, default=2, help="how many at once")
    parser.add_argument("--checkpoint", default="bundled", help="a run or a model")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each")
    print_one("throughput", rows("throughput", **vars(parser.parse_args())))


if __name__ == "__main__":
    main()
