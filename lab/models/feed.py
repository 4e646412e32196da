"""Rows of tokens as training takes them: the parts of a recipe, gathered from memory-mapped arrays."""

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


def save_recipe(recipe: Recipe, folder: Path) -> None:
    """recipe.json, a list of parts; single rows lie beside it in chosen.npy, and "chosen" says how many are a part's.

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
    (folder / "recipe.json").write_text(json.dumps(fields, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def load_recipe(folder: Path) -> Recipe:
    """The recipe that `save_recipe` wrote."""
    parts, first = [], 0
    for fields in json.loads((folder / "recipe.json").read_text(encoding="utf-8")):
        chosen = None
        if "chosen" in fields:
            stop = first + fields["chosen"]
            chosen, first = RowNumbers(np.load(folder / "chosen.npy", mmap_mode="r")[first:stop]), stop
        parts.append(Part(**{**fields, "chosen": chosen}))
    return Recipe(tuple(parts))


class RecipeRows:
    """The rows a recipe names, in its order, gathered from memory-mapped token arrays without copying a corpus.

    It counts what it hands out, so that realised shares are measured and not assumed: `fed[k]` rows of part k, and
    `fed_tokens` of text in them.

    context   tokens at the head of each synthetic row that are a prompt, which is read but not learned
    eos       in the layout `documents`, the token after which a row is empty
    share     (m, M) leaves it the m-th of M disjoint shares of the rows; `seed` decides which rows are in which
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
    ) -> None:
        self.recipe = recipe
        parts = self.parts = [part for part in recipe.parts for _ in range(part.repeat)]
        self.origins = np.array([part.origin for part in parts], dtype=np.int64)
        self.numbers = np.array([part.corpus for part in parts], dtype=np.int64)
        self.corpora = [corpora[part.corpus] for part in parts]
        self.starts = np.cumsum([0, *(part.distinct_rows for part in parts)])
        self.fed = np.zeros(len(parts), np.int64)
        self.fed_tokens = 0
        self.context, self.eos = context, eos
        m, members = share
        self.places = np.flatnonzero(self._shares(members, seed) == m) if members > 1 else None
        """Places in the recipe of the rows of the share; None: all of them."""

    def __len__(self) -> int:
        return int(self.starts[-1]) if self.places is None else len(self.places)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Rows [len(indices), T] by their places in the recipe, or in its share."""
        out = self._rows(indices)
        self.fed += np.bincount(self._part(self._places(indices)), minlength=len(self.fed))
        self.fed_tokens += int(self._text(out).sum())
        return out

    def learned(self, indices: np.ndarray, rows: np.ndarray) -> np.ndarray | None:
        """Which tokens of the rows [B, T] at these places are learned; None where all are."""
        if not self.context and self.eos is None:
            return None
        learned = self._text(rows)
        learned[self.origins[self._part(self._places(indices))] >= 0, : self.context] = False
        return learned

    def lengths(self) -> np.ndarray:
        """Tokens of text in each row, int64: all of them, but in the layout `documents`."""
        if self.eos is None:
            return np.broadcast_to(np.int64(self.corpora[0].shape[1]), (len(self),))
        blocks = (np.arange(start, min(start + ROWS, len(self))) for start in range(0, len(self), ROWS))
        return np.concatenate([self._text(self._rows(block)).sum(axis=1) for block in blocks])

    def unique_tokens(self) -> int:
        """Tokens of text in its rows, each row once however often the recipe repeats it."""
        if self.eos is None and self.places is None:
            return self.recipe.unique_rows * int(self.corpora[0].shape[1])
        _, first = np.unique(self._names(self._places(np.arange(len(self)))), return_index=True)
        return int(self.lengths()[first].sum())

    def _places(self, indices: np.ndarray) -> np.ndarray:
        """Where in the recipe these rows of the share stand."""
        return indices if self.places is None else self.places[indices]

    def _part(self, places: np.ndarray) -> np.ndarray:
        """The part of the recipe in which each place lies."""
        return np.asarray(np.searchsorted(self.starts, places, side="right") - 1)

    def _numbers(self, places: np.ndarray, part: int) -> np.ndarray:
        """The numbers, in their corpus, of the rows at these places of one part."""
        return self.parts[part].numbers(places - self.starts[part])

    def _rows(self, indices: np.ndarray) -> np.ndarray:
        places = self._places(indices)
        which = self._part(places)
        out = np.empty((len(places), self.corpora[0].shape[1]), self.corpora[0].dtype)
        for part in np.unique(which):
            out[which == part] = self.corpora[part][self._numbers(places[which == part], part)]
        return out

    def _text(self, rows: np.ndarray) -> np.ndarray:
        return np.ones(rows.shape, np.bool_) if self.eos is None else before_end(rows, self.eos)

    def _names(self, places: np.ndarray) -> np.ndarray:
        """A number for each place, the same where the same row stands: rows of one corpus follow one another."""
        which, names = self._part(places), np.empty(len(places), np.int64)
        for part in np.unique(which):
            numbers = self._numbers(places[which == part], part)
            names[which == part] = (self.numbers[part] << CORPUS_BITS) + numbers
        return names

    def _shares(self, members: int, seed: int) -> np.ndarray:
        """The member to which each place belongs.

        The rows of each corpus are dealt out in turn, in an order of chance: each member has as much of every corpus,
        to a row, and no row stands in two shares, however often the recipe repeats it.
        """
        rows, of = np.unique(self._names(np.arange(self.starts[-1])), return_inverse=True)
        order = np.lexsort((generator(seed).permutation(len(rows)), rows >> CORPUS_BITS))
        member = np.empty(len(rows), np.int64)
        member[order] = np.arange(len(rows)) % members
        return member[of]

    def check_shares(self) -> None:
        """RuntimeError where the share of an origin in the rows handed out drifted from its share in the recipe.

        Over whole passes the two are equal.  In a last, incomplete one chance moves them, and five standard deviations
        of that (hypergeometric) are allowed besides.
        """
        total, rows = int(self.fed.sum()), len(self)
        last = total % rows
        sizes = np.diff(self.starts)
        if self.places is not None:
            sizes = np.bincount(self._part(self.places), minlength=len(self.fed))
        for origin in np.unique(self.origins):
            mine = self.origins == origin
            asked, found = sizes[mine].sum() / rows, self.fed[mine].sum() / total
            chance = math.sqrt(last * asked * (1 - asked) * (rows - last) / max(rows - 1, 1)) / total
            if abs(found - asked) > DRIFT + 5 * chance:
                raise RuntimeError(
                    f"{found:.1%} of the rows fed have origin {origin}, but {asked:.1%} were asked for: more than "
                    f"{DRIFT:.0%} apart"
                )

    def so_far(self) -> dict[str, Any]:
        """What it has counted, for a checkpoint."""
        return {"fed": self.fed.tolist(), "fed_tokens": self.fed_tokens}

    def go_on(self, counted: Mapping[str, Any]) -> None:
        """Count on from what `so_far` said."""
        self.fed, self.fed_tokens = np.array(counted["fed"], np.int64), counted["fed_tokens"]

    def fed_by_origin(self) -> dict[str, int]:
        """Rows handed out so far, by origin ("-1" is human)."""
        counts: Counter[str] = Counter()
        for origin, rows in zip(self.origins, self.fed, strict=True):
            counts[str(origin)] += int(rows)
        return dict(counts)
