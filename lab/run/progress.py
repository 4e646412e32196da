"""Progress of a run: bars and the remaining time on a terminal, plain lines elsewhere."""

from __future__ import annotations

import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from lab.errors import printable
from lab.run import timings
from lab.run.plan import Estimator
from lab.store.step import Step

QUICK = 1.0
"""Seconds.  Off a terminal, steps that take less are summed up instead of getting a line each."""
SMOOTHING = 0.2
"""How far an estimate moves towards the newest one."""
SILENCE = 10.0
"""Seconds without a line after which quick steps are summed up, so that a log shows that the run is alive."""


def clock(seconds: float) -> str:
    """Return a duration as text: clock(5) == "5s", clock(65) == "1m05s", clock(3700) == "1h01m"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02d}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def counted(names: Iterable[str]) -> str:
    """Return names with how often they occur: counted(["mix", "write", "mix"]) == "mix x 2, write"."""
    return ", ".join(f"{name} x {count}" if count > 1 else name for name, count in Counter(names).items())


class RunProgress:
    """A Reporter (see lab/run/walk.py) for people.  It also writes timings.jsonl and failures.jsonl of the run."""

    def __init__(
        self,
        order: Sequence[Step],
        estimator: Estimator,
        workers: int,
        folder: Path,
        console: Console,
        live: Callable[[Step], str | None],
    ) -> None:
        """Prepare the display on `console`.

        The two logs go to `folder`, the run's.  `live` returns a line about what a finished step has measured, or None.
        """
        self.estimator, self.workers, self.folder, self.console = estimator, max(1, workers), folder, console
        self.live, self.names = live, Counter(step.name for step in order)
        self.estimate: tuple[float, float] | None = None
        """The seconds that were left when they were estimated last, and that time."""
        self.left = dict.fromkeys(order)
        self.kinds = Counter((step.name, step.work) for step in self.left)  # thousands of steps, few kinds
        self.total, self.done, self.computed = len(self.left), 0, 0
        self.quick: list[str] = []
        """Quick steps, by the first word of their label, that no line has named yet."""
        self.printed = time.monotonic()
        self.inside: dict[Step, float] = {}
        self.bars: dict[Step, TaskID] = {}
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[note]}", markup=False),
        )
        self.display = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.whole = self.display.add_task("study", total=self.total, note="")

    def __enter__(self) -> RunProgress:
        self.display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sum_up()
        self.display.stop()

    def left_seconds(self) -> float | None:
        """Return the seconds to the end of the run, estimated and smoothed; None before enough steps are timed."""
        if not self.estimator.knows(self.names):
            return None
        now, seconds = time.monotonic(), self.remaining()
        if self.estimate is not None:
            aged = self.estimate[0] - (now - self.estimate[1])
            seconds = max(0.0, aged + SMOOTHING * (seconds - aged))
        self.estimate = (seconds, now)
        return seconds

    def remaining(self) -> float:
        """Return the estimated seconds to the end of the run."""
        ahead = sum(self.estimator.of(*kind) * count for kind, count in self.kinds.items())
        begun = sum(self.estimator.seconds(step) * share for step, share in self.inside.items())
        return max(0.0, ahead - begun) / self.workers

    def found(self, step: Step) -> None:
        """Count a step that is in the store already, or is done now."""
        if step in self.left:
            del self.left[step]
            self.kinds[step.name, step.work] -= 1
            self.done += 1
        self.inside.pop(step, None)
        self._close_bar(step)
        self._refresh()

    def started(self, step: Step) -> None:
        """Show a bar for a step that begins."""
        if self.console.is_terminal and step not in self.bars:
            self.bars[step] = self.display.add_task(f"  {step.label}", total=max(1, step.tokens), note="")

    def advanced(self, step: Step, tokens: int) -> None:
        """Show how far a step is."""
        self.inside[step] = tokens / max(1, step.tokens)
        if step in self.bars:
            self.display.update(self.bars[step], completed=tokens, note=f"{tokens:,} of {step.tokens:,} tokens")
        self._refresh()

    def finished(self, step: Step, seconds: float) -> None:
        """Log a step that was computed.  Off a terminal, print a line for it, or sum it up later if it was quick."""
        self.computed += 1
        self.estimator.learn(step.name, step.work, seconds)
        spent = {"step": step.name, "key": step.key, "label": step.label, "seconds": round(seconds, 3)}
        timings.append(self.folder / timings.FILE, spent)
        self.found(step)
        if line := self.live(step):
            self._say(line, "bold")
            self.printed = time.monotonic()
        if self.console.is_terminal:
            return
        if seconds < QUICK:
            self.quick.append(step.label.split()[0])
            if not self.left or time.monotonic() - self.printed > SILENCE:
                self._sum_up(self._left())
        else:
            rate = f"  {step.tokens / seconds:,.0f} tokens/s" if step.tokens else ""
            self._line(f"{step.label}  {seconds:.1f}s{rate}{self._left()}")

    def failed(self, step: Step, reason: str, trace: str) -> None:
        """Log a step that failed, and print one line for it."""
        self._close_bar(step)
        self._sum_up()
        self._say(f"failed: {step.label}: {printable(reason)}", "red")
        failure = {"label": step.label, "key": step.key, "reason": reason, "trace": trace}
        timings.append(self.folder / "failures.jsonl", failure)

    def noted(self, message: str) -> None:
        """Print a note."""
        self._say(f"note: {message}")

    def _sum_up(self, left: str = "") -> None:
        """Print one line for the quick steps since the last line."""
        if self.quick:
            text, self.quick = counted(self.quick), []
            self._line(text + left)

    def _line(self, text: str) -> None:
        self._say(f"[{self.done}/{self.total}] {text}")
        self.printed = time.monotonic()

    def _left(self) -> str:
        left = self.left_seconds()
        return "  all done" if not self.left else f"  about {clock(left)} left" if left is not None else ""

    def _say(self, text: str, style: str | None = None) -> None:
        if self.console.is_terminal:  # wrapped at words, of which paths stay whole
            wrapper = textwrap.TextWrapper(self.console.width, subsequent_indent="  ", break_long_words=False)
            wrapper.break_on_hyphens = False
            text = wrapper.fill(text)
        self.console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

    def _close_bar(self, step: Step) -> None:
        if step in self.bars:
            self.display.remove_task(self.bars.pop(step))

    def _refresh(self) -> None:
        if self.console.is_terminal:
            left = self.left_seconds()
            note = f"{self.done} of {self.total} steps" + (f", about {clock(left)} left" if left is not None else "")
            self.display.update(self.whole, completed=self.done, note=note)
