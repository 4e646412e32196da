"""The executors: walk the graph of steps in this process, or with worker processes that take one step at a time.

A worker is `python -m lab.execute STORE THREADS PARENT`: jobs come in as JSON lines, events go out as JSON lines.  It
holds no state that matters, so killing it, or everything, loses only the steps in hand.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

from lab import machine, runners, space
from lab.store import MANIFEST, Job, Store
from lab.types import InputError, Step
from lab.weights import check_same, lacking

ATTEMPTS = 2
"""A step whose worker died (killed, out of memory) is given to another one this often in all."""
REPORT_EVERY = 0.5
"""Seconds between two reports of progress inside a step."""


class Reporter(Protocol):
    """Who is told what happens.  A step is one that is computed; those already in the store are `found`."""

    def found(self, step: Step) -> None: ...
    def started(self, step: Step) -> None: ...
    def advanced(self, step: Step, tokens: int) -> None: ...
    def finished(self, step: Step, seconds: float) -> None: ...
    def failed(self, step: Step, reason: str, trace: str) -> None: ...


def job_of(step: Step) -> Job:
    return Job.of(step, runners.source_hash(step.name))


def run_job(store: Store, job: Job, progress: Callable[[int], None], *, fresh: bool) -> float:
    """Make one artifact, unless it is there; the seconds it took."""
    start = time.monotonic()
    timing = {"seconds": 0.0, "work": job.work}
    environment: dict[str, Any] = {"versions": machine.versions(), "cpu": machine.cpu_name(), "timing": timing}

    if job.params.get("machine", {}).get("device") == "cuda":
        environment["gpu"] = machine.gpu_name()

    def write(folder: Path) -> None:
        space.check_room(store.root, job.label, job.disk)
        again = store.dropped(job.name, job.key) and store.whole(job)
        for ref in job.inputs.values():
            store.verify(*ref)
        if "machine" in job.params:
            _set_arithmetic(job.params["machine"])
        runners.KINDS[job.name].run(job.params, store.paths(job), folder, progress)
        if again:
            check_same(store, job, folder)
        timing["seconds"] = round(time.monotonic() - start, 3)

    with space.full_in_one_line(store.root):
        store.run(job, write, environment, fresh=fresh)
    return time.monotonic() - start


def _set_arithmetic(resolved: Mapping[str, Any]) -> None:
    """Threads and deterministic kernels: the same bytes wherever the step runs on this type of machine."""
    import torch

    torch.set_num_threads(resolved["threads"])
    torch.backends.cuda.matmul.allow_tf32 = False
    # A kernel without a deterministic form (cumsum on a GPU) warns instead of failing the step.
    torch.use_deterministic_algorithms(resolved["device"] == "cuda", warn_only=True)


def prepare_human(store: Store, human: Sequence[Step], say: Callable[[str], None]) -> None:
    """The steps that read human text, in this process.  Bad text is found here, before the store has a byte of it."""
    jobs = [job_of(step) for step in human]
    if all(store.whole(job) for job in jobs):
        return
    wanted = sum(step.disk for step, job in zip(human, jobs, strict=True) if not store.whole(job))
    space.check_room(store.root, "the human text of this study", wanted)
    with tempfile.TemporaryDirectory(prefix="lab-human-") as folder:
        trial = Store(Path(folder))
        for job in jobs:
            if store.whole(job):
                trial.borrow(job, store)
            else:
                say(job.label)
                run_job(trial, job, lambda _: None, fresh=False)
        for job in jobs:
            made = trial.manifest(job.name, job.key)
            assert made is not None, job
            with space.full_in_one_line(store.root):
                store.run(job, _copier(trial.folder(job.name, job.key)), made["environment"], fresh=False)


def _copier(source: Path) -> Callable[[Path], None]:
    def copy(out: Path) -> None:
        shutil.copytree(source, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))

    return copy


@dataclass
class Worker:
    process: subprocess.Popen[str]
    step: Step | None = None
    buffer: str = ""

    @classmethod
    def start(cls, store: Path, threads: int, log: IO[str]) -> Worker:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "RAYON_NUM_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "false",
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
            "TRANSFORMERS_VERBOSITY": "error",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        command = [sys.executable, "-m", "lab.execute", str(store), str(threads), str(os.getpid())]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        return cls(process)

    def give(self, step: Step, *, fresh: bool) -> None:
        assert self.process.stdin is not None
        self.step = step
        with contextlib.suppress(BrokenPipeError):  # it died: its closed output says so
            self.process.stdin.write(json.dumps({"job": job_of(step).to_json(), "fresh": fresh}) + "\n")
            self.process.stdin.flush()

    def events(self) -> Iterator[dict[str, Any]]:
        """What it has said by now.  A last event "died" when it is gone."""
        assert self.process.stdout is not None
        chunk = self.process.stdout.read()
        self.buffer += chunk or ""
        *lines, self.buffer = self.buffer.split("\n")
        yield from (json.loads(line) for line in lines)
        if chunk == "":
            yield {"event": "died", "code": self.process.wait()}

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


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
    attempts: dict[Step, int] = field(default_factory=lambda: defaultdict(int))
    again: dict[Step, list[Step]] = field(default_factory=dict)
    """Steps in the store that must be made again, as their weights were dropped, with those that wait for them."""

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
            if self.must_run(step):
                if dropped := lacking(self.store, step):
                    stack.extend(parent for parent in dropped if parent not in self.again)
                    self.waiting[step] = len(dropped)
                    for parent in dropped:
                        self.again.setdefault(parent, []).append(step)
                    continue
                insort(self.ready, step, key=lambda s: (s.name not in self.first, -self.weight[s], s.label, s.key))
            else:
                self.reporter.found(step)
                stack.extend(self.unblocked(step))

    def must_run(self, step: Step) -> bool:
        job = job_of(step)
        self.store.forget(job)
        if step in self.again or not self.store.whole(job):
            return True
        manifest = self.store.manifest(job.name, job.key)
        return step.name in self.fresh and manifest is not None and manifest["source"] != job.source

    def unblocked(self, step: Step) -> list[Step]:
        children = self.again.pop(step) if step in self.again else self.children[step]
        for child in children:
            self.waiting[child] -= 1
        return [child for child in children if not self.waiting[child]]

    def finish(self, step: Step, seconds: float) -> None:
        self.reporter.finished(step, seconds)
        self.release(self.unblocked(step))

    def fail(self, step: Step, reason: str, trace: str) -> None:
        """What depends on a failed step never becomes ready; everything else goes on."""
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
) -> dict[Step, str]:
    """Work through the steps; the failures, by step, with their reasons.  `workers` 0: in this process."""
    walk = Walk(store, reporter, order, fresh, first)
    if workers == 0:
        _in_process(walk)
    elif walk.ready:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as errors:
            _with_workers(walk, workers, lambda: Worker.start(store.root, threads, errors))
    return walk.failures


def _in_process(walk: Walk) -> None:
    while walk.ready:
        step = walk.ready.pop(0)
        walk.reporter.started(step)
        try:
            job = job_of(step)
            seconds = run_job(walk.store, job, partial(walk.reporter.advanced, step), fresh=step.name in walk.fresh)
            walk.store.forget(job)
        except Exception as error:
            walk.fail(step, _reason(error), traceback.format_exc())
        else:
            walk.finish(step, seconds)


def _with_workers(walk: Walk, count: int, start: Callable[[], Worker]) -> None:
    team: list[Worker] = []
    with selectors.DefaultSelector() as selector:
        try:
            while walk.ready or any(worker.step for worker in team):
                while walk.ready and len(team) < count and all(worker.step for worker in team):
                    worker = start()
                    team.append(worker)
                    assert worker.process.stdout is not None
                    selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
                    _hand_out(walk, team)
                _hand_out(walk, team)
                for key, _ in selector.select(timeout=1.0):
                    for event in key.data.events():
                        if event["event"] == "died":
                            selector.unregister(key.fileobj)
                            team.remove(key.data)
                        _take(walk, key.data, event)
        finally:
            for worker in team:
                worker.stop()


def _hand_out(walk: Walk, team: Sequence[Worker]) -> None:
    for worker in team:
        if worker.step is None and walk.ready:
            step = walk.ready.pop(0)
            walk.reporter.started(step)
            worker.give(step, fresh=step.name in walk.fresh)


def _take(walk: Walk, worker: Worker, event: Mapping[str, Any]) -> None:
    step = worker.step
    if step is None:
        return
    match event["event"]:
        case "progress":
            walk.reporter.advanced(step, event["tokens"])
            return
        case "done":
            walk.store.forget(job_of(step))
            worker.step = None
            walk.finish(step, event["seconds"])
        case "failed":
            worker.step = None
            walk.fail(step, event["reason"], event["trace"])
        case "died":
            worker.stop()
            worker.step = None
            walk.attempts[step] += 1
            if walk.attempts[step] < ATTEMPTS:
                walk.ready.insert(0, step)
            else:
                walk.fail(step, f"its worker died {ATTEMPTS} times (exit code {event['code']}; -9: killed)", "")


def _reason(error: Exception) -> str:
    said = " ".join(str(error).split())
    return said if isinstance(error, InputError) else f"{type(error).__name__}: {said}"


def work(root: Path, threads: int, jobs: IO[str], events: IO[str]) -> None:
    """The life of a worker: until its input is closed."""
    import torch

    torch.set_num_threads(threads)
    store = Store(root)

    def say(event: str, **fields: Any) -> None:
        events.write(json.dumps({"event": event, **fields}) + "\n")
        events.flush()

    for line in jobs:
        order = json.loads(line)
        last = time.monotonic()

        def progress(tokens: int) -> None:
            nonlocal last
            if time.monotonic() - last > REPORT_EVERY:
                last = time.monotonic()
                say("progress", tokens=tokens)

        try:
            seconds = run_job(store, Job.from_json(order["job"]), progress, fresh=order["fresh"])
        except Exception as error:
            say("failed", reason=_reason(error), trace=traceback.format_exc())
        else:
            say("done", seconds=seconds)


def main() -> None:
    """Entry of a worker process.  What libraries print must not mix with the events, and no worker outlives its run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the run decides
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != int(sys.argv[3]):  # the run ended before the line above
        return
    events = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with contextlib.suppress(BrokenPipeError):
        work(Path(sys.argv[1]), int(sys.argv[2]), sys.stdin, events)


if __name__ == "__main__":
    main()
