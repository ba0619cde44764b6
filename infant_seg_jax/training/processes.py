"""Joining other processes, on this machine or others, to train together."""

import jax

from infant_seg_jax.errors import InputError


def join_processes(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Become one of the processes that train together; before any other use of JAX.

    Args:
        coordinator: HOST:PORT at which the first process listens. Without it SLURM, Open MPI and
            TPU pods say by themselves who is who, as JAX finds out.
        processes: how many there are.
        process: this one's number, from 0.

    Raises:
        InputError: only some of the three are given, or the others could not be found.
    """
    given = [value is not None for value in (coordinator, processes, process)]
    if any(given) and not all(given):
        raise InputError(
            "--coordinator, --processes and --process belong together, expected all of them, or "
            "none if SLURM, Open MPI or a TPU pod provides them."
        )
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"The processes could not connect to train together ({reason}): give "
            "--coordinator=HOST:PORT, --processes and --process, or start them with a script from "
            "launch/."
        ) from error
