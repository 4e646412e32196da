"""Printing of tables: for a terminal, and as Markdown, LaTeX, CSV and JSON.

Users choose names of regimes, arms and files.  Here they become plain text in Markdown and LaTeX; lab.errors.printable
makes them harmless to a terminal.  CSV is data and is not escaped: lab/config/sweep.py refuses names that a
spreadsheet would take for formulas.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence

from rich.console import Group, JustifyMethod
from rich.table import Table
from rich.text import Text

from lab.errors import InputError
from lab.report.lines import CONTROL, Line, Rows, lines
from lab.report.tables import (
    MOST_COLUMNS,
    NO_TITLES,
    NUMBERS,
    Titles,
    absent,
    block,
    heading,
    shown_generations,
    styled,
    tidy,
    title,
)
from lab.run.folder import axes_of, to_csv

MARKDOWN = {"\\": "\\\\", "|": "\\|", "<": "&lt;", "&": "&amp;", "`": "\\`", "*": "\\*", "](": "]\\(", "~~": "\\~\\~"}
"""Escapes for cells of tables.  An underscore inside a word is plain text in every dialect that has tables."""
LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "%": r"\%",
    "_": r"\_",
    "&": r"\&",
    "#": r"\#",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
}


def _escaper(table: dict[str, str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, table)))


_MARKDOWN, _LATEX = _escaper(MARKDOWN), _escaper(LATEX)


def markdown(text: str) -> str:
    """Escape text for a cell of a Markdown table: markdown("a|<b>") == "a\\\\|&lt;b>"."""
    return _MARKDOWN.sub(lambda match: MARKDOWN[match[0]], text)


def latex(text: str) -> str:
    """Escape text for LaTeX: latex("x_1") == "x\\\\_1".

    A first [ is put in braces: after a line break it would be an option.
    """
    plain = _LATEX.sub(lambda match: LATEX[match[0]], text)
    return "{[}" + plain[1:] if plain.startswith("[") else plain


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], align: str = "l") -> str:
    """Return a Markdown table that ends with a line break.

    `align` has one letter per column, l or r.  The last letter holds for all further columns: "lr".
    """
    sides = align + align[-1] * (len(head) - len(align))
    rule = "|" + "|".join(" ---: " if side == "r" else " --- " for side in sides) + "|"
    body = ["| " + " | ".join(map(markdown, row)) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(head) + " |", rule, *body]) + "\n"


def rich_table(
    rows: Rows, metrics: Sequence[str], width: int, titles: Titles = NO_TITLES, against: str = CONTROL
) -> Group:
    """Return a block per metric with aligned columns; those that do not fit into `width` are left out and named."""
    groups = _grouped(rows, metrics, against)
    for most, without in NARROWING:
        head, body = _cells(rows, groups, against, most, without)
        everything = [head, *(row for cells in body.values() for row in cells)]
        widths = [max(map(len, column)) for column in zip(*everything, strict=True)]
        if sum(widths) + 2 * (len(widths) - 1) <= width:
            break
    blocks: list[Text | Table] = []
    for metric, cells in body.items():
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        for name, wide in zip(head, widths, strict=True):
            side: JustifyMethod = "left" if name in ("regime", "trend") else "right"
            table.add_column(name, justify=side, min_width=wide, no_wrap=True)
        for row in cells:
            table.add_row(*map(styled, row))
        blocks += [Text(title(metric, rows, titles), style="bold"), table, Text()]
    if left := _left_out(rows, head, against, compared=_compared(groups)):
        note = textwrap.fill(f"left out for want of room: {left}; --format csv has all numbers", width)
        blocks.append(Text(note, style="dim"))
    return Group(*blocks)


def _left_out(rows: Rows, head: Sequence[str], against: str, *, compared: bool) -> str:
    """Return the columns of the full table that a heading lacks, in words; an empty string if it lacks none."""
    measured = sorted({row["generation"] for row in rows})
    full = heading(measured, against)[: None if compared else -1]
    missing = [name for name in full if name not in head]
    ts = [name for name in missing if name.startswith("gen ")]
    counted = [f"{len(ts)} of {len({row['generation'] for row in rows})} generations"] if len(ts) > MOST_COLUMNS else ts
    return ", ".join([*counted, *missing[len(ts) :]])


OPTIONAL = 3
"""Columns at the end (trend, since gen 0, against the reference) that a narrow terminal does without, in this order."""
NARROWING = [(most, dropped) for dropped in range(OPTIONAL) for most in range(MOST_COLUMNS, 2, -1)]
NARROWING += [(2, OPTIONAL - 1), *((most, OPTIONAL) for most in range(MOST_COLUMNS, 1, -1))]
"""(most generations, optional columns left out), from the widest table to the narrowest.  The comparison goes last."""


def _grouped(rows: Rows, metrics: Sequence[str], against: str) -> dict[str, list[Line]]:
    return {metric: lines(rows, [metric], against) for metric in metrics}


def _compared(groups: Mapping[str, Sequence[Line]]) -> bool:
    """Return whether any line of these tables has a reference beside it."""
    return any(line.reference and not line.is_reference for group in groups.values() for line in group)


def _cells(
    rows: Rows, groups: Mapping[str, Sequence[Line]], against: str, most: int = MOST_COLUMNS, without: int = 0
) -> tuple[list[str], dict[str, list[list[str]]]]:
    """Return the heading, and the cells by metric, without so many of the optional columns.

    The last column is left out, too, where no line has anything to be compared with.
    """
    ts = shown_generations({row["generation"] for row in rows}, most)
    first = len(heading(ts)) - OPTIONAL
    columns = [*range(first), *range(first + without, first + OPTIONAL - (not _compared(groups)))]

    def kept(cells: list[str]) -> list[str]:
        return [cells[column] for column in columns]

    body = {metric: list(map(kept, block(group, ts))) for metric, group in groups.items()}
    return kept(heading(ts, against)), body


def as_markdown(rows: Rows, metrics: Sequence[str], titles: Titles = NO_TITLES, against: str = CONTROL) -> str:
    """Return a titled Markdown table per metric."""
    head, body = _cells(rows, _grouped(rows, metrics, against), against)
    tables = (f"**{title(name, rows, titles)}**\n\n{markdown_table(head, cells, 'lr')}" for name, cells in body.items())
    return "\n".join([*tables, *(f"{markdown(note)}\n" for note in absent(rows, metrics))])


def as_latex(rows: Rows, metrics: Sequence[str], titles: Titles = NO_TITLES, against: str = CONTROL) -> str:
    """Return a tabular for booktabs, without the sparklines."""
    head, body = _cells(rows, _grouped(rows, metrics, against), against, without=1)
    out = [r"\begin{tabular}{l" + "r" * (len(head) - 1) + "}", r"\toprule", " & ".join(map(latex, head)) + r" \\"]
    for metric, cells in body.items():
        out += [r"\midrule", rf"\multicolumn{{{len(head)}}}{{l}}{{{latex(title(metric, rows, titles))}}} \\"]
        out += [" & ".join(map(latex, row)) + r" \\" for row in cells]
    return "\n".join([*out, r"\bottomrule", r"\end{tabular}"]) + "\n"


def formatted(rows: Rows, metrics: Sequence[str], kind: str, titles: Titles = NO_TITLES, against: str = CONTROL) -> str:
    """Return the table as `kind`: md, csv, json or latex.  InputError for another kind."""
    match kind:
        case "md":
            return as_markdown(rows, metrics, titles, against)
        case "latex":
            return as_latex(rows, metrics, titles, against)
        case "csv":
            return to_csv(tidy(rows, metrics, against), ("metric", "regime", *axes_of(rows), "generation", *NUMBERS))
        case "json":
            return json.dumps(tidy(rows, metrics, against), indent=1) + "\n"
    raise InputError(f'unknown format "{kind}"; allowed: md, csv, json, latex')
