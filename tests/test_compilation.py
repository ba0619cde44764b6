"""The cache of compiled programs."""

import os
import subprocess
import sys
import zlib
from pathlib import Path

from infant_seg_jax.compilation import remove_broken_entries

COMPILE = """
import jax
from infant_seg_jax.compilation import use_compilation_cache
use_compilation_cache()
jax.monitoring.register_event_listener(
    lambda event, **_: "/cache_" in event and print(event.rsplit("/")[-1])
)
jax.jit(lambda x: x + 1)(1.0)
"""


def test_another_process_finds_even_what_compiles_at_once(tmp_path: Path) -> None:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path)}
    said = [
        subprocess.run(
            [sys.executable, "-c", COMPILE],
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        ).stdout.split()
        for _ in range(2)
    ]
    assert said == [["cache_misses"], ["cache_hits"]]


def test_only_half_written_entries_are_removed(tmp_path: Path) -> None:
    program = zlib.compress(os.urandom(1000))
    (tmp_path / "whole-cache").write_bytes(program)
    (tmp_path / "half-cache").write_bytes(program[:500])
    (tmp_path / "empty-cache").write_bytes(b"")
    (tmp_path / "zstd-cache").write_bytes(b"\x28\xb5\x2f\xfd")
    (tmp_path / "other").write_bytes(program[:500])
    remove_broken_entries(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"whole-cache", "zstd-cache", "other", "looked_through"}


def test_entries_are_read_once(tmp_path: Path) -> None:
    old, new = tmp_path / "old-cache", tmp_path / "new-cache"
    remove_broken_entries(tmp_path)
    now = (tmp_path / "looked_through").stat().st_mtime
    old.write_bytes(_half_program())
    os.utime(old, (now - 10, now - 10))
    new.write_bytes(_half_program())
    os.utime(new, (now + 10, now + 10))
    remove_broken_entries(tmp_path)
    assert old.exists() and not new.exists()


def test_no_folder_is_no_error(tmp_path: Path) -> None:
    remove_broken_entries(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def _half_program() -> bytes:
    return zlib.compress(os.urandom(100))[:50]
