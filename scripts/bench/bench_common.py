"""Parts that all benchmarks use: the machine's peaks, alternating repetitions, the table, the JSON records.

A benchmark runs the lab and its peers in turn on the same work, several times, each in a process of its own.  A ratio
is taken within each turn, so that a slow moment of the machine falls on both.  Medians are printed with minimum and
maximum.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

from lab import machine

PEAKS_TAKEN = 4
"""Number of processes that measure the peaks."""


@dataclass(frozen=True)
class Spread:
    """Median, minimum and maximum of the repetitions."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))

    def text(self, form: str = ",.0f") -> str:
        return f"{self.median:{form}} [{self.min:{form}}, {self.max:{form}}]"


@dataclass(frozen=True)
class Peaks:
    """The highest speeds of this machine with some number of threads, measured now.

    They differ between processes (memory) and between hours.  So they are measured in several processes, before and
    after the work that they judge, and the highest count.
    """

    float32: float
    """Operations per second of the fastest float32 matrix product."""
    bfloat16: float
    bandwidth: float
    """Bytes per second read from memory: the sum of an array far larger than the caches."""

    def raised(self, again: Peaks) -> Peaks:
        """Return the higher value of each peak."""
        return Peaks(*(max(pair) for pair in zip(astuple(self), astuple(again), strict=True)))

    def text(self) -> str:
        return (
            f"peaks of this run: float32 {self.float32 / 1e9:,.0f} GFLOP/s, bfloat16 {self.bfloat16 / 1e9:,.0f} "
            f"GFLOP/s, memory {self.bandwidth / 1e9:,.1f} GB/s"
        )


@dataclass(frozen=True)
class Record:
    """One measured row: the lab compared with one peer in one setting.  More is better in every unit."""

    name: str
    """What is done, and its size: "sample 2 x 128, vocabulary 2,048, 128 tokens"."""
    peer: str
    """The peer and its setting: "HF generate, batch 256, static cache"."""
    unit: str
    ours: Spread
    theirs: Spread | None
    """None: there is no peer to compare."""
    ratio: Spread | None
    roofline: float | None = None
    """Share of the highest speed that the machine allows, 0 to 1; None where it was not measured."""
    goal: float | None = None
    """The ratio to reach; None for an extra row."""
    best: bool = False
    """Whether this is the fastest setting of its peer, to which the goal applies."""
    note: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser of the options that every benchmark has."""
    options = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--threads", type=_count, default=machine.cpu_cores(), help="of the lab and of its peers")
    options.add_argument("--repetitions", type=_count, default=5)
    options.add_argument("--fast", action="store_true", help="about a minute: the sizes of `quick`, fewer settings")
    options.add_argument("--json", type=new_file, help="write one record per measured row")
    options.add_argument("--device", type=_device, default="cpu", metavar="{cpu,cuda}")
    return options


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is no whole number of at least 1")
    return int(text)


def new_file(text: str) -> Path:
    """Return the path of an argument that names a file to write; test now, not after hours of work, that it can be."""
    path = Path(os.path.realpath(text))  # `replace` would put a file in the place of a link
    try:
        if not path.parent.is_dir():
            raise argparse.ArgumentTypeError(f"the folder of {text} does not exist; make it first")
        if path.exists() and not (path.is_file() and os.access(path, os.W_OK)):
            raise argparse.ArgumentTypeError(f"{path} cannot be written: it is no plain file, or is write-protected")
        _aside(path).touch()
        _aside(path).unlink()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text} cannot be written: {error.strerror}") from error
    return path


def _device(text: str) -> str:
    if text not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"{text} is neither cpu nor cuda")
    if text == "cuda" and not apart(torch.cuda.is_available):
        raise argparse.ArgumentTypeError("torch sees no GPU here; leave it out to measure on the CPU")
    return text


@functools.cache
def gpu_name() -> str:
    return apart(torch.cuda.get_device_name)


def describe(device: str, threads: int) -> dict[str, Any]:
    """Return the machine of this run, for a record."""
    name = gpu_name() if device == "cuda" else machine.cpu_name()
    cores = {} if device == "cuda" else {"cores": machine.cpu_cores(), "threads": threads}
    return {"device": name, **cores, "system": platform.system(), "versions": machine.versions()}


def clock(device: str) -> float:
    """Return the time in seconds after waiting for all work on the device."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds(work: Callable[[], Any], device: str = "cpu") -> float:
    start = clock(device)
    work()
    return clock(device) - start


Setup = Callable[[], Callable[[], Any]]
"""A function that prepares a contestant in its own process and returns the work to time.

The process that forks contestants must not have used threads of torch: they do not survive the fork."""


def alternate(
    contestants: Mapping[str, Setup], repetitions: int, threads: int, device: str = "cpu"
) -> dict[str, list[float]]:
    """Return the seconds of each contestant in each turn, after one turn that does not count.

    Each contestant has a process of its own, forked from this one, and sleeps except in its turn.  Two libraries in one
    process would disturb each other, because each keeps threads that wait busily.
    """
    with contextlib.ExitStack() as stack:
        players = {
            name: stack.enter_context(Player(setup, threads, device, name=str(name)))
            for name, setup in contestants.items()
        }
        taken: dict[str, list[float]] = {name: [] for name in players}
        for turn in range(repetitions + 1):
            for name, player in players.items():
                spent = player.play()
                if turn:
                    taken[name].append(spent)
                if sys.stderr.isatty():
                    print(f"\r\033[K{name}: turn {turn} of {repetitions}, {spent:.2f} s", end="", file=sys.stderr)
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)
    return taken


class Player:
    """A contestant in a process of its own."""

    def __init__(
        self, setup: Setup, threads: int, device: str, *, daemon: bool = False, name: str = "a contestant"
    ) -> None:
        """Fork the process.  A `daemon` ends with its parent process, and cannot have contestants of its own."""
        self.name = name
        self.here, there = multiprocessing.Pipe()
        arguments = (there, setup, threads, device, os.getpid())
        self.process = multiprocessing.get_context("fork").Process(target=_serve, args=arguments, daemon=daemon)
        self.process.start()
        there.close()

    def __enter__(self) -> Player:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # the process may have ended already
            self.here.send(False)
        self.process.join()

    def play(self) -> float:
        with answered(self.name):
            self.here.send(True)
            spent: float = self.here.recv()
        return spent


@contextlib.contextmanager
def answered(name: str) -> Iterator[None]:
    """Exit with one line if the process at the other end of a pipe has ended."""
    try:
        yield
    except (EOFError, OSError):
        sys.exit(f"error: the process of {name} ended; what it said, if anything, is above")


def _serve(pipe: Any, setup: Setup, threads: int, device: str, parent: int) -> None:
    pin(threads)
    work = setup()
    while True:
        while not pipe.poll(1):
            # A killed parent says nothing, and processes forked later hold the other end of this pipe too.
            if os.getppid() != parent:
                return
        if not pipe.recv():
            return
        pipe.send(seconds(work, device))


def apart(work: Callable[[], Any]) -> Any:
    """Return the result of work done in a process of its own, so that this process can still be forked."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=lambda: there.send(work()))
    process.start()
    there.close()
    with answered("work done apart"):
        result = here.recv()
    process.join()
    return result


def speeds(amount: float, taken: Sequence[float]) -> list[float]:
    return [amount / spent for spent in taken]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Return the ratios of speeds, turn by turn."""
    return Spread.of([a / b for a, b in zip(ours, theirs, strict=True)])


def spreads(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Return the fields of a Record that compare speeds: ours, theirs and their ratio."""
    return {"ours": Spread.of(ours), "theirs": Spread.of(theirs), "ratio": ratio(ours, theirs)}


def peaks(device: str, threads: int) -> Peaks:
    """Measure the fastest of several sizes, libraries and processes, in about ten seconds."""
    return functools.reduce(Peaks.raised, [apart(lambda: _peaks(device, threads)) for _ in range(PEAKS_TAKEN)])


def _peaks(device: str, threads: int) -> Peaks:
    pin(threads)
    with torch.inference_mode():
        return Peaks(_matrix(torch.float32, device), _matrix(torch.bfloat16, device), _bandwidth(device))


def _matrix(dtype: torch.dtype, device: str) -> float:
    from lab.models.gpt2_ops import ONEDNN

    highest = 0.0
    for size in (4096, 8192) if device == "cuda" else (1024, 2048):
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        products = [lambda a=a, b=b: a @ b]
        if ONEDNN and dtype == torch.float32 and device == "cpu":
            products.append(lambda a=a, b=b: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], ""))
        for product in products:
            highest = max(highest, 2 * size**3 / min(seconds(product, device) for _ in range(8)))
    return highest


def _bandwidth(device: str) -> float:
    numbers = torch.ones(2**30 if device == "cuda" else 2**27, device=device)
    return 4 * len(numbers) / min(seconds(numbers.sum, device) for _ in range(8))


def print_table(records: Sequence[Record]) -> None:
    head = ["what", "peer and setting", "unit", "ours", "peer", "ratio", "roofline", "goal"]
    lines = [head, *(_cells(record) for record in records)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cells(record: Record) -> list[str]:
    form = ",.0f" if record.ours.median >= 100 else ",.3g"
    goal = ""
    if record.goal is not None and record.ratio is not None:
        goal = f">= {record.goal:g}x {'met' if record.ratio.median >= record.goal else 'MISSED'}"
    share = "" if record.roofline is None else f"{record.roofline:.0%}"
    peer = record.peer + (" *" if record.best else "")
    numbers = [record.ours.text(form)]
    numbers += [record.theirs.text(form) if record.theirs else "", record.ratio.text(".2f") if record.ratio else ""]
    return [record.name, peer, record.unit, *numbers, share, goal]


def write_json(
    path: Path | None, records: Sequence[Record], peaks: Peaks | None, curves: Mapping[str, Any] | None = None
) -> None:
    """Write records, peaks and learning curves (losses by training, contestant and tokens seen) if a path is given."""
    if path is None:
        return
    content = {"peaks": None if peaks is None else asdict(peaks), "records": [asdict(record) for record in records]}
    content |= {} if curves is None else {"curves": curves}
    replace(path, content)


def replace(path: Path, content: Any) -> None:
    """Write a JSON file whole: if this process is killed meanwhile, the old file stays."""
    _aside(path).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    _aside(path).replace(path)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def pin(threads: int) -> None:
    """Set the threads of torch and of processes started later; call this before the first parallel work."""
    os.environ |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    torch.set_num_threads(threads)
