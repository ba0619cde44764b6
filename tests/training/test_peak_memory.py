"""The most memory of a run: of its devices where they tell, of the process where they do not."""

import resource
from pathlib import Path

import jax
import numpy as np
import pytest

from infant_seg_jax.training import peak_memory as memory
from infant_seg_jax.training.peak_memory import DEVICE, PROCESS, read_peak_memory


class FakeDevice:
    def __init__(self, peak: int | None) -> None:
        self.peak = peak

    def memory_stats(self) -> dict[str, int] | None:
        return None if self.peak is None else {"bytes_in_use": 1, "peak_bytes_in_use": self.peak}


def test_of_several_devices_it_is_that_of_the_fullest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "local_devices", lambda: [FakeDevice(5), FakeDevice(7)])
    assert memory.peak_memory() == {DEVICE: 7}


def test_of_a_cpu_it_is_what_the_process_has_held() -> None:
    before = memory.peak_memory()[PROCESS]
    held = np.ones((before + 2**27) // 8)  # More than ever before.
    after = memory.peak_memory()[PROCESS]
    del held
    assert after >= before + 2**26
    assert memory.peak_memory()[PROCESS] >= after  # Though it has been given back.
    assert after <= 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_a_run_notes_the_most_over_all_its_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_peak_memory(tmp_path) == {}
    for peak, most in ((5, 5), (3, 5), (8, 8)):
        monkeypatch.setattr(jax, "local_devices", lambda peak=peak: [FakeDevice(peak)])
        memory.record_peak_memory(tmp_path)
        assert read_peak_memory(tmp_path) == {DEVICE: most}
    for damaged in ("", "[1]", '{"device_bytes": "many"}'):
        (tmp_path / "memory.json").write_text(damaged)
        assert read_peak_memory(tmp_path) == {}
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(jax, "local_devices", lambda: [FakeDevice(9)])
    memory.record_peak_memory(tmp_path)  # Another process's is not noted.
    assert read_peak_memory(tmp_path) == {}
