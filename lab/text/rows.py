"""Text as rows of tokens: cut from documents, chosen for a seed, and written, never all of it in memory."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lab.errors import InputError
from lab.metrics.texts import before_end
from lab.seeds import derive_seed, generator

ROWS_AT_ONCE = 4096
GROUP_TOKENS = 1 << 20
"""Tokens in a row group of rows.parquet, about."""


@dataclass(frozen=True)
class Rows:
    """N rows of T tokens, with the index of the document that each token comes from."""

    tokens: np.ndarray
    document: np.ndarray


def token_type(vocab_size: int) -> type[np.unsignedinteger[Any]]:
    return np.uint16 if vocab_size <= 2**16 else np.uint32


class Encoded:
    """The tokens of documents, in a temporary file, to be read in another order than they came in."""

    def __init__(self, documents: Iterable[Sequence[int]], order: Sequence[int] | np.ndarray, vocab_size: int) -> None:
        self.file = tempfile.TemporaryFile(prefix="lab-tokens-")  # noqa: SIM115  closed by __exit__
        self.dtype, lengths = np.dtype(token_type(vocab_size)), array("q")
        for tokens in documents:
            self.file.write(np.asarray(tokens, self.dtype).data)
            lengths.append(len(tokens))
        self.lengths = np.frombuffer(lengths, np.int64)
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.order = order

    def __enter__(self) -> Encoded:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __iter__(self) -> Iterator[np.ndarray]:
        for place in self.order:
            self.file.seek(int(self.starts[place]) * self.dtype.itemsize)
            yield np.frombuffer(self.file.read(int(self.lengths[place]) * self.dtype.itemsize), self.dtype)


def write_cut(folder: Path, fold: str, documents: Encoded, layout: str, *, eos: int, positions: int) -> None:
    """{fold}.npy, rows of `positions` tokens, and {fold}-document.npy, the number of the document of each token.

    Layout `blocks`: documents are joined with EOS and cut; a last incomplete row is dropped.
    [[1, 2], [3]], EOS 0, 2 positions -> tokens [[1, 2], [0, 3]], document [[0, 0], [0, 1]]

    Layout `documents`: each document begins a row and is ended by EOS; one longer than a row goes on in the next ones,
    and what is left of its last row is EOS too, and means nothing.
    [[1, 2, 3], [4]], EOS 0, 2 positions -> tokens [[1, 2], [3, 0], [4, 0]]
    """
    lengths = documents.lengths + 1
    rows = int((-(-lengths // positions)).sum() if layout == "documents" else lengths.sum() // positions)
    names = {f"{fold}.npy": documents.dtype, f"{fold}-document.npy": np.int32}
    tokens, owners = (TokenFile(folder / name, dtype, (rows, positions)) for name, dtype in names.items())
    for number, document in enumerate(documents):
        size = len(document) + 1
        if layout == "documents":
            size = -(-size // positions) * positions
        tokens.append(np.append(document, np.full(size - len(document), eos, documents.dtype)))
        owners.append(np.full(size, number, np.int32))
    tokens.close()
    owners.close()


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


class TokenFile:
    """A .npy file of integers that is written a piece at a time, in order, as np.save writes it at once."""

    def __init__(self, path: Path, dtype: Any, shape: tuple[int, int]) -> None:
        self.file, self.dtype, self.left = path.open("wb"), np.dtype(dtype), shape[0] * shape[1]
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.file, header)

    def append(self, values: np.ndarray) -> None:
        """What goes beyond the shape is dropped."""
        kept = values.ravel()[: self.left]
        self.left -= len(kept)
        self.file.write(kept.astype(self.dtype, copy=False).data)

    def close(self) -> None:
        assert self.left == 0, self.left
        self.file.close()


def write_rows(
    folder: Path,
    shape: tuple[int, int],
    block: Callable[[slice], tuple[np.ndarray, Mapping[str, Any]]],
    *,
    origin: int,
) -> None:
    """A corpus artifact: rows.parquet is the record people and libraries read, tokens.npy what training maps.

    `block` gives some of its rows [B, T], and what is known of them, a list or an array for each of "text", "domain",
    "document" and "nats".
    """
    rows, positions = shape
    size = max(1, GROUP_TOKENS // positions)
    schema = pa.schema(
        [
            ("text", pa.string()),
            ("tokens", pa.list_(pa.int32())),
            ("origin", pa.int16()),
            ("domain", pa.string()),
            ("document", pa.string()),
            ("nats", pa.float32()),
        ]
    )
    saved = None
    with pq.ParquetWriter(folder / "rows.parquet", schema, compression="zstd") as writer:
        for start in range(0, rows, size):
            tokens, known = block(slice(start, min(start + size, rows)))
            saved = saved or TokenFile(folder / "tokens.npy", tokens.dtype, shape)
            saved.append(tokens)
            flat = pa.FixedSizeListArray.from_arrays(pa.array(tokens.astype(np.int32).ravel()), positions)
            columns = {"tokens": flat.cast(pa.list_(pa.int32())), "origin": np.full(len(tokens), origin, np.int16)}
            columns |= {name: pa.array(values, schema.field(name).type) for name, values in known.items()}
            empty = {name: pa.nulls(len(tokens), schema.field(name).type) for name in schema.names}
            writer.write_table(pa.table({**empty, **columns}, schema=schema))
    assert saved is not None, "no rows"
    saved.close()


def enough_rows(
    tokens: np.ndarray, human: np.ndarray, *, eos: int, seed: int, after: int, prompt: int, budget: int
) -> np.ndarray:
    """Rows of documents, from `after` on, until they hold as many tokens of text as are compared.

    InputError where they, or the seed's own rows `human`, do not hold so many.
    """
    order = draw_rows(tokens, seed, after, len(tokens) - after)
    taken = 0
    for name, rows, chosen in (
        ("corpus.tokens", human, np.arange(len(human))),
        ("the train fold beside it", tokens, order),
    ):
        found, taken = 0, 0
        while found < budget and taken < len(chosen):  # some at a time: the fold may be larger than memory
            text = before_end(rows[chosen[taken : taken + ROWS_AT_ONCE]], eos)[:, prompt:].sum(axis=1).cumsum() + found
            found, taken = int(text[-1]), taken + min(int(np.searchsorted(text, budget)) + 1, len(text))
        if found < budget:
            raise InputError(
                f"metrics.tokens is {budget:,}, and the documents of {name} hold {found:,} tokens of text"
                f"{' behind prompts' if prompt else ''}: lower it, raise corpus.tokens or give more text"
            )
    return order[:taken]
