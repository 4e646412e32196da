"""Signals that were ignored when the lab started stay ignored, in the run and in its workers."""

import signal
from collections.abc import Iterator

import pytest

from lab.run.signals import STOPPING, StopSignals, handle


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("ignored", [{signal.SIGHUP}, {signal.SIGINT, signal.SIGUSR1}, set(STOPPING), set()])
def test_what_is_ignored_stays_ignored(ignored: set[signal.Signals], capfd: pytest.CaptureFixture[str]) -> None:
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
    stopping = StopSignals()
    for number in STOPPING:
        assert (signal.getsignal(number) is signal.SIG_IGN) == (number in ignored)
    with stopping.gently():
        for number in ignored:
            signal.raise_signal(number)
        assert not stopping()
        for number in [number for number in STOPPING if number not in ignored][:1]:
            signal.raise_signal(number)
            assert stopping()
            assert capfd.readouterr().err.startswith("\nstopping: running steps end or leave a checkpoint")


def test_handle_leaves_other_signals_alone() -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    before = signal.getsignal(signal.SIGHUP)
    handle([signal.SIGUSR1], lambda number, frame: None)
    assert callable(signal.getsignal(signal.SIGUSR1)) and signal.getsignal(signal.SIGHUP) == before
