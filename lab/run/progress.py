"""Who is told what happens during a run: bars and the remaining time on a terminal, one plain line a step elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from lab.errors import printable
from lab.run import timings
from lab.run.plan import Estimator
from lab.run.timings import append
from lab.store.step import Step


def clock(seconds: float) -> str:
    """clock(5) == "5s", clock(65) == "1m05s", clock(3700) == "1h01m"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02d}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02d}m"


class RunProgress:
    """A Reporter (see lab/run/walk.py).  It also writes timings.jsonl and failures.log into the run's folder."""

    def __init__(
        self, order: Sequence[Step], estimator: Estimator, workers: int, folder: Path, console: Console
    ) -> None:
        self.estimator, self.workers, self.folder, self.console = estimator, max(1, workers), folder, console
        self.left = dict.fromkeys(order)
        self.kinds = Counter((step.name, step.work) for step in self.left)  # thousands of steps, few kinds
        self.total, self.done, self.computed = len(self.left), 0, 0
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
        self.display.stop()

    def remaining(self) -> float:
        """Seconds to the end, about."""
        ahead = sum(self.estimator.of(*kind) * count for kind, count in self.kinds.items())
        behind = sum(self.estimator.seconds(step) * share for step, share in self.inside.items())
        return max(0.0, ahead - behind) / self.workers

    def found(self, step: Step) -> None:
        self._over(step)

    def started(self, step: Step) -> None:
        if self.console.is_terminal and step not in self.bars:
            self.bars[step] = self.display.add_task(f"  {step.label}", total=max(1, step.tokens), note="")

    def advanced(self, step: Step, tokens: int) -> None:
        self.inside[step] = tokens / max(1, step.tokens)
        if step in self.bars:
            self.display.update(self.bars[step], completed=tokens, note=f"{tokens:,} of {step.tokens:,} tokens")
        self._refresh()

    def finished(self, step: Step, seconds: float) -> None:
        self.computed += 1
        self.estimator.learn(step.name, step.work, seconds)
        self._over(step)
        spent = {"step": step.name, "key": step.key, "label": step.label, "seconds": round(seconds, 3)}
        append(self.folder / timings.FILE, spent)
        if not self.console.is_terminal:
            rate = f"  {step.tokens / seconds:,.0f} tokens/s" if step.tokens and seconds else ""
            left = f"about {clock(self.remaining())} left" if self.left else "all done"
            self.console.print(
                f"[{self.done}/{self.total}] {step.label}  {seconds:.1f}s{rate}  {left}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )

    def failed(self, step: Step, reason: str, trace: str) -> None:
        self._close_bar(step)
        self.console.print(
            f"failed: {step.label}: {printable(reason)}", style="red", highlight=False, markup=False, soft_wrap=True
        )
        append(self.folder / "failures.jsonl", {"label": step.label, "key": step.key, "reason": reason, "trace": trace})

    def noted(self, message: str) -> None:
        self.console.print(f"note: {message}", highlight=False, markup=False, soft_wrap=True)

    def _over(self, step: Step) -> None:
        if step in self.left:
            del self.left[step]
            self.kinds[step.name, step.work] -= 1
            self.done += 1
        self.inside.pop(step, None)
        self._close_bar(step)
        self._refresh()

    def _close_bar(self, step: Step) -> None:
        if step in self.bars:
            self.display.remove_task(self.bars.pop(step))

    def _refresh(self) -> None:
        if self.console.is_terminal:
            note = f"{self.done} of {self.total} steps, about {clock(self.remaining())} left"
            self.display.update(self.whole, completed=self.done, note=note)
