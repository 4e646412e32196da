"""Where the time of a run went: seconds of its workers, by kind of step, from what the run wrote while it ran."""

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
    """One kind of step, or what is left of the workers' time."""

    step: str
    count: int
    seconds: float
    share: float
    """Of all workers' time, from the start of the program to its tables."""


def append(path: Path, entry: dict[str, Any]) -> None:
    """Add a line to a run's log, with the time of day.

    To FILE: {"step", "key", "label", "seconds"} of a step, {"program", "workers"} of a program that computed some.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"at": round(time.time(), 1), **entry}) + "\n")


def read(folder: Path) -> list[dict[str, Any]]:
    """The lines of timings.jsonl; one that is torn or damaged is left out."""
    found = []
    try:
        lines = (folder / FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            entry = json.loads(line)
            fields = (
                (("program", float), ("workers", int)) if "program" in entry else (("step", str), ("seconds", float))
            )
            found.append({"at": float(entry["at"]), **{name: kind(entry[name]) for name, kind in fields}})
    return found


def timings(lines: Iterable[dict[str, Any]]) -> list[Timing]:
    """By kind of step, in the order of the loop; the last one is what the workers did not spend in steps.

    Steps in seconds of a worker: two workers that both train for 5 of 10 seconds spend 10 of 20 in training.
    A program that was killed wrote no line of its own: its steps are left out where another one came to its end.
    """
    steps: list[dict[str, Any]] = []
    programs: list[dict[str, Any]] = []
    for line in lines:
        if "program" in line:
            programs.append(line)
            began = line["at"] - line["program"] - SLACK
            steps = [step for step in steps if step.get("whole") or step["at"] >= began]
            steps = [{**step, "whole": True} for step in steps]
        else:
            steps.append(line)
    if programs:
        steps = [step for step in steps if step.get("whole")]
    spent = {name: [line["seconds"] for line in steps if line["step"] == name] for name in STEPS}
    inside = sum(sum(seconds) for seconds in spent.values())
    whole = max(inside, sum(line["workers"] * line["program"] for line in programs))
    found = [Timing(name, len(each), sum(each), sum(each) / whole) for name, each in spent.items() if each]
    if whole > inside:
        found.append(Timing(REST, len(programs), whole - inside, 1 - inside / whole))
    return found


def overhead(found: Iterable[Timing]) -> float:
    """Share of the time that is not spent in training, sampling and scoring."""
    return sum(timing.share for timing in found if timing.step not in KERNELS)
