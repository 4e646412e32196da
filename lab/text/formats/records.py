"""Records of JSON files: one after another, or in an array. A number is text, as it stands in the file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from lab.errors import InputError
from lab.text.files import File
from lab.text.formats.columns import Row, check_columns, names_of

CHUNK = 1 << 20
"""Characters that are read at one time."""
LONGEST_TOKEN = 16
"""Characters of a word or an escape of JSON, at most: -Infinity, \\ud83d\\ude00."""
MOST_KEYS = 1_000
"""Keys of records that are remembered, for the message about a missing column."""
SPACE = " \t\r\n"


class _Number(str):
    """A number of JSON, as it stands in the file."""


class _Twice(dict[str, Any]):
    """An object of JSON with keys that are there twice."""

    keys_twice: set[str]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        record = _Twice(pairs)
        record.keys_twice = {key for key in record if keys.count(key) > 1}
    return record


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_Number, parse_int=_Number, parse_constant=_Number)


def record_rows(file: File, stream: TextIO, columns: Mapping[str, str]) -> Iterator[Row]:
    """Yield the rows of the records in a JSON file. Only the keys that the study names are looked at.

    Raises:
        InputError: the JSON is torn, a value is no record, its text is no text, or no record has a column.
    """
    names = names_of(columns)
    seen: dict[str, None] = {}
    for value, line in _values(file, stream):
        if not isinstance(value, dict):
            raise _bad(file, line, f'it holds {_kind(value)} where a record is expected, such as {{"text": "..."}}')
        if len(seen) < MOST_KEYS:
            seen.update(dict.fromkeys(value))
        seen.update(dict.fromkeys(name for name in columns.values() if name in value))
        text = value.get(columns["text"])
        if text is not None and type(text) is not str:
            raise InputError(
                f'corpus file {file.path}, line {line:,}: "{columns["text"]}" (corpus.text) holds {_kind(text)}, not '
                "text; each record needs a text of its own in quotes, or name another column"
            )
        if isinstance(value, _Twice) and value.keys_twice.intersection(columns.values()):
            raise _bad(file, line, f'its key "{min(value.keys_twice.intersection(columns.values()))}" is there twice')
        row = tuple(None if name is None else _text(value.get(name)) for name in names)
        if not all(cell is None or cell.isascii() or _encodes(cell) for cell in row):
            raise _bad(file, line, "it holds half of a character (a lone surrogate, \\ud800 to \\udfff)")
        yield row
    if seen:
        check_columns(f"file {file.path}", columns, list(seen))


def _encodes(text: str) -> bool:
    """Return whether a text can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: Any) -> str:
    """Return what a value of JSON is, in words."""
    if isinstance(value, _Number):
        return f"the number {value:.40}"
    words = {str: "a text", bool: "true or false", list: "an array", type(None): "null"}
    return words.get(type(value), "an object")


def _text(value: Any) -> str | None:
    """Return a value as text: a number as it stands in the file; true, false, objects and arrays as JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _values(file: File, stream: TextIO) -> Iterator[tuple[Any, int]]:
    """Yield the values of JSON in a stream, or the elements of its outer array, each with its line.

    A string in the array is a text: it becomes the record {"text": string}.
    """
    source = _Source(file, stream)
    if source.peek() != "[":
        while source.peek():
            yield source.value()
        return
    source.at += 1
    mark = source.peek()
    while mark != "]":
        value, line = source.value()
        yield {"text": value} if type(value) is str else value, line
        mark = source.peek()
        if mark not in (",", "]"):
            raise _bad(
                file, source.line(), f"JSON parse error: {'a comma is missing' if mark else 'the array has no end'}"
            )
        source.at += mark == ","
    source.at += 1
    if source.peek():
        raise _bad(file, source.line(), "JSON parse error: there is more after the array")


class _Source:
    """A stream of JSON values. No more than a chunk and one value are in memory at a time."""

    def __init__(self, file: File, stream: TextIO) -> None:
        self.file, self.stream = file, stream
        self.buffer, self.at = "", 0
        self.counted, self.lines = 0, 1  # the place up to which lines are counted, and the line there
        self.ended = False

    def line(self, at: int | None = None) -> int:
        """Return the line of a place in the buffer, not before the last one that was asked for; by default the next."""
        at = self.at if at is None else at
        self.lines += self.buffer.count("\n", self.counted, at)
        self.counted = at
        return self.lines

    def peek(self) -> str:
        """Return the next character that is no white space; an empty text at the end."""
        while True:
            while self.at < len(self.buffer) and self.buffer[self.at] in SPACE:
                self.at += 1
            if self.at < len(self.buffer) or self.ended:
                return self.buffer[self.at : self.at + 1]
            self._more()

    def _more(self) -> None:
        """Drop what is done, and read at least as much as the buffer still holds: long values cost no square."""
        self.line()
        self.buffer, self.counted = self.buffer[self.at :], 0
        more = self.stream.read(max(CHUNK, len(self.buffer)))
        self.buffer, self.at, self.ended = self.buffer + more, 0, not more

    def value(self) -> tuple[Any, int]:
        """Return the next value and its line."""
        self.peek()
        while True:
            try:
                value, end = DECODER.raw_decode(self.buffer, self.at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or len(self.buffer) - error.pos <= LONGEST_TOKEN
                if self.ended or not cut:
                    raise _bad(self.file, self.line(error.pos), f"JSON parse error: {error.msg}") from None
                self._more()
            except RecursionError:
                raise _bad(self.file, self.line(), "JSON parse error: it is nested too deep") from None
            else:
                line, self.at = self.line(), end
                return value, line


def _bad(file: File, line: int, what: str) -> InputError:
    return InputError(f"corpus file {file.path} cannot be read: line {line:,}: {what}")
