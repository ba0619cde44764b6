"""How long it takes until `infant-seg` says anything.

    python benchmarks/startup.py > startup.json

A scan as small as one window shows what `infant-seg predict` takes besides inference: Python,
reading, preparing, checking the weights, refining and writing. All but the first turn find what
was compiled.

Prints JSON, and a table beside it on standard error.
"""

import argparse
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import inputs
from measuring import Found, Row, compare, in_a_process, run_command
from table import print_one

SMALL: inputs.Sizes = (48, 56, 48)
"""Voxels of 1 mm, as the network has them, so that nothing is resampled to more."""


def run_help(command: str) -> Found:
    return run_command(*command.split(), "--help")


def run_predict(scan: str) -> Found:
    with tempfile.TemporaryDirectory() as folder:
        return run_command("predict", f"--input={scan}", f"--output={folder}/labels")


def rows(benchmark: str, *, rounds: int = 5) -> Iterator[Row]:
    """What `--help` takes, of all and of one command, and what predicting a small scan does."""
    ways = {
        f"infant-seg {command} --help".replace("  ", " "): partial(
            in_a_process, run_help, command=command
        )
        for command in ("", "predict")
    }
    yield from compare(benchmark, "help", ways, rounds)
    with tempfile.TemporaryDirectory() as folder:
        in_a_process(inputs.make_phantoms, folder=folder, shape=SMALL, count=1, spacing_mm=1)
        (scan,) = Path(folder).rglob("*_T1w.nii.gz")
        ways = {"infant-seg predict": partial(in_a_process, run_predict, scan=scan)}
        size = " x ".join(map(str, SMALL))
        yield from compare(benchmark, f"a scan of {size} voxels", ways, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    print_one("startup", rows("startup", **vars(parser.parse_args())))


if __name__ == "__main__":
    main()
