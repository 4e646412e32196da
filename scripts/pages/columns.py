"""Every measured column of results.csv, from the table in lab/metrics/columns.py."""

from __future__ import annotations

from lab.definitions import DEFINITIONS
from lab.metrics.column import Column
from lab.metrics.columns import COLUMNS
from lab.metrics.columns_profile import COLUMNS as PROFILE
from pages.writing import cell, table


def _row(column: Column) -> list[str]:
    definition = cell(column.definition) + (f" Source: {column.source}." if column.source else "")
    better = "" if column.better == "neither" else column.better
    function = f"`{column.group.__name__}`" if column.group else ""
    return [f"`{column.name}`", definition, cell(column.unit), better, function]


def _listed(chosen: list[Column]) -> str:
    return table(["column", "what it is", "unit", "better", "function in groups.py"], map(_row, chosen))


def text() -> str:
    """Return the table of the columns that a study of text has."""
    return _listed([column for column in COLUMNS if "text" in column.kinds])


def source() -> str:
    """Return the table of the columns that only a study of a known source has."""
    return _listed([column for column in COLUMNS if column.kinds == ("source",)])


def profile() -> str:
    """Return the table of the columns that a study with a section `profile` has."""
    rows = [_row(column)[:4] for column in PROFILE]
    return table(["column", "what it is", "unit", "better"], rows)


def definitions() -> str:
    """Return the table of the eight definitions of collapse."""
    rows = [
        [
            str(each.number),
            each.name,
            cell(f"{each.estimator} ({each.unit})"),
            cell(f"`{each.threshold}`: {each.why}"),
            each.source,
        ]
        for each in DEFINITIONS
    ]
    return table(["", "definition", "primary estimator", "threshold in profile.thresholds, and why", "papers"], rows)


PARTS = {"text-columns": text, "source-columns": source, "profile-columns": profile, "definitions": definitions}
