"""The study `profile`, from data/results/profile/: the grid of definitions and regimes, and its findings in words."""

from __future__ import annotations

import csv
import shutil
from functools import cache
from pathlib import Path

from lab.config.sweep import NAME, label
from lab.definitions import DEFINITIONS
from lab.report import tension
from lab.report.lines import lines
from lab.report.profile import MARKS, bounds
from lab.report.tables import caption
from lab.run.folder import RunFolder
from pages.writing import RESULTS, cell, filled, table

FOLDER = RESULTS / "profile"
FILES = ("profile.csv", "results.csv", "config.yaml", "env.json")
FACTS = {"regime", "number", "definition", "verdict", "value", "low", "high", "documents_low", "documents_high"}
FACTS |= {"threshold", "near", "p", "detects", "unit", "generation", "seeds", "words", "source", "page", NAME}


def take(run: Path) -> None:
    """Copy the results of a finished run of `profile` to data/results/profile/."""
    FOLDER.mkdir(exist_ok=True)
    for name in FILES:
        shutil.copyfile(run / name, FOLDER / name)
    folder = RunFolder(FOLDER)
    config = folder.config()
    heading = f"{config.name}: {config.corpus.title}, seeds {', '.join(map(str, config.seeds))}; bars: 95 % t intervals"
    tension.figure(folder.results(), heading, FOLDER / "profile.svg")


@cache
def _rows() -> list[dict[str, str]]:
    with (FOLDER / "profile.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _name(row: dict[str, str]) -> str:
    axes = {name: value for name, value in row.items() if name not in FACTS or name == NAME}
    return label(row["regime"], axes)


def grid() -> str:
    """Return a row per definition and a column per regime and arm: verdict, value, interval over seeds."""
    names = list(dict.fromkeys(map(_name, _rows())))
    rows = []
    for each in DEFINITIONS:
        found = {_name(row): row for row in _rows() if int(row["number"]) == each.number}
        rows.append([f"{each.name} ({each.number})", *(cell(_cell(found[name])) for name in names)])
    return table(["definition", *names], rows)


def _cell(row: dict[str, str]) -> str:
    mark = MARKS[row["verdict"]]
    if not row["value"]:
        return mark
    numbers = f"{float(row['value']):+.2f}"
    bounds = f" [{float(row['low']):+.2f}, {float(row['high']):+.2f}]" if row["low"] else ""
    return f"{mark} {numbers}{bounds}"


def words() -> str:
    """Return the findings of each regime in words, and what they rest on."""
    lines = []
    for name in dict.fromkeys(map(_name, _rows())):
        said = " ".join(f"({row['number']}) {row['words']}" for row in _rows() if _name(row) == name)
        lines.append(f"- **{name}.** {said}")
    folder = RunFolder(FOLDER)
    return "\n".join([*lines, "", caption(folder.config(), folder.results())])


def points() -> str:
    """Return tail loss and memorisation of each generation, and how far memorisation is from the control's at last."""
    rows = RunFolder(FOLDER).results()
    heading, cells = tension.table(rows)
    memory = str(tension.memory_of(rows))
    against = []
    for line in lines(rows, [memory]):
        if interval := line.against_reference():
            against.append(f"{line.label} {interval.mean:+.3f} {bounds(interval)}")
    text = f"""`{memory}` of the last generation minus that of the control of the same seed, with 95 % intervals over
        seeds: {"; ".join(against)}."""
    return table(heading, cells) + "\n\n" + filled(text)


PARTS = {"profile-grid": grid, "profile-words": words, "profile-points": points}
