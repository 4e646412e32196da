"""Check that two checkouts of the lab give the same bytes: run the same studies in both and compare their tables.

    .venv/bin/python scripts/checks/same_bytes.py record CHECKOUT FOLDER    run the studies, keep their tables
    .venv/bin/python scripts/checks/same_bytes.py compare OLD NEW           a checkout or such a folder each

Both run with this interpreter, on this machine, each study from an empty store.  Exit code 1: some bytes differ.
The studies are files beside this script, so that a checkout need not ship them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STUDIES = Path(__file__).resolve().parent.parent / "studies"
NAMES = ("smoke", "documents", "population", "lora", "decodings", "exact", "ngram", "markov")
TABLES = ("results.csv", "bins.csv", "exact.csv")
SETTINGS = {"markov": ["--set", "seeds=[0, 1]"], "ngram": ["--set", "generations=6"]}
"""Two seeds and six generations show a difference as well as more do, and save minutes."""


def record(checkout: Path, folder: Path, names: list[str]) -> None:
    """Run studies with the code of a checkout; keep folder/<study>/{results,bins,exact}.csv."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    for name in names:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="lab-same-bytes-") as scratch:
            command = [sys.executable, "-m", "lab", "run", str(STUDIES / f"{name}.yaml"), *SETTINGS.get(name, [])]
            command += ["--checkpoints", scratch]
            done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
            if done.returncode:  # also where exact theory is contradicted: such tables are not worth comparing
                raise SystemExit(f"{checkout}: lab run {name} ended with {done.returncode}\n{done.stderr[-2000:]}")
            for table in TABLES:
                made = Path(scratch) / name / table
                if made.exists():
                    kept = folder / name / table
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    kept.write_bytes(made.read_bytes())
        print(f"{checkout.name}: {name} took {time.monotonic() - began:.0f} s", flush=True)


def tables(given: Path, scratch: Path, names: list[str]) -> Path:
    """The folder of recorded tables; of a checkout they are recorded first."""
    if (given / "lab").is_dir():
        record(given.resolve(), scratch, names)
        return scratch
    return given


def differences(old: Path, new: Path, names: list[str]) -> list[str]:
    """One line for each table that differs, or that only one side has."""
    found = []
    for name in names:
        for table in TABLES:
            a, b = (path / name / table for path in (old, new))
            if a.exists() != b.exists():
                found.append(f"{name}/{table}: only in {old if a.exists() else new}")
            elif a.exists() and a.read_bytes() != b.read_bytes():
                pairs = zip(a.read_text().splitlines(), b.read_text().splitlines(), strict=False)
                line = next((i for i, (x, y) in enumerate(pairs, 1) if x != y), "last")
                found.append(f"{name}/{table}: differs from line {line} on")
        if not (old / name).is_dir() and not (new / name).is_dir():
            found.append(f"{name}: neither side has tables of it")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("record", "compare"))
    parser.add_argument("first", type=Path, help="the checkout to record, or the old side")
    parser.add_argument("second", type=Path, help="the folder to record into, or the new side")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), help="these studies only")
    given = parser.parse_args()
    if given.command == "record":
        record(given.first.resolve(), given.second, given.only)
        return 0
    with tempfile.TemporaryDirectory(prefix="lab-tables-") as scratch:
        sides = [
            tables(side, Path(scratch) / name, given.only)
            for side, name in ((given.first, "old"), (given.second, "new"))
        ]
        found = differences(*sides, given.only)
    print("\n".join(found) or f"same bytes: {', '.join(given.only)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
