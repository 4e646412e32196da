"""One Markdown table of what the benchmarks wrote with --json, every goal met or missed; profiles, growth.

python scripts/bench/bench_table.py FOLDER              # FOLDER holds sample.json, train.json, study.json, ...
python scripts/bench/bench_table.py FOLDER --all        # every setting of every peer
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KINDS = ("sample", "train", "study", "evaluate")
HEAD = ("what", "peer and setting", "unit", "lab", "peer", "ratio [least, most]", "roofline (goal)", "goal")
ROOFLINES = {"sample": 0.5, "train": 0.4}
"""Shares of the roofline that are aimed at, by the first words of a record's name; on a GPU others."""
GPU_ROOFLINES = {"sample": 0.5, "train 12 x 768,": 0.45}


def tokens(record: Mapping[str, Any]) -> int:
    """Of a name such as "bins, 9,984 tokens, vocabulary 2,048"; 0 without any."""
    found = re.search(r"(\d[\d,]*) tokens", record["name"])
    return int(found[1].replace(",", "")) if found else 0


@dataclass(frozen=True)
class Limit:
    """A goal that speaks of no peer: at most so many seconds, or so much overhead, as a record's number stands for."""

    name: str
    """The first words of its records' names."""
    what: str
    unit: str
    most: float
    of: Callable[[Mapping[str, Any], float], float]
    tokens: int = 0
    """Records of fewer are not meant."""

    def lines(self, found: Sequence[Mapping[str, Any]]) -> list[list[str]]:
        """Return the cells: one line for each record that is meant, or one that says that there is none."""
        goal = f"at most {self.most:g} {self.unit}"
        whose = [r for r in found if r["name"].startswith(self.name) and tokens(r) >= self.tokens]
        mine = [r for r in whose if r["best"] or r["theirs"] is None]  # once, not beside each peer
        lines = []
        for record in mine:
            # The number of a record is a speed or a share: its most is the least of what is limited.
            opposite = {"median": "median", "min": "max", "max": "min"}
            spent = {key: self.of(record, record["ours"][other]) for key, other in opposite.items()}
            verdict = judged(spent["median"] <= self.most)
            what = (record["name"].partition(":")[0] if self.tokens else self.what) + threads(record)
            lines.append([what, "", self.unit, spread(spent), "", "", "", f"{goal}: {verdict}"])
        return lines or [[self.what, "", self.unit, "", "", "", "", f"{goal}: not measured"]]


LIMITS = (
    Limit(
        "distinct-3, survival and bins together",
        "distinct-3, survival and bins together, 10,000,000 tokens",
        "s",
        10.0,
        lambda record, speed: tokens(record) / speed,
        tokens=10_000_000,
    ),
    Limit(
        "study `quick` as it is: 30 generations",
        "`quick`, a whole process from an empty store",
        "s",
        300.0,
        lambda record, speed: 1 / speed,
    ),
    Limit(
        "study `quick` as it is: time in",
        "`quick`, workers' time outside of training, sampling and scoring",
        "%",
        10.0,
        lambda record, share: 100 * (1 - share),
    ),
)


def records(folder: Path) -> Iterator[dict[str, Any]]:
    for kind in KINDS:
        for path in sorted(folder.glob(f"{kind}*.json"), reverse=True):  # quick, then larger
            yield from json.loads(path.read_text(encoding="utf-8"))["records"]


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def spread(found: Mapping[str, float] | None, form: str = "") -> str:
    if found is None:
        return ""
    a, b, c = (format(found[k], form) if form else number(found[k]) for k in ("median", "min", "max"))
    return a if b == c else f"{a} [{b}, {c}]"


def turned(speed: Mapping[str, float] | None) -> dict[str, float] | None:
    """Seconds from what is done in one: its most is their least."""
    return speed and {"median": 1 / speed["median"], "min": 1 / speed["max"], "max": 1 / speed["min"]}


def threads(record: Mapping[str, Any]) -> str:
    count = record["machine"].get("threads")
    return "" if count is None else f", {count} thread{'s' if count > 1 else ''}"


def judged(met: bool) -> str:
    return "met" if met else "**missed**"


def roofline(record: Mapping[str, Any]) -> str:
    """Return the share of the roofline, and whether it meets the goal if this kind of work has one."""
    share = record["roofline"]
    if share is None:
        return ""
    goals = ROOFLINES if "cores" in record["machine"] else GPU_ROOFLINES
    mine = [goal for name, goal in goals.items() if record["name"].startswith(f"{name} ")]
    return f"{share:.0%}" + "".join(f" ({goal:.0%}: {judged(share >= goal)})" for goal in mine)


def line(record: Mapping[str, Any]) -> list[str]:
    goal, ratio = record["goal"], record["ratio"]
    verdict = "not measured" if ratio is None else judged(goal is not None and ratio["median"] >= goal)
    # A study takes all cores in the lab's own way; its threads are those of the plain script.
    what = record["name"] + ("" if "thread" in record["name"] else threads(record))
    unit, ours, theirs = record["unit"], record["ours"], record["theirs"]
    if unit == "studies/s":  # nobody counts in these
        unit, ours, theirs = "s", turned(ours), turned(theirs)
    cells = [what, record["peer"], unit, spread(ours), spread(theirs)]
    return [*cells, spread(ratio, ".2f"), roofline(record), "" if goal is None else f"{goal:g}: {verdict}"]


def markdown(lines: Sequence[Sequence[str]], head: Sequence[str] = HEAD) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines))


def main_row(record: Mapping[str, Any]) -> bool:
    """Return whether the short table shows a record.

    It shows rows with a goal, the fastest setting of each peer, and Trainer also with the lab's memory setting.  Of
    compiled runs on a CPU, where compiling is not expected to pay, and of int8, which is another model, it shows only
    rows with a goal.
    """
    if record["goal"] is not None:
        return True
    if "cores" in record["machine"] and re.search("compiled|int8", record["name"] + record["peer"]):
        return False
    return bool(record["best"]) or ("memory kept" in record["peer"] and not record["name"].startswith("sample"))


def table(folder: Path, *, everything: bool) -> str:
    """Every record, or the main rows; at the end the goals that speak of no peer."""
    found = list(records(folder))
    chosen = [record for record in found if everything or main_row(record)]
    return markdown([*map(line, chosen), *(row for limit in LIMITS for row in limit.lines(found))])


def machines(folder: Path) -> list[str]:
    """Return which records come from which machine, each machine once."""
    found = dict.fromkeys(
        f"{record['machine']['device']}, {record['machine'].get('cores', '-')} cores, torch "
        f"{record['machine']['versions']['torch']}, transformers {record['machine']['versions']['transformers']}"
        for record in records(folder)
    )
    return list(found)


def curves(folder: Path) -> str:
    """Loss on the same validation rows after the same tokens: a table for each training."""
    parts = []
    for path in sorted(folder.glob("train*.json"), reverse=True):
        for name, found in (json.loads(path.read_text(encoding="utf-8")).get("curves") or {}).items():
            lines = [[who, *(f"{nats:.4f}" for nats in curve.values())] for who, curve in found.items()]
            parts.append(markdown(lines, [f"{name}; tokens seen", *next(iter(found.values()))]))
    return "\n\n".join(parts)


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
        lines = [[step, *(cells[step].get(size, "") for size in sizes)] for step in mine]
        parts.append(markdown(lines, [title, *sizes]))
    return "\n\n".join(parts)


def profile(folder: Path) -> str:
    """Shares of the time of a loop by group of operations: a line for each loop."""
    rows = json.loads((folder / "profile.json").read_text(encoding="utf-8"))
    lines = [[row["name"], *(f"{share:.0%}" for share in row["shares"].values())] for row in rows]
    return markdown(lines, ["time of one process of one thread", *rows[0]["shares"]])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    if next(records(options.folder), None) is None:
        names = ", ".join(f"{kind}*.json" for kind in KINDS)
        parser.error(f"{options.folder} has no records ({names}); write some with bench_*.py --json")
    print(table(options.folder, everything=options.all))
    if losses := curves(options.folder):
        print("\nvalidation loss, nats a token\n\n" + losses)
    print("\nmeasured on: " + "; ".join(machines(options.folder)))
    for name, drawn in (("profile", profile), ("growth", growth)):
        if (options.folder / f"{name}.json").exists():
            print("\n" + drawn(options.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
