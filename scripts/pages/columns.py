"""Every measured column of results.csv, from the table in lab/metrics/columns.py."""

from __future__ import annotations

from lab.metrics.columns import BY_NAME, Column, names
from pages.writing import cell, table

HEAD = ["column", "definition", "unit", "better", "source"]


def listed(kind: str) -> str:
    """Return the table of the columns that a kind of corpus has, in the order of results.csv."""
    return table(HEAD, (_cells(BY_NAME[name]) for name in names(kind)))


def _cells(column: Column) -> list[str]:
    better = "" if column.better == "neither" else column.better
    return [f"`{column.name}`", cell(column.definition), cell(column.unit), better, cell(column.source)]


PARTS = {"text-columns": lambda: listed("text"), "source-columns": lambda: listed("source")}
