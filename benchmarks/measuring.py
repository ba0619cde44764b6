"""What all benchmarks share: work in processes of its own, in turns, and rows of what was found.

What is measured is a function of a script, by name and with arguments that JSON can hold, so that
another process can call it. It returns what it found, of these keys:

- `seconds`: of the work;
- `compile_seconds`: before it could begin;
- `peak_mib`, `gpu_mib`: the most memory, of the process (added to what is found, if it is not
  there) and on the GPU;
- `also`: more, by name.

Scripts import at their top only what is small, for Linux counts a parent's memory as its child's.
"""

import json
import math
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from infant_seg_jax.huge_pages import huge_page_variables

REPOSITORY = Path(__file__).resolve().parents[1]
LIBRARIES = ("jax", "flax", "torch", "monai")
PLATFORMS = {"cpu": "cpu", "gpu": "cuda"}
"""What JAX and PyTorch call a device."""

Found = dict[str, Any]
Environment = dict[str, str]
Call = tuple[Callable[..., Found], Mapping[str, Any]]
"""A script's function and its arguments, which JSON can hold."""
Way = Callable[[Environment], Found]
"""One way to do a piece of work: measure it in a process with these environment variables."""


class Failed(Exception):
    """Something could not be measured; the message says why."""


@dataclass(frozen=True)
class Row:
    """What one way took for one piece of work.

    Attributes:
        benchmark: which measurements it belongs to.
        case: the work and its size.
        who: the way.
        seconds: the least of all turns.
        ratio: to the seconds of the case's first way.
        peak_mib: the most memory of the process, of all turns.
        gpu_mib: the most memory on the GPU, likewise.
        compile_seconds: before the work could begin, in the first turn, with nothing cached.
        cached_seconds: the least of that in later turns.
        also: what else was found.
        skipped: why it was not measured.
    """

    benchmark: str
    case: str
    who: str = ""
    seconds: float | None = None
    ratio: float | None = None
    peak_mib: float | None = None
    gpu_mib: float | None = None
    compile_seconds: float | None = None
    cached_seconds: float | None = None
    also: Mapping[str, Any] = field(default_factory=dict)
    skipped: str = ""


def compare(
    benchmark: str, case: str, ways: Mapping[str, Way], rounds: int, device: str = "cpu"
) -> list[Row]:
    """Let each of several ways do a piece of work, in turns, so many times.

    They share a cache of compiled programs that is empty at first. A way that fails once has no
    further turns.
    """
    turns: dict[str, list[Found]] = {who: [] for who in ways}
    failed: dict[str, str] = {}
    with empty_cache(device) as environment:
        for _ in range(rounds):
            for who, way in ways.items():
                if who in failed:
                    continue
                try:
                    turns[who].append(way(environment))
                except Failed as error:
                    failed[who] = str(error)
    first, *_ = turns.values()
    base = min(found["seconds"] for found in first) if first else None
    return [
        summarize(benchmark, case, who, found, base)
        if found and who not in failed
        else Row(benchmark, case, who, skipped=failed[who])
        for who, found in turns.items()
    ]


def summarize(
    benchmark: str, case: str, who: str, turns: Sequence[Found], base: float | None
) -> Row:
    """The row of a way's turns; `base` is what the seconds are compared with."""
    best = min(turns, key=lambda found: found["seconds"])
    compiling = [found["compile_seconds"] for found in turns if "compile_seconds" in found]

    def most(key: str) -> float | None:
        values = [found[key] for found in turns if key in found]
        return round(max(values)) if values else None

    return Row(
        benchmark,
        case,
        who,
        seconds=round(best["seconds"], 6),
        ratio=round(best["seconds"] / base, 3) if base else None,
        peak_mib=most("peak_mib"),
        gpu_mib=most("gpu_mib"),
        compile_seconds=round(compiling[0], 2) if compiling else None,
        cached_seconds=round(min(compiling[1:]), 2) if compiling[1:] else None,
        also=best.get("also", {}),
    )


@contextmanager
def empty_cache(device: str = "cpu") -> Iterator[Environment]:
    """Environment variables with which what is compiled, for this device, is kept for a while.

    With huge pages for all who are compared, for `infant-seg` has them.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            **huge_page_variables(),
            "JAX_PLATFORMS": "cpu" if device == "cpu" else f"{PLATFORMS[device]},cpu",
            "XDG_CACHE_HOME": folder,
            "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor",
        }
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        yield environment


def in_a_process(
    work: Callable[..., Found], environment: Environment | None = None, /, **arguments: Any
) -> Found:
    """Call a script's function in a process of its own; its memory is then its own, too.

    `process_seconds` are added to what it found: from starting Python to its end.

    Raises:
        Failed: the function raised something, or the process was killed.
    """
    before = time.perf_counter()
    (found,) = in_one_process([(work, arguments)], environment)
    if "failed" in found:
        raise Failed(found["failed"])
    return {**found, "process_seconds": time.perf_counter() - before}


def in_one_process(
    calls: Sequence[Call], environment: Environment | None = None, seconds: float = math.inf
) -> Iterator[Found]:
    """Make calls one after another in a process of their own; yield what each found at once.

    What raises something has found `failed`, why, and the others go on.

    Raises:
        Failed: the process was killed, or it took so many `seconds`.
    """
    given = [(Path(work.__code__.co_filename).stem, work.__name__, args) for work, args in calls]
    command = [sys.executable, __file__, json.dumps(given, default=str)]
    waiting, is_late = len(calls), threading.Event()
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        ) as process,
    ):

        def kill(late: bool = False) -> None:
            """With what it started: compilers of PyTorch's."""
            if late:
                is_late.set()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        limit = threading.Timer(min(seconds, threading.TIMEOUT_MAX), kill, [True])
        limit.daemon = True
        limit.start()
        try:
            for line in process.stdout or ():
                if line.startswith("{") and line.endswith("\n"):
                    waiting -= 1
                    found = json.loads(line)
                    if "failed" in found:
                        print(found.pop("traceback", ""), file=sys.stderr)
                    yield found
            status = process.wait()
        finally:
            limit.cancel()
            if process.poll() is None:
                kill()
        errors.seek(0)
        text = errors.read()
    if not waiting:
        return
    if is_late.is_set():
        raise Failed("the time limit cut it off")
    print(text, file=sys.stderr)
    if status == -signal.SIGKILL:
        raise Failed("it was killed, as when memory runs out")
    last = (text.strip().splitlines() or ["no message"])[-1][-200:]
    raise Failed(f"it ended with status {status}: {last}")


def answer(script: str, name: str, arguments: Mapping[str, Any]) -> Found:
    """What the process of `in_one_process` does of each call."""
    try:
        found = getattr(import_module(script), name)(**arguments)
    except ModuleNotFoundError as error:
        return {"failed": f"{error.name} is not installed"}
    except Exception as error:
        message = (str(error).strip().splitlines() or [""])[0][:200]
        return {"failed": f"{type(error).__name__}: {message}", "traceback": traceback.format_exc()}
    return {"peak_mib": peak_mib(), **found}


def least(work: Callable[[], Any], times: int = 1, during: float = 0.0) -> tuple[Any, Found]:
    """Do the work so many times, and for at least so many seconds.

    Returns:
        What it returned last, and the least wall seconds that it took with the CPU seconds of then.
    """
    found: list[tuple[float, float]] = []
    result, until = None, time.perf_counter() + during
    while len(found) < times or time.perf_counter() < until:
        before, cpu_before = time.perf_counter(), time.process_time()
        result = work()
        found.append((time.perf_counter() - before, time.process_time() - cpu_before))
    seconds, cpu_seconds = min(found)
    return result, {"seconds": seconds, "also": {"cpu_seconds": round(cpu_seconds, 3)}}


def timed(work: Callable[[], Any], seconds: float) -> Found:
    """The least time of some work, and what it takes once only, as compiling does."""
    before = time.perf_counter()
    work()
    first = time.perf_counter() - before
    _, found = least(work, times=3, during=seconds)
    return {**found, "compile_seconds": max(0.0, first - found["seconds"])}


def run_command(*arguments: Any) -> Found:
    """What `infant-seg` takes with these arguments, from starting Python to its end."""
    command = [sys.executable, "-m", "infant_seg_jax", *map(str, arguments)]
    before, cpu_before = time.perf_counter(), _children_cpu_seconds()
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    seconds, cpu_seconds = time.perf_counter() - before, _children_cpu_seconds() - cpu_before
    if result.returncode:
        raise RuntimeError((result.stderr.strip().splitlines() or ["the command failed"])[-1])
    return {
        "seconds": seconds,
        "peak_mib": peak_mib(resource.RUSAGE_CHILDREN),
        "also": {"cpu_seconds": round(cpu_seconds, 3)},
    }


def peak_mib(whose: int = resource.RUSAGE_SELF) -> float:
    """The most memory so far, of this process or of those that it has waited for."""
    kibibytes = 2**10 if sys.platform == "darwin" else 1  # there it is in bytes
    return resource.getrusage(whose).ru_maxrss / kibibytes / 2**10


def _children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def describe_machine() -> dict[str, Any]:
    """Where and with what something is measured, and how busy the machine was before."""
    return {
        "machine": _processor(),
        "cores": os.cpu_count(),
        "gpu": _said_by("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{library: _version(library) for library in LIBRARIES},
        "commit": _said_by(
            *("git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--exclude=*")
        ),
        "date": datetime.now().astimezone().isoformat(timespec="minutes"),
    }


def _processor() -> str:
    about = Path("/proc/cpuinfo")
    if about.is_file():
        for line in about.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _said_by(*command: str) -> str | None:
    """The first line that a program prints; None without the program, or if it fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return (result.stdout.splitlines() or [None])[0]


if __name__ == "__main__":
    for call in json.loads(sys.argv[1]):
        print(json.dumps(answer(*call)), flush=True)
