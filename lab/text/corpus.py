"""Human text in: documents through `datasets`, and their folds, by group.  No more than a part is ever in memory."""

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
"""index_col: else pandas takes the first column of a CSV with one field too many in each row as row names."""
COMPRESSION = 3
"""How much smaller text is inside Parquet, about."""
MOST_FILES = 100_000
"""Of a folder: they are all opened at each start, to tell whether the corpus changed."""
COLUMNS = ("text", "domain", "author", "group")
"""What a study may name a column for."""
DOCUMENTS = pa.schema([(name, pa.string()) for name in ("text", "domain", "author", "document", "group", "fold")])
GROUP_BYTES = 1 << 24
"""Text in a row group of documents.parquet, about: what is in memory at one time."""
GROUP_DOCUMENTS = 1 << 14
"""And no more documents than this: each is an object of Python's while it waits."""
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
"""Formats that `datasets` unpacks, and the bytes by which they are known, with their place."""


def local_files(path: str) -> list[Path]:
    """The corpus files behind a local path, sorted.  Relative paths are tried here, then in the lab's own folder.

    InputError when the path looks local and is missing, holds no corpus file, or holds several kinds.
    An empty list means: not local, so the id of a hub data set.
    """
    found = next((base for base in (Path(path), ROOT / path) if path.strip() and base.exists()), None)
    if found is None:
        if path.count("/") == 1 and not path.startswith((".", "/", "~")) and Path(path).suffix not in FORMATS:
            return []
        raise InputError(f"corpus.path {path} does not exist; give a file ({', '.join(FORMATS)}), a folder or a hub id")
    files = [found] if found.is_file() else _below(found) if found.is_dir() else []
    if not files or files[0].suffix not in FORMATS:
        raise InputError(f"corpus.path {path}: no {', '.join(FORMATS)} file there")
    return files


def _below(folder: Path) -> list[Path]:
    """The corpus files of a folder and its subfolders, sorted.  It gives up at the first that cannot be right."""
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
    """Else os.walk leaves out what it may not read, without a word."""
    raise InputError(f"corpus.path: {error.filename} cannot be read: {error.strerror}") from None


def identity(config: CorpusConfig) -> str:
    """What the corpus *is*: the hash of its files' bytes, or a hub data set's resolved revision.  Part of the key."""
    files = local_files(config.path)
    if files:
        return digest([[FORMATS[file.suffix], file_sha256(file)] for file in files])
    return hub_revision("dataset", config.path, config.revision, "corpus.path")


def text_bytes(path: str) -> int:
    """Bytes of text in a local corpus, about; 0 for a hub data set, whose size is not known before it is read."""
    return sum(file.stat().st_size * (COMPRESSION if file.suffix == ".parquet" else 1) for file in local_files(path))


def hub_revision(kind: str, name: str, revision: str | None, field: str) -> str:
    """The commit that a hub id stands for now.  InputError when the hub cannot be asked or does not know it."""
    if revision and len(revision) == 40:
        return f"{name}@{revision}"
    from huggingface_hub import HfApi

    try:
        return f"{name}@{HfApi().repo_info(name, repo_type=kind, revision=revision).sha}"
    except Exception as error:
        said = brief(error, 120)
        raise InputError(
            f"{field} {name} is no local path, and the hub could not resolve it ({type(error).__name__}: {said}); "
            "offline, download it first and give the folder"
        ) from error


def read_documents(config: CorpusConfig) -> pa.Table:
    """Columns text, domain, author, document, group, fold.  InputError for anything unusable."""
    return pa.concat_tables(_tables(config))


def write_documents(config: CorpusConfig, path: Path) -> None:
    """The same table as a Parquet file, of which no more than a row group is ever in memory."""
    with pq.ParquetWriter(path, DOCUMENTS, compression="zstd") as writer:
        for table in _tables(config):
            writer.write_table(table)


def _tables(config: CorpusConfig) -> Iterator[pa.Table]:
    """The documents with their folds, in tables of about GROUP_BYTES.

    The source is read three times: what is a copy is known at the end, and folds need the sizes of what is none.
    """
    with _source(config) as source:
        _check_columns(source, config)
        new = first_copies(text for batch in source.batches() for text in batch[config.text].to_pylist())
        if not new.any():
            raise InputError(f"corpus {config.path} is empty: {source.rows} rows, none with text")
        folds, groups = assign_folds((d["group"], d["domain"], _size(d)) for d in _documents(source, config, new))
        _check_folds(groups, folds, config)
        held, bytes_, names = [], 0, list(SHARES)
        for document, fold in zip(_documents(source, config, new), folds, strict=True):
            held.append({**document, "fold": names[fold]})
            bytes_ += _size(document)
            if bytes_ >= GROUP_BYTES or len(held) == GROUP_DOCUMENTS:
                yield pa.Table.from_pylist(held, schema=DOCUMENTS)
                held, bytes_ = [], 0
        if held:
            yield pa.Table.from_pylist(held, schema=DOCUMENTS)


def _size(document: Mapping[str, Any]) -> int:
    return len(document["text"].encode("utf-8", "replace"))


def _check_folds(groups: int, folds: np.ndarray, config: CorpusConfig) -> None:
    missing = [fold for place, fold in enumerate(SHARES) if place not in folds]
    if missing:
        cure = "lower corpus.piece" if config.piece else "set corpus.piece=8000 to cut documents after 8,000 characters"
        raise InputError(
            f"corpus {config.path} has {groups} groups, too few to divide: no text for {', '.join(missing)}; "
            f"add documents{'' if config.group else ', or ' + cure}"
        )


def fold_order(folder: Path, fold: str) -> tuple[pa.Table, np.ndarray]:
    """Document, domain and author of the documents of one fold, and the order that a hash of their names decides."""
    columns = ["document", "domain", "author"]
    table = pq.read_table(folder / "documents.parquet", columns=columns, filters=[("fold", "=", fold)])
    batches = table.select(["document"]).to_batches(GROUP_DOCUMENTS)
    return table, name_order(name for batch in batches for name in batch["document"].to_pylist())


def write_names(table: pa.Table, order: np.ndarray, path: Path) -> None:
    """The rows of a table in this order, to be mapped by `names`."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        for start in range(0, len(order), GROUP_DOCUMENTS):
            writer.write_table(table.take(order[start : start + GROUP_DOCUMENTS]))


def names(path: Path) -> pa.Table:
    """What `write_names` wrote, in no memory of this process's own."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def fold_texts(folder: Path, fold: str) -> Iterator[list[str]]:
    """The texts of one fold, as they stand in a corpus artifact, a few at a time."""
    with pq.ParquetFile(folder / "documents.parquet", pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=DOCUMENTS_AT_ONCE, columns=["text", "fold"]):
            yield batch.filter(pc.equal(batch["fold"], fold))["text"].to_pylist()


@dataclass(frozen=True)
class _Source:
    """Text that `datasets` has read, as Arrow batches that can be gone through more than once."""

    schema: pa.Schema
    rows: int
    batches: Callable[[], Iterator[pa.RecordBatch]]


@contextlib.contextmanager
def _source(config: CorpusConfig) -> Iterator[_Source]:
    """What `datasets` reads, without leaving a cache behind for local files."""
    import datasets

    files = local_files(config.path)
    if files and not any(file.stat().st_size for file in files):
        raise InputError(f"corpus {config.path} is empty: 0 bytes")
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what goes wrong is said once, below
    with tempfile.TemporaryDirectory(prefix="lab-corpus-") as cache:
        with _said(config):
            if not files:
                loaded = datasets.load_dataset(config.path, config.subset, split=config.split, revision=config.revision)
            else:
                kind = FORMATS[files[0].suffix]
                options: dict[str, Any] = OPTIONS.get(kind, {})
                paths = {"train": _plainly_named(files, Path(cache))}
                with warnings.catch_warnings():
                    warnings.simplefilter("error")  # pandas only warns when a CSV row has more fields than the header
                    loaded = datasets.load_dataset(
                        kind, data_files=paths, split="train", cache_dir=cache, keep_in_memory=False, **options
                    )

        def batches() -> Iterator[pa.RecordBatch]:
            with _said(config):
                for batch in _read(loaded.cache_files) if files else _taken(loaded):
                    batch.validate(full=True)  # JSON and Parquet are read without a look at their UTF-8
                    yield batch

        yield _Source(loaded.features.arrow_schema, len(loaded), batches)


def _read(files: Sequence[Mapping[str, str]]) -> Iterator[pa.RecordBatch]:
    """The whole of a data set, read and not mapped: pages of a mapped file would count as this process's memory."""
    for entry in files:
        with pa.OSFile(entry["filename"]) as file, pa.ipc.open_stream(file) as stream:
            yield from stream


def _taken(loaded: Any) -> Iterator[pa.RecordBatch]:
    """The rows that a split names: its files may hold more."""
    for table in loaded.with_format("arrow").iter(batch_size=DOCUMENTS_AT_ONCE):
        yield from table.combine_chunks().to_batches()


def _plainly_named(files: Sequence[Path], folder: Path) -> list[str]:
    """Links to the files under plain names, in order: `datasets` takes * ? [ for patterns, and $HOME and :: for more.

    InputError for a packed file: `datasets` would unpack it, to whatever size, under whatever name it has.
    """
    links = []
    for number, file in enumerate(files):
        with file.open("rb") as opened:
            head = opened.read(512)
        packed = next((kind for kind, (place, magic) in PACKED.items() if head[place:].startswith(magic)), None)
        if packed:
            raise InputError(
                f"corpus file {file} is a {packed} archive, not {file.suffix}: unpack it and give what is in it"
            )
        links.append(folder / f"{number:06d}{file.suffix}")
        links[-1].symlink_to(file.absolute())
    return [os.fspath(link) for link in links]


@contextlib.contextmanager
def _said(config: CorpusConfig) -> Iterator[None]:
    """InputError for whatever a reader makes of a file that it cannot read."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        raise InputError(f"corpus {config.path} cannot be read: {type(cause).__name__}: {brief(cause, 200)}") from error


def _check_columns(source: _Source, config: CorpusConfig) -> None:
    for name in COLUMNS:
        column = getattr(config, name)
        if column is not None and column not in source.schema.names:
            hint = suggestion(column, source.schema.names) or f"; it has {', '.join(source.schema.names)}"
            raise InputError(f'corpus {config.path} has no column "{column}" (corpus.{name}){hint}')
    kind = source.schema.field(config.text).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InputError(f'corpus {config.path}: column "{config.text}" (corpus.text) holds {kind}, not text')


def _documents(source: _Source, config: CorpusConfig, new: np.ndarray) -> Iterator[dict[str, Any]]:
    """The documents of the rows that are `new`, cut into pieces where the study says so."""
    wanted = {name: getattr(config, name) for name in COLUMNS}
    first = 0
    for batch in source.batches():
        columns = {name: batch[column].to_pylist() for name, column in wanted.items() if column is not None}
        here = range(first, first + len(batch))
        names = batch["document"].to_pylist() if "document" in source.schema.names else here
        first = here.stop
        for place, (index, name, text) in enumerate(zip(here, names, columns["text"], strict=True)):
            if not new[index]:
                continue
            values = {name: column[place] for name, column in columns.items()}
            meta = {field: _label(values, field, index, config) for field in ("domain", "author", "group")}
            document = {**meta, "text": text, "document": str(name)}
            if config.domain is None:
                document["domain"] = "all"
            if config.group is None:
                document["group"] = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
            whole = config.group is not None
            yield from cut_document(document, config.piece, keep_group=whole) if config.piece else [document]


def _label(values: Mapping[str, Any], field: str, index: int, config: CorpusConfig) -> str | None:
    if field not in values:
        return None
    if values[field] is None:
        column = getattr(config, field)
        raise InputError(f'corpus {config.path}: row {index} has no value in column "{column}" (corpus.{field})')
    return str(values[field])


def cut_document(document: Mapping[str, Any], size: int, *, keep_group: bool) -> list[dict[str, Any]]:
    """Contiguous pieces of about `size` characters, cut at line ends, an overlong line at white space or, without any,
    after `size` characters.

    Each piece is a group of its own, unless the user named groups: those stay whole.
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
