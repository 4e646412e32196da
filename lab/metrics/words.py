"""Words: where the words of a tokenised text are, and which tokens spell them.

A word is a maximal run of letters (Unicode category L), their marks (category M) and apostrophes (' or U+2019) with at
least one letter, lower-cased and in NFC.  In scripts without spaces, such as Chinese and Thai, each letter with its
marks is a word: see lab/metrics/letters.py.
A word's tokens are those that hold at least one of its characters: " the" belongs to "the".
EOS and every other token without bytes end a word.  A word at the edge of a row may be cut, and is skipped:

    row |ome old men 'll re|   ->   old  men  'll         (ome, re: skipped)

Human and generated text are read by the same rule.  Generated text may hold bytes that are not UTF-8: each is a
character that is no letter, except at the edge of a row, where it may be a piece of a letter that was cut in two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, compress
from operator import ne
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.metrics.letters import ALONE, APOSTROPHE, BROKEN, LETTER, MARK, OTHER, is_unspaced, kinds, one_spelling

COUNTED_AT_ONCE = 1 << 21
"""Tokens whose words are counted together, where only their counts are kept."""
TOKENS_AT_ONCE = 1 << 16
"""Rows are read in blocks of about so many tokens, so that the work arrays stay small.  No result depends on it."""

_HEAD = (np.uint8(255) * np.tri(9, 8, -1, dtype=np.uint8)).view(np.uint64).ravel()
"""Of 8 bytes in one integer, the first 0, 1, ... 8."""


@dataclass(frozen=True)
class Words:
    """The words of rows of tokens, in order.  W = words."""

    types: list[str]
    """The distinct words, sorted."""
    word: NDArray[np.int32]
    """[W] index into types."""
    first: NDArray[np.int64]
    """[W] position of a word's first token in rows.ravel()."""
    last: NDArray[np.int64]
    """[W] position of its last token.  A token that holds characters of two words belongs to both."""
    shape: tuple[int, int]
    """The shape of rows."""

    @property
    def tokens(self) -> int:
        """All tokens of the rows, inside words or not."""
        return self.shape[0] * self.shape[1]

    @property
    def row(self) -> NDArray[np.int64]:
        """[W] the row of each word."""
        return self.first // self.shape[1]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[W] the number of tokens of each word."""
        return self.last - self.first + 1


def find_words(rows: NDArray[np.integer[Any]], token_bytes: Sequence[bytes], eos: int) -> Words:
    """Find the words of rows [N, T].  No rows give no words."""
    if rows.size and int(rows.max()) >= len(token_bytes):
        raise ValueError(f"token {rows.max()} is not in the vocabulary of {len(token_bytes):,} entries")
    table = _ByteTable.of(token_bytes, eos)
    block = max(1, TOKENS_AT_ONCE // max(1, rows.shape[1]))
    blocks = [
        _words_of_block(rows[start : start + block], start * rows.shape[1], table)
        for start in range(0, len(rows), block)
    ]
    first = np.concatenate([np.empty(0, np.int64), *(block.first for block in blocks)])
    last = np.concatenate([np.empty(0, np.int64), *(block.last for block in blocks)])
    spellings: list[str] = []
    word = np.empty(len(first), dtype=np.int32)
    start = np.cumsum([0, *(len(block.first) for block in blocks)])[:-1]
    for width in sorted({width for block in blocks for width in block.spelled}):
        some = [(at, *block.spelled[width]) for at, block in zip(start, blocks, strict=True) if width in block.spelled]
        distinct, which = np.unique(np.concatenate([keys for _, _, keys in some]), return_inverse=True)
        word[np.concatenate([at + index for at, index, _ in some])] = which + len(spellings)
        # One call lowers all words.  Line breaks separate them for the only rule that looks at neighbours: of sigma.
        text = b"\n".join(_characters(distinct, width).tolist())
        spellings += one_spelling(text.decode()).split("\n")
    # Words of one width are sorted except for those that were lowered, so this is a merge and takes little time.
    order = sorted(range(len(spellings)), key=spellings.__getitem__)
    types = list(map(spellings.__getitem__, order))
    new = np.fromiter(map(ne, types, chain([None], types)), np.bool_, len(types))
    lowered = np.empty(len(types), np.int32)
    lowered[order] = np.cumsum(new) - 1
    return Words(list(compress(types, new.tolist())), lowered[word], first, last, (rows.shape[0], rows.shape[1]))


def count_words(rows: NDArray[np.integer[Any]], token_bytes: Sequence[bytes], eos: int) -> dict[str, int]:
    """Count words as word_counts(find_words(rows, ...)) does, for any number of rows: only distinct words are held."""
    counts: dict[str, int] = {}
    block = max(1, COUNTED_AT_ONCE // max(1, rows.shape[1]))
    for start in range(0, len(rows), block):
        for word, count in word_counts(find_words(rows[start : start + block], token_bytes, eos)).items():
            counts[word] = counts.get(word, 0) + count
    return counts


def single_letters(words: Words) -> Words:
    """Return the words that are single letters of scripts without spaces: see lab/metrics/letters.py."""
    single = np.array([is_unspaced(word) for word in words.types], np.bool_)
    chosen = single[words.word]
    types = list(compress(words.types, single.tolist()))
    word = (np.cumsum(single) - 1)[words.word[chosen]].astype(np.int32)
    return Words(types, word, words.first[chosen], words.last[chosen], words.shape)


def word_counts(words: Words) -> dict[str, int]:
    """Count how often each word occurs.  In the chain's human training rows this is a word's training frequency."""
    return dict(zip(words.types, np.bincount(words.word, minlength=len(words.types)).tolist(), strict=True))


def word_nats(words: Words, nats: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the loss of each word in nats, [W]: the sum over its tokens.  Lower = better."""
    if nats.shape != words.shape:
        raise ValueError(f"nats {nats.shape} and rows {words.shape} must have one shape: a loss for each token")
    # Not differences of a cumulative sum: one infinite loss would make every later word's NaN.
    padded = np.append(nats.ravel().astype(np.float64), 0.0)
    bounds = np.stack([words.first, words.last + 1], axis=1).ravel()
    return np.add.reduceat(padded, bounds)[::2] if len(bounds) else np.empty(0)


@dataclass(frozen=True)
class _ByteTable:
    """The bytes of all vocabulary entries in one array, and a last entry that stands for the end of a row.

    ASCII capitals are lower-cased already, which leaves fewer spellings to lower and moves no word.
    """

    data: NDArray[np.uint8]
    start: NDArray[np.int64]
    length: NDArray[np.int64]

    @classmethod
    def of(cls, token_bytes: Sequence[bytes], eos: int) -> _ByteTable:
        # A token without bytes ends a word like a line break does; so does the end of a row.
        pieces = [b"\n" if i == eos or not piece else piece for i, piece in enumerate(token_bytes)] + [b"\n"]
        length = np.array([len(piece) for piece in pieces], dtype=np.int64)
        return cls(np.frombuffer(b"".join(pieces).lower(), np.uint8), np.cumsum(length) - length, length)

    def spell(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
        """Return the bytes of a run of tokens, the token of each byte, and the first byte of each token."""
        length = self.length[ids]
        start = np.cumsum(length) - length
        position = np.repeat(self.start[ids] - start, length)
        position += np.arange(len(position))
        return self.data.take(position), np.repeat(np.arange(len(ids)), length), start


@dataclass(frozen=True)
class _Block:
    """The words of some rows: flat positions of their first and last tokens, and how they are spelled."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    spelled: dict[int, tuple[NDArray[np.int64], NDArray[Any]]]
    """Width in bytes -> the indices of the words that need it, and their UTF-8 bytes, padded with zeros."""


def _words_of_block(rows: NDArray[np.integer[Any]], at: int, table: _ByteTable) -> _Block:
    """Find the words of rows that begin at the flat position `at`."""
    N, T = rows.shape
    ids = np.full((N, T + 1), len(table.length) - 1, dtype=np.int64)
    ids[:, :T] = rows
    data, token_of_byte, byte_of_token = table.spell(ids.ravel())
    kind = _kinds_of_bytes(data)
    edges = _edges(kind, byte_of_token.reshape(N, T + 1)[:, T])
    single = np.flatnonzero(kind == ALONE)
    single = single[data[single] & 0xC0 != 0x80]  # the first byte of each character
    _join_marks(kind, edges[0])
    begins, ends = _with_single(*_runs(kind), kind, single)
    whole = ~_cut(len(kind), edges, begins, ends)
    begins, ends = begins[whole], ends[whole]
    first, last = token_of_byte[begins], token_of_byte[ends - 1]
    return _Block(at + first - first // (T + 1), at + last - last // (T + 1), _spellings(data, begins, ends))


def _spellings(
    data: NDArray[np.uint8], begins: NDArray[np.int64], ends: NDArray[np.int64]
) -> dict[int, tuple[NDArray[np.int64], NDArray[Any]]]:
    """Return data[begin:end] of each word, in arrays of one width: 8 bytes as integers, or 16, 32 ... if longer."""
    length = ends - begins
    doublings = np.frexp((length - 1) // 8)[1]
    spelled: dict[int, tuple[NDArray[np.int64], NDArray[Any]]] = {}
    for power in np.flatnonzero(np.bincount(doublings)).tolist():
        width, indices = 8 << power, np.flatnonzero(doublings == power)
        padded = np.append(data, np.zeros(width, np.uint8))
        # All windows of `width` bytes, overlapping, of which only those at the words are read.
        windows = np.ndarray((len(data) + 1,), f"V{width}", padded, strides=(1,))[begins[indices]]
        keys = windows.view(np.uint64).reshape(len(indices), width // 8)
        keys &= _HEAD[np.clip(length[indices, None] - np.arange(0, width, 8), 0, 8)]
        spelled[width] = (indices, keys.ravel().byteswap() if width == 8 else keys.view(f"S{width}").ravel())
    return spelled


def _characters(keys: NDArray[Any], width: int) -> NDArray[np.bytes_]:
    """Return the bytes of words of one width.  Words of 8 bytes are big-endian numbers, which sort as the bytes do."""
    return (keys.byteswap() if width == 8 else keys).view(f"S{width}")


def _runs(kind: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return begins and ends of maximal runs of letters and apostrophes that hold a letter."""
    letter = kind == LETTER
    edges = np.flatnonzero(np.diff(letter | (kind == APOSTROPHE), prepend=False, append=False))
    if not len(edges):
        return edges, edges
    worded = np.logical_or.reduceat(letter, edges)[::2]  # a row's last character is no letter: no edge is out of range
    return edges[::2][worded], edges[1::2][worded]


def _with_single(
    begins: NDArray[np.int64], ends: NDArray[np.int64], kind: NDArray[np.uint8], single: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return begins and ends of words with those of the letters at `single` among them, each with its marks."""
    if not len(single):
        return begins, ends
    alone = kind == ALONE
    stops = np.union1d(single, np.flatnonzero(alone & ~np.append(alone[1:], False)) + 1)
    begins = np.append(begins, single)
    ends = np.append(ends, stops[np.searchsorted(stops, single, side="right")])
    order = np.argsort(begins)
    return begins[order], ends[order]


def _join_marks(kind: NDArray[np.uint8], head: NDArray[np.int64]) -> None:
    """Give marks the kind of the character before them, in place.

    A mark at the head of a row may belong to a letter of the row before: it is a letter, so that its word is cut.
    """
    mark = kind == MARK
    if not mark.any():
        return
    start = np.maximum.accumulate(np.where(mark, 0, np.arange(1, len(kind) + 1)))[mark]  # of the run of marks
    at_head = np.zeros(len(kind) + 1, np.bool_)
    at_head[head] = True
    before = kind[start - 1]
    kind[mark] = np.where(at_head[start], LETTER, np.where(before == BROKEN, OTHER, before))


def _edges(kind: NDArray[np.uint8], row_ends: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first and the last character of each row that is not a piece of a character cut in two."""
    head, tail = np.append(0, row_ends[:-1] + 1), row_ends - 1
    for _ in range(3):  # a UTF-8 character that is cut in two leaves at most three broken bytes on either side
        head, tail = head + (kind[head] == BROKEN), tail - (kind[tail] == BROKEN)
    return head, tail


def _cut(
    size: int, edges: Sequence[NDArray[np.int64]], begins: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return whether each word touches the first or the last character of its row, [W].  `size`: bytes of all rows."""
    head, tail = edges
    at_head, at_tail = np.zeros(size, np.bool_), np.zeros(size + 1, np.bool_)
    at_head[head], at_tail[tail + 1] = True, True
    return at_head[begins] | at_tail[ends]


def _kinds_of_bytes(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the kind of the character that each byte belongs to.

    A byte that is not UTF-8 is a character of its own.  No character holds bytes both below and above 0x80, so each run
    of bytes above is decoded by itself.
    """
    kind = kinds()[:0x100][data]
    above = np.flatnonzero(data >= 0x80)
    if not len(above):
        return kind
    breaks = np.flatnonzero(np.diff(above) > 1) + 1
    # Surrogateescape turns each undecodable byte into one character, so that every byte has its character.
    text = np.insert(data[above], breaks, ord("\n")).tobytes().decode("utf-8", "surrogateescape")
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    codes = codes[codes != ord("\n")]
    kind[above] = np.repeat(kinds()[codes], _utf8_lengths(codes))
    return kind


def _utf8_lengths(codes: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Return the bytes of each character; an escaped byte, U+DC80 to U+DCFF, is one."""
    lengths = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
    lengths[(codes >= 0xDC80) & (codes <= 0xDCFF)] = 1
    return lengths
