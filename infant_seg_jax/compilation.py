"""Compiled programs kept on disk, so that a command starts at once the second time."""

import os
from pathlib import Path

import jax


def use_compilation_cache() -> None:
    """Keep what XLA compiles in the user's cache folder, unless JAX was told of another."""
    if jax.config.values.get("jax_compilation_cache_dir"):
        return
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    jax.config.update("jax_compilation_cache_dir", str(cache / "infant_seg_jax" / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
