"""How one step is run, and the worker process that runs one after another.

A worker has the arguments STORE THREADS PARENT: jobs come in as JSON lines, events go out as JSON lines.
It holds no state that matters: if it is killed, only the work of the running step since its last checkpoint is lost.
SIGTERM lets it finish the running step if that is short, or leave a checkpoint.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lab import machine
from lab.config.study import ComputeConfig
from lab.errors import InputError, Stopped, brief
from lab.hashing import digest
from lab.models import counting
from lab.run.signals import handle
from lab.steps import STEPS
from lab.store import space
from lab.store.atomic import file_sha256
from lab.store.step import Attempt
from lab.store.store import Damaged, Job, Store, never

NETWORKS = ("lab.models.train", "lab.models.checkpoints", "lab.models.initial_weights", "lab.models.pretrained")
"""Modules whose libraries take seconds to import.  Counting models need none of them."""
REPORT_EVERY = 0.5
"""Seconds between two reports of progress inside a step."""


@dataclass(frozen=True)
class Wishes:
    """What the user may want of a run besides its results."""

    stopping: Callable[[], bool] = never
    """Whether the run was asked to stop."""
    checkpoint_seconds: float = ComputeConfig().checkpoint_seconds


UNATTENDED = Wishes()


def run_job(
    store: Store, job: Job, report: Callable[[int], None], wishes: Wishes, *, fresh: bool, again: bool = False
) -> float:
    """Make one artifact, unless it is in the store, and return the seconds it took.

    `report` is called with the number of tokens done so far; `fresh`, `again`: see Store.run.

    Raises:
        Damaged: an input is missing, damaged or lacks weights.  A damaged one is moved aside.
        Stopped: the run was asked to stop, and this step cannot be finished shortly.
    """
    if _of_networks(store, job):  # imported first: seconds of imports are no speed of training
        for name in NETWORKS:
            importlib.import_module(name)
    start = time.monotonic()
    timing = {"seconds": 0.0, "work": job.work}
    environment: dict[str, Any] = {"versions": machine.versions(), "cpu": machine.cpu_name(), "timing": timing}
    kind = STEPS[job.name]
    if _device(job) == "cuda":
        environment["gpu"] = machine.gpu_name()
    if wishes.stopping():
        raise Stopped

    def write(folder: Path) -> None:
        space.check_room(store.root, job.label, job.disk)
        known = store.dropped(job.name, job.key) and store.whole(job)
        _check_inputs(store, job)
        if "machine" in job.params:
            set_arithmetic(job.params["machine"], strict=kind.trains)
        scratch = store.scratch(job.key) / _compatible(store, job)
        attempt = Attempt(report, wishes.stopping, scratch, wishes.checkpoint_seconds, store.note)
        try:
            kind.run(kind.params(**job.params), store.paths(job), folder, attempt)
        except Exception as error:
            if not isinstance(error, Stopped):  # the reason may be an input that was damaged after it was hashed
                _check_inputs(store, job, again=True)
            raise
        if known:
            _check_same(store, job, folder)
        timing["seconds"] = round(time.monotonic() - start, 3)

    try:
        with space.full_in_one_line(store.root):
            store.run(job, write, environment, fresh=fresh, again=again, stopping=wishes.stopping)
    except Damaged as error:
        store.set_aside(error.name, error.key, wishes.stopping)
        raise
    return time.monotonic() - start


def _of_networks(store: Store, job: Job) -> bool:
    """Return whether a step trains a network or reads one: no input of it is a counting model."""
    return "machine" in job.params and not any(map(_counts, store.paths(job).values()))


def _counts(folder: Path) -> bool:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type") in counting.KINDS
    except (OSError, ValueError, AttributeError):
        return False


def _device(job: Job) -> str:
    return str(job.params.get("machine", {}).get("device"))


def _check_inputs(store: Store, job: Job, *, again: bool = False) -> None:
    for ref in job.inputs.values():
        store.verify(*ref, again=again)
        if store.dropped(*ref) and STEPS[job.name].reads_weights:
            raise Damaged(*ref)


def _check_same(store: Store, job: Job, folder: Path) -> None:
    """Raise InputError unless an artifact made again, because its weights were dropped, has the bytes that it had.

    Other steps were made from it.  It may differ where the lab's code has changed since and the step is done afresh.
    """
    manifest = store.manifest(job.name, job.key)
    if manifest is None or manifest.source != job.source:
        return
    files = manifest.files.items()
    other = [name for name, e in files if not (folder / name).exists() or file_sha256(folder / name) != e.sha256]
    if other:
        raise InputError(
            f"{job.label} made again gives other bytes ({', '.join(other)}) than {store.folder(job.name, job.key)} "
            "states: another CPU, GPU or library version made it (lab verify lists them); run this there, or remove "
            "that folder to make all that follows from it anew"
        )


def _compatible(store: Store, job: Job) -> str:
    """Return the compatibility key of a step's checkpoints: code, parameters, inputs, library versions, processor."""
    manifests = {role: store.manifest(*ref) for role, ref in job.inputs.items()}
    contents = {role: manifest and manifest.content for role, manifest in manifests.items()}
    processor = machine.cpu_name()
    if _device(job) == "cuda":
        import torch

        processor += torch.cuda.get_device_name()
    return digest([job.source, job.params, contents, machine.versions(), processor])[:16]


def set_arithmetic(resolved: Mapping[str, Any], *, strict: bool) -> None:
    """Set threads, deterministic kernels and memory, so that a step gives the same bytes on this type of machine.

    With `strict`, an operation on a GPU without a deterministic form is an error.  Where it only warns, torch also
    takes the faster, non-deterministic backward pass of fused attention, so training is strict.  Sampling is not: it
    needs a cumsum.
    """
    import torch

    torch.set_num_threads(resolved["threads"])
    machine.keep_memory()
    torch.backends.cuda.matmul.allow_tf32 = False
    deterministic: Any = torch.utils.deterministic
    deterministic.fill_uninitialized_memory = False  # nothing reads it
    if resolved["device"] == "cuda":
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # without it cuBLAS has no deterministic form
    # Not use_deterministic_algorithms: that imports torch's compiler, which takes seconds, in every process.
    torch.set_deterministic_debug_mode(("error" if strict else "warn") if resolved["device"] == "cuda" else "default")


def perform(
    store: Store, job: Job, wishes: Wishes, say: Callable[[dict[str, Any]], None], *, fresh: bool, again: bool
) -> None:
    """Run a step and call `say` with its events: see lab/run/executors/__init__.py."""

    def report(tokens: int) -> None:
        say({"event": "progress", "tokens": tokens})

    try:
        seconds = run_job(store, job, report, wishes, fresh=fresh, again=again)
    except Stopped:
        say({"event": "stopped"})
    except Damaged as error:
        say({"event": "damaged", "key": error.key})
    except Exception as error:
        # One line, with the type of the error unless it is the user's.
        reason = brief(error) if isinstance(error, InputError) else f"{type(error).__name__}: {brief(error)}"
        say({"event": "failed", "reason": reason, "trace": traceback.format_exc()})
    else:
        say({"event": "done", "seconds": seconds})


def work(root: Path, threads: int, jobs: IO[str], events: IO[str], stopping: Callable[[], bool]) -> None:
    """Run steps in a worker process until its input is closed."""
    import torch

    torch.set_num_threads(threads)
    last = 0.0

    def say(event: dict[str, Any]) -> None:
        nonlocal last
        if event["event"] == "progress":
            if time.monotonic() - last <= REPORT_EVERY:
                return
            last = time.monotonic()
        events.write(json.dumps(event) + "\n")
        events.flush()

    store = Store(root, note=lambda message: say({"event": "noted", "message": message}))
    for line in jobs:
        order = json.loads(line)
        last, wishes = time.monotonic(), Wishes(stopping, order["checkpoint_seconds"])
        perform(store, Job.from_json(order["job"]), wishes, say, fresh=order["fresh"], again=order["again"])


def main() -> None:
    """Run the worker process.  What libraries print must not mix with the events, and no worker outlives its run."""
    heard: list[int] = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the run decides
    signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))  # from the run
    handle((signal.SIGHUP, signal.SIGUSR1), lambda number, _: heard.append(number))  # to the whole group
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
