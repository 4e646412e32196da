"""The fold of each document, and which documents are copies, in a few bytes per document and no Python objects."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Collection, Iterable

import numpy as np
from numpy.typing import NDArray

SHARES = {"train": 0.65, "reference": 0.20, "validation": 0.05, "test": 0.10}
"""Share of each domain's text in each fold. The reference fold is for judges that must not share M_0's data."""
OF_TRAIN = tuple(share / (SHARES["train"] + SHARES["reference"]) for share in (SHARES["train"], SHARES["reference"]))
"""Shares of the train and the reference fold in the train split of a corpus that comes with its own splits."""
GROUPS_AT_ONCE = 1 << 16
"""Groups whose sizes are Python objects at one time."""


class Digests:
    """The first 16 bytes of the SHA-256 of each of many texts.

    They sort like the whole digests, and two different texts never share them in practice.
    """

    def __init__(self) -> None:
        self.bytes = bytearray()

    def add(self, text: str) -> None:
        """Append the digest of a text."""
        self.bytes += hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]

    def sort(self, *then: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Sort the texts by digest.

        Args:
            then: keys that order equal texts, the last key first. Texts that are equal in these too keep their order.

        Returns:
            The indices of the texts in sorted order, [N], and whether each one, in this order, is the first of the
            texts equal to it, [N].
        """
        halves = np.frombuffer(self.bytes, ">u8").reshape(-1, 2)
        order = np.lexsort((*then, halves[:, 1], halves[:, 0]))
        first = np.ones(len(order), np.bool_)
        first[1:] = False
        for half in halves.T:
            rising = half[order]
            first[1:] |= rising[1:] != rising[:-1]
        return order, first


def first_copies(texts: Iterable[str | None]) -> NDArray[np.bool_]:
    """Return which texts are not blank and not a copy of an earlier one, [N]."""
    flags, digests = bytearray(), Digests()
    for text in texts:
        flags.append(bool(text and text.strip()))
        if text and flags[-1]:
            digests.add(text)
    kept = np.frombuffer(flags, np.bool_)
    order, first = digests.sort()
    kept[np.flatnonzero(kept)[order[~first]]] = False
    return kept


def name_order(names: Iterable[str]) -> NDArray[np.int64]:
    """Return the indices of names in the order of their hashes, [N]."""
    digests = Digests()
    for name in names:
        digests.add(name)
    return digests.sort()[0]


def assign_folds(
    documents: Iterable[tuple[str, str, int]], shares: Collection[float] = tuple(SHARES.values())
) -> tuple[NDArray[np.int8], int]:
    """Assign each document to a fold. A group lies in one fold, and each domain is divided by these shares.

    Within a domain, groups come in the order of their SHA-256. Each goes to the fold that still lacks the most text.
    A group that spans domains is divided with the first of them by name.

    Args:
        documents: group, domain and size in bytes of each document.
        shares: the share of each domain's text in each fold.

    Returns:
        The fold of each document as an index into `shares`, [N], and the number of groups.
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
    home, group_size = domains[order[first]], np.add.reduceat(np.frombuffer(sizes, np.int64)[order], first)
    group_fold = np.empty(len(first), np.int8)
    by_domain = np.argsort(home, kind="stable")
    for groups in np.split(by_domain, np.flatnonzero(np.diff(home[by_domain])) + 1):
        group_fold[groups] = _divide(group_size[groups], shares)
    folds = np.empty(len(order), np.int8)
    folds[order] = group_fold[np.cumsum(new) - 1]
    return folds, len(first)


def _divide(sizes: NDArray[np.int64], shares: Collection[float]) -> NDArray[np.int8]:
    """Return the fold of each group of a domain, in the order of the groups."""
    total = int(sizes.sum())
    lacking = [share * total for share in shares]
    folds = array("b")
    for start in range(0, len(sizes), GROUPS_AT_ONCE):
        for size in sizes[start : start + GROUPS_AT_ONCE].tolist():
            folds.append(lacking.index(max(lacking)))
            lacking[folds[-1]] -= size
    return np.frombuffer(folds, np.int8)
