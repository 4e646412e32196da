"""The rows of a corpus's files: the columns that a study names, as text, a batch at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from lab.config.text import CorpusConfig
from lab.errors import InputError
from lab.text.files import File, find_files
from lab.text.formats.columns import ROLES, ROWS, Row, batched, check_columns, names_of
from lab.text.formats.delimited import table_rows
from lab.text.formats.marks import Marks
from lab.text.formats.records import record_rows
from lab.text.formats.streams import marked, one_line_errors, opened

ROWS_AT_ONCE = 64
"""Rows that are taken out of a Parquet file at one time. They may be long."""
ARROW_FILE = b"ARROW1"
"""The first bytes of an Arrow file that is no stream."""


def read_rows(file: File, columns: Mapping[str, str], marks: Marks) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file as batches of the schema ROWS, without byte order marks.

    Args:
        file: the file.
        columns: the name of the column for each field of CorpusConfig that names one.
        marks: counts the marks that are dropped.

    Raises:
        InputError: the file is damaged, is not what its name says, or lacks a column. The message names it.
    """
    with one_line_errors(file):
        if file.format in ARROWS:
            yield from map(marks.out_of_batch, ARROWS[file.format](file, columns))
            return
        rows = {"text": _document, "json": record_rows}.get(file.format, table_rows)
        with opened(file, marks) as stream:  # JSON may spell a mark as an escape, which its reader makes one
            yield from map(marks.out_of_batch, batched(rows(file, stream, columns)))


def holds_marks(file: File, columns: Mapping[str, str]) -> bool:
    """Return whether `read_rows` drops a byte order mark. One in a part of JSON or CSV that is not read counts, too.

    False for a file that cannot be read: its reader will say so.
    """
    with contextlib.suppress(Exception):
        if file.format not in ARROWS:
            return marked(file)
        marks = Marks()
        return any(marks.dropped for _ in read_rows(file, columns, marks))
    return False


def lacking(config: CorpusConfig, roles: Sequence[str]) -> list[str]:
    """Return the roles, such as "domain", whose column a study names and the first local file has not."""
    found = find_files(config)
    named = {role: getattr(config, role) for role in roles if getattr(config, role) is not None}
    absent: list[str] = []
    for role, column in named.items() if found.files else ():
        try:
            next(read_rows(found.files[0], {"text": config.text}, Marks()), None)
        except InputError:  # what is wrong is not the column
            return []
        try:
            next(read_rows(found.files[0], {"text": config.text, role: column}, Marks()), None)
        except InputError:
            absent.append(role)
    return absent


def _document(file: File, stream: TextIO, columns: Mapping[str, str]) -> Iterator[Row]:
    """Yield the whole file as one document."""
    check_columns(f"file {file.path}", columns, ["text"])
    yield (stream.read(), *[None] * (len(ROLES) - 1))


def _parquet_rows(file: File, columns: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(file.path, pre_buffer=False) as parquet:
        names = parquet.schema_arrow.names
        check_types(f"file {file.path}", parquet.schema_arrow, columns)
        wanted = [name for name in dict.fromkeys(names_of(columns)) if name in names]
        for batch in parquet.iter_batches(batch_size=ROWS_AT_ONCE, columns=wanted):
            yield as_text(batch, columns)


def _arrow_rows(file: File, columns: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of an Arrow file in either of its forms: a file, or a stream as `datasets` writes it."""
    with pa.OSFile(str(file.path)) as source:
        whole = source.read(len(ARROW_FILE)) == ARROW_FILE
        source.seek(0)
        if whole:
            reader = pa.ipc.open_file(source)
            batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        else:
            batches = reader = pa.ipc.open_stream(source)
        check_types(f"file {file.path}", reader.schema, columns)
        for batch in batches:
            yield as_text(batch, columns)


ARROWS = {"parquet": _parquet_rows, "arrow": _arrow_rows}
"""Formats that hold batches of Arrow -> their readers."""


def check_types(what: str, schema: pa.Schema, columns: Mapping[str, str]) -> None:
    """Raise InputError if a column that the study names is missing, or if the text column holds no text."""
    check_columns(what, columns, schema.names)
    kind = schema.field(columns["text"]).type
    if not _is_text(kind):
        raise InputError(f'corpus {what}: column "{columns["text"]}" (corpus.text) holds {kind}, not text')


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def as_text(batch: pa.RecordBatch, columns: Mapping[str, str]) -> pa.RecordBatch:
    """Return the columns of an Arrow batch that the study names, as text, in the schema ROWS."""
    batch.validate(full=True)  # the readers do not check the UTF-8 of strings
    arrays = []
    for name in names_of(columns):
        if name is None or name not in batch.schema.names:
            array = pa.nulls(len(batch), pa.string())
        elif _is_text(batch.schema.field(name).type):
            array = batch[name].cast(pa.string())
        else:
            array = pa.array([None if cell is None else str(cell) for cell in batch[name].to_pylist()], pa.string())
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=ROWS)
