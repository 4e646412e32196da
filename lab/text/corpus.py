"""Human text from files or the hub: documents read through `datasets`, and the fold of each one.

Documents pass through in batches. No more than a part of a corpus is ever in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lab.config.files import ROOT
from lab.config.text import CorpusConfig
from lab.errors import InputError, brief
from lab.hashing import digest
from lab.lookup import suggestion
from lab.store.atomic import file_sha256
from lab.text.folds import SHARES as SHARES
from lab.text.folds import assign_folds, first_copies, name_order

OPTIONS: dict[str, dict[str, Any]] = {"text": {"sample_by": "document"}, "csv": {"index_col": False}}
"""Options of `datasets` for each format. index_col: without it, if each row of a CSV has one field too many, pandas
takes the first column for row names."""
COMPRESSION = 3
"""Bytes of text per byte of Parquet, about."""
MOST_FILES = 100_000
"""Most files that a corpus folder may hold. Every start opens them all, to see whether the corpus changed."""
COLUMNS = ("text", "domain", "author", "group")
"""Fields of CorpusConfig that name a column."""
DOCUMENTS = pa.schema([(name, pa.string()) for name in ("text", "domain", "author", "document", "group", "fold")])
GROUP_BYTES = 1 << 24
"""Bytes of text in a row group of documents.parquet, about. One row group is in memory at a time."""
GROUP_DOCUMENTS = 1 << 14
"""Most documents in a row group. Each is a Python object while it waits."""
DOCUMENTS_AT_ONCE = 32
FORMATS = {".txt": "text", ".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
PACKED = {
    "zip": (0, b"PK\x03\x04"),
    "gzip": (0, b"\x1f\x8b"),
    "bzip2": (4, b"1AY&SY"),
    "xz": (0, b"\xfd7zXZ"),
    "zstd": (0, b"\x28\xb5\x2f\xfd"),
    "lz4": (0, b"\x04\x22\x4d\x18"),
    "7z": (0, b"7z\xbc\xaf\x27\x1c"),
    "rar": (0, b"Rar!\x1a"),
    "tar": (257, b"ustar"),
}
"""Packed formats that `datasets` would unpack -> the offset and the bytes that identify each one."""


def local_files(path: str) -> list[Path]:
    """Return the corpus files at a local path, sorted. An empty list means that the path is the id of a hub data set.

    A relative path is looked up in the working directory first, then in the lab's own folder.

    Raises:
        InputError: the path looks local, but is missing, holds no corpus file, or mixes formats.
    """
    local = next((candidate for candidate in (Path(path), ROOT / path) if path.strip() and candidate.exists()), None)
    if local is None:
        if path.count("/") == 1 and not path.startswith((".", "/", "~")) and Path(path).suffix not in FORMATS:
            return []
        raise InputError(f"corpus.path {path} does not exist; give a file ({', '.join(FORMATS)}), a folder or a hub id")
    files = [local] if local.is_file() else _files_below(local) if local.is_dir() else []
    if not files or files[0].suffix not in FORMATS:
        raise InputError(f"corpus.path {path}: no {', '.join(FORMATS)} file there")
    return files


def _files_below(folder: Path) -> list[Path]:
    """Return the corpus files of a folder and its subfolders, sorted. Raise InputError at the first unusable one."""
    files: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=_raise):
        here = sorted(Path(parent, name) for name in names if Path(name).suffix in FORMATS)
        links = [name for name in folders if Path(parent, name).is_symlink()]
        if links:
            raise InputError(
                f"corpus.path {folder} holds a link to a folder, {Path(parent, links[0])}: give that itself"
            )
        for file in here:
            if not file.is_file():
                raise InputError(f"corpus.path {folder}: {file} is no file that can be read, or a link to nothing")
            if FORMATS[file.suffix] != FORMATS[(files or here)[0].suffix]:
                raise InputError(
                    f"corpus.path {folder} mixes kinds of files ({(files or here)[0].name}, {file.name}); give one "
                    "kind, or one file"
                )
        files += here
        if len(files) > MOST_FILES:
            raise InputError(f"corpus.path {folder} has more than {MOST_FILES:,} files; join them")
    return sorted(files)


def _raise(error: OSError) -> None:
    """Raise InputError for a folder that may not be read, which os.walk would skip in silence."""
    raise InputError(f"corpus.path: {error.filename} cannot be read: {error.strerror}") from None


def identity(config: CorpusConfig) -> str:
    """Return the identity of a corpus, a part of keys: a hash of its files' bytes, or a hub data set's commit."""
    files = local_files(config.path)
    if files:
        return digest([[FORMATS[file.suffix], file_sha256(file)] for file in files])
    return hub_revision("dataset", config.path, config.revision, "corpus.path")


def text_bytes(path: str) -> int:
    """Estimate the bytes of text in a local corpus. Return 0 for a hub data set, whose size is unknown until read."""
    return sum(file.stat().st_size * (COMPRESSION if file.suffix == ".parquet" else 1) for file in local_files(path))


def hub_revision(kind: str, name: str, revision: str | None, field: str) -> str:
    """Return "name@commit" for the commit that a hub id refers to now.

    Args:
        kind: "dataset" or "model".
        name: the hub id.
        revision: a branch, a tag or a commit. None: the main branch.
        field: the study's field that names the id, for the error message.

    Raises:
        InputError: the hub cannot be reached or does not know the id.
    """
    if revision and len(revision) == 40:
        return f"{name}@{revision}"
    from huggingface_hub import HfApi

    try:
        return f"{name}@{HfApi().repo_info(name, repo_type=kind, revision=revision).sha}"
    except Exception as error:
        raise InputError(
            f"{field} {name} is no local path, and the hub could not resolve it ({type(error).__name__}: "
            f"{brief(error, 120)}); offline, download it first and give the folder"
        ) from error


def read_documents(config: CorpusConfig) -> pa.Table:
    """Return all documents as a table with the columns text, domain, author, document, group and fold.

    Raises:
        InputError: a file, a column or a row is unusable, or there is too little text for four folds.
    """
    return pa.concat_tables(_tables(config))


def write_documents(config: CorpusConfig, path: Path) -> None:
    """Write the table of `read_documents` as a Parquet file, with one row group in memory at a time."""
    with pq.ParquetWriter(path, DOCUMENTS, compression="zstd") as writer:
        for table in _tables(config):
            writer.write_table(table)


def _tables(config: CorpusConfig) -> Iterator[pa.Table]:
    """Yield the documents with their folds, in tables of about GROUP_BYTES.

    The text is read three times: first to find copies, then to assign folds by the sizes of the documents that are
    kept, then to yield them.
    """
    with _loaded(config) as loaded:
        _check_columns(loaded, config)
        new = first_copies(text for batch in loaded.batches() for text in batch[config.text].to_pylist())
        if not new.any():
            raise InputError(f"corpus {config.path} is empty: {loaded.rows} rows, none with text")
        folds, groups = assign_folds((d["group"], d["domain"], _size(d)) for d in _documents(loaded, config, new))
        _check_folds(groups, folds, config)
        waiting, size, fold_names = [], 0, list(SHARES)
        for document, fold in zip(_documents(loaded, config, new), folds, strict=True):
            waiting.append({**document, "fold": fold_names[fold]})
            size += _size(document)
            if size >= GROUP_BYTES or len(waiting) == GROUP_DOCUMENTS:
                yield pa.Table.from_pylist(waiting, schema=DOCUMENTS)
                waiting, size = [], 0
        if waiting:
            yield pa.Table.from_pylist(waiting, schema=DOCUMENTS)


def _size(document: Mapping[str, Any]) -> int:
    """Return the bytes of a document's text."""
    return len(document["text"].encode("utf-8", "replace"))


def _check_folds(groups: int, folds: np.ndarray, config: CorpusConfig) -> None:
    """Raise InputError if a fold has no document."""
    missing = [fold for number, fold in enumerate(SHARES) if number not in folds]
    if missing:
        cure = "lower corpus.piece" if config.piece else "set corpus.piece=8000 to cut documents after 8,000 characters"
        raise InputError(
            f"corpus {config.path} has {groups} groups, too few to divide: no text for {', '.join(missing)}; "
            f"add documents{'' if config.group else ', or ' + cure}"
        )


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


@dataclass(frozen=True)
class _Loaded:
    """Text that `datasets` has read, as Arrow batches that can be iterated more than once."""

    schema: pa.Schema
    rows: int
    batches: Callable[[], Iterator[pa.RecordBatch]]


@contextlib.contextmanager
def _loaded(config: CorpusConfig) -> Iterator[_Loaded]:
    """Load a corpus with `datasets`. The cache of local files is temporary and removed on exit."""
    import datasets

    files = local_files(config.path)
    if files and not any(file.stat().st_size for file in files):
        raise InputError(f"corpus {config.path} is empty: 0 bytes")
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # `_one_line_errors` reports what goes wrong
    with tempfile.TemporaryDirectory(prefix="lab-corpus-") as cache:
        with _one_line_errors(config):
            if not files:
                data = datasets.load_dataset(config.path, config.subset, split=config.split, revision=config.revision)
            else:
                kind = FORMATS[files[0].suffix]
                options: dict[str, Any] = OPTIONS.get(kind, {})
                paths = {"train": _plainly_named(files, Path(cache))}
                with warnings.catch_warnings():
                    warnings.simplefilter("error")  # pandas only warns when a CSV row has more fields than the header
                    data = datasets.load_dataset(
                        kind, data_files=paths, split="train", cache_dir=cache, keep_in_memory=False, **options
                    )

        def batches() -> Iterator[pa.RecordBatch]:
            with _one_line_errors(config):
                for batch in _whole_batches(data.cache_files) if files else _split_batches(data):
                    batch.validate(full=True)  # `datasets` does not check the UTF-8 of JSON and Parquet
                    yield batch

        yield _Loaded(data.features.arrow_schema, len(data), batches)


def _whole_batches(files: Sequence[Mapping[str, str]]) -> Iterator[pa.RecordBatch]:
    """Yield a whole data set by reading its files. Pages of a mapped file would count as this process's memory."""
    for entry in files:
        with pa.OSFile(entry["filename"]) as file, pa.ipc.open_stream(file) as stream:
            yield from stream


def _split_batches(data: Any) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a split, whose files may hold more rows than the split."""
    for table in data.with_format("arrow").iter(batch_size=DOCUMENTS_AT_ONCE):
        yield from table.combine_chunks().to_batches()


def _plainly_named(files: Sequence[Path], folder: Path) -> list[str]:
    """Link the files under plain names into a folder, and return the links in order.

    In a path, `datasets` would read * ? [ as patterns, and $HOME and :: as more than characters.

    Raises:
        InputError: a file is packed. `datasets` would unpack it to any size, whatever its name.
    """
    links = []
    for number, file in enumerate(files):
        with file.open("rb") as opened:
            head = opened.read(512)
        packed = next((kind for kind, (offset, magic) in PACKED.items() if head[offset:].startswith(magic)), None)
        if packed:
            raise InputError(
                f"corpus file {file} is a {packed} archive, not {file.suffix}: unpack it and give what is in it"
            )
        links.append(folder / f"{number:06d}{file.suffix}")
        links[-1].symlink_to(file.absolute())
    return [os.fspath(link) for link in links]


@contextlib.contextmanager
def _one_line_errors(config: CorpusConfig) -> Iterator[None]:
    """Turn any error of a reader into an InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        raise InputError(f"corpus {config.path} cannot be read: {type(cause).__name__}: {brief(cause, 200)}") from error


def _check_columns(loaded: _Loaded, config: CorpusConfig) -> None:
    """Raise InputError if a column that the study names is missing, or if the text column holds no text."""
    for name in COLUMNS:
        column = getattr(config, name)
        if column is not None and column not in loaded.schema.names:
            hint = suggestion(column, loaded.schema.names) or f"; it has {', '.join(loaded.schema.names)}"
            raise InputError(f'corpus {config.path} has no column "{column}" (corpus.{name}){hint}')
    kind = loaded.schema.field(config.text).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InputError(f'corpus {config.path}: column "{config.text}" (corpus.text) holds {kind}, not text')


def _documents(loaded: _Loaded, config: CorpusConfig, new: np.ndarray) -> Iterator[dict[str, Any]]:
    """Yield the documents of the rows that are `new`, cut into pieces where the study sets `corpus.piece`."""
    wanted = {field: getattr(config, field) for field in COLUMNS}
    first = 0
    for batch in loaded.batches():
        columns = {field: batch[column].to_pylist() for field, column in wanted.items() if column is not None}
        indices = range(first, first + len(batch))
        names = batch["document"].to_pylist() if "document" in loaded.schema.names else indices
        first = indices.stop
        for row, (index, name, text) in enumerate(zip(indices, names, columns["text"], strict=True)):
            if not new[index]:
                continue
            values = {field: column[row] for field, column in columns.items()}
            labels = {field: _label(values, field, index, config) for field in ("domain", "author", "group")}
            document = {**labels, "text": text, "document": str(name)}
            if config.domain is None:
                document["domain"] = "all"
            if config.group is None:
                document["group"] = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
            keep = config.group is not None
            yield from cut_document(document, config.piece, keep_group=keep) if config.piece else [document]


def _label(values: Mapping[str, Any], field: str, index: int, config: CorpusConfig) -> str | None:
    """Return a row's label as text, or None if the study names no such column. Raise InputError for an empty cell."""
    if field not in values:
        return None
    if values[field] is None:
        column = getattr(config, field)
        raise InputError(f'corpus {config.path}: row {index} has no value in column "{column}" (corpus.{field})')
    return str(values[field])


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
