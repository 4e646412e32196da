"""Human text in: documents through `datasets`, folds by group, rows of equal length."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lab.lookup import suggestion
from lab.sections import CorpusConfig
from lab.seeds import derive_seed, generator
from lab.store import file_sha256
from lab.studies import ROOT
from lab.types import InputError, digest

SHARES = {"train": 0.65, "reference": 0.20, "validation": 0.05, "test": 0.10}
"""Share of each domain's text in each fold.  The reference fold is for judges that must not share M_0's data."""

OPTIONS: dict[str, dict[str, Any]] = {"text": {"sample_by": "document"}, "csv": {"index_col": False}}
"""index_col: else pandas takes the first column of a CSV with one field too many in each row as row names."""
COMPRESSION = 3
"""How much smaller text is inside Parquet, about."""
MOST_FILES = 100_000
"""Of a folder: they are all opened at each start, to tell whether the corpus changed."""
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


# --- documents -----------------------------------------------------------------------------------------------------


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
        said = " ".join(str(error).split())[:120]
        raise InputError(
            f"{field} {name} is no local path, and the hub could not resolve it ({type(error).__name__}: {said}); "
            "offline, download it first and give the folder"
        ) from error


def read_documents(config: CorpusConfig) -> pa.Table:
    """Columns text, domain, author, document, group, fold.  InputError for anything unusable."""
    table = _load(config)
    documents = _documents(table, config)
    if config.piece:
        whole = config.group is not None
        documents = [
            piece for document in documents for piece in cut_document(document, config.piece, keep_group=whole)
        ]
    folds = assign_folds(
        [str(d["group"]) for d in documents],
        [str(d["domain"]) for d in documents],
        [len(d["text"].encode("utf-8", "replace")) for d in documents],
    )
    missing = [fold for fold in SHARES if fold not in folds]
    if missing:
        groups = len({d["group"] for d in documents})
        cure = "lower corpus.piece" if config.piece else "set corpus.piece=8000 to cut documents after 8,000 characters"
        raise InputError(
            f"corpus {config.path} has {groups} groups, too few to divide: no text for {', '.join(missing)}; "
            f"add documents{'' if config.group else ', or ' + cure}"
        )
    return pa.Table.from_pylist(
        [{**document, "fold": fold} for document, fold in zip(documents, folds, strict=True)],
        schema=pa.schema([(name, pa.string()) for name in ("text", "domain", "author", "document", "group", "fold")]),
    )


def documents(folder: Path, fold: str) -> pa.Table:
    """The documents of one fold from a corpus artifact, in an order that a hash of their names decides."""
    table = pq.read_table(folder / "documents.parquet", filters=[("fold", "=", fold)])
    names = table["document"].to_pylist()
    order = sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).digest())
    return table.take(order)


def _load(config: CorpusConfig) -> pa.Table:
    """The table that `datasets` reads, without leaving a cache behind for local files."""
    import datasets

    files = local_files(config.path)
    if files and not any(file.stat().st_size for file in files):
        raise InputError(f"corpus {config.path} is empty: 0 bytes")
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what goes wrong is said once, below
    with tempfile.TemporaryDirectory(prefix="lab-corpus-") as cache:
        try:
            if not files:
                hub = datasets.load_dataset(config.path, config.subset, split=config.split, revision=config.revision)
                return hub.with_format("arrow")[:]
            kind = FORMATS[files[0].suffix]
            options: dict[str, Any] = OPTIONS.get(kind, {})
            paths = {"train": _plainly_named(files, Path(cache))}
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # pandas only warns when a CSV row has more fields than the header
                loaded = datasets.load_dataset(
                    kind, data_files=paths, split="train", cache_dir=cache, keep_in_memory=True, **options
                )
            table = loaded.with_format("arrow")[:]
            table.validate(full=True)  # JSON and Parquet are read without a look at their UTF-8
            return table
        except InputError:
            raise
        except Exception as error:
            cause = error.__cause__ or error
            said = " ".join(str(cause).split())[:200]
            raise InputError(f"corpus {config.path} cannot be read: {type(cause).__name__}: {said}") from error


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


def _documents(table: pa.Table, config: CorpusConfig) -> list[dict[str, Any]]:
    wanted = {name: getattr(config, name) for name in ("text", "domain", "author", "group")}
    for name, column in wanted.items():
        if column is not None and column not in table.column_names:
            hint = suggestion(column, table.column_names) or f"; it has {', '.join(table.column_names)}"
            raise InputError(f'corpus {config.path} has no column "{column}" (corpus.{name}){hint}')
    kind = table.schema.field(config.text).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InputError(f'corpus {config.path}: column "{config.text}" (corpus.text) holds {kind}, not text')
    columns = {name: table[column].to_pylist() for name, column in wanted.items() if column is not None}
    names = table["document"].to_pylist() if "document" in table.column_names else range(len(table))
    documents, seen = [], set()
    for index, (name, text) in enumerate(zip(names, columns["text"], strict=True)):
        if not text or not text.strip() or text in seen:
            continue
        seen.add(text)
        meta = {field: _label(columns, field, index, config) for field in ("domain", "author", "group")}
        group = meta["group"] if meta["group"] is not None else hashlib.sha256(text.encode()).hexdigest()
        domain = meta["domain"] if meta["domain"] is not None else "all"
        documents.append({**meta, "text": text, "domain": domain, "document": str(name), "group": group})
    if not documents:
        raise InputError(f"corpus {config.path} is empty: {len(table)} rows, none with text")
    return documents


def _label(columns: Mapping[str, Sequence[Any]], field: str, index: int, config: CorpusConfig) -> str | None:
    if field not in columns:
        return None
    value = columns[field][index]
    if value is None:
        column = getattr(config, field)
        raise InputError(f'corpus {config.path}: row {index} has no value in column "{column}" (corpus.{field})')
    return str(value)


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


def assign_folds(groups: Sequence[str], domains: Sequence[str], sizes: Sequence[int]) -> list[str]:
    """The fold of each document.  A group stands in one fold, each domain is divided by SHARES, chance is a hash.

    Within a domain groups come in sha256 order, each to the fold that still lacks the most text.
    A group that spans domains is divided with the first of them by name.
    """
    home: dict[str, str] = {}
    size: dict[str, int] = defaultdict(int)
    for group, domain, bytes_ in zip(groups, domains, sizes, strict=True):
        home[group] = min(home.get(group, domain), domain)
        size[group] += bytes_
    fold: dict[str, str] = {}
    for domain in sorted(set(home.values())):
        members = sorted((g for g in home if home[g] == domain), key=lambda g: hashlib.sha256(g.encode()).digest())
        total = sum(size[group] for group in members)
        lacking = {name: share * total for name, share in SHARES.items()}
        for group in members:
            fold[group] = max(lacking, key=lambda name: lacking[name])
            lacking[fold[group]] -= size[group]
    return [fold[group] for group in groups]


# --- rows ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """N rows of T tokens, with the index of the document that each token comes from."""

    tokens: np.ndarray
    document: np.ndarray


def token_type(vocab_size: int) -> type[np.unsignedinteger[Any]]:
    return np.uint16 if vocab_size <= 2**16 else np.uint32


def cut_rows(documents: Sequence[Sequence[int]], *, eos: int, positions: int, vocab_size: int) -> Rows:
    """Documents joined with EOS, cut into rows of `positions` tokens.  A last incomplete row is dropped.

    cut_rows([[1, 2], [3]], eos=0, positions=2) -> tokens [[1, 2], [0, 3]], document [[0, 0], [0, 1]]
    """
    dtype = token_type(vocab_size)
    stream = [np.append(np.asarray(document, dtype), dtype(eos)) for document in documents]
    tokens = np.concatenate(stream) if stream else np.zeros(0, dtype)
    owner = np.repeat(np.arange(len(stream), dtype=np.int32), [len(document) for document in stream])
    rows = len(tokens) // positions
    return Rows(*(array[: rows * positions].reshape(rows, positions) for array in (tokens, owner)))


def one_a_row(documents: Sequence[Sequence[int]], *, eos: int, positions: int, vocab_size: int) -> Rows:
    """Each document in a row of its own, ended by EOS; the rest of the row is EOS too, and means nothing.

    A document longer than a row goes on in the next ones.
    one_a_row([[1, 2, 3], [4]], eos=0, positions=2) -> tokens [[1, 2], [3, 0], [4, 0]]
    """
    dtype = token_type(vocab_size)
    pieces = [
        ([*document, eos][start : start + positions], owner)
        for owner, document in enumerate(documents)
        for start in range(0, len(document) + 1, positions)
    ]
    tokens = np.full((len(pieces), positions), eos, dtype)
    for row, (piece, _) in enumerate(pieces):
        tokens[row, : len(piece)] = piece
    owners = np.array([owner for _, owner in pieces], dtype=np.int32)
    return Rows(tokens, np.repeat(owners[:, None], positions, axis=1))


def choose_rows(rows: Rows, count: int, fold: str) -> Rows:
    """`count` rows of a held-out fold, the same for every seed.  InputError when there are fewer."""
    have, positions = rows.tokens.shape
    if count > have:
        name = {"test": "metrics.test_tokens", "validation": "train.validation_tokens"}[fold]
        raise InputError(
            f"the {fold} fold has {have * positions:,} tokens in whole rows, fewer than {name} = "
            f"{count * positions:,}: lower it to {have * positions} or give more text"
        )
    chosen = np.sort(generator(derive_seed(0, 0, f"{fold} rows")).permutation(have)[:count])
    return Rows(rows.tokens[chosen], rows.document[chosen])


def draw_rows(tokens: np.ndarray, seed: int, start: int, count: int) -> np.ndarray:
    """Indices of a seed's rows of the train fold [N, T]: places start .. start + count of its own order of them.

    First come the seed's own rows, then its archive, then those of its base, then the human resample that survival is
    read against.  InputError when the fold has fewer.
    """
    if start + count > len(tokens):
        row = tokens.shape[1]
        raise InputError(
            f"the train fold has {tokens.size:,} tokens in whole rows, and {(start + count) * row:,} are wanted, for "
            "corpus.tokens, and beside them corpus.archive_tokens and train.base.tokens (if any) and metrics.tokens "
            "(the human resample): lower them or give more text"
        )
    order = generator(derive_seed(seed, 0, "human")).permutation(len(tokens))
    return order[start : start + count]


def write_rows(
    folder: Path,
    tokens: np.ndarray,
    texts: Sequence[str] | None,
    *,
    origin: int,
    labels: Mapping[str, list[str]],
    nats: Any,
) -> None:
    """A corpus artifact: rows.parquet is the record people and libraries read, tokens.npy what training maps."""
    rows, positions = tokens.shape
    empty = pa.nulls(rows, pa.string())
    table = pa.table(
        {
            "text": empty if texts is None else pa.array(texts, pa.string()),
            "tokens": pa.FixedSizeListArray.from_arrays(pa.array(tokens.astype(np.int32).ravel()), positions).cast(
                pa.list_(pa.int32())
            ),
            "origin": pa.array(np.full(rows, origin, np.int16)),
            "domain": pa.array(labels["domain"]) if "domain" in labels else empty,
            "document": pa.array(labels["document"]) if "document" in labels else empty,
            "nats": pa.nulls(rows, pa.float32()) if nats is None else pa.array(nats.sum(axis=1, dtype=np.float32)),
        }
    )
    pq.write_table(table, folder / "rows.parquet", compression="zstd")
    np.save(folder / "tokens.npy", tokens)
