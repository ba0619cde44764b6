"""How long a run has trained, for one with a time limit."""

import time

import jax
import numpy as np
from jax.experimental import multihost_utils


class Clock:
    """Counts the seconds of a run's training over all its interruptions, if it has a limit."""

    def __init__(self, minutes: float, seconds: float) -> None:
        """Go on from `seconds` once it is started; 0 `minutes` are no limit, and none count."""
        self._limit, self._before = 60 * minutes, seconds
        self._began: float | None = None

    def start(self) -> None:
        """Count from now on."""
        self._began = time.monotonic()

    def seconds(self) -> float:
        """Those so far. Of several processes the first one's, for all take the same steps."""
        if not self._limit or self._began is None:
            return self._before
        seconds = np.float32(self._before + time.monotonic() - self._began)
        if jax.process_count() > 1:
            seconds = multihost_utils.broadcast_one_to_all(seconds)
        return float(seconds)

    def is_over(self, seconds: float) -> bool:
        """Whether the limit is reached after so many seconds."""
        return 0 < self._limit <= seconds
