"""Every measured column of results.csv (until lab/metrics/columns.py is there: name and title)."""

from __future__ import annotations

from lab.report.tables import METRICS
from pages.writing import cell, table


def listed(kind: str) -> str:
    """Return the table of columns."""
    return table(["column", "what it is"], ([f"`{name}`", cell(metric.title)] for name, metric in METRICS.items()))


PARTS = {"text-columns": lambda: listed("text"), "source-columns": lambda: listed("source")}
