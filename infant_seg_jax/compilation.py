"""How programs are compiled: with oneDNN where XLA has it, and kept on disk.

XLA's own 3D convolutions are slow on CPUs. From jaxlib 0.11 on it can hand them, and products of
matrices, to oneDNN, by an option that is given to one program at a time. Such a program cannot be
written to the cache of compiled programs: it is compiled in every process, in about a second.
"""

import contextlib
import os
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from functools import cache, wraps
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from infant_seg_jax.ops.conv3d import conv3x3x3
from infant_seg_jax.progress import log

ONEDNN_VARIABLE = "INFANT_SEG_ONEDNN"
"""Set to 0 in the environment, it has programs compiled without oneDNN."""

_SINCE = (0, 11, 0)
ONEDNN_OPTIONS: dict[str, Any] = {"xla_cpu_experimental_onednn_custom_call": True}
_LEAST_SECONDS = "jax_persistent_cache_min_compile_time_secs"
_LEAST_ROOM = 2**20
"""Bytes; with less, a disk counts as full."""
_ZLIB = b"\x78"
_cache_lock = threading.Lock()


def may_have_onednn() -> bool:
    """Whether the version of JAX is one that can have oneDNN, and nobody has turned it off."""
    return jax.__version_info__ >= _SINCE and os.environ.get(ONEDNN_VARIABLE) != "0"


@cache
def has_onednn() -> bool:
    """Whether programs are to be compiled with oneDNN: on CPUs, where XLA hands it a convolution.

    That is tried, in 30 ms, for some builds of jaxlib take the option and do nothing.
    """
    if not may_have_onednn() or jax.default_backend() != "cpu":
        return False
    shapes = (1, 4, 4, 4, 1), (3, 3, 3, 1, 1)
    x, kernel = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    lowered = jax.jit(conv3x3x3, static_argnums=2).lower(x, kernel, True)
    with _uncached():
        program = lowered.compile(compiler_options=ONEDNN_OPTIONS)
    return "__onednn$convolution" in (program.as_text() or "")


def describe_convolutions() -> str:
    """A sentence: how 3D convolutions are computed here, and what would be faster."""
    if has_onednn():
        return f"3D convolutions are computed by oneDNN ({ONEDNN_VARIABLE}=0 turns it off)."
    platform = jax.default_backend()
    if platform != "cpu":
        return f"3D convolutions are computed by XLA on the {platform.upper()}."
    if os.environ.get(ONEDNN_VARIABLE) == "0":
        return f"3D convolutions are computed without oneDNN, because of {ONEDNN_VARIABLE}=0."
    if jax.__version_info__ >= _SINCE:
        return "3D convolutions are computed without oneDNN, which this build of JAX does not have."
    return (
        f"3D convolutions are computed without oneDNN, which JAX {jax.__version__} does not have: "
        "they are faster with Python 3.12 or later, which gets a newer JAX."
    )


def note_slow_convolutions() -> None:
    """Say so where a newer Python would bring faster convolutions."""
    if jax.__version_info__ < _SINCE and jax.default_backend() == "cpu":
        log(describe_convolutions())


def jit(function: Callable[..., Any], *, onednn: bool, **options: Any) -> Callable[..., Any]:
    """`jax.jit`, with oneDNN or without."""
    if not onednn:
        return jax.jit(function, **options)
    compiled = jax.jit(function, compiler_options=ONEDNN_OPTIONS, **options)

    @wraps(function)
    def call(*arguments: Any) -> Any:
        with _uncached():
            return compiled(*arguments)

    return call


@contextlib.contextmanager
def _uncached() -> Iterator[None]:
    """Write nothing to the cache of compiled programs."""
    with _cache_lock:
        least = jax.config.values[_LEAST_SECONDS]
        jax.config.update(_LEAST_SECONDS, float("inf"))
        try:
            yield
        finally:
            jax.config.update(_LEAST_SECONDS, least)


def use_compilation_cache() -> None:
    """Keep what XLA compiles in the user's cache folder, unless JAX was told of another.

    Where there is none that can be written to, nothing is kept, and a line says so.
    """
    if jax.config.values.get("jax_compilation_cache_dir"):
        return
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = cache / "infant_seg_jax" / "compiled"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_LEAST_ROOM))
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home folder.
        log(
            f"Programs are compiled again in every run because they cannot be kept ({error}): set "
            "XDG_CACHE_HOME to a folder for them."
        )
        return
    remove_broken_entries(folder)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # By default only what takes a second to compile is kept, and a prediction is of many programs
    # that take less.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def remove_broken_entries(folder: Path) -> None:
    """Remove what a killed process or a full disk left half-written of JAX's cache.

    JAX writes an entry in place and never over one that exists, so that a broken one would be
    warned of, and compiled anew, in every run to come. Only the entries written since the last look
    are read. Those of zstd, which JAX prefers to zlib where it is installed, are left alone.
    """
    looked = folder / "looked_through"
    # A cache that cannot be written, or that another process clears at the same time, is no error.
    with contextlib.suppress(OSError):
        since = looked.stat().st_mtime if looked.exists() else 0.0
        looked.touch()
        for entry in folder.glob("*-cache"):
            if entry.stat().st_mtime >= since and not _is_whole(entry.read_bytes()):
                entry.unlink()


def _is_whole(entry: bytes) -> bool:
    try:
        zlib.decompress(entry)
    except zlib.error:
        return bool(entry) and not entry.startswith(_ZLIB)
    return True
