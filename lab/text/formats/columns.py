"""The columns of a corpus that a study names, and batches of rows with these columns as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa

from lab.errors import InputError
from lab.lookup import suggestion

FIELDS = ("text", "domain", "author", "group")
"""Fields of CorpusConfig that name a column."""
SPLIT = "splits.column"
ROLES = (*FIELDS, "document", SPLIT)
"""Columns of a batch. A document has the name that a column called `document` gives it; SPLIT holds its own split."""
ROWS = pa.schema([(role, pa.string()) for role in ROLES])
Row = tuple[str | None, ...]
"""A value for each of ROLES; None for an empty cell and for a column that the study does not name."""
BATCH_ROWS, BATCH_CHARACTERS = 1 << 10, 1 << 20
"""Most rows of a batch, and characters of text after which it ends."""


def names_of(columns: Mapping[str, str]) -> list[str | None]:
    """Return the name of the column for each of ROLES; None for a column that the study does not name."""
    return [columns.get(role, "document" if role == "document" else None) for role in ROLES]


def check_columns(what: str, columns: Mapping[str, str], names: Sequence[str], more: str = "") -> None:
    """Raise InputError if a column that the study names is missing, or is there twice.

    Args:
        what: the file or the data set, for the message.
        columns: the name of the column for each field of CorpusConfig that names one.
        names: the columns that there are.
        more: the end of the message for a missing column.
    """
    for role, column in columns.items():
        if column not in names:
            hint = suggestion(column, names) or f"; it has {', '.join(names) or 'no columns'}"
            raise InputError(f'corpus {what} has no column "{column}" (corpus.{role}){hint}{more}')
        if names.count(column) > 1:
            raise InputError(f'corpus {what} has two columns "{column}" (corpus.{role}): rename one')


def batched(rows: Iterable[Row]) -> Iterator[pa.RecordBatch]:
    """Yield rows in batches of the schema ROWS, of limited size."""
    waiting: list[Row] = []
    size = 0
    for row in rows:
        waiting.append(row)
        size += len(row[0] or "")
        if size >= BATCH_CHARACTERS or len(waiting) == BATCH_ROWS:
            yield _batch(waiting)
            waiting, size = [], 0
    if waiting:
        yield _batch(waiting)


def _batch(rows: Sequence[Row]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [pa.array(values, pa.string()) for values in zip(*rows, strict=True)], schema=ROWS
    )


def of_split(batch: pa.RecordBatch, split: str | None) -> pa.RecordBatch:
    """Return the batch with the name of its split, where it has one."""
    if split is None:
        return batch
    return batch.set_column(ROWS.get_field_index(SPLIT), ROWS.field(SPLIT), pa.repeat(split, len(batch)))
