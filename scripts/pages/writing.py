"""Markdown that all generators write: paths, tables and filled paragraphs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "data" / "results"
BENCH = RESULTS / "bench"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Return a Markdown table.  `right` holds the indices of columns that are aligned to the right."""
    marks = ["---:" if index in right else "---" for index in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, marks, *rows))


def filled(text: str, indent: str = "") -> str:
    """Return a paragraph with lines of at most 120 characters; `indent` begins all lines after the first."""
    return textwrap.fill(" ".join(text.split()), 120, subsequent_indent=indent, break_on_hyphens=False)


def cell(text: str) -> str:
    """Return text on one line, with the vertical bars escaped, for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
