"""Small studies in forked processes that are killed, stopped and starved at named instants: for the tests and the soak.

A zygote imports the lab once and forks a process for every run, so that hundreds of runs cost minutes.  What the fork
runs is the command line itself; a hook in lab/store/crash_points.py does what the order says.
"""

from __future__ import annotations

import errno
import fnmatch
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

STOPPED = 75
Hook = Callable[[str], None]

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


def write_study(folder: Path, study: Mapping[str, Any]) -> Path:
    """A study file, and the corpus that it may need beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    chance, words = (
        random.Random(7),
        [a + b for a in ("ba", "so", "ri", "mu", "te", "lo") for b in ("", "n", "l", "st")],
    )
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    with (folder / "tales.jsonl").open("w") as file:
        for number in range(48):
            text = ". ".join(" ".join(chance.choices(words, weights, k=9)) for _ in range(8))
            labels = {"domain": ("sea", "land")[number % 2], "author": f"a{number % 5}", "group": f"book {number}"}
            file.write(json.dumps({"text": f"Tale {number}. {text}.", **labels}) + "\n")
    path = folder / f"{study['name']}.yaml"
    path.write_text(yaml.safe_dump(dict(study), sort_keys=False))
    return path


# --- what happens at an instant: hooks, by name ----------------------------------------------------------------------


def kill(whole: bool) -> None:
    """SIGKILL to the run and all it started, or to this process alone."""
    if whole:
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def note(path: str, text: str) -> None:
    """Append a line at once, whatever happens next."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{text}\n".encode())
    os.close(handle)


def recording(path: str) -> Hook:
    """Write down every instant."""
    return lambda point: note(path, point)


def dying_in_turn(path: str, whole: bool = True) -> Hook:
    """Die at the first instant that none before has died at."""

    def hook(point: str) -> None:
        if not Path(path).exists() or point not in Path(path).read_text().split("\n"):
            note(path, point)
            kill(whole)

    return hook


COUNTER = "instants"
"""A byte for each instant that a run and its workers have passed, in its working directory."""


def at_number(number: int, do: Callable[[str], None]) -> Hook:
    """Act at the n-th instant of a run and its workers together, from 0."""
    path = Path(COUNTER).absolute()

    def hook(point: str) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, b".")
        passed = os.lseek(handle, 0, os.SEEK_CUR)  # where this byte ends: no other process has the same
        os.close(handle)
        if passed == number + 1:
            do(point)

    return hook


def dying(number: int, whole: bool = True) -> Hook:
    """Die there, and write down where."""
    path = str(Path("died").absolute())

    def die(point: str) -> None:
        note(path, point)
        kill(whole)

    return at_number(number, die)


def signalled(number: int, signals: list[int], leader: bool = True) -> Hook:
    """Signals to the run (from its worker, if that is where it happens), one after the other."""

    def send(point: str) -> None:
        for one in signals:
            os.kill(os.getsid(0), one) if leader else os.killpg(0, one)

    return at_number(number, send)


def asked(pattern: str, number: int) -> Hook:
    """SIGTERM to the run, and time for it to reach this worker, at the n-th instant of such a name, from 1."""
    left = [number]

    def hook(point: str) -> None:
        left[0] -= fnmatch.fnmatch(point, pattern)
        if left[0] == 0:
            left[0] = -1
            os.kill(os.getsid(0), signal.SIGTERM)
            time.sleep(0.5 if os.getpid() != os.getsid(0) else 0)

    return hook


def meeting(path: str, pattern: str) -> Hook:
    """Write down every instant; at the first of such a name, wait until another run is there too."""
    met: list[str] = []

    def hook(point: str) -> None:
        note(path, point)
        if not met and fnmatch.fnmatch(point, pattern):
            met.append(point)
            while Path(path).read_text().split("\n").count(point) < 2:
                time.sleep(0.01)

    return hook


def stalled(pattern: str, path: str) -> Hook:
    """Write down the instant, and hang."""

    def hook(point: str) -> None:
        if fnmatch.fnmatch(point, pattern):
            note(path, point)
            while True:
                time.sleep(60)

    return hook


def full(pattern: str) -> Hook:
    """From the first instant of such a name on, every write of that kind finds the disk full."""

    def hook(point: str) -> None:
        if fnmatch.fnmatch(point, pattern):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return hook


def once_full(pattern: str, number: int) -> Hook:
    """The same, but only the n-th time, from 1."""
    left = [number]

    def hook(point: str) -> None:
        left[0] -= fnmatch.fnmatch(point, pattern)
        if left[0] == 0:
            left[0] = -1
            full("*")(point)

    return hook


def damaging(pattern: str, kind: str, how: str, below: str) -> Hook:
    """At the first instant of such a name, damage the first artifact of a kind."""
    done: list[bool] = []

    def hook(point: str) -> None:
        found = sorted(Path(below).glob(f"{kind}/[!.]*"))
        if not done and found and fnmatch.fnmatch(point, pattern):
            done.append(True)
            damage(found[0], how)

    return hook


ALL = (recording, dying_in_turn, dying, signalled, asked, meeting, stalled, full, once_full, damaging)
HOOKS: dict[str, Callable[..., Hook]] = {hook.__name__: hook for hook in ALL}
DAMAGES = ("truncated", "zeroed", "flipped", "deleted", "manifest cut", "manifest flipped", "manifest deleted", "gone")


def damage(artifact: Path, how: str) -> None:
    """Do this to the largest file of an artifact, to its manifest, or to all of it."""
    files = [path for path in sorted(artifact.rglob("*")) if path.is_file() and path.name != "manifest.json"]
    path = artifact / "manifest.json" if how.startswith("manifest") else max(files, key=lambda p: p.stat().st_size)
    if how == "gone":
        shutil.rmtree(artifact)
    elif how.endswith("deleted"):
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        if how.endswith("flipped"):
            place = data.index(b'"sha256": "') + 12 if how.startswith("manifest") else len(data) // 2
            data[place] ^= 1
        data = data[: len(data) // 2] if how in ("truncated", "manifest cut") else data
        path.write_bytes(bytes(len(data)) if how == "zeroed" else bytes(data))


# --- the forks -------------------------------------------------------------------------------------------------------


@dataclass
class Forks:
    """A zygote: `start` runs of the lab, `wait` for their ends."""

    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        tests = Path(__file__).resolve().parents[1]
        path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, **quiet, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}
        command, pipe = [sys.executable, "-m", "support.forks"], subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def close(self) -> None:
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
        """`lab` with these arguments, in a session of its own; its process number.  Output goes to cwd/log.txt.

        hook     a name in HOOKS and its arguments
        options  see `become`
        """
        return self._ask(do="start", arguments=list(arguments), cwd=str(cwd), hook=hook, options=options)

    def wait(self, process: int) -> int:
        """Exit code, or minus the signal that it died of."""
        return self._ask(do="wait", process=process)

    def lives(self, process: int) -> bool:
        """Not so one that has ended and was not waited for."""
        return bool(self._ask(do="look", process=process))

    def run(self, *arguments: str, cwd: Path, hook: list[Any] | None = None, **options: Any) -> int:
        process = self.start(*arguments, cwd=cwd, hook=hook, **options)
        code = self.wait(process)
        with suppress(ProcessLookupError):  # workers of a run that was killed alone
            os.killpg(process, signal.SIGKILL)
        return code


@contextmanager
def forks() -> Iterator[Forks]:
    found = Forks()
    try:
        yield found
    finally:
        found.close()


def zygote() -> None:
    """Orders come in as JSON lines, answers go out as numbers."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warm()
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "start":
            answer = os.fork()
            if not answer:
                answers.close()
                live(order)
        elif order["do"] == "look":
            answer = int(os.waitid(os.P_PID, order["process"], os.WEXITED | os.WNOHANG | os.WNOWAIT) is None)
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(order["process"], 0)[1])
        answers.write(f"{answer}\n")
        answers.flush()


def warm() -> None:
    """Import what a run needs.  Nothing is computed here, so no library has threads that a fork would miss."""
    import accelerate  # noqa: F401
    import datasets  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import tokenizers  # noqa: F401
    from transformers import GPT2LMHeadModel, LlamaForCausalLM  # noqa: F401


def live(order: Mapping[str, Any]) -> None:
    """The life of a fork: one run."""
    os.setsid()
    os.chdir(order["cwd"])
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for handle in (1, 2):
        os.dup2(log, handle)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code: Any = 1
    try:
        become(**order["options"], hook=order["hook"])
        if order["hook"]:
            Path(COUNTER).unlink(missing_ok=True)
            hang(order["hook"])
        sys.argv = ["lab", *order["arguments"]]
        from lab.cli import app as cli

        cli.main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code or 0))


def become(
    *,
    hash_all: bool = False,
    locks: bool = True,
    host: str | None = None,
    clock: str | None = None,
    largest: int | None = None,
    real_workers: bool = False,
    hook: list[Any] | None = None,
) -> None:
    """hash_all  no file counts as small, so that damage is found only before use
    locks        False: none is ever held, as on a file system that knows none
    host         this machine's name
    clock        backwards: each look at it is an hour before the last
    largest      no file may grow beyond so many bytes (RLIMIT_FSIZE)
    real_workers worker processes are started anew instead of forked, with the same hook
    """
    import resource

    from lab.run import worker
    from lab.store import atomic as disk
    from lab.store import manifest as manifests
    from lab.store import store

    disk.fsync = lambda path: None  # nobody pulls the plug, and waiting for the disk is most of the time
    if hash_all:
        manifests.HASHED_AT_ONCE = -1
    if not locks:
        store._wait_for = lambda handle, stopping: None
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
        worker.sys.executable = str(python)
    else:
        worker.Worker.start = classmethod(fork_worker)


def hang(hook: list[Any] | None) -> None:
    """Install a hook, by name and arguments, in this process."""
    from lab.store import crash_points as faults

    if hook:
        name, *arguments = hook
        faults.install(HOOKS[name](*arguments))


def real_worker(hook: str, *command: str) -> None:
    """What a run with real workers starts in place of `python -m lab.run.worker ...`: that, with the hook."""
    from lab.run import worker

    hang(json.loads(hook))
    sys.argv = ["lab.run.worker", *command[2:]]
    worker.main()


PIPES: list[int] = []
"""Ends of pipes to the workers of this run, which a new worker must not hold open."""


def fork_worker(kind: Any, store: Path, threads: int, log: Any) -> Any:
    """In place of lab.run.worker.Worker.start: the same worker, without importing everything again."""
    from lab.run import worker

    to_read, to_write = os.pipe()
    back_read, back_write = os.pipe()
    parent, process = os.getpid(), os.fork()
    if process:
        os.close(to_read)
        os.close(back_write)
        PIPES.extend([to_write, back_read])
        os.set_blocking(back_read, False)
        return kind(Forked(process, os.fdopen(to_write, "w"), os.fdopen(back_read)))
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
    """What lab/run/worker.py asks of subprocess.Popen."""

    pid: int
    stdin: Any
    stdout: Any
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
        zygote()
