"""What a command says while it works: bars with the time left, and lines beside them.

Everything goes to standard error, so that standard output is the command's result. Where that is
no terminal, a bar becomes a line now and then. Nothing is colored.
"""

import sys
import time
from contextvars import ContextVar

from tqdm import tqdm

LINES = 10
"""A bar becomes so many lines at most."""
PATIENCE_S = 2.0
"""Between two of them; what takes less is over before anybody reads of it."""

quiet: ContextVar[bool] = ContextVar("quiet", default=False)
"""Whether to say nothing of how it goes, as `--quiet` asks."""


detailed: ContextVar[bool] = ContextVar("detailed", default=False)
"""Whether to say the stages of a scan, as is of use where there is only one."""


class Bar(tqdm):
    """A bar on a terminal, lines elsewhere, or nothing."""

    def __init__(self, description: str, total: int, initial: int, unit: str, lines: bool) -> None:
        super().__init__(
            desc=description,
            total=total,
            initial=initial,
            unit=unit,
            disable=True if quiet.get() else None,
            dynamic_ncols=True,
        )
        self._lines = lines and bool(self.disable) and not quiet.get()
        self._what, self._unit, self._first = description, unit, initial
        self._due = PATIENCE_S
        self._began, self._shown = time.monotonic(), int(LINES * initial / max(1, total))

    def count_untimed(self) -> None:
        """Count one that took longer than the others will, as a first step that is compiled."""
        if not self.disable:
            super().update()
            self.unpause()
            return
        self.n += 1
        self._began, self._first, self._due = time.monotonic(), self.n, PATIENCE_S

    def update(self, n: int | float | None = 1) -> bool | None:
        """Count `n` further ones."""
        if not self._lines or n is None:
            return super().update(n)
        self.n += n
        passed = time.monotonic() - self._began
        tenths = int(LINES * self.n / self.total)
        if self._shown < tenths < LINES and passed >= self._due:
            self._shown, self._due = tenths, passed + PATIENCE_S
            each = passed / (self.n - self._first)
            left = tqdm.format_interval(each * (self.total - self.n))
            log_always(
                f"{self._what}: {self.n} of {self.total}; {each:.2g} s a {self._unit}, {left} left."
            )
        return None


def progress(
    description: str, total: int, initial: int = 0, unit: str = "step", *, lines: bool = True
) -> Bar:
    """A bar with rate and time left on a terminal; `disable` tells whether it is none.

    Args:
        description: what is being done.
        total, initial: how many there are, and how many of them are done.
        unit: of what.
        lines: whether to say lines where there is no terminal; a command may say better ones.
    """
    return Bar(description, total, initial, unit, lines)


def stage(line: str) -> None:
    """Say which stage of a scan begins, if stages are told."""
    if detailed.get():
        log(line)


def parts(description: str, total: int, unit: str) -> tqdm:
    """A bar for the parts of a stage, or none if stages are not told."""
    if not detailed.get():
        return tqdm(disable=True)
    return Bar(description, total, 0, unit, lines=True)


def log_always(line: str) -> None:
    """Print a line that a person has to see, without tearing a bar."""
    tqdm.write(line, file=sys.stderr)


def log(line: str) -> None:
    """Print a line about how it goes, unless `--quiet` asks for none."""
    if not quiet.get():
        log_always(line)
