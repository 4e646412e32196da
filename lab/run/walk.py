"""The state of the graph while a run works through it: which steps are done, ready, running or failed.

Nothing here runs a step.  An executor (lab/run/executors/) takes ready steps and tells how they ended.
"""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lab.steps import SOON, STEPS, job_of
from lab.store.step import Step
from lab.store.store import Damaged, Store

ATTEMPTS = 2
"""Most attempts at a step if its worker process dies (killed, out of memory)."""


class Reporter(Protocol):
    """Who is told what happens.  `started` steps are computed; those already in the store are `found`."""

    def found(self, step: Step) -> None: ...
    def started(self, step: Step) -> None: ...
    def advanced(self, step: Step, tokens: int) -> None: ...
    def finished(self, step: Step, seconds: float) -> None: ...
    def failed(self, step: Step, reason: str, trace: str) -> None: ...
    def noted(self, message: str) -> None: ...


def lacking(store: Store, step: Step) -> list[Step]:
    """Return the inputs whose weights a step reads but which were dropped to save room: they are made again first."""
    if not STEPS[step.name].reads_weights:
        return []
    trained = [parent for parent in dict.fromkeys(step.inputs.values()) if STEPS[parent.name].trains]
    return [parent for parent in trained if store.dropped(parent.name, parent.key)]


@dataclass
class Walk:
    """The graph of a study, some of its steps done."""

    store: Store
    reporter: Reporter
    order: Sequence[Step]
    """All steps, inputs before what needs them."""
    fresh: frozenset[str]
    """Kinds of steps to run again if their code has changed since the artifact was made."""
    waiting: dict[Step, int] = field(default_factory=dict)
    """Number of a step's inputs that are not done."""
    ready: list[Step] = field(default_factory=list)
    """Steps that can run now, the most urgent first."""
    running: set[Step] = field(default_factory=set)
    done: set[Step] = field(default_factory=set)
    failures: dict[Step, str] = field(default_factory=dict)
    """Failed steps, with the reason."""
    children: dict[Step, list[Step]] = field(default_factory=lambda: defaultdict(list))
    rank: dict[Step, int] = field(default_factory=dict)
    """Place of a step in `order`, which goes generation by generation."""
    repairs: dict[Step, int] = field(default_factory=lambda: defaultdict(int))
    """How often an input of a step was found damaged."""
    deaths: dict[Step, int] = field(default_factory=lambda: defaultdict(int))
    """How often the worker of a step died."""
    missed: set[Step] = field(default_factory=set)
    """Steps whose missing artifact was reported."""
    again: set[Step] = field(default_factory=set)
    """Steps in the store that must be made again, because their weights were dropped and are needed."""
    interrupted: bool = False
    """Whether a step was interrupted and must be continued in another run."""

    def __post_init__(self) -> None:
        for step in self.order:
            for parent in set(step.inputs.values()):
                self.children[parent].append(step)
        self.rank = {step: index for index, step in enumerate(self.order)}
        self.waiting = {step: len(set(step.inputs.values())) for step in self.order}
        self.release([step for step in self.order if not self.waiting[step]])

    def release(self, candidates: Sequence[Step]) -> None:
        """Look at steps whose inputs may all be there: mark those in the store as done, and the others as ready."""
        stack = list(candidates)
        while stack:
            step = stack.pop()
            if self.waiting[step] or step in self.running or step in self.failures:
                continue
            if self.must_run(step):
                if step in self.done:  # it was done, but an input was made again with other bytes
                    stack += self.reopened(step)
                elif dropped := lacking(self.store, step):
                    self.again.update(dropped)
                    for parent in set(dropped) & self.done:
                        stack += self.reopened(parent)
                else:
                    if any(self.store.folder(child.name, child.key).exists() for child in self.children[step]):
                        self.miss(step)
                    insort(self.ready, step, key=self._urgency)
            elif step not in self.done:
                self.done.add(step)
                self.reporter.found(step)
                stack.extend(self.unblocked(step))

    def _urgency(self, step: Step) -> tuple[bool, int]:
        """Return the sort key of a ready step: the kinds in SOON first, then the earliest generation.

        So the chain that lags goes first, and whole generations can be compared as they come.
        """
        return step.name not in SOON, self.rank[step]

    def must_run(self, step: Step) -> bool:
        """Return whether a step is not in the store as it should be."""
        job = job_of(step)
        self.store.forget(job)
        if step in self.again or not self.store.whole(job):
            return True
        if not self.children[step]:  # no later step reads it and would notice damage
            try:
                self.store.verify(step.name, step.key)
            except Damaged:
                self.store.set_aside(step.name, step.key)
                return True
        return step.name in self.fresh and self.store.edited(job)

    def reopened(self, step: Step) -> list[Step]:
        """Mark a step as not done because its artifact disappeared, and block its children again.

        Return [step] if it can run now, else [].
        """
        self.done.discard(step)
        for child in self.children[step]:
            self.waiting[child] += 1
            if child in self.ready:
                self.ready.remove(child)
        return [] if self.waiting[step] else [step]

    def unblocked(self, step: Step) -> list[Step]:
        """Count a step as done for its children, and return those for which it was the last input."""
        for child in self.children[step]:
            self.waiting[child] -= 1
        return [child for child in self.children[step] if not self.waiting[child]]

    def miss(self, step: Step) -> None:
        """Report once that an artifact disappeared, unless `set_aside` moved it and reported that."""
        folder = self.store.folder(step.name, step.key)
        aside = any(folder.parent.glob(f".corrupt-{step.key}-*"))
        if step not in self.missed and not folder.exists() and not aside:
            self.missed.add(step)
            self.reporter.noted(f"{step.label} is missing from the store ({folder}): it is made again")

    def take(self) -> Step:
        """Remove the most urgent step from the ready ones, to run it."""
        step = self.ready.pop(0)
        self.running.add(step)
        self.reporter.started(step)
        return step

    def handle(self, step: Step, event: Mapping[str, Any], *, stopping: bool) -> None:
        """Update the walk for an event of a running step: see lab/run/executors/__init__.py."""
        match event["event"]:
            case "progress":
                self.reporter.advanced(step, event["tokens"])
            case "noted":
                self.reporter.noted(event["message"])
            case "stopped":
                self.running.discard(step)
                self.interrupted = True
            case "done":
                self.finish(step, event["seconds"])
            case "failed":
                self.fail(step, event["reason"], event["trace"])
            case "damaged":
                self.damaged(step, event["key"])
            case "died":
                self.died(step, event["code"], stopping=stopping)

    def put_back(self, step: Step) -> None:
        """Make a running step ready again, or its inputs first."""
        self.running.discard(step)
        self.release([step])

    def finish(self, step: Step, seconds: float) -> None:
        """Mark a running step as done."""
        self.store.forget(job_of(step))
        self.running.discard(step)
        self.again.discard(step)
        self.done.add(step)
        self.reporter.finished(step, seconds)
        self.release(self.unblocked(step))

    def fail(self, step: Step, reason: str, trace: str) -> None:
        """Mark a running step as failed.  What depends on it never becomes ready; everything else continues."""
        self.running.discard(step)
        self.failures[step] = reason
        self.reporter.failed(step, reason, trace)

    def damaged(self, step: Step, key: str) -> None:
        """Make an input of a running step again, and then the step.  A damaged input was moved aside before."""
        parent = next(parent for parent in step.inputs.values() if parent.key == key)
        self.repairs[step] += 1
        if self.repairs[step] > len(step.inputs) * ATTEMPTS:
            what = "is damaged, or its weights are dropped by another run,"
            self.fail(step, f"its input {parent.label} {what} again and again; see to the disk, or to keep_models", "")
            return
        self.miss(parent)
        if parent in self.done and self.must_run(parent):
            self.release(self.reopened(parent))
        self.put_back(step)

    def died(self, step: Step, code: int, *, stopping: bool) -> None:
        """Try a step again in another worker, or fail it after ATTEMPTS.  `code`: exit code of the worker that died."""
        self.deaths[step] += 1
        if stopping:
            self.running.discard(step)
            self.interrupted = True
        elif self.deaths[step] < ATTEMPTS:
            self.put_back(step)
        else:
            self.fail(step, f"its worker died {ATTEMPTS} times (exit code {code}; -9: killed)", "")
