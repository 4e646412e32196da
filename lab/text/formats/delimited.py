"""Rows of CSV and TSV files. Every cell is text: nothing is taken for a number, and no word for a missing value."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TextIO

from lab.errors import InputError
from lab.text.files import File
from lab.text.formats.columns import Row, check_columns, names_of

DELIMITERS = {"csv": ",", "tsv": "\t"}
WORDS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars (|)"}
"""Characters that divide the cells of tables, in words."""
LONGEST = 1 << 30
"""Most characters of a cell."""
HEAD_LINES = 20
"""Lines that tell by what a table is divided."""
END = "\0the end of the file"
"""A line after the last one. If it is not a row of its own, a quote is still open."""
HEADING = "; the first row is read as the heading, so if it is a text, put the names of the columns above it"


def table_rows(file: File, stream: TextIO, columns: Mapping[str, str]) -> Iterator[Row]:
    """Yield the rows of a CSV or TSV below its heading. A short row has empty cells at its end.

    Raises:
        InputError: the file has another delimiter, lacks a column, has an open quote or a row with too many cells.
    """
    csv.field_size_limit(LONGEST)
    delimiter = DELIMITERS[file.format]
    head = list(itertools.islice(stream, HEAD_LINES))
    taken: list[str] = []
    reader = csv.reader(_remembered(itertools.chain(head, stream, [END]), taken), delimiter=delimiter)
    heading = next(row for row in reader if row)
    if heading == [END]:
        raise InputError(f"corpus file {file.path} is empty: it has no heading and no rows")
    if len(heading) == 1 or not set(columns.values()) <= set(heading):
        _check_delimiter(file, head, delimiter)
    check_columns(f"file {file.path}", columns, heading, HEADING)
    places = [heading.index(name) if name in heading else len(heading) for name in names_of(columns)]
    line = reader.line_num
    taken.clear()
    for row in reader:
        first, line = line + 1, reader.line_num
        if row == [END]:
            return
        if (row and row[-1].endswith(END)) or (len(taken) > 1 and not _well_quoted(taken, delimiter)):
            raise InputError(
                f"corpus file {file.path} cannot be read: the row at line {first:,} has an open quote; a text that "
                "begins with a quote needs quotes around it, and those within it doubled"
            )
        taken.clear()
        if any(row[len(heading) :]):
            raise InputError(
                f"corpus file {file.path} cannot be read: the row at line {first:,} has {len(row)} cells and the "
                f"heading {len(heading)}; a text with {WORDS[delimiter]} needs quotes around it"
            )
        if row:
            yield tuple((row[place] or None) if place < min(len(row), len(heading)) else None for place in places)


def _remembered(lines: Iterable[str], taken: list[str]) -> Iterator[str]:
    """Yield lines, and keep those of the row that is being read."""
    for line in lines:
        taken.append(line)
        yield line


def _well_quoted(lines: Sequence[str], delimiter: str) -> bool:
    """Return whether each quote that opens in the lines of a row closes at the end of a cell.

    Otherwise two texts that begin with a quote would become one. Rows of one line are read whatever their quotes.
    """
    try:
        return len(list(csv.reader(lines, delimiter=delimiter, strict=True))) == 1
    except csv.Error:
        return False


def _check_delimiter(file: File, head: Sequence[str], delimiter: str) -> None:
    """Raise InputError if the first lines of a table are divided by something else."""
    for other in WORDS:
        rows = [row for row in csv.reader(head, delimiter=other) if row]
        if other != delimiter and len(rows) > 1 and all(len(row) > 1 for row in rows[:-1]):
            ends = next((f"rename it to .{kind}" for kind, mark in DELIMITERS.items() if mark == other), None)
            raise InputError(
                f"corpus file {file.path} looks divided by {WORDS[other]}, not by {WORDS[delimiter]}: "
                f"{ends or 'save it with commas as .csv, or with tabs as .tsv'}"
            )
