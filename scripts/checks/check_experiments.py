"""Run the published experiments at their small size, and hold the direction of each against its paper.

python scripts/checks/check_experiments.py --checkpoints /tmp/experiments  # all of them: half an hour on 2 cores
python scripts/checks/check_experiments.py --checkpoints /tmp/experiments --only hodel-2025-mini

Each study is run by `lab run` as a process of its own; what is finished is not run again.  A row of the table is one
difference A - B, paired over seeds, with a 95 % t interval: "as published" where the interval lies on the paper's side
(of a margin, where the paper's effect is large), "contradicts" where it lies on the other side of 0, "undecided"
otherwise.  Exit code 0 where every row is as published, else 1: a contradiction is a finding, and is printed as one.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lab.metrics.stats import Interval, paired_interval
from lab.report.tables import lines
from lab.run.folder import RunFolder

Rows = Sequence[Mapping[str, Any]]
LAST = -1


@dataclass(frozen=True)
class Side:
    """One side of a difference: a metric of one chain at one generation, or what it is above another value."""

    regime: str
    axes: Mapping[str, Any] = field(default_factory=dict)
    over: str | None = None
    """Subtract, at the same seed and axes: "human", the control now, or "first", its own generation 0."""

    @property
    def label(self) -> str:
        axes = "".join(f" {name}={value:,}" for name, value in self.axes.items())
        above = {None: "", "human": " above human", "first": " since gen 0"}[self.over]
        return f"{self.regime}{axes}{above}"

    def values(self, rows: Rows, metric: str, generation: int) -> dict[int, float]:
        """By seed."""
        found = _values(rows, self.regime, self.axes, metric, generation)
        if self.over is None:
            return found
        under = (
            _values(rows, "human", self.axes, metric, generation)
            if self.over == "human"
            else _values(rows, self.regime, self.axes, metric, 0)
        )
        return {seed: found[seed] - under[seed] for seed in found.keys() & under.keys()}


@dataclass(frozen=True)
class Direction:
    """A - B has this sign in the paper, and is larger than `least` where the paper's effect is large."""

    study: str
    a: Side
    b: Side
    says: str
    sign: int = 1
    least: float = 0.0
    generation: int = LAST
    metric: str = "nll"


def at(**axes: Any) -> dict[str, Any]:
    """at(sample__temperature=1) == {"sample.temperature": 1}"""
    return {name.replace("__", "."): value for name, value in axes.items()}


HOT, COLD = at(sample__temperature=1.0), at(sample__temperature=0.3)
GERSTGRASSER, KAZDAN, GRID = "gerstgrasser-2024-mini", "kazdan-2024-mini", "kazdan-2024-grid-mini"
DRAYSON, SHUMAILOV, SEDDIK = "drayson-2025-mini", "shumailov-2024-mini", "seddik-2024-mini"
HODEL, TOEDIT = "hodel-2025-mini", "toedit-2024-mini"
REPLACE, ACCUMULATE, SUBSAMPLE = Side("replace"), Side("accumulate"), Side("accumulate_subsample")


def mix(human: float, older: float | None = None) -> Side:
    return Side(f"mix,human={human}" + ("" if older is None else f",older={older}"))


def grid(human: int, synthetic: int, over: str | None = None) -> Side:
    return Side("accumulate", {"corpus.tokens": human, "sample.tokens": synthetic}, over)


DIRECTIONS = (
    Direction(GERSTGRASSER, Side("replace", HOT), Side("accumulate", HOT), "replace is worse"),
    Direction(GERSTGRASSER, Side("replace", COLD), Side("accumulate", COLD), "replace is far worse", least=0.5),
    Direction(GERSTGRASSER, Side("replace", COLD), Side("replace", HOT), "T = .3 is far worse than 1", least=0.5),
    Direction(KAZDAN, REPLACE, SUBSAMPLE, "replace is worse"),
    Direction(KAZDAN, SUBSAMPLE, ACCUMULATE, "a subsample is worse than all"),
    Direction(KAZDAN, SUBSAMPLE, Side("human"), "and worse than human text"),
    Direction(GRID, grid(25_600, 102_400), grid(230_400, 102_400), "little human text is worse"),
    Direction(
        GRID,
        grid(230_400, 25_600, "human"),
        grid(25_600, 25_600, "human"),
        "synthetic text serves more where human text is scarce (our reading)",
    ),
    Direction(DRAYSON, REPLACE, Side("human"), "synthetic only collapses"),
    Direction(DRAYSON, REPLACE, mix(0.5), "human text helps"),
    Direction(DRAYSON, REPLACE, mix(0.25, 0.25), "a quarter of it helps too"),
    Direction(SHUMAILOV, mix(0), Side("human"), "no human text collapses"),
    Direction(SHUMAILOV, mix(0), mix(0.1), "10 % helps"),
    Direction(SEDDIK, REPLACE, mix(0.25), "a share of human text helps"),
    Direction(SEDDIK, mix(0.25), mix(0.5), "a larger one more"),
    Direction(SEDDIK, REPLACE, Side("last_k,k=3"), "three samples are better than one (our expectation)"),
    Direction(SEDDIK, Side("last_k,k=3"), mix(0.5), "half human text is better still"),
    Direction(
        HODEL,
        Side("replace", at(population=4)),
        Side("replace", at(population=1)),
        "at first one is best",
        generation=0,
    ),
    Direction(
        HODEL,
        Side("replace", at(population=1), "first"),
        Side("replace", at(population=4), "first"),
        "one loses more than four",
    ),
    Direction(HODEL, Side("replace", at(population=1)), Side("replace", at(population=4)), "four are better at last"),
    Direction(TOEDIT, mix(0.75), Side("human"), "25 % synthetic is worse than none"),
    Direction(TOEDIT, mix(0.5), mix(0.75), "50 % is worse than 25 %"),
    Direction(TOEDIT, mix(0.25), mix(0.5), "75 % is worse than 50 %"),
    Direction(TOEDIT, mix(0), mix(0.25), "100 % is worse than 75 %"),
    Direction(TOEDIT, mix(0), Side("human"), "100 % is worse than none"),
)


def _values(rows: Rows, regime: str, axes: Mapping[str, Any], metric: str, generation: int) -> dict[int, float]:
    """By seed; generation -1 is the last.  KeyError where there is no such chain."""
    mine = [row for row in rows if row["regime"] == regime and all(row[name] == axes[name] for name in axes)]
    if not mine:
        raise KeyError(f"no chain {regime} {dict(axes)} in the results")
    t = max(row["generation"] for row in mine) if generation == LAST else generation
    return {row["seed"]: row[metric] for row in mine if row["generation"] == t}


def difference(direction: Direction, rows: Rows) -> tuple[Interval, int]:
    """A - B over seeds, and their number."""
    a, b = (side.values(rows, direction.metric, direction.generation) for side in (direction.a, direction.b))
    seeds = sorted(a.keys() & b.keys())
    return paired_interval([a[seed] - b[seed] for seed in seeds]), len(seeds)


def verdict(direction: Direction, found: Interval) -> str:
    """Against the paper's sign.  One seed gives no interval, and decides nothing."""
    low, high = sorted((direction.sign * found.low, direction.sign * found.high))
    if low > direction.least:
        return "as published"
    if high < 0:
        return "contradicts"
    if math.isnan(low) or low <= 0:
        return "undecided (interval holds 0)" if not math.isnan(low) else "undecided (one seed)"
    return f"undecided (not beyond {direction.least:g})"


def run(study: str, checkpoints: Path, options: Sequence[str]) -> float:
    """Seconds that `lab run` took.  CalledProcessError where it fails: nothing is checked on half a run."""
    began = time.monotonic()
    command = [sys.executable, "-m", "lab", "run", study, "--checkpoints", str(checkpoints), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def lines_of(study: str, rows: Rows) -> list[dict[str, Any]]:
    """What was found of each direction of a study."""
    found = []
    for direction in (d for d in DIRECTIONS if d.study == study):
        interval, seeds = difference(direction, rows)
        found.append(
            {
                "study": study,
                "generation": "last" if direction.generation == LAST else direction.generation,
                "a": direction.a.label,
                "b": direction.b.label,
                "says": direction.says,
                "metric": direction.metric,
                "mean": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "n": seeds,
                "verdict": verdict(direction, interval),
            }
        )
    return found


def levels(study: str, rows: Rows) -> list[dict[str, Any]]:
    """Loss of each chain at generation 0 and at its last, mean and standard deviation over seeds."""
    return [
        {
            "study": study,
            "arm": line.label,
            "last": line.last,
            "first_mean": line.mean(0),
            "mean": line.mean(line.last),
            "sd": line.spread(line.last),
            "n": len(line.values[line.last]),
        }
        for line in lines(rows, ["nll"])
    ]


def printed(found: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("study", "gen", "A", "B", "the paper", "A - B", "95 % interval", "n", "verdict"):
        table.add_column(name, justify="right" if name in ("gen", "A - B", "n") else "left")
    for row in found:
        table.add_row(
            row["study"].removesuffix("-mini"),
            str(row["generation"]),
            row["a"],
            row["b"],
            row["says"],
            f"{row['mean']:+.3f}",
            f"[{row['low']:+.3f}, {row['high']:+.3f}]",
            str(row["n"]),
            row["verdict"],
        )
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    studies = list(dict.fromkeys(direction.study for direction in DIRECTIONS))
    parser.add_argument("--checkpoints", type=Path, required=True, help="where runs and the store live")
    parser.add_argument("--only", action="append", choices=studies, help="one study; repeatable")
    parser.add_argument("--workers", help="worker processes of each run (default: the lab's own)")
    parser.add_argument("--json", type=Path, help="write what was found there as well")
    asked = parser.parse_args()
    options = ["--workers", asked.workers] if asked.workers else []
    found, measured, failed = [], [], []
    for study in asked.only or studies:
        try:
            took = run(study, asked.checkpoints, options)
        except subprocess.CalledProcessError as error:
            failed.append(f"{study}: lab run exits {error.returncode}")
            continue
        print(f"{study}: {took:.0f} s", file=sys.stderr)
        rows = RunFolder(asked.checkpoints / study).results()
        found += lines_of(study, rows)
        measured += levels(study, rows)
    Console(width=None if sys.stdout.isatty() else 240, markup=False, emoji=False).print(printed(found))
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    if asked.json is not None:
        asked.json.write_text(json.dumps({"directions": found, "levels": measured}, indent=1) + "\n")
    return 0 if not failed and all(row["verdict"] == "as published" for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
