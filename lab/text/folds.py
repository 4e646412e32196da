"""Which documents are new, and in which fold each one lies: a few bytes a document, and no object of Python's."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

SHARES = {"train": 0.65, "reference": 0.20, "validation": 0.05, "test": 0.10}
"""Share of each domain's text in each fold.  The reference fold is for judges that must not share M_0's data."""
MEMBERS_AT_ONCE = 1 << 16


class Digests:
    """The first 16 bytes of the SHA-256 of each of many texts: their order is that of the whole, and chance makes no
    two of them equal."""

    def __init__(self) -> None:
        self.bytes = bytearray()

    def add(self, text: str) -> None:
        self.bytes += hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]

    def sort(self, *then: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """[N] the places of the texts by digest, equal ones by `then` and as they came; and whether each, in this
        order, is the first of those that are equal."""
        halves = np.frombuffer(self.bytes, ">u8").reshape(-1, 2)
        order = np.lexsort((*then, halves[:, 1], halves[:, 0]))
        first = np.ones(len(order), np.bool_)
        first[1:] = False
        for half in halves.T:
            rising = half[order]
            first[1:] |= rising[1:] != rising[:-1]
        return order, first


def first_copies(texts: Iterable[str | None]) -> NDArray[np.bool_]:
    """[N] whether a text says anything and none before it is equal to it."""
    there, digests = bytearray(), Digests()
    for text in texts:
        there.append(bool(text and text.strip()))
        if text and there[-1]:
            digests.add(text)
    kept = np.frombuffer(there, np.bool_)
    order, first = digests.sort()
    kept[np.flatnonzero(kept)[order[~first]]] = False
    return kept


def name_order(names: Iterable[str]) -> NDArray[np.int64]:
    """[N] the places of names, by a hash of each."""
    digests = Digests()
    for name in names:
        digests.add(name)
    return digests.sort()[0]


def assign_folds(documents: Iterable[tuple[str, str, int]]) -> tuple[NDArray[np.int8], int]:
    """[N] the fold of each document, as a place in SHARES, and the number of groups.  `documents` are given by group,
    domain and size.  A group stands in one fold, each domain is divided by SHARES, chance is a hash.

    Within a domain groups come in sha256 order, each to the fold that still lacks the most text.
    A group that spans domains is divided with the first of them by name.
    """
    digests, sizes, codes = Digests(), array("q"), array("q")
    names: dict[str, int] = {}
    for group, domain, size in documents:
        digests.add(group)
        sizes.append(size)
        codes.append(names.setdefault(domain, len(names)))
    rank = np.empty(len(names), np.int64)
    rank[[names[name] for name in sorted(names)]] = np.arange(len(names))
    domains = rank[np.frombuffer(codes, np.int64)]
    order, new = digests.sort(domains)
    first = np.flatnonzero(new)
    home, size_of = domains[order[first]], np.add.reduceat(np.frombuffer(sizes, np.int64)[order], first)
    fold = np.empty(len(first), np.int8)
    members = np.argsort(home, kind="stable")
    for mine in np.split(members, np.flatnonzero(np.diff(home[members])) + 1):
        fold[mine] = _divide(size_of[mine])
    found = np.empty(len(order), np.int8)
    found[order] = fold[np.cumsum(new) - 1]
    return found, len(first)


def _divide(sizes: NDArray[np.int64]) -> NDArray[np.int8]:
    """The fold of each group of a domain, in their order."""
    total = int(sizes.sum())
    lacking = [share * total for share in SHARES.values()]
    fold = array("b")
    for start in range(0, len(sizes), MEMBERS_AT_ONCE):
        for size in sizes[start : start + MEMBERS_AT_ONCE].tolist():
            fold.append(lacking.index(max(lacking)))
            lacking[fold[-1]] -= size
    return np.frombuffer(fold, np.int8)
