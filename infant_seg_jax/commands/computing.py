"""The flags --threads and --device: what a command computes on, said before JAX starts."""

import os

from absl import flags

from infant_seg_jax.cores import THREADS_VARIABLE
from infant_seg_jax.errors import InputError

_PREALLOCATE = "XLA_PYTHON_CLIENT_PREALLOCATE"


def define_computing(values: flags.FlagValues) -> None:
    """The flags, which `use_computing` reads."""
    flags.DEFINE_integer(
        "threads",
        None,
        "Number of threads on the CPU. By default, one per core.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_string(
        "device",
        None,
        "Where to compute: cpu, gpu, or gpu:1 for the second GPU. By default, the best device "
        "available.",
        flag_values=values,
    )


def use_computing(values: flags.FlagValues, *, training: bool) -> None:
    """Have JAX use what the flags say; to be called before it is loaded.

    JAX takes nearly all of a GPU's memory at its start, which what does not train leaves to others.

    Raises:
        InputError: there is no device of that name.
    """
    if not training:
        os.environ.setdefault(_PREALLOCATE, "false")
    if values.threads is not None:
        os.environ[THREADS_VARIABLE] = str(values.threads)
    if values.device is None:
        return
    kind, colon, number = values.device.partition(":")
    if kind not in ("cpu", "gpu") or (colon and (kind == "cpu" or not number.isdecimal())):
        raise InputError(f"--device is {values.device}, expected cpu, gpu, or gpu:1 and so on.")
    os.environ["JAX_PLATFORMS"] = "cpu" if kind == "cpu" else "cuda,cpu"
    if number:
        os.environ["JAX_CUDA_VISIBLE_DEVICES"] = number
    together = any(name in values and values[name].value for name in ("distributed", "coordinator"))
    if kind == "gpu" and not together:  # Those that join others may not look at devices before.
        _check_there_is_a_gpu(values.device)


def _check_there_is_a_gpu(name: str) -> None:
    import jax

    try:
        found = jax.default_backend()
    except RuntimeError:
        found = "none"
    if found != "gpu":
        raise InputError(
            f"--device is {name}, but JAX finds no such device here: leave out the flag, or "
            "install JAX for it, as with pip install 'infant_seg_jax[cuda13]'."
        )
