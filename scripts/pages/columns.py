"""Every measured column of results.csv, from the table in lab/metrics/columns.py."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lab.config.profile import Thresholds
from lab.definitions import DEFINITIONS, Definition
from lab.metrics.column import Column
from lab.metrics.columns import COLUMNS
from lab.metrics.columns_curation import COLUMNS as CURATION
from lab.metrics.columns_profile import COLUMNS as PROFILE
from lab.metrics.columns_radioactivity import COLUMNS as RADIOACTIVITY
from pages.writing import cell, filled, table


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


def beside(columns: tuple[Column, ...]) -> str:
    """Return the table of columns that only studies have which ask for them: no function of groups.py gives them."""
    return table(["column", "what it is", "unit", "better"], [_row(column)[:4] for column in columns])


def _definition(chosen: Definition) -> str:
    """Return estimator, threshold with its reason, and papers of a definition of collapse."""
    at, field = Thresholds(), chosen.threshold
    near = getattr(at, f"{field}_near", None)
    short = f" It does not hold if the whole interval is below `{field}_near` = {near:.3g}." if near is not None else ""
    lines = [
        f"Estimator: {chosen.estimator} ({chosen.unit}).",
        f"It holds {chosen.side} `{field}` = {getattr(at, field):.3g}.{short} Why: {chosen.why}.",
        f"Papers: {chosen.source}.",
    ]
    return "\n".join(filled(f"- {line}", "  ") for line in lines)


PARTS: dict[str, Callable[[], str]] = {
    "text-columns": text,
    "source-columns": source,
}
PARTS |= {
    "profile-columns": partial(beside, PROFILE),
    "curation-columns": partial(beside, CURATION),
    "radioactivity-columns": partial(beside, RADIOACTIVITY),
}
PARTS |= {f"definition-{each.threshold}": partial(_definition, each) for each in DEFINITIONS}
