"""Stopping by signals: the first SIGINT, SIGTERM, SIGHUP or SIGUSR1 asks a run to stop, a second one interrupts it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Ctrl-C, the end of a batch job's time (some systems send SIGUSR1 before it), a closed terminal."""


def handle(numbers: Sequence[signal.Signals], handler: Callable[[int, FrameType | None], None]) -> None:
    """Install a handler, except of signals that are ignored: nohup and a shell's background jobs ask for that."""
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


STOPPING_NOW = b"\nstopping: running steps end or leave a checkpoint; a second signal stops at once\n"


class StopSignals:
    """Handler of these signals.  Calling it returns whether the run was asked to stop."""

    def __init__(self) -> None:
        """Install the handler: each signal raises KeyboardInterrupt, except the first one inside `gently`."""
        self.asked = self.gentle = False
        handle(STOPPING, self._handle)

    def __call__(self) -> bool:
        return self.asked

    @contextlib.contextmanager
    def gently(self) -> Iterator[None]:
        """Let the first signal only ask for a stop while steps run; a second one interrupts."""
        self.gentle = True
        try:
            yield
        finally:
            self.gentle = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked or not self.gentle:
            raise KeyboardInterrupt
        self.asked = True
        with contextlib.suppress(OSError):  # not by print, which may be at work when the signal comes
            os.write(2, STOPPING_NOW)
