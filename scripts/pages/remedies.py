"""Studies of remedies, from data/results/<study>/remedies.json: what `lab remedies` says of a finished run."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from lab.loop import build
from lab.report import remedies as shown
from lab.report.tables import caption
from lab.run.folder import RunFolder
from lab.run.remedies import remedies
from pages.writing import RESULTS, cell, filled, table

STUDIES = ("remedies-mini", "web-mini")
FILES = ("results.csv", "config.yaml", "env.json")
FILE = "remedies.json"


def take(run: Path) -> None:
    """Copy the results of a finished run to data/results/<study>/, with what `lab remedies` finds and draws."""
    finished = RunFolder(run)
    config = finished.config()
    folder = RESULTS / config.name
    folder.mkdir(exist_ok=True)
    for name in FILES:
        shutil.copyfile(run / name, folder / name)
    found, _ = remedies(build(config, finished.machine(), finished.content()), finished)
    asked = shown.thresholds_of(config)
    tables = [dict(zip(("title", "heading", "cells"), each, strict=True)) for each in shown.tables(found, asked)]
    said: dict[str, Any] = {"tables": tables, "sentences": shown.sentences(found), "notes": shown.NOTES}
    said["basis"] = f"{shown.basis(found)}; {caption(config, finished.results())}."
    (folder / FILE).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    shown.figure(found, f"{config.name}: {shown.basis(found)}", folder / f"{config.name}.svg")


def tables(study: str) -> str:
    """Return the tables of a study, its sentences, and what they are of."""
    said = json.loads((RESULTS / study / FILE).read_text(encoding="utf-8"))
    shown_tables = [
        f"**{each['title']}**\n\n{table(each['heading'], [list(map(cell, row)) for row in each['cells']])}"
        for each in said["tables"]
    ]
    return "\n\n".join([*map(filled, said["sentences"]), *shown_tables, *map(filled, (*said["notes"], said["basis"]))])


PARTS = {study: partial(tables, study) for study in STUDIES}
