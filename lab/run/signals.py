"""What a signal asks of a run: to stop soon and leave everything whole, and asked again, at once."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Ctrl-C, a batch system's end of time (some send SIGUSR1 before it), a closed terminal."""


class StopSignals:
    """Called, it says whether the run was asked to stop."""

    def __init__(self) -> None:
        """From now on each of these signals raises KeyboardInterrupt, but for the first inside `gently`."""
        self.asked = self.gentle = False
        for number in STOPPING:
            signal.signal(number, self._heard)

    def __call__(self) -> bool:
        return self.asked

    @contextlib.contextmanager
    def gently(self) -> Iterator[None]:
        """While steps run: the first signal asks, the second one interrupts."""
        self.gentle = True
        try:
            yield
        finally:
            self.gentle = False

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.asked or not self.gentle:
            raise KeyboardInterrupt
        self.asked = True
