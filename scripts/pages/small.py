"""Small studies with a page of results of their own, data/results/<study>/README.md: tables of a finished run."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from lab.report.render import as_markdown
from lab.report.tables import caption
from lab.run.folder import RunFolder
from pages.writing import RESULTS

FILES = ("results.csv", "config.yaml", "env.json", "titles.json")
STUDIES = {
    "rare-facts": ("recall_1_3", "recall_4_15", "recall_16_63", "lost_diagnoses_share", "contradictions", "nll"),
    "monoculture-mini": ("nll", "effective_models", "effective_modes", "systemic_loss", "concentration"),
    "watermark-mini": ("nll", "radioactivity_closed_z", "radioactivity_reading_z", "tpr", "fpr"),
}
"""Study -> the columns that its page shows."""


def take(run: Path) -> None:
    """Copy the results of a finished run to data/results/<study>/."""
    folder = RESULTS / RunFolder(run).config().name
    folder.mkdir(exist_ok=True)
    for name in FILES:
        if (run / name).exists():  # a study without metrics of its own has no titles.json
            shutil.copyfile(run / name, folder / name)


def tables(study: str) -> str:
    """Return the tables that `lab show` prints of a study's columns, and its caption."""
    folder = RunFolder(RESULTS / study)
    config, rows = folder.config(), folder.results()
    return f"{as_markdown(rows, STUDIES[study], folder.titles())}\n{caption(config, rows)}."


PARTS = {study: partial(tables, study) for study in STUDIES}
