"""How long it takes until `infant-seg` says anything.

    python benchmarks/startup.py > startup.json

Prints JSON, and a table beside it on standard error. What `infant-seg predict` takes besides
inference is in `predict.py`: the whole command against inference.
"""

import argparse
from collections.abc import Iterator
from functools import partial

from measuring import Found, Row, compare, in_a_process, run_command
from table import print_one


def run_help(command: str) -> Found:
    return run_command(*command.split(), "--help")


def rows(benchmark: str, *, rounds: int = 5) -> Iterator[Row]:
    """What `--help` takes, of all and of one command."""
    ways = {
        f"infant-seg {command} --help".replace("  ", " "): partial(
            in_a_process, run_help, command=command
        )
        for command in ("", "predict")
    }
    yield from compare(benchmark, "help", ways, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    print_one("startup", rows("startup", **vars(parser.parse_args())))


if __name__ == "__main__":
    main()
