"""One Markdown table of what the benchmarks wrote with --json, and one of growth.

python scripts/bench_table.py FOLDER              # FOLDER holds sample.json, train.json, study.json, ...
python scripts/bench_table.py FOLDER --all        # every setting of every peer
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

KINDS = ("sample", "train", "study", "evaluate")
HEAD = ("what", "peer and setting", "unit", "lab", "peer", "ratio [least, most]", "roofline", "goal")


def records(folder: Path) -> Iterator[dict[str, Any]]:
    for kind in KINDS:
        for path in sorted(folder.glob(f"{kind}*.json")):
            yield from json.loads(path.read_text(encoding="utf-8"))["records"]


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def spread(found: Mapping[str, float] | None, form: str = "") -> str:
    if found is None:
        return ""
    a, b, c = (format(found[k], form) if form else number(found[k]) for k in ("median", "min", "max"))
    return a if b == c else f"{a} [{b}, {c}]"


def threads(record: Mapping[str, Any]) -> str:
    count = record["machine"].get("threads")
    return "" if count is None else f", {count} thread{'s' if count > 1 else ''}"


def line(record: Mapping[str, Any]) -> str:
    goal = record["goal"]
    met = goal is not None and record["ratio"] is not None and record["ratio"]["median"] >= goal
    roofline = "" if record["roofline"] is None else f"{record['roofline']:.0%}"
    # A study takes all cores in the lab's own way; its threads are those of the plain script.
    what = record["name"] + ("" if "thread" in record["name"] else threads(record))
    cells = [what, record["peer"], record["unit"], spread(record["ours"]), spread(record["theirs"])]
    cells += [
        spread(record["ratio"], ".2f"),
        roofline,
        "" if goal is None else f"{goal:g}: {'met' if met else '**missed**'}",
    ]
    return "| " + " | ".join(cells) + " |"


def markdown(lines: Sequence[str], head: Sequence[str] = HEAD) -> str:
    return "\n".join(["| " + " | ".join(head) + " |", "|" + " --- |" * len(head), *lines])


def table(folder: Path, *, everything: bool) -> str:
    """Without `everything`: of each peer its fastest setting, and the rows that give it the lab's memory setting."""
    chosen = (r for r in records(folder) if everything or r["best"] or "memory kept" in r["peer"])
    return markdown([line(record) for record in chosen])


def machines(folder: Path) -> list[str]:
    """What was measured where, each machine once."""
    found = dict.fromkeys(
        f"{record['machine']['device']}, {record['machine'].get('cores', '-')} cores, torch "
        f"{record['machine']['versions']['torch']}, transformers {record['machine']['versions']['transformers']}"
        for record in records(folder)
    )
    return list(found)


def growth(folder: Path) -> str:
    """Peak memory above an idle process, megabytes, and seconds: a line for each kind of step."""
    rows = json.loads((folder / "growth.json").read_text(encoding="utf-8"))
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        size, _, step = row["name"].partition(": ")
        cells.setdefault(step, {})[size] = f"{row['resident_megabytes']:,.0f} MB, {row['seconds']:.2g} s"
    parts = []
    for word, title in (("accumulate, gen", "step"), ("corpus of", "step"), ("tokens, rows", "recipe")):
        sizes = list(dict.fromkeys(size for found in cells.values() for size in found if word in size))
        mine = [step for step, found in cells.items() if any(size in found for size in sizes)]
        lines = ["| " + " | ".join([step, *(cells[step].get(size, "") for size in sizes)]) + " |" for step in mine]
        parts.append(markdown(lines, [title, *sizes]))
    return "\n\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    print(table(options.folder, everything=options.all))
    print("\nmeasured on: " + "; ".join(machines(options.folder)))
    if (options.folder / "growth.json").exists():
        print("\n" + growth(options.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
