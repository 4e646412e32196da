"""The rows of a recipe as training takes them: gathered into batches from memory-mapped arrays, and counted."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lab.metrics.texts import ROWS, before_end
from lab.recipe import Part, Recipe, RowNumbers
from lab.regimes import DRIFT
from lab.seeds import generator

CORPUS_BITS = 40
"""A corpus has fewer than 2^40 rows."""


WEIGHTS = "weights.npy"


def save_recipe(recipe: Recipe, folder: Path, weights: np.ndarray | None = None) -> None:
    """Write recipe.json, a list of parts, chosen.npy, the numbers of all single rows, and weights.npy where there are.

    "chosen" in recipe.json is how many of these numbers belong to a part.  `weights` say how much each row counts in
    the loss, one for each distinct row of the parts in order.

    [{"corpus": -1, "origin": -1, "start": 0, "stop": 1600, "repeat": 1},
     {"corpus": 0, "origin": 0, "start": 2, "stop": 1598, "repeat": 1, "chosen": 400}]
    """
    fields, chosen = [], []
    for part in recipe.parts:
        fields.append({name: getattr(part, name) for name in ("corpus", "origin", "start", "stop", "repeat")})
        if isinstance(part.chosen, RowNumbers):
            fields[-1]["chosen"] = len(part.chosen)
            chosen.append(part.chosen.array)
    if chosen:
        np.save(folder / "chosen.npy", np.concatenate(chosen))
    if weights is not None:
        np.save(folder / WEIGHTS, weights.astype(np.float32))
    (folder / "recipe.json").write_text(json.dumps(fields, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def load_recipe(folder: Path) -> Recipe:
    """Return the recipe that `save_recipe` wrote."""
    parts, first = [], 0
    for fields in json.loads((folder / "recipe.json").read_text(encoding="utf-8")):
        chosen = None
        if "chosen" in fields:
            stop = first + fields["chosen"]
            chosen, first = RowNumbers(np.load(folder / "chosen.npy", mmap_mode="r")[first:stop]), stop
        parts.append(Part(**{**fields, "chosen": chosen}))
    return Recipe(tuple(parts))


def load_weights(folder: Path) -> np.ndarray | None:
    """Return the weights that `save_recipe` was given; None where there are none."""
    return np.load(folder / WEIGHTS) if (folder / WEIGHTS).exists() else None


class RecipeRows:
    """The rows that a recipe names, in its order, gathered from memory-mapped token arrays without copying a corpus.

    It counts the rows that it returns, so that realised shares are measured and not assumed: `fed[k]` rows of part k,
    and `fed_tokens` tokens of text in them.

    A row is asked for by its index in the share of this object.  Its slot is its index in the whole recipe, and its
    number is its index in its corpus.
    """

    def __init__(
        self,
        recipe: Recipe,
        corpora: Mapping[int, np.ndarray],
        *,
        context: int = 0,
        eos: int | None = None,
        share: tuple[int, int] = (0, 1),
        seed: int = 0,
        weights: np.ndarray | None = None,
    ) -> None:
        """Open the rows of a recipe.

        Args:
            recipe: which rows, in which order.
            corpora: the tokens [rows, T] of each origin.
            context: tokens at the head of each synthetic row that are a prompt, which is read but not learned.
            eos: in the layout `documents`, the token after which a row is empty.
            share: (m, M) keeps only the m-th of M disjoint shares of the rows.
            seed: decides which rows are in which share.
            weights: how much each row counts in the loss, one for each distinct row of the parts in order.
        """
        self.recipe = recipe
        parts = self.parts = [part for part in recipe.parts for _ in range(part.repeat)]
        self.origins = np.array([part.origin for part in parts], dtype=np.int64)
        self.numbers = np.array([part.corpus for part in parts], dtype=np.int64)
        self.corpora = [corpora[part.corpus] for part in parts]
        self.starts = np.cumsum([0, *(part.distinct_rows for part in parts)])
        self.fed = np.zeros(len(parts), np.int64)
        self.fed_tokens = 0
        self.context, self.eos = context, eos
        self.slot_weights = None if weights is None else self._repeated(weights)
        m, members = share
        self.slots = np.flatnonzero(self._shares(members, seed) == m) if members > 1 else None
        """Slots of the rows of the share; None means all."""

    def __len__(self) -> int:
        return int(self.starts[-1]) if self.slots is None else len(self.slots)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Return the rows with these indices: [B, T]."""
        out = self._rows(indices)
        self.fed += np.bincount(self._part(self._slots(indices)), minlength=len(self.fed))
        self.fed_tokens += int(self._text(out).sum())
        return out

    def learned(self, indices: np.ndarray, rows: np.ndarray) -> np.ndarray | None:
        """Return which tokens of the rows [B, T] with these indices are learned; None if all are."""
        if not self.context and self.eos is None:
            return None
        learned = self._text(rows)
        learned[self.origins[self._part(self._slots(indices))] >= 0, : self.context] = False
        return learned

    def weights(self, indices: np.ndarray) -> np.ndarray | None:
        """Return how much the rows with these indices count in the loss: float32 [B]; None if all count the same."""
        return None if self.slot_weights is None else self.slot_weights[self._slots(indices)]

    def lengths(self) -> np.ndarray:
        """Return the number of tokens of text in each row, int64: all T of them, except in the layout `documents`."""
        if self.eos is None:
            return np.broadcast_to(np.int64(self.corpora[0].shape[1]), (len(self),))
        batches = (np.arange(start, min(start + ROWS, len(self))) for start in range(0, len(self), ROWS))
        return np.concatenate([self._text(self._rows(batch)).sum(axis=1) for batch in batches])

    def token_counts(self, types: int) -> np.ndarray:
        """Return how often each of `types` tokens stands in the text of the rows: int64 [types]."""
        counts = np.zeros(types, np.int64)
        for start in range(0, len(self), ROWS):
            rows = self._rows(np.arange(start, min(start + ROWS, len(self))))
            counts += np.bincount(rows[self._text(rows)], minlength=types)
        return counts

    def unique_tokens(self) -> int:
        """Return the number of tokens of text in the rows, each row once however often the recipe repeats it."""
        if self.eos is None and self.slots is None:
            return self.recipe.unique_rows * int(self.corpora[0].shape[1])
        _, first = np.unique(self._identities(self._slots(np.arange(len(self)))), return_index=True)
        return int(self.lengths()[first].sum())

    def _repeated(self, weights: np.ndarray) -> np.ndarray:
        """Return the weight of each slot, from one for each distinct row of the recipe's parts in order."""
        ends = np.cumsum([part.distinct_rows for part in self.recipe.parts])
        assert len(weights) == ends[-1], (len(weights), ends)
        each = zip(self.recipe.parts, np.split(weights, ends[:-1]), strict=True)
        return np.concatenate([np.tile(own, part.repeat) for part, own in each])

    def _slots(self, indices: np.ndarray) -> np.ndarray:
        return indices if self.slots is None else self.slots[indices]

    def _part(self, slots: np.ndarray) -> np.ndarray:
        """Return the part of the recipe in which each slot lies."""
        return np.asarray(np.searchsorted(self.starts, slots, side="right") - 1)

    def _numbers(self, slots: np.ndarray, part: int) -> np.ndarray:
        """Return the numbers of the rows in these slots, all of one part."""
        return self.parts[part].numbers(slots - self.starts[part])

    def _rows(self, indices: np.ndarray) -> np.ndarray:
        slots = self._slots(indices)
        part_of = self._part(slots)
        out = np.empty((len(slots), self.corpora[0].shape[1]), self.corpora[0].dtype)
        for part in np.unique(part_of):
            out[part_of == part] = self.corpora[part][self._numbers(slots[part_of == part], part)]
        return out

    def _text(self, rows: np.ndarray) -> np.ndarray:
        return np.ones(rows.shape, np.bool_) if self.eos is None else before_end(rows, self.eos)

    def _identities(self, slots: np.ndarray) -> np.ndarray:
        """Return one integer for each slot, equal for equal rows; the rows of one corpus have consecutive integers."""
        part_of, identities = self._part(slots), np.empty(len(slots), np.int64)
        for part in np.unique(part_of):
            numbers = self._numbers(slots[part_of == part], part)
            identities[part_of == part] = (self.numbers[part] << CORPUS_BITS) + numbers
        return identities

    def _shares(self, members: int, seed: int) -> np.ndarray:
        """Return the member to which each slot belongs.

        The rows of each corpus are dealt to the members in turn, in a random order.  So members have equal numbers of
        rows of each corpus, give or take one, and no row is in two shares, however often the recipe repeats it.
        """
        rows, row_of = np.unique(self._identities(np.arange(self.starts[-1])), return_inverse=True)
        order = np.lexsort((generator(seed).permutation(len(rows)), rows >> CORPUS_BITS))
        member = np.empty(len(rows), np.int64)
        member[order] = np.arange(len(rows)) % members
        return member[row_of]

    def check_shares(self) -> None:
        """Check the share of each origin in the rows that were fed against its share in the recipe.

        Over whole passes the two may differ by DRIFT.  A last, incomplete pass moves the fed share by
        chance, for which five standard deviations (hypergeometric) are allowed in addition.

        Raises:
            RuntimeError: they differ by more than that.
        """
        total, rows = int(self.fed.sum()), len(self)
        last = total % rows
        sizes = np.diff(self.starts)
        if self.slots is not None:
            sizes = np.bincount(self._part(self.slots), minlength=len(self.fed))
        for origin in np.unique(self.origins):
            parts = self.origins == origin
            asked, fed = sizes[parts].sum() / rows, self.fed[parts].sum() / total
            chance = math.sqrt(last * asked * (1 - asked) * (rows - last) / max(rows - 1, 1)) / total
            if abs(fed - asked) > DRIFT + 5 * chance:
                raise RuntimeError(
                    f"{fed:.1%} of the rows fed have origin {origin}, but {asked:.1%} were asked for: more than "
                    f"{DRIFT:.0%} apart"
                )

    def so_far(self) -> dict[str, Any]:
        """Return what was counted so far, for a checkpoint."""
        return {"fed": self.fed.tolist(), "fed_tokens": self.fed_tokens}

    def resume(self, counted: Mapping[str, Any]) -> None:
        """Continue counting from what `so_far` returned."""
        self.fed, self.fed_tokens = np.array(counted["fed"], np.int64), counted["fed_tokens"]

    def fed_by_origin(self) -> dict[str, int]:
        """Return the number of rows fed so far, by origin ("-1" is human)."""
        counts: Counter[str] = Counter()
        for origin, rows in zip(self.origins, self.fed, strict=True):
            counts[str(origin)] += int(rows)
        return dict(counts)
