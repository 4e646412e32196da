"""The executors: walk the graph of steps in this process, or with worker processes that take one step at a time."""

from __future__ import annotations

import selectors
import shutil
import tempfile
import traceback
from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from lab.errors import Stopped
from lab.run.weights import lacking
from lab.run.worker import UNATTENDED, Wishes, Worker, reason_of, run_job
from lab.steps import job_of
from lab.store import space
from lab.store.manifest import MANIFEST
from lab.store.step import Step
from lab.store.store import Damaged, Dropped, Job, Store

ATTEMPTS = 2
"""A step whose worker died (killed, out of memory) is given to another one this often in all."""


class Reporter(Protocol):
    """Who is told what happens.  A step is one that is computed; those already in the store are `found`."""

    def found(self, step: Step) -> None: ...
    def started(self, step: Step) -> None: ...
    def advanced(self, step: Step, tokens: int) -> None: ...
    def finished(self, step: Step, seconds: float) -> None: ...
    def failed(self, step: Step, reason: str, trace: str) -> None: ...
    def noted(self, message: str) -> None: ...


def prepare_human(store: Store, human: Sequence[Step], say: Callable[[str], None]) -> None:
    """The steps that read human text, in this process.  Bad text is found here, before the store has a byte of it."""
    jobs = [job_of(step) for step in human]
    wanted = sum(step.disk for step, job in zip(human, jobs, strict=True) if not store.whole(job))
    if wanted:
        space.check_room(store.root, "the human text of this study", wanted)
    while not all(store.whole(job) for job in jobs):
        with tempfile.TemporaryDirectory(prefix="lab-human-") as folder:
            trial = Store(Path(folder), place="trial")
            try:
                _try_human(store, trial, jobs, say)
            except Damaged as found:  # borrowed, and needed for what was missing
                store.set_aside(found.name, found.key)
                continue
            for job in jobs:
                made = trial.manifest(job.name, job.key)
                assert made is not None, job
                with space.full_in_one_line(store.root):
                    store.run(job, _copier(trial.folder(job.name, job.key)), made["environment"], fresh=False)


def _try_human(store: Store, trial: Store, jobs: Sequence[Job], say: Callable[[str], None]) -> None:
    for job in jobs:
        if store.whole(job):
            trial.borrow(job, store)
        else:
            say(job.label)
            run_job(trial, job, lambda _: None, UNATTENDED, fresh=False)


def _copier(source: Path) -> Callable[[Path], None]:
    def copy(out: Path) -> None:
        shutil.copytree(source, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))

    return copy


@dataclass
class Walk:
    """The graph while it is being worked through."""

    store: Store
    reporter: Reporter
    order: Sequence[Step]
    fresh: frozenset[str]
    """Names of steps to do again where the lab's code has changed since."""
    first: frozenset[str] = frozenset()
    """Names of steps that go before all others, however short their way to the end is."""
    waiting: dict[Step, int] = field(default_factory=dict)
    ready: list[Step] = field(default_factory=list)
    children: dict[Step, list[Step]] = field(default_factory=lambda: defaultdict(list))
    weight: dict[Step, float] = field(default_factory=dict)
    failures: dict[Step, str] = field(default_factory=dict)
    repairs: dict[Step, int] = field(default_factory=lambda: defaultdict(int))
    """How often an input of a step was found damaged."""
    deaths: dict[Step, int] = field(default_factory=lambda: defaultdict(int))
    """How often its worker died."""
    missed: set[Step] = field(default_factory=set)
    """Steps whose artifact was there and is gone: this was said."""
    again: set[Step] = field(default_factory=set)
    """Steps in the store that must be made again, as their weights were dropped and are needed."""
    done: set[Step] = field(default_factory=set)
    in_hand: set[Step] = field(default_factory=set)
    cut: bool = False
    """Whether a step was cut short, to be gone on with in another run."""

    def __post_init__(self) -> None:
        for step in self.order:
            for parent in set(step.inputs.values()):
                self.children[parent].append(step)
        for step in reversed(self.order):  # the longest way from here to the end: the longest goes first
            self.weight[step] = step.work + max((self.weight[child] for child in self.children[step]), default=0.0)
        self.waiting = {step: len(set(step.inputs.values())) for step in self.order}
        self.release([step for step in self.order if not self.waiting[step]])

    def release(self, candidates: Sequence[Step]) -> None:
        """Steps whose inputs are all there: those in the store are done, the others can be worked on."""
        stack = list(candidates)
        while stack:
            step = stack.pop()
            if self.waiting[step] or step in self.in_hand or step in self.failures:
                continue
            if self.must_run(step):
                if step in self.done:  # it was, before an input was made anew with other bytes
                    stack += self.reopened(step)
                elif dropped := lacking(self.store, step):
                    self.again.update(dropped)
                    for parent in set(dropped) & self.done:
                        stack += self.reopened(parent)
                else:
                    if any(self.store.folder(child.name, child.key).exists() for child in self.children[step]):
                        self.miss(step)
                    insort(self.ready, step, key=lambda s: (s.name not in self.first, -self.weight[s], s.label, s.key))
            elif step not in self.done:
                self.done.add(step)
                self.reporter.found(step)
                stack.extend(self.unblocked(step))

    def reopened(self, step: Step) -> list[Step]:
        """Its artifact is gone: it is made again, and what needs it waits.  The step, where it does not wait itself."""
        self.done.discard(step)
        for child in self.children[step]:
            self.waiting[child] += 1
            if child in self.ready:
                self.ready.remove(child)
        return [] if self.waiting[step] else [step]

    def miss(self, step: Step) -> None:
        """Say, once, that an artifact was there and is gone; not where it was moved aside, which was said then."""
        folder = self.store.folder(step.name, step.key)
        aside = any(folder.parent.glob(f".corrupt-{step.key}-*"))
        if step not in self.missed and not folder.exists() and not aside:
            self.missed.add(step)
            self.reporter.noted(f"{step.label} is missing from the store ({folder}): it is made again")

    def take(self) -> Step:
        step = self.ready.pop(0)
        self.in_hand.add(step)
        self.reporter.started(step)
        return step

    def put_back(self, step: Step) -> None:
        self.in_hand.discard(step)
        self.release([step])

    def damaged(self, step: Step, key: str) -> None:
        """An input of this step was missing or damaged, and is out of the way by now, or its weights were dropped."""
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

    def must_run(self, step: Step) -> bool:
        job = job_of(step)
        self.store.forget(job)
        if step in self.again or not self.store.whole(job):
            return True
        if not self.children[step]:  # nobody will read it before the tables do
            try:
                self.store.verify(step.name, step.key)
            except Damaged:
                self.store.set_aside(step.name, step.key)
                return True
        return step.name in self.fresh and self.store.edited(job)

    def unblocked(self, step: Step) -> list[Step]:
        for child in self.children[step]:
            self.waiting[child] -= 1
        return [child for child in self.children[step] if not self.waiting[child]]

    def finish(self, step: Step, seconds: float) -> None:
        self.store.forget(job_of(step))
        self.in_hand.discard(step)
        self.again.discard(step)
        self.done.add(step)
        self.reporter.finished(step, seconds)
        self.release(self.unblocked(step))

    def fail(self, step: Step, reason: str, trace: str) -> None:
        """What depends on a failed step never becomes ready; everything else goes on."""
        self.in_hand.discard(step)
        self.failures[step] = reason
        self.reporter.failed(step, reason, trace)


def execute(
    store: Store,
    order: Sequence[Step],
    reporter: Reporter,
    *,
    workers: int,
    threads: int,
    fresh: frozenset[str],
    first: frozenset[str] = frozenset(),
    log: Path,
    wishes: Wishes = UNATTENDED,
) -> dict[Step, str]:
    """Work through the steps; the failures, by step, with their reasons.  `workers` 0: in this process.

    Stopped when steps are left because the run was asked to stop.
    """
    walk = Walk(replace(store, note=reporter.noted), reporter, order, fresh, first)
    if workers == 0:
        _in_process(walk, wishes)
    elif walk.ready:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as errors:
            _with_workers(walk, workers, lambda: Worker.start(store.root, threads, errors), wishes)
    walk.store.tidy(job_of(step) for step in walk.done)
    if not walk.failures and (left := [step.label for step in order if step not in walk.done]):
        raise RuntimeError(f"{len(left)} steps were never reached, {left[0]} first: this is a fault of the lab's")
    return walk.failures


def _in_process(walk: Walk, wishes: Wishes) -> None:
    while walk.ready:
        if wishes.stopping():
            raise Stopped
        step = walk.take()
        try:
            report = partial(walk.reporter.advanced, step)
            again, fresh = step in walk.again, step.name in walk.fresh
            seconds = run_job(walk.store, job_of(step), report, wishes, fresh=fresh, again=again)
        except Stopped:
            raise
        except (Damaged, Dropped) as found:
            walk.damaged(step, found.key)
        except Exception as error:
            walk.fail(step, reason_of(error), traceback.format_exc())
        else:
            walk.finish(step, seconds)


def _with_workers(walk: Walk, count: int, start: Callable[[], Worker], wishes: Wishes) -> None:
    team: list[Worker] = []
    with selectors.DefaultSelector() as selector:
        try:
            while (walk.ready and not wishes.stopping()) or any(worker.step for worker in team):
                if wishes.stopping():
                    for worker in team:
                        worker.tell_to_stop()
                else:
                    while walk.ready and len(team) < count and all(worker.step for worker in team):
                        worker = start()
                        team.append(worker)
                        assert worker.process.stdout is not None
                        selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
                        _hand_out(walk, team, wishes)
                    _hand_out(walk, team, wishes)
                for key, _ in selector.select(timeout=0.2):
                    for event in key.data.events():
                        if event["event"] == "died":
                            selector.unregister(key.fileobj)
                            team.remove(key.data)
                        _take(walk, key.data, event, stopping=wishes.stopping())
        finally:
            for worker in team:
                worker.stop()
    if walk.ready or walk.cut:
        raise Stopped


def _hand_out(walk: Walk, team: Sequence[Worker], wishes: Wishes) -> None:
    for worker in team:
        if worker.step is None and walk.ready:
            step = walk.take()
            order = {"fresh": step.name in walk.fresh, "again": step in walk.again}
            worker.give(step, job_of(step), {**order, "checkpoint_seconds": wishes.checkpoint_seconds})


def _take(walk: Walk, worker: Worker, event: Mapping[str, Any], *, stopping: bool) -> None:
    step = worker.step
    if step is None:
        return
    match event["event"]:
        case "progress":
            walk.reporter.advanced(step, event["tokens"])
            return
        case "noted":
            walk.reporter.noted(event["message"])
            return
        case "stopped":
            if not stopping:  # told by another than this run: it has stopped, so it is of no more use
                worker.process.kill()
                return
            walk.cut = True
        case "done":
            walk.finish(step, event["seconds"])
        case "failed":
            walk.fail(step, event["reason"], event["trace"])
        case "damaged":
            walk.damaged(step, event["key"])
        case "died":
            worker.stop()
            _bury(walk, step, event["code"], stopping=stopping)
    worker.step = None


def _bury(walk: Walk, step: Step, code: int, *, stopping: bool) -> None:
    """The worker of this step is dead."""
    walk.deaths[step] += 1
    if stopping:
        walk.cut = True
    elif walk.deaths[step] < ATTEMPTS:
        walk.put_back(step)
    else:
        walk.fail(step, f"its worker died {ATTEMPTS} times (exit code {code}; -9: killed)", "")
