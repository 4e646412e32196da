"""One step at a time: how a step is run, and the processes that do nothing else.

A worker is `python -m lab.run.worker STORE THREADS PARENT`: jobs come in as JSON lines, events go out as JSON lines.
It
holds no state that matters, so killing it, or everything, loses only what the step in hand did since its checkpoint.
SIGTERM lets it finish the step in hand if that is short, or leave a checkpoint.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lab import machine
from lab.config.study import ComputeConfig
from lab.errors import InputError, Stopped, brief
from lab.hashing import digest
from lab.run.weights import check_same
from lab.steps import STEPS
from lab.store import space
from lab.store.step import Attempt, Step
from lab.store.store import Damaged, Dropped, Job, Store

REPORT_EVERY = 0.5
"""Seconds between two reports of progress inside a step."""


def never() -> bool:
    """A run that nobody stops."""
    return False


@dataclass(frozen=True)
class Wishes:
    """What the user may want of a run besides its results."""

    stopping: Callable[[], bool] = never
    """Whether he asked it to stop."""
    checkpoint_seconds: float = ComputeConfig().checkpoint_seconds


UNATTENDED = Wishes()


def run_job(
    store: Store, job: Job, report: Callable[[int], None], wishes: Wishes, *, fresh: bool, again: bool = False
) -> float:
    """Make one artifact, unless it is there; the seconds it took.

    `again`: make it also where all of it is there but its weights, which were dropped.
    Damaged when an input is missing or not what was committed: it is moved aside, to be made again before this step.
    Dropped when the weights of an input are: they are to be made again likewise.
    Stopped when the run is to stop and this step cannot be finished shortly.
    """
    start = time.monotonic()
    timing = {"seconds": 0.0, "work": job.work}
    environment: dict[str, Any] = {"versions": machine.versions(), "cpu": machine.cpu_name(), "timing": timing}
    kind = STEPS[job.name]
    if job.params.get("machine", {}).get("device") == "cuda":
        environment["gpu"] = machine.gpu_name()
    if wishes.stopping():
        raise Stopped

    def write(folder: Path) -> None:
        space.check_room(store.root, job.label, job.disk)
        known = store.dropped(job.name, job.key) and store.whole(job)
        _check_inputs(store, job)
        if "machine" in job.params:
            set_arithmetic(job.params["machine"], strict=job.name == "train")
        scratch = store.scratch(job.key) / _fitting(store, job)
        attempt = Attempt(report, wishes.stopping, scratch, wishes.checkpoint_seconds, store.note)
        try:
            kind.run(kind.params(**job.params), store.paths(job), folder, attempt)
        except Exception as error:
            if not isinstance(error, Stopped):  # the reason may be an input that was damaged after it was hashed
                _check_inputs(store, job, again=True)
            raise
        if known:
            check_same(store, job, folder)
        timing["seconds"] = round(time.monotonic() - start, 3)

    try:
        with space.full_in_one_line(store.root):
            store.run(job, write, environment, fresh=fresh, again=again, stopping=wishes.stopping)
    except Damaged as found:
        store.set_aside(found.name, found.key, wishes.stopping)
        raise
    return time.monotonic() - start


def _check_inputs(store: Store, job: Job, *, again: bool = False) -> None:
    for ref in job.inputs.values():
        store.verify(*ref, again=again)
        if store.dropped(*ref) and STEPS[job.name].reads_weights:
            raise Dropped(*ref)


def _fitting(store: Store, job: Job) -> str:
    """A name for all that an attempt must share with the one whose checkpoints it goes on from."""
    manifests = {role: store.manifest(*ref) for role, ref in job.inputs.items()}
    contents = {role: manifest and manifest["content"] for role, manifest in manifests.items()}
    processor = machine.cpu_name()
    if job.params.get("machine", {}).get("device") == "cuda":
        import torch

        processor += torch.cuda.get_device_name()
    return digest([job.source, job.params, contents, machine.versions(), processor])[:16]


def set_arithmetic(resolved: Mapping[str, Any], *, strict: bool) -> None:
    """Threads and deterministic kernels: the same bytes wherever the step runs on this type of machine.  And memory.

    `strict`, on a GPU: an operation without a deterministic form is an error.  Where it only warns, torch also takes
    the faster, non-deterministic backward pass of fused attention, so training is strict; sampling needs a cumsum.
    """
    import torch

    torch.set_num_threads(resolved["threads"])
    machine.keep_memory()
    torch.backends.cuda.matmul.allow_tf32 = False
    deterministic: Any = torch.utils.deterministic
    deterministic.fill_uninitialized_memory = False  # nothing reads it
    if resolved["device"] == "cuda":
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # without it cuBLAS has no deterministic form
    torch.use_deterministic_algorithms(resolved["device"] == "cuda", warn_only=not strict)


def reason_of(error: Exception) -> str:
    return brief(error) if isinstance(error, InputError) else f"{type(error).__name__}: {brief(error)}"


@dataclass
class Worker:
    process: subprocess.Popen[str]
    step: Step | None = None
    buffer: str = ""
    told: bool = False
    """To stop."""

    @classmethod
    def start(cls, store: Path, threads: int, log: IO[str]) -> Worker:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "RAYON_NUM_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "false",
            "TRANSFORMERS_VERBOSITY": "error",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        command = [sys.executable, "-m", "lab.run.worker", str(store), str(threads), str(os.getpid())]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        return cls(process)

    def give(self, step: Step, job: Job, wanted: Mapping[str, Any]) -> None:
        """`wanted`: fresh, again, checkpoint_seconds."""
        assert self.process.stdin is not None
        self.step = step
        order = {"job": job.to_json(), **wanted}
        with contextlib.suppress(BrokenPipeError):  # it died: its closed output says so
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()

    def tell_to_stop(self) -> None:
        if not self.told:
            self.process.send_signal(signal.SIGTERM)
        self.told = True

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


def work(root: Path, threads: int, jobs: IO[str], events: IO[str], stopping: Callable[[], bool]) -> None:
    """The life of a worker: until its input is closed."""
    import torch

    torch.set_num_threads(threads)

    def say(event: str, **fields: Any) -> None:
        events.write(json.dumps({"event": event, **fields}) + "\n")
        events.flush()

    store = Store(root, note=lambda message: say("noted", message=message))
    for line in jobs:
        order = json.loads(line)
        last = time.monotonic()

        def progress(tokens: int) -> None:
            nonlocal last
            if time.monotonic() - last > REPORT_EVERY:
                last = time.monotonic()
                say("progress", tokens=tokens)

        wishes = Wishes(stopping, order["checkpoint_seconds"])
        try:
            seconds = run_job(
                store, Job.from_json(order["job"]), progress, wishes, fresh=order["fresh"], again=order["again"]
            )
        except Stopped:
            say("stopped")
        except (Damaged, Dropped) as found:
            say("damaged", key=found.key)
        except Exception as error:
            say("failed", reason=reason_of(error), trace=traceback.format_exc())
        else:
            say("done", seconds=seconds)


def main() -> None:
    """Entry of a worker process.  What libraries print must not mix with the events, and no worker outlives its run."""
    heard: list[int] = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the run decides
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):  # from the run, or to the whole group
        signal.signal(number, lambda number, _: heard.append(number))
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != int(sys.argv[3]):  # the run ended before the line above
        return
    events = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with contextlib.suppress(BrokenPipeError):
        work(Path(sys.argv[1]), int(sys.argv[2]), sys.stdin, events, lambda: bool(heard))


if __name__ == "__main__":
    main()
