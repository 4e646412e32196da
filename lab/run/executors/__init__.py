"""Executors: where the steps of a run are computed.  `execute` works through the graph with one of them.

local.py has two: this process, and worker processes on this machine.  An executor for Ray or SLURM implements the same
five methods of `Executor` and is chosen in `execute`.  Its jobs call lab/run/worker.py `perform` on a machine that sees
the store.  Nothing else must be shared: a job is data, and its result is the artifact.

Events of a step are dictionaries, {"event": name, ...}:
    progress  tokens          it has processed so many tokens
    noted     message         a line for the user
    done      seconds         its artifact is in the store
    damaged   key             the input with this key is missing, damaged or lacks its weights
    failed    reason, trace   it raised an error
    stopped                   it was asked to stop, and left a checkpoint
    died      code            its worker is gone
All except progress and noted end the step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from lab.errors import Stopped
from lab.run.executors.local import InProcess, Processes
from lab.run.walk import Reporter, Walk
from lab.run.worker import UNATTENDED, Wishes
from lab.steps import job_of
from lab.store.step import Step
from lab.store.store import Job, Store


class Executor(Protocol):
    """Where steps are computed."""

    def free(self) -> bool:
        """Return whether it takes one more step now."""

    def give(self, step: Step, job: Job, *, fresh: bool, again: bool) -> None:
        """Begin a step, or queue it.  `fresh`, `again`: see `run_job`."""

    def wait(self, tell: Callable[[Step, Mapping[str, Any]], None]) -> None:
        """Wait for events of the steps that were given, a fraction of a second, and call `tell` with each."""

    def ask_to_stop(self) -> None:
        """Ask every running step to end soon or to leave a checkpoint.  May be called again."""

    def close(self) -> None:
        """End everything at once."""


def execute(
    store: Store,
    order: Sequence[Step],
    reporter: Reporter,
    *,
    workers: int,
    threads: int,
    fresh: frozenset[str],
    log: Path,
    wishes: Wishes = UNATTENDED,
) -> dict[Step, str]:
    """Work through the steps of a study, and return those that failed, with their reasons.

    Args:
        store: where the artifacts are.
        order: the steps, inputs before what needs them.
        reporter: told what happens.
        workers: number of worker processes; 0: in this process.
        threads: threads of each worker.
        fresh: kinds of steps to do again where the lab's code has changed since.
        log: a file for what workers print.
        wishes: whether to stop, and how often to leave a checkpoint.

    Raises:
        Stopped: steps are left because the run was asked to stop.
    """
    walk = Walk(replace(store, note=reporter.noted), reporter, order, fresh)
    if walk.ready:
        with contextlib.ExitStack() as stack:
            executor: Executor = InProcess(walk.store, wishes)
            if workers:
                log.parent.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(log.open("a", encoding="utf-8"))
                executor = Processes(store.root, workers, threads, file, wishes)
            stack.callback(executor.close)
            _work_through(walk, executor, wishes)
    walk.store.tidy(job_of(step) for step in walk.done)
    if not walk.failures and (left := [step.label for step in order if step not in walk.done]):
        raise RuntimeError(f"{len(left)} steps were never reached, {left[0]} first: this is a fault of the lab's")
    return walk.failures


def _work_through(walk: Walk, executor: Executor, wishes: Wishes) -> None:
    def tell(step: Step, event: Mapping[str, Any]) -> None:
        walk.handle(step, event, stopping=wishes.stopping())

    while (walk.ready and not wishes.stopping()) or walk.running:
        if wishes.stopping():
            executor.ask_to_stop()
        else:
            while walk.ready and executor.free():
                step = walk.take()
                executor.give(step, job_of(step), fresh=step.name in walk.fresh, again=step in walk.again)
        executor.wait(tell)
    if walk.ready or walk.interrupted:
        raise Stopped
