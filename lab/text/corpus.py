"""Human text from files or the hub: its identity, its documents, and the fold of each one.

Documents pass through in batches. No more than a part of a corpus is ever in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lab.config.text import CorpusConfig
from lab.errors import InputError, plural
from lab.store import space
from lab.text import files
from lab.text.folds import OF_TRAIN, assign_folds, first_copies, name_order
from lab.text.folds import SHARES as SHARES
from lab.text.formats.columns import FIELDS, ROWS, SPLIT, of_split
from lab.text.formats.hub import hub_batches, hub_revision
from lab.text.formats.marks import Marks
from lab.text.formats.readers import holds_marks, read_rows

DOCUMENTS = pa.schema([(name, pa.string()) for name in ("text", "domain", "author", "document", "group", "fold")])
GROUP_BYTES = 1 << 24
"""Bytes of text in a row group of documents.parquet, about. One row group is in memory at a time."""
GROUP_DOCUMENTS = 1 << 14
"""Most documents in a row group. Each is a Python object while it waits."""
DOCUMENTS_AT_ONCE = 32


def identity(config: CorpusConfig) -> str:
    """Return the identity of a corpus, a part of keys: a hash of its files' bytes, or a hub data set's commit.

    Files that hold a byte order mark after their start were once read with it. They have an identity of their own, so
    that a run that trained on marks is not taken for one of today. Packed files are unpacked for this, and the named
    columns of Parquet and Arrow are read. The commit of a hub data set does not tell: see lab/run/text_notes.py.
    """
    found = files.find_files(config)
    if found.files:
        return files.files_identity(found, [holds_marks(file, _columns(config)) for file in found.files])
    return hub_revision("dataset", config.path, config.revision, "corpus.path")


def text_bytes(config: CorpusConfig) -> int:
    """Estimate the bytes of text in a local corpus. Return 0 for a hub data set, and for files that are gone."""
    try:
        return files.text_bytes(files.find_files(config))
    except InputError:
        return 0


def check_tokens(config: CorpusConfig, row: int) -> None:
    """Raise InputError if a study wants more tokens than its local files can hold, whatever is in them.

    Args:
        config: the corpus.
        row: tokens in a row of the model. In the layout `documents` a row may hold a single token of text.
    """
    found = files.find_files(config)
    if config.split_names:
        found = files.Found([file for file in found.files if file.split == config.split_names[0]])
    most = files.most_tokens(found, config)
    if most is None or not found.files:
        return
    if config.layout == "documents":
        most *= row
    wanted = config.tokens + (config.archive_tokens or 0)
    if wanted > most:
        fields = "corpus.tokens and corpus.archive_tokens are" if config.archive_tokens else "corpus.tokens is"
        raise InputError(
            f"{fields} {wanted:,}, and {config.path} holds at most {most:,} tokens, one for each byte of text: lower "
            "it or give more text"
        )


@dataclass
class Counts:
    """What became of the rows of a corpus."""

    rows: int = 0
    without_text: int = 0
    """Rows whose text is missing, empty or white space. They are left out."""
    copies: int = 0
    """Rows with the text of an earlier row. They are left out."""
    marks: int = 0
    """Byte order marks inside the text. They are dropped."""

    def to_json(self) -> dict[str, int]:
        """Return all fields."""
        return asdict(self)


def read_documents(config: CorpusConfig) -> pa.Table:
    """Return all documents as a table with the columns text, domain, author, document, group and fold.

    Raises:
        InputError: a file, a column or a row is unusable, or there is too little text for four folds.
    """
    return read_counted(config)[0]


def read_counted(config: CorpusConfig) -> tuple[pa.Table, Counts]:
    """Return the table of `read_documents`, and what became of the rows."""
    counts = Counts()
    return pa.concat_tables(_tables(config, counts)), counts


def write_documents(config: CorpusConfig, path: Path) -> Counts:
    """Write the table of `read_documents` as a Parquet file, with one row group in memory at a time.

    Return what became of the rows.
    """
    counts = Counts()
    with pq.ParquetWriter(path, DOCUMENTS, compression="zstd") as writer:
        for table in _tables(config, counts):
            writer.write_table(table)
    return counts


def _tables(config: CorpusConfig, counts: Counts) -> Iterator[pa.Table]:
    """Yield the documents with their folds, in tables of about GROUP_BYTES.

    The text is read three times: first to find copies, then to assign folds by the sizes of the documents that are
    kept, then to yield them.
    """
    marks = Marks()
    with _loaded(config, marks) as batches:
        new = _kept(batches, counts)
        counts.marks = marks.dropped
        if not new.any():
            raise InputError(f"corpus {config.path} is empty: {len(new)} rows, none with text")
        domains: set[str] = set()
        folds, groups = _assigned(_documents(batches, config, new), domains, config)
        _check_folds(groups, len(domains), folds, config)
        waiting, size, fold_names = [], 0, list(SHARES)
        for document, fold in zip(_documents(batches, config, new), folds, strict=True):
            waiting.append({**document, "fold": fold_names[fold]})
            size += _size(document)
            if size >= GROUP_BYTES or len(waiting) == GROUP_DOCUMENTS:
                yield pa.Table.from_pylist(waiting, schema=DOCUMENTS)
                waiting, size = [], 0
        if waiting:
            yield pa.Table.from_pylist(waiting, schema=DOCUMENTS)


def read_labels(config: CorpusConfig, column: str) -> Iterator[tuple[str, str]]:
    """Yield the name of each document and its value in a column of the corpus; "" where it has none."""
    labelled = config.model_copy(update={"domain": column})
    with _loaded(labelled, Marks()) as loaded:

        def batches() -> Iterator[pa.RecordBatch]:
            for batch in loaded():
                filled = pc.fill_null(batch["domain"], "")
                yield batch.set_column(batch.schema.get_field_index("domain"), batch.schema.field("domain"), filled)

        for document in _documents(batches, labelled, _kept(batches, Counts())):
            yield document["document"], document["domain"]


def _kept(batches: _Batches, counts: Counts) -> np.ndarray:
    """Return which rows have a text that no earlier row of their split has, [N], and count the others."""

    def texts() -> Iterator[str | None]:
        for batch in batches():
            for text, split in zip(batch["text"].to_pylist(), batch[SPLIT].to_pylist(), strict=True):
                counts.rows += 1
                counts.without_text += not (text and text.strip())
                yield f"{split}\n{text}" if text and text.strip() else None

    new = first_copies(texts())
    counts.copies = counts.rows - counts.without_text - int(new.sum())
    return new


def _assigned(documents: Iterator[dict[str, Any]], domains: set[str], config: CorpusConfig) -> tuple[np.ndarray, int]:
    """Return the fold of each document as an index into SHARES, [N], and the number of groups that were divided.

    Of a corpus that comes with its own splits only the train split is divided, into train and reference.
    """
    splits, given = config.splits, array("b")
    if splits is None:
        return assign_folds(_sized(documents, domains))

    def of_train() -> Iterator[dict[str, Any]]:
        for document in documents:
            if document[SPLIT] not in splits.names:
                raise InputError(
                    f'corpus {config.path}: document {document["document"]} has "{document[SPLIT]}" in column '
                    f'"{splits.column}", and corpus.splits names {", ".join(splits.names)}'
                )
            given.append(splits.names.index(document[SPLIT]))
            if not given[-1]:
                yield document

    divided, groups = assign_folds(_sized(of_train(), domains), OF_TRAIN)
    folds = np.array(given, np.int8)
    folds[folds > 0] += 1  # the reference fold stands before validation and test
    folds[folds == 0] = divided
    return folds, groups


def _sized(documents: Iterable[Mapping[str, Any]], domains: set[str]) -> Iterator[tuple[str, str, int]]:
    """Yield group, domain and bytes of each document, and collect the domains."""
    for document in documents:
        domains.add(document["domain"])
        yield document["group"], document["domain"], _size(document)


def _size(document: Mapping[str, Any]) -> int:
    """Return the bytes of a document's text."""
    return len(document["text"].encode("utf-8", "replace"))


def _check_folds(groups: int, domains: int, folds: np.ndarray, config: CorpusConfig) -> None:
    """Raise InputError if a fold has no document."""
    missing = [fold for number, fold in enumerate(SHARES) if number not in folds]
    if not missing:
        return
    if config.splits is not None:
        raise InputError(
            f"corpus {config.path}: corpus.splits leaves no text for {', '.join(missing)}; its train split is divided "
            "into train and reference"
        )
    cure = "lower corpus.piece" if config.piece else "set corpus.piece=8000 to cut documents after 8,000 characters"
    few, todo = f"{plural(groups, 'group')}, too few to divide", "" if config.group else f", or {cure}"
    if domains > 1:
        few = f"{plural(groups, 'group')} in {domains:,} domains; each domain is divided by itself, and these "
        few += "are too small"
        todo = f", join domains, or leave corpus.domain out{todo}"
    raise InputError(f"corpus {config.path} has {few}: no text for {', '.join(missing)}; add documents{todo}")


def fold_order(folder: Path, fold: str) -> tuple[pa.Table, np.ndarray]:
    """Return document, domain and author of each document of a fold, and the order that a hash of their names gives."""
    columns = ["document", "domain", "author"]
    table = pq.read_table(folder / "documents.parquet", columns=columns, filters=[("fold", "=", fold)])
    batches = table.select(["document"]).to_batches(GROUP_DOCUMENTS)
    return table, name_order(name for batch in batches for name in batch["document"].to_pylist())


def write_names(table: pa.Table, order: np.ndarray, path: Path) -> None:
    """Write the rows of a table in this order as an Arrow file, which `names` reads."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        for start in range(0, len(order), GROUP_DOCUMENTS):
            writer.write_table(table.take(order[start : start + GROUP_DOCUMENTS]))


def names(path: Path) -> pa.Table:
    """Map what `write_names` wrote, without loading it into memory."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def fold_texts(folder: Path, fold: str) -> Iterator[list[str]]:
    """Yield the texts of one fold from a corpus artifact, in its order, a few at a time."""
    with pq.ParquetFile(folder / "documents.parquet", pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=DOCUMENTS_AT_ONCE, columns=["text", "fold"]):
            yield batch.filter(pc.equal(batch["fold"], fold))["text"].to_pylist()


_Batches = Callable[[], Iterator[pa.RecordBatch]]
"""The rows of a corpus as batches of the schema ROWS. They can be iterated more than once."""


def _columns(config: CorpusConfig) -> dict[str, str]:
    """Return the name of the column for each of ROLES that a study names."""
    columns = {field: getattr(config, field) for field in FIELDS if getattr(config, field) is not None}
    if config.splits is not None and config.splits.column is not None:
        columns[SPLIT] = config.splits.column
    return columns


@contextlib.contextmanager
def _loaded(config: CorpusConfig, marks: Marks) -> Iterator[_Batches]:
    """Read the columns of a corpus that the study names. Those of files lie in a temporary file until the exit."""
    found = files.find_files(config).files
    columns = _columns(config)
    if not found:
        yield hub_batches(config, columns, marks)
        return
    if not any(file.path.stat().st_size for file in found):
        raise InputError(f"corpus {config.path} is empty: 0 bytes")
    spool = tempfile.TemporaryFile(prefix="lab-corpus-")  # noqa: SIM115  closed below
    try:
        with space.temporary_full_in_one_line("the text of a corpus"):
            with pa.ipc.new_stream(spool, ROWS) as writer:
                for file in found:
                    for batch in read_rows(file, columns, marks):
                        writer.write_batch(of_split(batch, file.split))
            spool.flush()

        def batches() -> Iterator[pa.RecordBatch]:
            spool.seek(0)
            with pa.ipc.open_stream(spool) as reader:
                yield from reader

        yield batches
    finally:
        with contextlib.suppress(OSError):  # a full disk does not take the rest now either
            spool.close()


def _documents(batches: _Batches, config: CorpusConfig, new: np.ndarray) -> Iterator[dict[str, Any]]:
    """Yield the documents of the rows that are `new`, cut into pieces where the study sets `corpus.piece`."""
    for index, row in enumerate(row for batch in batches() for row in batch.to_pylist()):
        if not new[index]:
            continue
        for field in FIELDS:
            if row[field] is None and getattr(config, field) is not None:
                raise InputError(
                    f'corpus {config.path}: row {index} has no value in column "{getattr(config, field)}" '
                    f"(corpus.{field})"
                )
        document = {**row, "document": str(index) if row["document"] is None else row["document"]}
        if config.domain is None:
            document["domain"] = "all"
        if config.group is None:
            document["group"] = hashlib.sha256(row["text"].encode()).hexdigest()
        keep = config.group is not None
        yield from cut_document(document, config.piece, keep_group=keep) if config.piece else [document]


def cut_document(document: Mapping[str, Any], size: int, *, keep_group: bool) -> list[dict[str, Any]]:
    """Cut a document into contiguous pieces of about `size` characters.

    Cuts are at line ends. A line longer than `size` is cut at white space or, if it has none, after `size` characters.
    Each piece is a group of its own, unless `keep_group`: groups that the user named stay whole.
    """
    parts: list[list[str]] = [[]]
    length = 0
    for line in document["text"].splitlines(keepends=True):
        for words in [line] if len(line) <= size else re.findall(r"\S*\s*", line):
            for word in (words[start : start + size] for start in range(0, len(words), size)):
                if length >= size:
                    parts.append([])
                    length = 0
                parts[-1].append(word)
                length += len(word)
    pieces = ["".join(part) for part in parts]
    named = [(f"{document['document']}/{number}", piece) for number, piece in enumerate(pieces) if piece.strip()]
    return [
        {**document, "text": piece, "document": name, "group": document["group"] if keep_group else name}
        for name, piece in named
    ]
