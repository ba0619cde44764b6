"""The command line, as a person runs it."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.__main__ import COMMANDS, main
from infant_seg_jax.data.phantom import write_cohort

REPOSITORY = Path(__file__).parents[1]


def infant_seg(*arguments: str, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infant_seg_jax", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run a command in this process that must fail; its status and what it said."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    printed = capsys.readouterr().err.strip()
    assert "Traceback" not in printed
    assert isinstance(stop.value.code, int)
    return stop.value.code, printed


def test_help_lists_the_commands_without_loading_jax() -> None:
    code = "import sys; from infant_seg_jax.__main__ import main; main(['--help']); "
    code += "assert 'jax' not in sys.modules and 'matplotlib' not in sys.modules"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert all(name in result.stdout for name in COMMANDS)


def test_version_says_what_it_runs_on() -> None:
    plain, verbose = infant_seg("--version"), infant_seg("--version", "--verbose")
    assert plain.returncode == verbose.returncode == 0
    assert plain.stdout.split() == ["infant_seg_jax", version("infant_seg_jax")]
    assert verbose.stdout.startswith(plain.stdout)
    assert all(version(package) in verbose.stdout for package in ("jax", "jaxlib"))


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_nobody_reads_is_no_traceback(unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(
        [sys.executable, "-m", "infant_seg_jax", "--help"],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (result.returncode, result.stderr) == (1, "")


@pytest.mark.parametrize("arguments", [["--version", "--verbose"], ["predict"]])
def test_a_platform_that_is_not_there_is_one_sentence(arguments: list[str], tmp_path: Path) -> None:
    """JAX raises AssertionErrors, too, where the plugin of a platform is not installed."""
    scan = tmp_path / "scan.nii"
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8), np.int16), np.eye(4)), scan)
    if arguments == ["predict"]:
        arguments = ["predict", f"--input={scan}", f"--output={tmp_path / 'out'}"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "XDG_CACHE_HOME": str(tmp_path)}
    for platform in ("cuda", "nonsense"):
        result = subprocess.run(
            [sys.executable, "-m", "infant_seg_jax", *arguments],
            cwd=REPOSITORY,
            env=environment | {"JAX_PLATFORMS": platform},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 1
        (printed,) = result.stderr.splitlines()
        assert f"JAX finds no device of the platform {platform} here" in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([command, "--help"])
    printed = capsys.readouterr().out
    assert printed.startswith(f"infant-seg {command}: ")
    assert f"\n    infant-seg {command} " in printed  # An example to copy.
    assert "repeat this option" not in printed
    assert any(where in printed for where in ("--output", "--workdir", "OUT", "SCAN", "SOURCE"))


@pytest.mark.parametrize("arguments", [["help", "predict"], ["predict", "-h"]])
def test_help_has_many_names(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(arguments)
    assert capsys.readouterr().out.startswith("infant-seg predict: ")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads, as Linux tells")
def test_threads_and_devices_are_what_was_asked_for() -> None:
    """In processes of their own, since both are settled when JAX starts."""
    code = """
import os, sys
from absl import flags
from infant_seg_jax.commands.computing import define_computing, use_computing
values = flags.FlagValues()
define_computing(values)
values(sys.argv)
use_computing(values, training=False)
assert "jax" not in sys.modules
import jax
from infant_seg_jax.cores import count_cores
jax.numpy.ones(8).block_until_ready()
assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
print(jax.default_backend(), count_cores(), len(os.listdir("/proc/self/task")))
"""
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    found = []
    for flag in ("--threads=1", f"--threads={os.cpu_count()}"):
        command = [sys.executable, "-c", code, "--device=cpu", flag]
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        )
        platform, cores, threads = result.stdout.split()
        assert platform == "cpu"
        found.append((int(cores), int(threads)))
    assert found[0][0] == 1
    assert len(os.sched_getaffinity(0)) == 1 or (found[0] < found[1] and found[0][1] < found[1][1])


def test_flags_may_be_written_with_hyphens(capsys: pytest.CaptureFixture[str]) -> None:
    scan = "--input=no-such-scan.nii"  # whose own hyphens stay
    given = ["--checkpoint=a", scan, "--output=c"]
    for flag in ("--max-memory=lots", "--max_memory=lots"):
        status, printed = refused(["predict", *given, flag], capsys)
        assert status == 1 and "'lots' is not an amount of memory" in printed
    status, printed = refused(["predict", *given, "--remove-islands", "0.5"], capsys)
    assert status == 1 and "There is no scan no-such-scan.nii" in printed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["pridict"], "there is no command 'pridict': did you mean predict?"),
        (["help", "trian"], "there is no command 'trian': did you mean train?"),
        (["xyz"], "there is no command 'xyz': expected one of predict, "),
        (["predict", "--chekpoint=x"], "Did you mean: checkpoint"),
        (["predict", "--chekpoint", "x"], "Did you mean: checkpoint"),
        (["predict"], "--input, --output must be given"),
        (["predict", "scan.nii.gz"], "write --input=scan.nii.gz;"),
        (["predict", "a b.nii", "out", "--mirror"], "write --input='a b.nii' --output=out;"),
        (["predict", "--input", "scan.nii.gz", "labels"], "write --output=labels;"),
        (["predict", "--nomirror", "scan.nii.gz"], "write --input=scan.nii.gz;"),
        (["train", "ibsr_cpu", "--config.steps", "3"], "write --config=ibsr_cpu;"),
        (["evaluate", "labels", "truth"], "write --prediction=labels --truth=truth;"),
        (
            ["predict", "--checkpoint=a", "--input=b", "--output=c", "scan.nii.gz"],
            "'scan.nii.gz' is not a flag",
        ),
        (["export", "a", "b", "c"], "'c' is one argument too many, expected MODEL OUT"),
        (["predict", "--input=a", "--output=b", "--threads=0"], "threads"),
        (["prepare", "--source=ibsr"], "--input"),
        (["prepare", "--source=isbr", "--input=a", "--output=b"], "isbr"),
        (["train", "--workdir=run"], "--config"),
        (
            ["train", "--workdir=w", "--config=configs/default.py", "--config.optimizer.b3=1"],
            "There is no config key config.optimizer.b3; the nearest key is config.optimizer.b",
        ),
        (["train", "--workdir=w", "--config=configs/nowhere.py"], "configs/nowhere.py"),
        (["train", "--workdir=w", "--config=configs/default.py", "--config.steps=many"], "steps"),
    ],
)
def test_wrong_usage_is_one_sentence_and_status_2(
    arguments: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(REPOSITORY)
    status, printed = refused(arguments, capsys)
    assert status == 2
    assert sentence in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["prepare", "--source=ibsr", "--input=nowhere", "--output=out"], "no folder nowhere"),
        (["predict", "--checkpoint=nowhere", "--input=no.nii", "--output=o"], "no scan no.nii"),
        (["evaluate", "--output=out", "--device=tpu9"], "--device is tpu9, expected cpu, gpu, or"),
        (["evaluate", "--output=out"], "Give either --checkpoint and --data"),
        (["evaluate", "--prediction=no", "--truth=t", "--output=o"], "no file or folder no."),
    ],
)
def test_bad_input_is_one_sentence_and_status_1(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, printed = refused(arguments, capsys)
    assert status == 1
    assert sentence in printed
    assert len(printed.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_prepare_train_predict_evaluate(tmp_path: Path) -> None:
    """Every command but the demo, each in a process of its own, from scans to scores."""
    write_cohort(tmp_path / "scans", range(5), shape=(32, 32, 32))
    prepared = infant_seg(
        "prepare", "--source=phantom", f"--input={tmp_path}/scans", f"--output={tmp_path}/prepared"
    )
    assert prepared.returncode == 0, prepared.stderr
    assert "Prepared T1w of 5 cases (3 train, 1 validation, 1 test)" in prepared.stdout

    trained = infant_seg(
        "train",
        "--config=configs/default.py",
        f"--config.data.path={tmp_path}/prepared",
        "--config.patch.shape=(16, 16, 16)",
        "--config.patch.batch_size=1",
        "--config.model.growth_rate=4",
        "--config.model.stem_features=4",
        "--config.model.block_layers=(1, 1)",
        "--config.optimizer.learning_rate=1e-2",
        "--config.steps=20",
        "--config.parallel=jit",
        "--config.inference.window=(32, 32, 32)",
        f"--workdir={tmp_path}/run",
    )
    assert trained.returncode == 0, trained.stderr
    assert "validation Dice" in trained.stderr

    # One scan is broken: the others are labeled all the same, and the exit status tells.
    broken = tmp_path / "scans" / "sub-000" / "sub-000_T1w.nii.gz"
    broken.write_bytes(broken.read_bytes()[:1000])
    scan = tmp_path / "scans" / "sub-001" / "sub-001_T1w.nii.gz"
    predicted = infant_seg(
        "predict",
        f"--checkpoint={tmp_path}/run",
        f"--input={tmp_path}/scans",
        f"--output={tmp_path}/labels",
    )
    assert predicted.returncode == 1
    assert "1 of 5 scans failed" in predicted.stderr and str(broken) in predicted.stderr
    assert "Traceback" not in predicted.stderr
    written = sorted(tmp_path.glob("labels/**/*_dseg.nii.gz"))
    assert [path.name for path in written] == [f"sub-00{i}_T1w_dseg.nii.gz" for i in range(1, 5)]
    label_map = nib.Nifti1Image.from_filename(written[0])
    np.testing.assert_array_equal(label_map.affine, nib.Nifti1Image.from_filename(scan).affine)

    in_ids = infant_seg(
        "predict",
        f"--checkpoint={tmp_path}/run",
        f"--input={scan}",
        f"--mask={scan.parent}/sub-001_dseg.nii.gz",
        "--schema=iseg",
        f"--output={tmp_path}/ids",
    )
    assert in_ids.returncode == 0, in_ids.stderr
    ids = np.asarray(nib.Nifti1Image.from_filename(in_ids.stdout.strip()).dataobj)
    assert set(np.unique(ids)) <= {0, 10, 150, 250} and ids.any()

    evaluated = infant_seg(
        "evaluate",
        f"--prediction={tmp_path}/labels",
        f"--truth={tmp_path}/scans",
        f"--output={tmp_path}/scores",
    )
    assert evaluated.returncode == 0, evaluated.stderr
    scores = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    truth = np.asarray(
        nib.Nifti1Image.from_filename(tmp_path / "scans/sub-001/sub-001_dseg.nii.gz").dataobj
    )
    prediction = np.asarray(label_map.dataobj)
    overlap = (
        2 * np.sum((truth == 3) & (prediction == 3)) / np.sum((truth == 3) + 0 + (prediction == 3))
    )
    assert scores["subjects"]["sub-001"]["WM"]["dice"] == pytest.approx(overlap, abs=1e-6)
