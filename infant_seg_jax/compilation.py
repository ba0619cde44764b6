"""Compiled programs kept on disk, so that a command starts at once the second time."""

import contextlib
import os
import zlib
from pathlib import Path

import jax

_ZLIB = b"\x78"


def use_compilation_cache() -> None:
    """Keep what XLA compiles in the user's cache folder, unless JAX was told of another."""
    if jax.config.values.get("jax_compilation_cache_dir"):
        return
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "infant_seg_jax" / "compiled"
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
