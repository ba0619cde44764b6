"""Being told to stop (SIGTERM, as schedulers send before killing), and being alone in a folder."""

import fcntl
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils

from infant_seg_jax.errors import InputError


class Stopped(SystemExit):
    """The process was told to stop, and all is saved: it ends with status 0, if nobody objects."""

    def __init__(self) -> None:
        super().__init__(0)


class StopSignal:
    """Whether the process has been asked to stop since `listen` began."""

    def __init__(self) -> None:
        self._received = False

    def received(self, step: int) -> bool:
        """Whether to stop before `step`; all processes that train together agree on the step."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._received

    @contextmanager
    def listen(self) -> Iterator["StopSignal"]:
        """Take SIGTERM for a request to stop, where signals can be heard: in the main thread.

        In several processes it is JAX's distributed service that listens.
        """
        hears = threading.current_thread() is threading.main_thread() and jax.process_count() == 1
        if not hears:
            yield self
            return
        before = signal.signal(signal.SIGTERM, self._receive)
        try:
            yield self
        finally:
            signal.signal(signal.SIGTERM, before)

    def _receive(self, number: int, frame: FrameType | None) -> Any:
        del number, frame
        self._received = True


@contextmanager
def exclusive_lock(workdir: Path) -> Iterator[None]:
    """Hold a run folder, which is made, against other runs; a killed process holds it no longer.

    Of several processes that train together, the first holds it for all.

    Raises:
        InputError: another process holds it, or it cannot be made or written to.
    """
    if jax.process_index() != 0:
        yield
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = open(workdir / ".lock", "w")  # noqa: SIM115 (held until the run ends)
    except OSError as error:
        raise InputError(
            f"Cannot write to the run folder {workdir} ({error.strerror}): name a --workdir that "
            "you may write to."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"Another process is training in {workdir}: wait for it, stop it, or name another "
                "--workdir."
            ) from error
        yield
