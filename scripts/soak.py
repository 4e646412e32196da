"""Kill a study's whole process group at random moments, start it again each time, and compare its table by bytes.

    python scripts/soak.py smoke --kills 10 --seed 0
    python scripts/soak.py quick --kills 6 --reference checkpoints/quick    # a finished run to compare with

Each restart draws its number of workers too, 0 (in one process), 1 or 2: the table must not depend on it.
Prints what was running at each kill; exit code 1 if the tables differ.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def start(study: str, folder: Path, workers: int, overrides: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "lab", "run", study, "--checkpoints", str(folder), "--workers", str(workers)]
    command += [word for override in overrides for word in ("--set", override)]
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def unfinished(folder: Path) -> list[str]:
    """The kinds of steps that were being written, from the temporary folders they left."""
    return sorted(path.parent.name for path in (folder / "store").glob("*/.tmp-*"))


def soak(study: str, folder: Path, kills: int, seconds: float, seed: int, overrides: list[str]) -> None:
    """Run the study with so many kills, `seconds` long each on average, and to its end."""
    rng = random.Random(seed)
    done = 0
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
                time.sleep(0.5)  # the workers' death is the kernel's work
                continue
            print(f"finished before kill {done + 1} could happen", flush=True)
        else:
            code = process.wait()
        if code:
            sys.exit(f"error: lab run ended with code {code}; see {folder / 'log.txt'}")
        return


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=30.0, help="average time from a start to its kill")
    parser.add_argument("--seed", type=int, required=True, help="of the moments and the numbers of workers")
    parser.add_argument("--reference", type=Path, help="a finished, uninterrupted run of the same study")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="lab-soak-") as whole,
        tempfile.TemporaryDirectory(prefix="lab-soak-") as cut,
    ):
        reference = options.reference
        if reference is None:
            soak(options.study, Path(whole), 0, 0.0, options.seed, options.overrides)
            reference = next(path.parent for path in Path(whole).glob("*/results.csv"))
        soak(options.study, Path(cut), options.kills, options.seconds, options.seed, options.overrides)
        found = next(Path(cut).glob("*/results.csv"))
        same = all((found.parent / n).read_bytes() == (reference / n).read_bytes() for n in ("results.csv", "bins.csv"))
    print(f"{options.study}: results.csv and bins.csv are {'byte-identical' if same else 'DIFFERENT'}")
    return int(not same)


if __name__ == "__main__":
    sys.exit(main())
