"""Compare the tables of two checkouts of the lab byte by byte, after running the same studies in both.

    .venv/bin/python scripts/checks/same_bytes.py record CHECKOUT FOLDER              run the studies, keep their tables
    .venv/bin/python scripts/checks/same_bytes.py compare OLD NEW                     each a checkout or such a folder
    .venv/bin/python scripts/checks/same_bytes.py compare OLD NEW --only smoke lora   20 to 30 s per study and checkout

Everything runs on this machine with this interpreter, each study from an empty store.  The study files are those beside
this script, so a checkout does not need to ship them.
Exit codes: 0 all bytes are the same, 1 some differ or are missing, 2 bad input or a study that does not finish.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STUDIES = Path(__file__).resolve().parents[1] / "studies"
NAMES = ("smoke", "documents", "population", "lora", "decodings", "exact", "ngram", "markov")
TABLES = ("results.csv", "bins.csv", "exact.csv")
SETTINGS = {"markov": ["--set", "seeds=[0, 1]"], "ngram": ["--set", "generations=6"]}
"""Smaller sizes, which save minutes: two seeds and six generations show a difference as well as more do."""


def fail(message: str) -> None:
    """Print an error and exit with code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def record(checkout: Path, folder: Path, names: list[str]) -> None:
    """Run studies with the code of a checkout and keep folder/<study>/{results,bins,exact}.csv."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    for name in names:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="lab-same-bytes-") as scratch:
            command = [sys.executable, "-m", "lab", "run", str(STUDIES / f"{name}.yaml"), *SETTINGS.get(name, [])]
            command += ["--checkpoints", scratch]
            done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
            if done.returncode:  # also where exact theory is contradicted: such tables are not worth comparing
                fail(f"{checkout}: lab run {name} ended with code {done.returncode}\n{done.stderr[-2000:]}")
            shutil.rmtree(folder / name, ignore_errors=True)  # tables of an earlier recording
            (folder / name).mkdir(parents=True)
            for table in TABLES:
                if (made := Path(scratch) / name / table).exists():
                    shutil.copy(made, folder / name / table)
        print(f"{checkout.name}: {name} took {time.monotonic() - began:.0f} s", flush=True)


def tables(side: Path, scratch: Path, names: list[str]) -> Path:
    """Return the folder of recorded tables of one side; record them into `scratch` first if the side is a checkout."""
    if not (side / "lab").is_dir():
        return side
    record(side.resolve(), scratch, names)
    return scratch


def differences(old: Path, new: Path, names: list[str]) -> list[str]:
    """Return one line per table that differs or that only one side has, and per study without any table."""
    lines = []
    for name in names:
        if not (old / name).is_dir() and not (new / name).is_dir():
            lines.append(f"{name}: neither side has tables of it")
        for table in TABLES:
            a, b = (side / name / table for side in (old, new))
            if a.exists() != b.exists():
                lines.append(f"{name}/{table}: only the {'old' if a.exists() else 'new'} side has it")
            elif a.exists() and a.read_bytes() != b.read_bytes():
                lines.append(f"{name}/{table}: differs from line {first_difference(a, b)} on")
    return lines


def first_difference(a: Path, b: Path) -> int:
    """Return the number of the first line that differs, from 1."""
    ours, theirs = (path.read_bytes().split(b"\n") for path in (a, b))
    pairs = zip(ours, theirs, strict=False)
    return next((number for number, (x, y) in enumerate(pairs, 1) if x != y), min(len(ours), len(theirs)) + 1)


def main() -> int:
    """Record the tables of one checkout, or compare two sides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("record", "compare"))
    parser.add_argument("first", type=Path, help="the checkout to record, or the old side")
    parser.add_argument("second", type=Path, help="the folder to record into, or the new side")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), help="these studies only")
    options = parser.parse_args()
    sides = [options.first] if options.command == "record" else [options.first, options.second]
    for side in sides:
        if not side.is_dir():
            fail(f"{side} is not a folder")
    if options.command == "record":
        record(options.first.resolve(), options.second.resolve(), options.only)
        return 0
    with tempfile.TemporaryDirectory(prefix="lab-tables-") as scratch:
        old, new = (tables(side, Path(scratch) / str(number), options.only) for number, side in enumerate(sides))
        lines = differences(old, new, options.only)
    print("\n".join(lines) or f"same bytes: {', '.join(options.only)}")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
