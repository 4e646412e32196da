"""Where the time of a run went: seconds of its workers, by kind of step, from a log that the run wrote."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.steps import STEPS

FILE = "timings.jsonl"
KERNELS = tuple(name for name, kind in STEPS.items() if kind.cost is not None)
"""Kinds of steps that do what a study is for: train, sample, heldout.  All the rest is overhead."""
SLACK = 0.2
"""Seconds: times of day are written to a tenth."""
REST = "start, wait, tables"


@dataclass(frozen=True)
class Timing:
    """Time spent in one kind of step, or outside of steps."""

    step: str
    count: int
    seconds: float
    share: float
    """Share of all workers' time, from the start of the program to its tables."""


def append(path: Path, entry: dict[str, Any]) -> None:
    """Add a line to a log of a run, with the time of day.

    Lines of FILE: {"step", "key", "label", "seconds"} for a step, {"program", "workers"} for a program that ended.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"at": round(time.time(), 1), **entry}) + "\n")


def append_program(folder: Path, seconds: float, workers: int) -> None:
    """Log that a program ended which worked on a run for so many seconds; 0 workers count as one."""
    append(folder / FILE, {"program": round(seconds, 3), "workers": max(1, workers)})


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's timings.jsonl, without torn or damaged ones."""
    try:
        lines = (folder / FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    entries = []
    for line in lines:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            entry = json.loads(line)
            fields: dict[str, Any] = {"step": str, "seconds": float}
            if "program" in entry:
                fields = {"program": float, "workers": int}
            entries.append({"at": float(entry["at"]), **{name: kind(entry[name]) for name, kind in fields.items()}})
    return entries


def time_by_kind(lines: Iterable[dict[str, Any]]) -> list[Timing]:
    """Sum up the lines of timings.jsonl by kind of step, in the order of the loop, time outside of steps last.

    Steps count in seconds of a worker: two workers that both train for 5 of 10 seconds spend 10 of 20 in training.
    A program that was killed wrote no line of its own: its steps are left out if a later program ended.
    """
    steps: list[dict[str, Any]] = []
    programs: list[dict[str, Any]] = []
    for line in lines:
        if "program" in line:
            programs.append(line)
            began = line["at"] - line["program"] - SLACK
            steps = [{**step, "ended": True} for step in steps if step.get("ended") or step["at"] >= began]
        else:
            steps.append(line)
    if programs:
        steps = [step for step in steps if step.get("ended")]
    spent = {name: [line["seconds"] for line in steps if line["step"] == name] for name in STEPS}
    inside = sum(sum(seconds) for seconds in spent.values())
    whole = max(inside, sum(line["workers"] * line["program"] for line in programs))
    timings = [Timing(name, len(each), sum(each), sum(each) / whole) for name, each in spent.items() if each]
    if whole > inside:
        timings.append(Timing(REST, len(programs), whole - inside, 1 - inside / whole))
    return timings


def overhead(timings: Iterable[Timing]) -> float:
    """Return the share of the time that is not spent in training, sampling and scoring."""
    return sum(timing.share for timing in timings if timing.step not in KERNELS)
