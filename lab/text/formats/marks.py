"""Byte order marks (U+FEFF) in text. They are no text: each is dropped, and those inside the text are counted.

They come from files that were joined, from programs that begin each row with one, and from copied web pages.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from lab.errors import plural

MARK = "\ufeff"
MARK_BYTES = MARK.encode()
ESCAPED = rb"\ufeff"
"""How JSON may spell a mark, in small letters."""


@dataclass
class Marks:
    """The number of marks that were dropped."""

    dropped: int = 0

    def out_of(self, text: str) -> str:
        """Return a text without its marks, and count them."""
        found = text.count(MARK)
        self.dropped += found
        return text.replace(MARK, "") if found else text

    def out_of_batch(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return a batch of columns of text without the marks in any of them, and count them."""
        for place, column in enumerate(batch.schema):
            found = pc.sum(pc.count_substring(batch[place], MARK)).as_py() or 0
            if found:
                self.dropped += found
                batch = batch.set_column(place, column, pc.replace_substring(batch[place], MARK, ""))
        return batch


class Unmarked(io.TextIOWrapper):
    """A stream of text without the marks in it. It can be read and iterated over."""

    def __init__(self, binary: io.BufferedReader, newline: str | None, marks: Marks) -> None:
        super().__init__(binary, encoding="utf-8-sig", newline=newline)
        self.marks = marks

    def read(self, size: int | None = -1) -> str:
        """Return at most `size` characters; none only at the end."""
        while text := super().read(size):
            if kept := self.marks.out_of(text):
                return kept
        return ""

    def __next__(self) -> str:  # type: ignore[override]  # as in TextIOWrapper
        """Return the next line."""
        return self.marks.out_of(super().__next__())


def marks_line(dropped: int) -> str:
    """Say how many marks were dropped."""
    return f"dropped {plural(dropped, 'byte order mark')} (U+FEFF) inside the text"
