"""The benchmarks' table, their turns and processes; and that each of them runs, at a tiny size."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from infant_seg_jax.store.loading import open_predictor

REPOSITORY = Path(__file__).parents[1]
FOLDER = REPOSITORY / "benchmarks"
MACHINE = {"machine": "A processor", "cores": 2, "gpu": None, "commit": "abc1234"}
ROWS = [
    {
        "benchmark": "network",
        "case": "step, 64-cubed, batch 1",
        "who": "ours",
        "seconds": 2.7749,
        "ratio": 1.0,
        "peak_mib": 3078,
        "gpu_mib": None,
        "compile_seconds": 25.27,
        "cached_seconds": 5.11,
        "also": {},
        "skipped": "",
    },
    {
        "benchmark": "network",
        "case": "step, 64-cubed, batch 1",
        "who": "PyTorch, eager",
        "seconds": 1.6802,
        "ratio": 0.61,
        "peak_mib": 1240,
        "gpu_mib": None,
        "compile_seconds": None,
        "cached_seconds": None,
        "also": {"cpu_seconds": 3.2},
        "skipped": "",
    },
    {
        "benchmark": "network",
        "case": "step, 64-cubed, batch 1",
        "who": "PyTorch, compiled",
        "seconds": None,
        "ratio": None,
        "peak_mib": None,
        "gpu_mib": None,
        "compile_seconds": None,
        "cached_seconds": None,
        "also": {},
        "skipped": "torch is not installed",
    },
]


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports one of the scripts, which import one another by their plain names."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)

    def script(name: str) -> ModuleType:
        return import_module(name)

    yield script
    for name in set(sys.modules) - before:
        if name in {path.stem for path in FOLDER.glob("*.py")}:
            del sys.modules[name]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_is_what_the_rows_say(scripts: Any) -> None:
    content = {"measured": {"network": MACHINE}, "rows": ROWS}
    lines = scripts("table").to_markdown(content).splitlines()
    assert lines[0] == "- network: A processor, 2 cores, commit abc1234."
    names, _, ours, eager, compiled = map(cells, [line for line in lines if line.startswith("|")])
    # No GPU was measured, so it has no column.
    assert names == [
        *("benchmark", "work", "by", "seconds", "to the first", "peak MiB"),
        *("compiling, cold", "compiling, cached", "also"),
    ]
    work = ["network", "step, 64-cubed, batch 1"]
    assert ours == [*work, "ours", "2.77", "1", "3078", "25.3", "5.11", ""]
    assert eager == [*work, "PyTorch, eager", "1.68", "0.61", "1240", "", "", "cpu_seconds 3.2"]
    skipped = "skipped: torch is not installed"
    assert compiled == [*work, "PyTorch, compiled", *[""] * 5, skipped]


def test_pieces_of_the_table_are_joined(scripts: Any, tmp_path: Path) -> None:
    table, row = scripts("table"), scripts("measuring").Row
    table.write(tmp_path, {"measured": {"network": MACHINE}, "rows": ROWS})
    later = {**MACHINE, "commit": "def5678"}
    joined = table.join(table.read(tmp_path), "startup", [row("startup", "help")], later)
    assert [found["benchmark"] for found in joined["rows"]] == ["network"] * 3 + ["startup"]
    text = table.to_markdown(joined)
    assert "- network: A processor, 2 cores, commit abc1234." in text
    assert "- startup: A processor, 2 cores, commit def5678." in text

    again = table.join(joined, "network", [row("network", "forward")], later)
    assert [found["case"] for found in again["rows"]] == ["forward", "help"]
    assert "- network, startup: A processor, 2 cores, commit def5678." in table.to_markdown(again)
    table.write(tmp_path / "new", again)
    assert table.read(tmp_path / "new") == again


def test_ways_take_turns_and_the_least_counts(scripts: Any) -> None:
    measuring = scripts("measuring")
    called, caches = [], set()
    seconds = {"ours": iter([4.0, 2.0, 3.0]), "peer": iter([8.0, 5.0, 6.0])}
    compiling, peaks = iter([20.0, 3.0, 1.0]), iter([100.0, 300.0, 200.0])

    def ours(environment: dict[str, str]) -> dict[str, Any]:
        called.append("ours")
        caches.add(environment["XDG_CACHE_HOME"])
        found = {"seconds": next(seconds["ours"]), "peak_mib": next(peaks)}
        return {**found, "compile_seconds": next(compiling), "also": {"turn": len(called)}}

    def peer(environment: dict[str, str]) -> dict[str, Any]:
        called.append("peer")
        caches.add(environment["XDG_CACHE_HOME"])
        return {"seconds": next(seconds["peer"])}

    def absent(environment: dict[str, str]) -> dict[str, Any]:
        called.append("absent")
        raise measuring.Failed("it is not installed")

    ways = {"ours": ours, "peer": peer, "absent": absent}
    rows = measuring.compare("network", "step", ways, rounds=3)
    assert called == ["ours", "peer", "absent", "ours", "peer", "ours", "peer"]
    assert len(caches) == 1 and not Path(caches.pop()).exists()
    mine, theirs, missing = rows
    assert (mine.seconds, mine.ratio, mine.peak_mib) == (2.0, 1.0, 300)
    assert (mine.compile_seconds, mine.cached_seconds, mine.also) == (20.0, 1.0, {"turn": 4})
    assert (theirs.seconds, theirs.ratio, theirs.compile_seconds) == (5.0, 2.5, None)
    assert (missing.seconds, missing.skipped) == (None, "it is not installed")


def test_what_fails_in_its_process_says_why(scripts: Any, tmp_path: Path) -> None:
    measuring, prepare = scripts("measuring"), scripts("prepare")
    with pytest.raises(measuring.Failed, match=rf"^InputError: .*{tmp_path}"):
        measuring.in_a_process(prepare.run_loop, source="phantom", data=tmp_path, labeled=False)


def test_calls_in_one_process_go_on_after_a_failure(scripts: Any) -> None:
    measuring = scripts("measuring")
    work = measuring.describe_machine
    first, second, third = measuring.in_one_process([(work, {}), (work, {"more": 1}), (work, {})])
    assert second["failed"].startswith("TypeError: ") and "failed" not in third
    assert third["cores"] == first["cores"] == os.cpu_count()


def test_calls_in_one_process_are_cut_off(scripts: Any) -> None:
    measuring, network = scripts("measuring"), scripts("network")
    endless = {"work": "forward", "patch": 16, "batch": 1, "seconds": 1e6, "tiny": True}
    calls = [
        (measuring.describe_machine, {}),
        (network.run_ours, {**endless, "device": "cpu", "precision": "float32"}),
    ]
    with pytest.raises(measuring.Failed, match="time limit"):
        list(measuring.in_one_process(calls, seconds=1.0))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cudnn-conv-bw-filter.3 sm90_xmma_wgrad_implicit_gemm_bf16", "convolution"),
        ("convolution.5", "convolution"),
        ("loop_convert_fusion.2", "other"),
        ("custom-call.1 nvjet_tst_128x64", "product"),
        ("gemm_fusion_dot.7", "product"),
        ("cudnn-conv.1 void cudnn::nchwToNhwcKernel", "copy"),
        ("MemcpyD2D", "copy"),
        ("wrapped_transpose", "transposition"),
        ("input_reduce_fusion", "reduction"),
        ("input_add_reduce_fusion.1", "reduction"),
        ("loop_add_fusion", "other"),
    ],
)
def test_operations_are_told_apart(scripts: Any, name: str, kind: str) -> None:
    assert scripts("gpu_profile").kind_of(name) == kind


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_forms_of_an_upsampling_agree(scripts: Any, stride: int) -> None:
    pieces = scripts("gpu_pieces")
    found = pieces.our_pieces(1, 16)
    assert set(found) == {(name, form) for name, forms in pieces.OURS.items() for form in forms}
    forms = [found[name] for name in found if name[0] == f"upsampling by {stride}"]
    arrays = [jnp.asarray(values) for values in pieces.random_arrays(forms[0].shapes)]
    expected, *others = (np.asarray(form.function(*arrays)) for form in forms)
    assert expected.std() > 0.01 and expected.shape == (1, 16, 16, 16, 4)
    for other in others:
        np.testing.assert_allclose(other, expected, atol=1e-5)


def run_gpu_script(output: Path, minutes: float) -> dict[str, Any]:
    """The table of `gpu.sh`, tried out on the CPU."""
    flags = ["--tiny", "--device=cpu", f"--minutes={minutes}", f"--output={output}"]
    environment = {**os.environ, "XLA_FLAGS": "", "PYTHON": sys.executable}
    command = [str(FOLDER / "gpu.sh"), *flags]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    return json.loads((output / "table.json").read_text())


def test_a_gpu_s_measurements_are_named_where_the_limit_cuts_them_off(tmp_path: Path) -> None:
    content = run_gpu_script(tmp_path, 0.001)
    assert len(content["rows"]) > 50
    assert {row["skipped"] for row in content["rows"]} == {"the time limit cut it off"}


@pytest.mark.slow
def test_everything_that_is_measured_on_a_gpu_runs_on_a_cpu(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    content = run_gpu_script(tmp_path, 60)
    for row in content["rows"]:
        assert not row["skipped"] and row["seconds"] > 0, row
        assert row["compile_seconds"] is not None or "profiled" in row["who"], row
    (profiled,) = [row for row in content["rows"] if "profiled" in row["who"]]
    # Of which kind a convolution is on a CPU depends on the version of XLA.
    assert sum(profiled["also"].values()) > 0 and content["operations_ms"]


def test_the_record_tells_where_it_was_measured(scripts: Any) -> None:
    machine = scripts("measuring").describe_machine()
    assert machine["cores"] == os.cpu_count()
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"]
    head = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    assert head.startswith((machine["commit"] or "").removesuffix("-dirty"))
    assert {"machine", "gpu", "python", "jax", "flax", "torch", "monai", "date"} <= set(machine)


def run_quick(output: Path, *names: str, device: str = "cpu") -> list[dict[str, Any]]:
    """The command's rows, in its quick mode."""
    flags = ["--quick", f"--output={output}", f"--device={device}"]
    command = [sys.executable, str(FOLDER / "run.py"), *flags]
    environment = {**os.environ, "XLA_FLAGS": ""}  # Not the devices of tests.
    subprocess.run([*command, "--only", *names], check=True, env=environment, capture_output=True)
    content = json.loads((output / "table.json").read_text())
    assert list(content["measured"]) == list(names)
    assert (output / "table.md").read_text().count("\n| ") == len(content["rows"]) + 1
    return content["rows"]


def measured(rows: list[dict[str, Any]]) -> list[str]:
    """Who was measured, in order; all of whom have seconds, memory and a ratio."""
    found = [row for row in rows if not row["skipped"] and not row["case"].startswith("Dice")]
    for row in found:
        assert row["seconds"] > 0 and row["ratio"] > 0 and row["peak_mib"] > 1, row
    return [row["who"] for row in found]


@pytest.mark.slow
def test_the_command_measures_and_says_what_it_skips(tmp_path: Path) -> None:
    rows = run_quick(tmp_path, "startup", "devices", device="gpu")
    commands = ["infant-seg --help", "infant-seg predict --help", "infant-seg predict"]
    assert measured(rows) == commands
    assert rows[-1]["skipped"] == "it is of CPU devices"


@pytest.mark.slow
def test_phantoms_are_prepared_where_there_is_no_ibsr(tmp_path: Path) -> None:
    rows = run_quick(tmp_path, "prepare")
    assert rows[0]["skipped"] == "no --ibsr was given, so phantoms are measured"
    assert measured(rows) == ["ours", "a plain loop"]


@pytest.mark.slow
def test_evaluation_agrees_with_distance_transforms(tmp_path: Path) -> None:
    rows = run_quick(tmp_path, "evaluate")
    assert measured(rows) == ["ours", "distance transforms", "the whole command"]
    assert rows[0]["also"]["largest_difference"] < 1e-6


@pytest.mark.slow
def test_a_step_on_several_devices_is_compared_with_one(tmp_path: Path) -> None:
    assert measured(run_quick(tmp_path, "devices")) == ["ours", "ours, 2 devices"]


@pytest.mark.slow
def test_steps_are_measured_with_each_kind_of_examples(tmp_path: Path) -> None:
    rows = run_quick(tmp_path, "training")
    assert measured(rows) == ["no augmentation", "rendered and augmented"]
    for row in rows[1:]:
        assert 0 <= row["also"]["waiting"] <= 1
        assert row["also"]["steps_per_second"] == pytest.approx(1 / row["seconds"], rel=0.01)


@pytest.mark.slow
def test_the_network_is_compared_with_pytorch(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    rows = run_quick(tmp_path, "patches")
    assert measured(rows) == ["ours", "PyTorch, eager"] * 2
    assert [row["case"].split(",")[0] for row in rows] == ["forward"] * 2 + ["step"] * 2


@pytest.mark.slow
def test_prediction_is_compared_with_monai(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("monai")
    rows = run_quick(tmp_path, "predict")
    assert measured(rows) == ["ours", "MONAI", "the loop, extrapolated", "ours", "MONAI"]
    assert 0 < rows[-1]["also"]["mean"] <= 1


@pytest.mark.slow
def test_shards_are_compared_with_one_process(tmp_path: Path) -> None:
    rows = run_quick(tmp_path, "throughput")
    assert measured(rows) == ["1 process", "2 processes"]
    for row in rows:
        assert row["case"] == "2 scans"
        each = row["also"]["scans_an_hour"] * row["seconds"]
        assert each == pytest.approx(2 * 3600, rel=0.01)


@pytest.mark.slow
def test_pytorch_is_given_the_same_network(scripts: Any, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    inputs, predict = scripts("inputs"), scripts("predict")
    inputs.make_model_folder(str(tmp_path / "model"), tiny=True)
    predict.convert_weights(str(tmp_path / "model"), str(tmp_path))
    predictor = open_predictor(tmp_path / "model")
    network, preparation, channels = predict.read_network(str(tmp_path), "cpu")
    assert preparation == predictor.expects.preparation
    image = predict.make_image(16, channels)
    with torch.inference_mode():
        logits = network(torch.from_numpy(image).permute(3, 0, 1, 2)[None])
        theirs = logits.softmax(1)[0].permute(1, 2, 3, 0).numpy()
    assert theirs.std() > 0.01  # There is something to agree on.
    np.testing.assert_allclose(predictor.probabilities(image), theirs, atol=1e-4)
