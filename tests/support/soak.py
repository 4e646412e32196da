"""Kill a study at random moments or at every instant, start it again each time, and compare its tables by bytes.

    scripts/checks/soak smoke --kills 10 --seed 0
    scripts/checks/soak quick --kills 6 --seed 7 --reference checkpoints/quick     # compare with a finished run
    scripts/checks/soak counts --points --corruptions --kills 250 --seed 0 --json counts.json
    scripts/checks/soak network --points --corruptions --kills 250 --seed 0 --json network.json

A shipped study, or a study file, is started as a new process after every kill.  Each start draws its number of workers,
0 (all in one process), 1 or 2: the tables must not depend on it.  `counts` and `network`, the two small studies of
tests/support/forks.py, are forked instead, so that hundreds of kills take minutes.  `counts` keeps only the weights of
the last generation, so it is also killed while it drops weights.

    --kills N       at random moments; the whole process group dies.  Of the two small studies, every second time a run
                    has workers, one random worker dies alone first
    --points        at each instant of a commit, a checkpoint or a drop of weights, on an empty store; the group dies
    --alone         the same with one worker, and only the process that passes the instant dies: the worker inside a
                    step, the run itself outside (human text, tables); the run continues with a new worker
    --corruptions   every damage to every kind of artifact

Exit codes: 0 all tables are the same, 1 some differ.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from support import forks, ordeals


def start(study: str, folder: Path, workers: int, overrides: list[str]) -> subprocess.Popen[bytes]:
    """Start `lab run` in a process group of its own; its output goes to log.txt in `folder`."""
    command = [sys.executable, "-m", "lab", "run", study, "--checkpoints", str(folder), "--workers", str(workers)]
    command += [word for override in overrides for word in ("--set", override)]
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def unfinished(folder: Path) -> list[str]:
    """Return the kinds of the artifacts that were being written, from the temporary folders that they left."""
    return sorted(path.parent.name for path in (folder / "store").glob("*/.tmp-*"))


def soak(study: str, folder: Path, kills: int, seconds: float, seed: int, overrides: list[str]) -> int:
    """Run a study to its end through `kills` kills, `seconds` after each start on average; return how many happened."""
    rng, done = random.Random(seed), 0
    while True:
        workers = rng.choice([0, 1, 2])
        process = start(study, folder, workers, overrides)
        if done < kills:
            limit = rng.uniform(0.2, 2 * seconds)
            try:
                code = process.wait(timeout=limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                done += 1
                print(f"kill {done} after {limit:.1f}s with {workers} workers, in: {unfinished(folder)}", flush=True)
                time.sleep(0.5)  # until the kernel has ended the workers
                continue
            print(f"finished before kill {done + 1} could happen", flush=True)
        else:
            code = process.wait()
        if code:
            sys.exit(f"error: lab run ended with code {code}; see {folder / 'log.txt'}")
        return done


Counts = dict[str, list[int]]
"""Ordeal -> how often it was tried, and how often the tables differed afterwards."""


def shipped(options: argparse.Namespace) -> Counts:
    """Kill a shipped study, or the study of a file, in processes of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="lab-soak-") as whole,
        tempfile.TemporaryDirectory(prefix="lab-soak-") as cut,
    ):
        reference = options.reference
        if reference is None:
            soak(options.study, Path(whole), 0, 0.0, options.seed, options.overrides)
            reference = next(path.parent for path in Path(whole).glob("*/results.csv"))
        done = soak(options.study, Path(cut), options.kills, options.seconds, options.seed, options.overrides)
        run = next(path.parent for path in Path(cut).glob("*/results.csv"))
        same = all((run / name).read_bytes() == (reference / name).read_bytes() for name in ("results.csv", "bins.csv"))
    return {"random kills": [done, int(not same)]}


def forked(options: argparse.Namespace) -> Counts:
    """Kill and damage one of the two small studies in forked processes."""
    counts: Counts = {}
    with tempfile.TemporaryDirectory(prefix="lab-soak-") as folder, forks.forks() as started:
        trial = ordeals.Trial(started, options.study, Path(folder))
        if options.points:
            counts["instants"] = instants(trial, alone=False)
        if options.alone:
            counts["instants, one process alone"] = instants(trial, alone=True)
        if options.corruptions:
            tally = counts["corruptions"] = [0, 0]
            for kind, how, used, hash_all in ordeals.every_damage(trial):
                tally[0] += 1
                if not ordeals.damaged(trial, kind, how, used=used, hash_all=hash_all):
                    tally[1] += 1
                    print(f"DIFFERENT after damage: {kind} {how}, used {used}, hashed late {hash_all}", flush=True)
        if options.kills:
            kills, studies, differing = ordeals.killed_at_random(trial, options.kills, options.seed)
            counts["random kills"] = [kills, differing]
            print(f"{kills} random kills of {studies} studies, {differing} ended otherwise", flush=True)
    return counts


def instants(trial: ordeals.Trial, *, alone: bool) -> list[int]:
    """Kill one run at each instant and return [kills, stores whose tables differed]."""
    tally = [0, 0]
    for number, point in enumerate(trial.points):
        tally[0] += 1
        if not ordeals.killed_at(trial, number, workers=int(alone), whole=not alone):
            tally[1] += 1
            print(f"DIFFERENT after a kill at instant {number}, {point}", flush=True)
    return tally


def main() -> int:
    """Kill the study as asked and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="a shipped study, a file, or one of: " + ", ".join(forks.STUDIES))
    parser.add_argument("--kills", type=int, default=10, help="at random moments")
    parser.add_argument("--points", action="store_true", help="one kill at every instant (counts, network)")
    parser.add_argument("--alone", action="store_true", help="the same, only one process dies (counts, network)")
    parser.add_argument("--corruptions", action="store_true", help="every damage to every kind (counts, network)")
    parser.add_argument("--seconds", type=float, default=30.0, help="average time from a start to its kill")
    parser.add_argument("--seed", type=int, required=True, help="seed of the moments and the numbers of workers")
    parser.add_argument("--reference", type=Path, help="a finished, uninterrupted run of the same study")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--json", type=Path, help="write the counts here")
    options = parser.parse_args()
    small = options.study in forks.STUDIES
    if not small and (options.points or options.alone or options.corruptions):
        parser.error(f"--points, --alone and --corruptions are for {' and '.join(forks.STUDIES)}")
    began = time.monotonic()
    counts = forked(options) if small else shipped(options)
    if options.json:
        options.json.write_text(json.dumps(counts) + "\n")
    done = ", ".join(f"{name} {tried} ({differing} differing)" for name, (tried, differing) in counts.items())
    print(f"{options.study}: {done}; {time.monotonic() - began:.0f} s")
    return int(any(differing for _, differing in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
