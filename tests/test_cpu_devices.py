"""Cores as devices: how many, and that a person's word comes first."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infant_seg_jax.compilation import ONEDNN_VARIABLE
from infant_seg_jax.cores import count_cores
from infant_seg_jax.cpu_devices import count_devices
from infant_seg_jax.data.phantom import write_cohort
from infant_seg_jax.data.preparing import prepare
from infant_seg_jax.data.sources.phantom import PHANTOM
from tests.training.tiny import tiny_config, tiny_flags

_WITHOUT_ONEDNN = {**os.environ, ONEDNN_VARIABLE: "0", "JAX_PLATFORMS": "cpu"}
_ASK = """
import jax
from infant_seg_jax.cpu_devices import use_cores_as_devices
{before}
use_cores_as_devices(6)
print(jax.device_count())
"""


def test_each_device_gets_the_same_number_of_patches() -> None:
    for cores in range(1, 20):
        for batch_size in range(1, 20):
            count = count_devices(batch_size, cores)
            assert count <= cores and batch_size % count == 0
            larger = range(count + 1, min(batch_size, cores) + 1)
            assert all(batch_size % other for other in larger)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "flags", "expected"),
    [
        ("", "", count_devices(6, count_cores())),
        ("", "--xla_force_host_platform_device_count=5", 5),
        ("jax.config.update('jax_num_cpu_devices', 3)", "", 3),
        ("jax.device_count()", "", 1),
    ],
)
def test_nobody_is_overruled(before: str, flags: str, expected: int) -> None:
    told = {**_WITHOUT_ONEDNN, "XLA_FLAGS": flags}
    command = [sys.executable, "-c", _ASK.format(before=before)]
    found = subprocess.run(command, env=told, check=True, capture_output=True, text=True)
    assert int(found.stdout) == expected


@pytest.mark.slow
def test_training_uses_the_cores(tmp_path: Path) -> None:
    write_cohort(tmp_path / "scans", range(3), shape=(32, 32, 32))
    prepare(PHANTOM.open(tmp_path / "scans"), tmp_path / "prepared")
    config = tiny_config(tmp_path / "prepared", steps=1)
    told = {**_WITHOUT_ONEDNN, "XLA_FLAGS": ""}
    arguments = ["train", *tiny_flags(config), f"--workdir={tmp_path}/run", "--quiet"]
    command = [sys.executable, "-m", "infant_seg_jax", *arguments]
    subprocess.run(command, env=told, check=True, cwd=Path(__file__).parents[1])
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert len(record["devices"]) == count_devices(config.patch.batch_size, count_cores())
