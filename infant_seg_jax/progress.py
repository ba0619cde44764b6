"""What a command says while it works: bars with the time left, and lines beside them.

Everything goes to standard error, so that standard output is the command's result.
"""

import sys

from tqdm import tqdm


def progress(description: str, total: int, initial: int = 0, unit: str = "it") -> tqdm:
    """A bar with rate and time left on a terminal; nothing where output goes to a file."""
    return tqdm(
        desc=description, total=total, initial=initial, unit=unit, disable=None, dynamic_ncols=True
    )


def say(line: str) -> None:
    """Print a line without tearing a bar."""
    tqdm.write(line, file=sys.stderr)
