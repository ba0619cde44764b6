"""How many cores of the CPU may be used."""

import os

THREADS_VARIABLE = "NPROC"
"""In the environment, the most that XLA uses, and that `count_cores` tells."""


def count_cores() -> int:
    """Those that this process may use."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        cores = os.cpu_count() or 1
    wanted = os.environ.get(THREADS_VARIABLE, "")
    return min(cores, int(wanted)) if wanted.isdecimal() and int(wanted) else cores
