"""Programs with oneDNN, and the cache of compiled programs."""

import os
import platform
import subprocess
import sys
import zlib
from pathlib import Path

import jax
import pytest

from infant_seg_jax.compilation import ONEDNN_VARIABLE, has_onednn, remove_broken_entries

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
    printed = [
        subprocess.run(
            [sys.executable, "-c", COMPILE],
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        ).stdout.split()
        for _ in range(2)
    ]
    assert printed == [["cache_misses"], ["cache_hits"]]


NO_HOME = """
import pathlib, warnings
def home(): raise RuntimeError("Could not determine home directory.")
pathlib.Path.home = home
warnings.simplefilter("error")
"""


@pytest.mark.parametrize("unusable", ["no home", "a file in its way", "no room"])
def test_without_a_folder_for_the_cache_all_goes_on(tmp_path: Path, unusable: str) -> None:
    (tmp_path / "file").touch()
    cache = {"no home": "", "a file in its way": f"{tmp_path}/file", "no room": str(tmp_path)}
    full = "import os, tempfile; tempfile.TemporaryFile = lambda **_: open('/dev/full', 'wb')"
    before = {"no home": NO_HOME, "no room": full}.get(unusable, "")
    printed = subprocess.run(
        [sys.executable, "-c", f"{before}\n{COMPILE}"],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": cache[unusable]},
        capture_output=True,
        check=False,
        text=True,
    )
    assert printed.returncode == 0, printed.stderr
    assert len(printed.stderr.splitlines()) == 1
    assert "set XDG_CACHE_HOME to a folder" in printed.stderr
    assert not printed.stdout.split()  # neither a miss nor a hit


COMPILE_WITH_ONEDNN = """
import warnings
from functools import partial
import jax.numpy as jnp
from infant_seg_jax.compilation import has_onednn, jit, use_compilation_cache
from infant_seg_jax.ops.conv3d import conv3x3x3
warnings.simplefilter("error")
use_compilation_cache()
convolve = jit(partial(conv3x3x3, onednn=has_onednn()), onednn=has_onednn())
convolve(jnp.ones((1, 4, 4, 4, 2)), jnp.ones((3, 3, 3, 2, 2)))
print(has_onednn())
"""


@pytest.mark.skipif(
    jax.__version_info__ < (0, 11)
    or (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="this JAX has no oneDNN",
)
def test_the_installed_jax_is_known_to_have_onednn() -> None:
    assert has_onednn()


@pytest.mark.parametrize("wanted", ["0", "1"])
def test_programs_with_onednn_are_not_written_to_the_cache(tmp_path: Path, wanted: str) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), ONEDNN_VARIABLE: wanted}
    command = [sys.executable, "-c", COMPILE_WITH_ONEDNN]
    result = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    has_it = result.stdout.strip() == "True"
    assert has_it == (wanted == "1" and has_onednn())
    assert not result.stderr
    kept = [path.name for path in tmp_path.rglob("*-cache")]
    assert any("conv3x3x3" in name for name in kept) != has_it


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
