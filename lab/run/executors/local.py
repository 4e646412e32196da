"""Executors on this machine: in this process, or with worker processes that take one step at a time."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import lab
from lab.run.worker import Wishes, perform
from lab.store.step import Step
from lab.store.store import Job, Store

START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); import lab; del sys.path[0]; "
    "from lab.run.worker import main; main()"
)
"""Program of a worker: this very lab, wherever it lies, and else no module of the current folder."""
Tell = Callable[[Step, Mapping[str, Any]], None]


class InProcess:
    """An executor that runs one step at a time, in this process, inside of `wait`."""

    def __init__(self, store: Store, wishes: Wishes) -> None:
        self.store, self.wishes = store, wishes
        self.given: tuple[Step, Job, dict[str, bool]] | None = None

    def free(self) -> bool:
        """Return whether no step waits for `wait`."""
        return self.given is None

    def give(self, step: Step, job: Job, *, fresh: bool, again: bool) -> None:
        """Keep the step for `wait`."""
        self.given = (step, job, {"fresh": fresh, "again": again})

    def wait(self, tell: Tell) -> None:
        """Run the step."""
        if self.given is not None:
            (step, job, order), self.given = self.given, None
            perform(self.store, job, self.wishes, lambda event: tell(step, event), **order)

    def ask_to_stop(self) -> None:
        """Do nothing: the step asks `wishes.stopping` itself."""

    def close(self) -> None:
        """Do nothing."""


class Processes:
    """An executor with up to `count` worker processes, started when they are needed."""

    def __init__(self, store: Path, count: int, threads: int, log: IO[str], wishes: Wishes) -> None:
        self.store, self.count, self.threads, self.log, self.wishes = store, count, threads, log, wishes
        self.workers: list[Worker] = []
        self.asked = False
        self.selector = selectors.DefaultSelector()

    def free(self) -> bool:
        """Return whether a worker is idle, or one more may be started."""
        return len(self.workers) < self.count or any(worker.step is None for worker in self.workers)

    def give(self, step: Step, job: Job, *, fresh: bool, again: bool) -> None:
        """Send the step to an idle worker, or to a new one."""
        worker = next((worker for worker in self.workers if worker.step is None), None)
        if worker is None:
            worker = Worker.start(self.store, self.threads, self.log)
            self.workers.append(worker)
            self.selector.register(worker.output, selectors.EVENT_READ, worker)
        worker.give(step, job, {"fresh": fresh, "again": again, "checkpoint_seconds": self.wishes.checkpoint_seconds})

    def wait(self, tell: Tell) -> None:
        """Pass on what workers have written."""
        for key, _ in self.selector.select(timeout=0.2):
            for event in key.data.events():
                self._pass_on(key.data, event, tell)

    def _pass_on(self, worker: Worker, event: Mapping[str, Any], tell: Tell) -> None:
        step = worker.step
        if event["event"] == "stopped" and not self.wishes.stopping():  # a signal from outside: it takes no more steps
            worker.process.kill()
            return
        if event["event"] == "died":
            self.selector.unregister(worker.output)
            self.workers.remove(worker)
            worker.stop()
        if event["event"] not in ("progress", "noted"):
            worker.step = None
        if step is not None:
            tell(step, event)

    def ask_to_stop(self) -> None:
        """Send every worker SIGTERM, once."""
        if not self.asked:
            for worker in self.workers:
                worker.process.send_signal(signal.SIGTERM)
        self.asked = True

    def close(self) -> None:
        """Kill all workers."""
        for worker in self.workers:
            worker.stop()
        self.selector.close()


@dataclass
class Worker:
    """A worker process (lab/run/worker.py), as its run sees it."""

    process: subprocess.Popen[str]
    orders: IO[str]
    output: IO[str]
    step: Step | None = None
    """What it works on."""
    buffer: str = ""
    """What it has written of an unfinished line."""

    @classmethod
    def start(cls, store: Path, threads: int, log: IO[str]) -> Worker:
        """Start a worker process.  `log` gets what libraries print in it."""
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "RAYON_NUM_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "false",
            "TRANSFORMERS_VERBOSITY": "error",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        command = [sys.executable, "-P", "-c", START, str(Path(lab.__file__).parents[1])]
        command += [str(store), str(threads), str(os.getpid())]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True, env=environment)
        assert process.stdin is not None and process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        return cls(process, process.stdin, process.stdout)

    def give(self, step: Step, job: Job, order: Mapping[str, Any]) -> None:
        """Send a step.  `order`: fresh, again, checkpoint_seconds."""
        self.step = step
        with contextlib.suppress(BrokenPipeError):  # it died: its closed output tells so
            self.orders.write(json.dumps({"job": job.to_json(), **order}) + "\n")
            self.orders.flush()

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events that it has written by now.  The last one is "died" when it is gone."""
        chunk = self.output.read()
        self.buffer += chunk or ""
        *lines, self.buffer = self.buffer.split("\n")
        yield from (json.loads(line) for line in lines)
        if chunk == "":
            yield {"event": "died", "code": self.process.wait()}

    def stop(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()
        self.output.close()
        with contextlib.suppress(BrokenPipeError):
            self.orders.close()
