"""Small studies in forked processes, which tests and the soak kill, stop and starve at named instants.

A zygote imports the lab once and forks one process per run, so that hundreds of runs take minutes.  Each fork runs the
command line itself, with a hook of support/hooks.py that acts at an instant of the run.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from support import hooks
from support.tiny import write_corpus, write_study

STOPPED = 75
"""Exit code of a run that a signal stopped."""

# --- studies: weights and rows differ in every generation ------------------------------------------------------------

SIZES = {"sample": {"tokens": 256, "shard_rows": 16}, "metrics": {"tokens": 128, "test_tokens": 128}}
COUNTS: dict[str, Any] = {
    "name": "counts",
    "seeds": [0],
    "generations": 3,
    "regimes": ["replace", "accumulate"],
    "corpus": {"kind": "source", "process": "markov", "types": 8, "zipf": 1.0, "tokens": 256},
    "model": {"kind": "ngram", "order": 2, "smoothing": "interpolated", "n_positions": 8},
    "compute": {"device": "cpu", "dtype": "float32"},
    "keep_models": "last",
    **SIZES,
}
NETWORK: dict[str, Any] = {
    "name": "network",
    "seeds": [0],
    "generations": 2,
    "regimes": ["replace"],
    "corpus": {"path": "tales.jsonl", "domain": "domain", "author": "author", "group": "group", "tokens": 512},
    "tokenizer": {"vocab_size": 300},
    "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 16},
    "train": {"tokens": 320, "batch_rows": 4, "lr": 5e-3, "validation_tokens": 64},
    "compute": {"device": "cpu", "dtype": "float32", "checkpoint_seconds": 0},
    **SIZES,
}
STUDIES = {"counts": COUNTS, "network": NETWORK}


def write_files(folder: Path, study: Mapping[str, Any]) -> None:
    """Write a study file and the tiny corpus into a working directory."""
    folder.mkdir(parents=True, exist_ok=True)
    write_corpus(folder / "tales.jsonl")
    write_study(folder / f"{study['name']}.yaml", study)


# --- the forks -------------------------------------------------------------------------------------------------------


@dataclass
class Forks:
    """A zygote process that forks runs of the lab: `start` a run, `wait` for its end, or `run` it to its end."""

    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        tests = Path(__file__).resolve().parents[1]
        path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, **quiet, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}
        command, pipe = [sys.executable, "-m", "support.forks"], subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def close(self) -> None:
        """End the zygote."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def _ask(self, **order: Any) -> int:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, *arguments: str, cwd: Path, hook: list[Any] | None = None, **options: Any) -> int:
        """Start `lab` with these arguments in a session of its own and return its process number.

        Args:
            arguments: the words of the command line.
            cwd: the working directory; output goes to log.txt in it.
            hook: a name in hooks.HOOKS and its arguments.
            options: arguments of `prepare`.
        """
        return self._ask(do="start", arguments=list(arguments), cwd=str(cwd), hook=hook, options=options)

    def wait(self, process: int) -> int:
        """Return the exit code of a process when it ends, or minus the number of the signal that killed it."""
        return self._ask(do="wait", process=process)

    def lives(self, process: int) -> bool:
        """Return whether a process is still running: False for one that ended and was not waited for."""
        return bool(self._ask(do="look", process=process))

    def run(self, *arguments: str, cwd: Path, hook: list[Any] | None = None, **options: Any) -> int:
        """Run `lab` to its end, kill the workers that outlive it, and return its exit code as `wait` does."""
        process = self.start(*arguments, cwd=cwd, hook=hook, **options)
        code = self.wait(process)
        with suppress(ProcessLookupError):  # no worker outlived the run
            os.killpg(process, signal.SIGKILL)
        return code


@contextmanager
def forks() -> Iterator[Forks]:
    """Start a zygote, and end it on exit."""
    zygote = Forks()
    try:
        yield zygote
    finally:
        zygote.close()


def serve() -> None:
    """Fork runs as JSON lines on stdin order, and answer each order with a number on stdout."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import_libraries()
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "start":
            answer = os.fork()
            if not answer:
                answers.close()
                run_fork(order)
        elif order["do"] == "look":
            answer = int(os.waitid(os.P_PID, order["process"], os.WEXITED | os.WNOHANG | os.WNOWAIT) is None)
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(order["process"], 0)[1])
        answers.write(f"{answer}\n")
        answers.flush()


def import_libraries() -> None:
    """Import what a run needs and fill the caches of a process: hashes of code, kinds of letters, names of weights.

    No library computes anything here, so none has threads that a fork would lack.
    """
    import accelerate  # noqa: F401
    import datasets  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import tokenizers  # noqa: F401
    import torch._dynamo  # noqa: F401  torch imports it with the first optimizer
    from transformers import GPT2LMHeadModel, LlamaForCausalLM  # noqa: F401
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    import lab
    from lab.metrics import letters
    from lab.steps import STEPS
    from lab.steps.kind import source_hash

    for module in pkgutil.walk_packages(lab.__path__, "lab."):
        if module.name != "lab.__main__":
            importlib.import_module(module.name)
    for kind in STEPS.values():
        source_hash(kind)
    letters.kinds()
    get_checkpoint_conversion_mapping("gpt2")


def run_fork(order: Mapping[str, Any]) -> None:
    """Run the command line in a freshly forked process, and exit with its code."""
    os.setsid()
    os.chdir(order["cwd"])
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for handle in (1, 2):
        os.dup2(log, handle)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code: Any = 1
    try:
        prepare(**order["options"], hook=order["hook"])
        Path(hooks.COUNTER).unlink(missing_ok=True)
        hooks.install(order["hook"])
        sys.argv = ["lab", *order["arguments"]]
        from lab.cli import app

        app.main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code or 0))


def prepare(
    *,
    hash_all: bool = False,
    locks: bool = True,
    host: str | None = None,
    clock: str | None = None,
    largest: int | None = None,
    real_workers: bool = False,
    hook: list[Any] | None = None,
) -> None:
    """Change this process before it runs the lab.

    Args:
        hash_all: treat no file as small, so that damage is found only before use.
        locks: False lets every lock be taken at once, as on a file system without locks.
        host: the machine's name.
        clock: "backwards" makes each reading of the clock an hour earlier than the last.
        largest: the size in bytes beyond which no file may grow (RLIMIT_FSIZE).
        real_workers: start worker processes anew, with the same hook, instead of forking them.
        hook: the order that such workers pass to hooks.install.
    """
    import resource

    from lab.run.executors import local
    from lab.store import atomic, manifest, store

    atomic.fsync = lambda path: None  # no test cuts the power, and most time would be spent waiting for the disk
    if hash_all:
        manifest.HASHED_AT_ONCE = -1
    if not locks:
        store.fcntl = SimpleNamespace(flock=lambda *_: None, LOCK_EX=0, LOCK_NB=0)
    if host:
        system, _, *others = os.uname()
        os.uname = lambda: os.uname_result((system, host, *others))
    if clock == "backwards":
        now = [time.time()]

        def earlier() -> float:
            now[0] -= 3600
            return now[0]

        time.time = time.monotonic = earlier
    if largest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    if real_workers:
        python = Path("python").absolute()
        python.write_text(
            f'#!/bin/sh\nexec {shlex.join([sys.executable, "-m", "support.forks", json.dumps(hook)])} "$@"\n'
        )
        python.chmod(0o755)
        local.sys.executable = str(python)
    else:
        local.Worker.start = classmethod(fork_worker)


def real_worker(hook: str, *command: str) -> None:
    """Install a hook and be a worker: a run with real workers starts this instead of a worker."""
    from lab.run import worker

    hooks.install(json.loads(hook))
    sys.argv = ["lab.run.worker", *command[-3:]]
    worker.main()


PIPES: list[int] = []
"""This run's ends of the pipes to its workers, which a new worker must not hold open."""


def fork_worker(kind: Any, store: Path, threads: int, log: Any) -> Any:
    """Fork a worker that has imported everything: the replacement of lab.run.executors.local.Worker.start."""
    from lab.run import worker

    to_read, to_write = os.pipe()
    back_read, back_write = os.pipe()
    parent, process = os.getpid(), os.fork()
    if process:
        os.close(to_read)
        os.close(back_write)
        PIPES.extend([to_write, back_read])
        os.set_blocking(back_read, False)
        return kind(Forked(process), os.fdopen(to_write, "w"), os.fdopen(back_read))
    for handle in (*PIPES, to_write, back_read):
        with suppress(OSError):
            os.close(handle)
    os.dup2(to_read, 0)
    os.dup2(back_write, 1)
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
    sys.argv = ["lab.run.worker", str(store), str(threads), str(parent)]
    try:
        worker.main()
    finally:
        os._exit(0)


@dataclass
class Forked:
    """The part of subprocess.Popen that lab/run/executors/local.py uses, for a forked process."""

    pid: int
    code: int | None = None

    def wait(self) -> int:
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        if self.code is None:
            os.kill(self.pid, number)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        real_worker(*sys.argv[1:])
    else:
        serve()
