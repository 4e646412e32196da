"""Rows of tokens: cut from documents, chosen for a seed, and written, with a part in memory at a time."""

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

from lab.curators.table import LEAST
from lab.errors import InputError, plural
from lab.metrics.texts import before_end
from lab.seeds import derive_seed, generator
from lab.store import space

ROWS_AT_ONCE = 4096
"""Rows whose tokens of text are counted at one time."""
RUN = 16
"""Rows of neighbouring documents that are dealt together: so short documents lose hardly a row."""
GROUP_TOKENS = 1 << 20
"""Tokens in a row group of rows.parquet, about."""


@dataclass(frozen=True)
class Rows:
    """N rows of T tokens, and the index of the document that each token comes from."""

    tokens: np.ndarray
    """[N, T]"""
    document: np.ndarray
    """[N, T]"""


def token_type(vocab_size: int) -> type[np.unsignedinteger[Any]]:
    """Return the smallest type, 2 or 4 bytes, that holds every token of a vocabulary."""
    return np.uint16 if vocab_size <= 2**16 else np.uint32


class Encoded:
    """The tokens of documents in a temporary file, which can be iterated in another order than they were written."""

    def __init__(self, documents: Iterable[Sequence[int]], order: Sequence[int] | np.ndarray, vocab_size: int) -> None:
        self.file = tempfile.TemporaryFile(prefix="lab-tokens-")  # noqa: SIM115  closed by __exit__
        self.dtype, lengths = np.dtype(token_type(vocab_size)), array("q")
        with space.temporary_full_in_one_line("the tokens of a corpus"):
            for tokens in documents:
                self.file.write(np.asarray(tokens, self.dtype).data)
                lengths.append(len(tokens))
            self.file.flush()
        self.lengths = np.frombuffer(lengths, np.int64)
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.order = order

    def __enter__(self) -> Encoded:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __iter__(self) -> Iterator[np.ndarray]:
        for number in self.order:
            self.file.seek(int(self.starts[number]) * self.dtype.itemsize)
            yield np.frombuffer(self.file.read(int(self.lengths[number]) * self.dtype.itemsize), self.dtype)


def write_cut(folder: Path, fold: str, documents: Encoded, layout: str, *, eos: int, positions: int) -> None:
    """Write {fold}.npy, rows of `positions` tokens, and {fold}-document.npy, the number of the document of each token.

    Layout `blocks`: documents are joined with EOS and cut. A last incomplete row is dropped.
    [[1, 2], [3]], EOS 0, 2 positions -> tokens [[1, 2], [0, 3]], document [[0, 0], [0, 1]]

    Layout `documents`: each document begins a row and ends with EOS. A document longer than a row continues in the
    next rows. The rest of its last row is filled with EOS, which has no meaning there.
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
    """Choose `count` rows of a held-out fold, the same for every seed.

    Raises:
        InputError: the fold has fewer rows.
    """
    available = len(rows.tokens)
    check_held_out(rows.tokens, count, fold)
    chosen = np.sort(generator(derive_seed(0, 0, f"{fold} rows")).permutation(available)[:count])
    return Rows(rows.tokens[chosen], rows.document[chosen])


def check_held_out(tokens: np.ndarray, count: int, fold: str) -> None:
    """Raise InputError if a held-out fold, [N, T], has fewer than `count` rows."""
    if count > len(tokens):
        name = {"test": "metrics.test_tokens", "validation": "train.validation_tokens"}[fold]
        raise InputError(
            f"the {fold} fold has {tokens.size:,} tokens in whole rows, fewer than {name} = "
            f"{count * tokens.shape[1]:,}: lower it to {tokens.size} or give more text"
        )


def check_train(tokens: np.ndarray, wanted: int) -> None:
    """Raise InputError if the train fold, [N, T], has fewer than `wanted` rows."""
    if wanted > len(tokens):
        asked = wanted * tokens.shape[1]
        raise InputError(
            f"the train fold has {tokens.size:,} tokens in whole rows, and {asked:,} are wanted, for "
            "corpus.tokens, and beside them corpus.archive_tokens and train.base.tokens (if any) and metrics.tokens "
            "(the human resample): lower them or give more text"
        )


def draw_rows(tokens: np.ndarray, seed: int, start: int, count: int) -> np.ndarray:
    """Return the indices of the rows start .. start + count of the train fold, in a seed's own random order.

    In this order the seed's own rows come first, then its archive, then the rows of its base model, then the human
    resample that survival is compared with.

    Args:
        tokens: the train fold, [N, T].
        seed: the seed.
        start: rows in the seed's order that others use.
        count: how many rows to return.

    Raises:
        InputError: the fold has too few rows.
    """
    check_train(tokens, start + count)
    order = generator(derive_seed(seed, 0, "human")).permutation(len(tokens))
    return order[start : start + count]


def half_rows(owner: np.ndarray, half: int, count: int, among: np.ndarray | None = None) -> np.ndarray:
    """Return the indices of `count` rows of one half of the reference fold, or of all that it has, in random order.

    No document is in two of them.

    Args:
        owner: the document of each token, [N, T].
        half: 0 for half A, 1 for half B, 2 and 3 for two equal parts of half B.
        count: most rows to return.
        among: which documents the rows may come from, bool [documents]; None means all.

    Raises:
        InputError: half A or B has no row, or a part fewer than curators are fitted to.
    """
    chosen = _half(owner, np.arange(len(owner)), second=half > 0)
    if half > 1:
        chosen = _dealt(owner, chosen, second=half > 2)
        if len(chosen) < LEAST:
            raise InputError(
                f"the reference fold has {plural(len(chosen), 'row')} for curators to trust or to fit a model to, and "
                f"{LEAST} are the least: give more text, or do without the curators that need them"
            )
    if among is not None:
        chosen = chosen[among[owner[chosen, 0]] & among[owner[chosen, -1]]]
    if not len(chosen):
        raise InputError("the reference fold has no row for half A or B: give more text, or set profile.judge: false")
    return generator(derive_seed(0, half, "reference half")).permutation(chosen)[:count]


def _half(owner: np.ndarray, rows: np.ndarray, *, second: bool) -> np.ndarray:
    """Return the first or the second half of rows that stand in the order of their documents; none share a document."""
    middle = len(rows) // 2
    if not second or not middle:
        return rows[:middle]
    return np.asarray(rows[owner[rows, 0] > owner[rows[middle - 1], -1]])


def _dealt(owner: np.ndarray, rows: np.ndarray, *, second: bool) -> np.ndarray:
    """Return one of two parts of rows that stand in the order of their documents; none share a document.

    Neighbouring documents are dealt in runs of RUN rows or more (fewer where there are few), each to the part that has
    fewer.  In the order of a fold neighbours are alike, because each domain has a range of its own in it, so two halves
    of it would differ in domains.
    """
    if not len(rows):
        return rows
    first, last = owner[rows, 0], owner[rows, -1]
    sizes = np.bincount(first, minlength=int(last.max()) + 1)
    parts, totals, run, most = np.zeros(len(sizes), np.int8), [0, 0], 0, min(RUN, max(1, len(rows) // 8))
    for document, size in enumerate(sizes):
        if run >= most:
            parts[document:], run = int(totals[1] < totals[0]), 0
        totals[parts[document]] += size
        run += size
    return np.asarray(rows[(parts[first] == second) & (parts[last] == second)])


class TokenFile:
    """A .npy file of integers, written piece by piece in order, with the bytes that np.save would write."""

    def __init__(self, path: Path, dtype: Any, shape: tuple[int, int]) -> None:
        self.file, self.dtype, self.left = path.open("wb"), np.dtype(dtype), shape[0] * shape[1]
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.file, header)

    def append(self, values: np.ndarray) -> None:
        """Write the next values. Values beyond the shape are dropped."""
        kept = values.ravel()[: self.left]
        self.left -= len(kept)
        self.file.write(kept.astype(self.dtype, copy=False).data)

    def close(self) -> None:
        """Close the file, which must be complete."""
        assert self.left == 0, self.left
        self.file.close()


def write_rows(
    folder: Path,
    shape: tuple[int, int],
    block: Callable[[slice], tuple[np.ndarray, Mapping[str, Any]]],
    *,
    origin: int,
) -> None:
    """Write a corpus artifact: rows.parquet for people and libraries, and tokens.npy, which training maps.

    Args:
        folder: the folder to write into.
        shape: rows and positions.
        block: returns the tokens [B, T] of a slice of rows, and columns for them: any of "text", "domain", "document"
            and "nats", each a list or an array. A column left out is null.
        origin: who wrote the rows, as in `lab.recipe`.
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
    """Return the indices of as many rows as hold `budget` tokens of text, from `after` on in the seed's order.

    This is for layout `documents`, where only tokens before the end of a document count.

    Args:
        tokens: the train fold, [N, T].
        human: the seed's own rows, which must hold `budget` tokens of text too.
        eos: the token that ends a document.
        seed: the seed.
        after: rows in the seed's order that others use.
        prompt: tokens at the head of each row that do not count.
        budget: tokens of text that are compared.

    Raises:
        InputError: the rows, or the seed's own rows, hold too few tokens of text.
    """
    order = draw_rows(tokens, seed, after, len(tokens) - after)
    taken = 0
    for name, rows, chosen in (
        ("corpus.tokens", human, np.arange(len(human))),
        ("the train fold beside it", tokens, order),
    ):
        held, taken = 0, 0
        while held < budget and taken < len(chosen):  # some at a time: the fold may be larger than memory
            upto = before_end(rows[chosen[taken : taken + ROWS_AT_ONCE]], eos)[:, prompt:].sum(axis=1).cumsum() + held
            held, taken = int(upto[-1]), taken + min(int(np.searchsorted(upto, budget)) + 1, len(upto))
        if held < budget:
            raise InputError(
                f"metrics.tokens is {budget:,}, and the documents of {name} hold {held:,} tokens of text"
                f"{' after prompts' if prompt else ''}: lower it, raise corpus.tokens or give more text"
            )
    return order[:taken]
