"""What memory there is: of the device, of the machine, of a container."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from infant_seg_jax.prediction import memory
from infant_seg_jax.prediction.memory import PROCESS, available_memory, more_than_allowed

GIB = 2**30


class Device:
    def __init__(self, stats: dict[str, int] | None) -> None:
        self.stats = stats

    def memory_stats(self) -> dict[str, int] | None:
        return self.stats


def test_a_device_with_its_own_memory_says_what_it_has() -> None:
    device = Device({"bytes_limit": 60 * GIB, "bytes_in_use": 2 * GIB})
    assert available_memory(None, device) == 52 * GIB
    assert available_memory(10 * GIB, device) == 7 * GIB
    assert available_memory(GIB, device) == 0


def test_without_one_it_is_the_machine_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_left_in_groups", lambda: iter(()))
    free = psutil.virtual_memory().available
    assert 0.5 * free < available_memory(None, Device(None)) < free
    monkeypatch.setattr(memory, "_left_in_groups", lambda: iter((3 * GIB, GIB)))
    assert available_memory(None, Device(None)) <= GIB


def test_a_limit_is_of_the_whole_process() -> None:
    held = psutil.Process().memory_info().rss
    assert available_memory(held // 2, Device(None)) == 0
    found = available_memory(100 * GIB, Device(None))
    assert found == pytest.approx(90 * GIB - held, abs=GIB)


def test_more_than_is_allowed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "peak_memory", lambda: {PROCESS: 1_060_000_000})
    assert more_than_allowed(None) == more_than_allowed(1_060_000_000) == ""
    message = more_than_allowed(1_000_000_000)
    assert message.startswith("Up to 1.06 GB of memory were used, more than the 1.00 GB of --max_m")


def test_what_a_program_held_before_it_became_this_one_does_not_count() -> None:
    """As a small one that a large one starts: Linux has its `ru_maxrss` begin where that was."""
    large = (
        "import os, sys; held = b'x' * 2**28; "
        "os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])"
    )
    small = (
        "from infant_seg_jax.prediction.memory import peak_memory; "
        "import psutil; print(max(peak_memory().values()) - psutil.Process().memory_info().rss)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", large, small], stdout=subprocess.PIPE, check=True, text=True
    )
    assert int(printed.stdout) < 2**27


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_limits_of_containers_are_found(tmp_path: Path) -> None:
    """Both versions of control groups; within a group with a limit; and a container's own view."""
    root = tmp_path / "cgroup"
    unlimited = {"memory__max": "max\n", "memory__current": "5\n", "memory__stat": "anon 5\n"}
    group(root, **unlimited)
    group(
        root / "jobs",
        memory__max="1000",
        memory__current="700",
        memory__stat="anon 100\ninactive_file 600\nactive_file 5\n",
    )
    group(root / "jobs/mine", **unlimited)
    group(
        root / "memory",
        **{
            "memory__limit_in_bytes": "900",
            "memory__usage_in_bytes": "950",
            "memory__stat": "inactive_file 30\ntotal_inactive_file 20\n",
        },
    )
    mine = tmp_path / "mine"

    def left(text: str) -> list[int]:
        mine.write_text(text)
        return list(memory._left_in_groups(mine, root))

    assert left("0::/jobs/mine\n") == [900]
    assert left("0::/\n") == []
    assert left("4:cpu,memory:/not/seen/from/here\n1:name=systemd:/\n") == [0]
    assert left("3:cpu:/\n") == []
    assert list(memory._left_in_groups(tmp_path / "nothing", root)) == []
