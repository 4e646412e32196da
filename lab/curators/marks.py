"""Watermarks of text: the secret lists and bits that a key decides, equal to those of transformers on a processor.

Both schemes are computed with numpy from the Mersenne Twister that seeds torch's CPU generator, so that a mark is the
same on every device and its detection needs no torch.

- kgw: green lists by the token before (Kirchenbauer et al. 2023, lefthash of width 1);
- synthid: bits of tournament layers by the four tokens before (SynthID text, Dathathri et al. 2024).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lab.seeds import generator

TABLE = 2**16
"""Entries of SynthID's table of bits, the default of transformers."""
NGRAM = 5
"""Tokens that decide a bit of SynthID: four of context and the candidate."""
HISTORY = 1024
"""Contexts of a row that SynthID remembers.  A context that comes again is not marked."""
MULTIPLIER, INCREMENT = 6364136223846793005, 1
BLOCK = 2**24
"""Vocabulary entries that are shuffled at once, so that large vocabularies fit into memory."""


def _twisters(seeds: Sequence[int], size: int) -> NDArray[np.uint32]:
    """Return the first numbers of torch's CPU generator after manual_seed, which reads a seed's low 32 bits."""
    twister, numbers = np.random.RandomState(), np.empty((len(seeds), size), np.uint32)
    for row, seed in enumerate(seeds):
        twister.seed(seed & 0xFFFFFFFF)
        numbers[row] = twister.randint(0, 2**32, size, dtype=np.uint32)
    return numbers


def green_size(vocabulary: int, ratio: float) -> int:
    """Return the length of a green list; its share of the vocabulary is what unmarked text has of green tokens."""
    return int(vocabulary * ratio)


class GreenLists:
    """The green lists of a key by the token before, each shuffled when it is first asked for.

    The list of a token is the head of torch.randperm(vocabulary) after manual_seed(key x token mod (2^64 - 1)).
    After token 0 it is the same under every key, in transformers too.
    """

    def __init__(self, vocabulary: int, ratio: float, key: int) -> None:
        self.vocabulary, self.size, self.key = vocabulary, green_size(vocabulary, ratio), key
        self.share = self.size / vocabulary
        self._packed: dict[int, NDArray[np.uint8]] = {}

    def __call__(self, before: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Return which tokens are green after each of these: bool [N, V]."""
        wanted = before.tolist()
        missing = [token for token in dict.fromkeys(wanted) if token not in self._packed]
        block = max(1, BLOCK // self.vocabulary)
        for start in range(0, len(missing), block):
            some = missing[start : start + block]
            self._packed.update(zip(some, np.packbits(self._shuffled(some), axis=1), strict=True))
        if not wanted:
            return np.zeros((0, self.vocabulary), np.bool_)
        packed = np.stack([self._packed[token] for token in wanted])
        return np.unpackbits(packed, axis=1, count=self.vocabulary).view(np.bool_)

    def holds(self, before: NDArray[np.integer], tokens: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Return whether each token is green after the one before it: bool [N]."""
        found = np.empty(len(tokens), np.bool_)
        block = max(1, BLOCK // self.vocabulary)
        for start in range(0, len(tokens), block):
            some = slice(start, start + block)
            contexts, which = np.unique(before[some], return_inverse=True)
            found[some] = self(contexts)[which, tokens[some]]
        return found

    def _shuffled(self, before: Sequence[int]) -> NDArray[np.bool_]:
        """Shuffle the vocabulary for several tokens at once, as far as their green lists reach (Fisher and Yates)."""
        numbers = _twisters([self.key * token % (2**64 - 1) for token in before], self.size)
        order = np.tile(np.arange(self.vocabulary), (len(before), 1))
        row = np.arange(len(before))
        for place in range(self.size):
            other = place + numbers[:, place] % np.uint32(self.vocabulary - place)
            taken = order[row, other]
            order[row, other] = order[:, place]
            order[:, place] = taken
        green = np.zeros(order.shape, np.bool_)
        np.put_along_axis(green, order[:, : self.size], True, axis=1)
        return green


@functools.lru_cache(maxsize=4)
def green_lists(vocabulary: int, ratio: float, key: int) -> GreenLists:
    """Return the green lists of a key, shared by all samples of a process."""
    return GreenLists(vocabulary, ratio, key)


def layer_keys(key: int, layers: int) -> list[int]:
    """Return the keys of SynthID's layers: distinct modulo the table, else two layers were one."""
    return [int(each) for each in generator(key).choice(TABLE, layers, replace=False)]


class TournamentBits:
    """The bits ("g-values") of SynthID's layers for a context and each candidate.

    The table's size divides 2^64.  So the bits of context c and token v are one entry, (hash(c) + v) mod 65,536, of one
    table that the keys of the layers decide.  `mean` is the table's own, .49962: what unmarked text has on average.
    """

    def __init__(self, keys: Sequence[int]) -> None:
        table = (_twisters([0], TABLE)[0] % 2).astype(np.uint8)
        self.mean = float(table.mean())
        entry = np.arange(TABLE, dtype=np.uint64)
        layers = [_stepped(_stepped(entry, np.uint64(0)), np.uint64(key)) % np.uint64(TABLE) for key in keys]
        self.bits = np.stack([table[layer] for layer in layers])
        """uint8 [layers, TABLE]."""

    def of(self, hashes: NDArray[np.uint64], tokens: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Return the bits of tokens after contexts of these hashes: uint8 [layers, ...]."""
        return np.asarray(self.bits[:, (hashes + tokens.astype(np.uint64)) % np.uint64(TABLE)])


def _stepped(hashed: NDArray[np.uint64], data: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    """Take one value into a hash, modulo 2^64."""
    return np.asarray((hashed + data) * np.uint64(MULTIPLIER) + np.uint64(INCREMENT))


def context_hashes(contexts: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Return the 64-bit hash of contexts [..., n]."""
    hashed = np.ones(contexts.shape[:-1], np.uint64)
    for place in range(contexts.shape[-1]):
        hashed = _stepped(hashed, contexts[..., place].astype(np.uint64))
    return hashed
