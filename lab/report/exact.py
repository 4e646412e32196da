"""Presentation of the comparison with exact theory: the table and the line that sums it up."""

from __future__ import annotations

from collections.abc import Sequence

from lab.checks.exact import ROUNDING, Row
from lab.report.render import markdown_table

HEADING = ("arm", "gen", "column", "measured", "99.9 % interval", "exact", "detects", "verdict", "exact is")


def last(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of each arm's last generation: those that are printed."""
    end = {row.arm: max(other.generation for other in rows if other.arm == row.arm) for row in rows}
    return [row for row in rows if row.generation == end[row.arm]]


def cells(row: Row) -> list[str]:
    """Return a row as tables print it.  `detects` is the smallest bias that the row would flag 19 times in 20."""
    digits = 6 if row.detectable < ROUNDING else 4
    low, high, exact, measured = (f"{x:.{digits}f}" for x in (row.low, row.high, row.exact, row.measured))
    bias = "any" if row.detectable < ROUNDING else f"{row.detectable:.4f}"
    return [row.arm, str(row.generation), row.column, measured, f"[{low}, {high}]", exact, bias, row.verdict, row.law]


def summary(rows: Sequence[Row]) -> str:
    """Return one line: how many numbers agree, and what the intervals are."""
    off = [row for row in rows if not row.agrees]
    shown, seeds = len(last(rows)), sorted({row.seeds for row in rows})
    wide = sum(row.verdict == "too wide" for row in rows)
    sound = sum(row.verdict == "agrees" for row in rows)
    undecided = f", {wide} more have intervals too wide to tell" if wide else ""
    named = "".join(f"; OFF: {row.arm} gen {row.generation} {row.column}" for row in off[:5])
    return (
        f"exact theory: {sound} of {len(rows)} numbers over all generations agree{undecided} ({shown} of the last "
        f"generations above); t intervals over {', '.join(map(str, seeds))} seeds, each of which draws its own human "
        f"rows; by chance 1 number in 1,000 would be off{named}"
    )


def as_markdown(rows: Sequence[Row]) -> str:
    """Return the table as Markdown."""
    return markdown_table(HEADING, [cells(row) for row in rows])
