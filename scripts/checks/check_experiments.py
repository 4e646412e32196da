"""Run the published experiments at their small size, and hold the direction of each against its paper.

python scripts/checks/check_experiments.py --checkpoints /tmp/experiments  # all of them: half an hour on 2 cores
python scripts/checks/check_experiments.py --checkpoints /tmp/experiments --only hodel-2025-mini

Each study is run by `lab run` as a process of its own; what is finished is not run again.  A row of the table is one
difference A - B, paired over seeds, with a 95 % t interval: "direction agrees" where the interval lies on the paper's
side (of a margin, where the paper's effect is large), "direction disagrees" where it lies on the other side of 0,
"undecided" otherwise.
The directions stand in the study files, under `published`.  Exit code 0 where every row agrees, else 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.cli.terminal import print_table
from lab.config.files import load_study, study_names
from lab.report.compare import AGREES, check_direction, side_label
from lab.report.lines import lines
from lab.run.folder import RunFolder

Rows = Sequence[Mapping[str, Any]]
STUDIES = [name for name in study_names() if name.endswith("-mini") and load_study(name).published]
"""The small versions of published experiments.  Each lists the expected directions under `published`."""


def run(study: str, checkpoints: Path, options: Sequence[str]) -> float:
    """Seconds that `lab run` took.  CalledProcessError where it fails: nothing is checked on half a run."""
    began = time.monotonic()
    command = [sys.executable, "-m", "lab", "run", study, "--checkpoints", str(checkpoints), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def lines_of(study: str, rows: Rows) -> list[dict[str, Any]]:
    """Return what was found of each direction of a study."""
    config, found = load_study(study), []
    for direction in config.published.directions if config.published else ():
        finding = check_direction(direction, config, rows)
        found.append(
            {
                "study": study,
                "generation": "last" if direction.generation is None else direction.generation,
                "a": side_label(direction.higher, direction),
                "b": side_label(direction.lower, direction),
                "says": direction.claim,
                "metric": direction.metric,
                "mean": finding.difference.mean,
                "low": finding.difference.low,
                "high": finding.difference.high,
                "n": finding.seeds,
                "verdict": finding.verdict,
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


def cells(row: Mapping[str, Any]) -> list[str]:
    """Return what was found of one direction as the cells of a table."""
    interval = f"[{row['low']:+.3f}, {row['high']:+.3f}]"
    place = [row["study"].removesuffix("-mini"), str(row["generation"]), row["a"], row["b"], row["says"]]
    return [*place, f"{row['mean']:+.3f}", interval, str(row["n"]), row["verdict"]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=Path, required=True, help="where runs and the store live")
    parser.add_argument("--only", action="append", choices=STUDIES, help="one study; repeatable")
    parser.add_argument("--workers", help="worker processes of each run (default: the lab's own)")
    parser.add_argument("--json", type=Path, help="write what was found there as well")
    asked = parser.parse_args()
    options = ["--workers", asked.workers] if asked.workers else []
    found, measured, failed = [], [], []
    for study in asked.only or STUDIES:
        try:
            took = run(study, asked.checkpoints, options)
        except subprocess.CalledProcessError as error:
            failed.append(f"{study}: lab run exits {error.returncode}")
            continue
        print(f"{study}: {took:.0f} s", file=sys.stderr)
        rows = RunFolder(asked.checkpoints / study).results()
        found += lines_of(study, rows)
        measured += levels(study, rows)
    head = ("study", "gen", "A", "B", "the paper", "A - B", "95 % interval", "n", "verdict")
    print_table(head, [cells(row) for row in found])
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    if asked.json is not None:
        asked.json.write_text(json.dumps({"directions": found, "levels": measured}, indent=1) + "\n")
    return 0 if not failed and all(row["verdict"] == AGREES for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
