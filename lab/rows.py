"""Rows of tokens as training takes them: the parts of a recipe, gathered from memory-mapped arrays."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import numpy as np

from lab.regimes import DRIFT
from lab.seeds import generator
from lab.types import Recipe


def before_end(tokens: np.ndarray, eos: int) -> np.ndarray:
    """Which tokens of rows [N, T] of the layout `documents` are text: those up to the first EOS, and that itself."""
    ends = tokens == eos
    return np.asarray(np.cumsum(ends, axis=1) - ends == 0)


class RecipeRows:
    """The rows a recipe names, in its order, gathered from memory-mapped token arrays without copying a corpus.

    It counts what it hands out: `fed[k]` rows of part k, so that realised shares are measured and not assumed.

    context   tokens at the head of each synthetic row that are a prompt, which is read but not learned
    eos       in the layout `documents`, the token after which a row is empty
    share     (m, M) leaves it a random M-th of the rows, the m-th of disjoint ones, in the order that `seed` gives
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
        parts = [part for part in recipe.parts for _ in range(part.repeat)]
        self.origins = [part.origin for part in parts]
        self.corpora = [corpora[part.origin] for part in parts]
        self.chosen = [None if part.chosen is None else np.array(part.chosen, dtype=np.int64) for part in parts]
        self.first = [part.start for part in parts]
        self.starts = np.cumsum([0, *(part.distinct_rows for part in parts)])
        self.fed = np.zeros(len(parts), np.int64)
        self.context, self.eos = context, eos
        rows, (m, members) = int(self.starts[-1]), share
        cut = [rows * k // members for k in (m, m + 1)]
        self.mine = generator(seed).permutation(rows)[cut[0] : cut[1]] if members > 1 else None

    def __len__(self) -> int:
        return int(self.starts[-1]) if self.mine is None else len(self.mine)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Rows [len(indices), T] by their places in the recipe, or in its share."""
        indices = indices if self.mine is None else self.mine[indices]
        which = np.searchsorted(self.starts, indices, side="right") - 1
        out = np.empty((len(indices), self.corpora[0].shape[1]), self.corpora[0].dtype)
        for part in np.unique(which):
            mine = which == part
            places, chosen = indices[mine] - self.starts[part], self.chosen[part]
            out[mine] = self.corpora[part][places + self.first[part] if chosen is None else chosen[places]]
            self.fed[part] += mine.sum()
        return out

    def learned(self, indices: np.ndarray, rows: np.ndarray) -> np.ndarray | None:
        """Which tokens of the rows [B, T] at these places are learned; None where all are."""
        if not self.context and self.eos is None:
            return None
        learned = np.ones(rows.shape, np.bool_) if self.eos is None else before_end(rows, self.eos)
        places = indices if self.mine is None else self.mine[indices]
        synthetic = np.array(self.origins)[np.searchsorted(self.starts, places, side="right") - 1] >= 0
        learned[synthetic, : self.context] = False
        return learned

    def check_shares(self) -> None:
        """RuntimeError where the share of an origin in the rows handed out drifted from its share in the recipe.

        Over whole passes the two are equal.  In a last, incomplete one chance moves them, and five standard deviations
        of that (hypergeometric) are allowed besides.
        """
        total, rows = int(self.fed.sum()), len(self)
        last = total % rows
        places = np.arange(rows) if self.mine is None else self.mine
        sizes = np.bincount(np.searchsorted(self.starts, places, side="right") - 1, minlength=len(self.fed))
        for origin in sorted(set(self.origins)):
            mine = np.array([o == origin for o in self.origins])
            asked, found = sizes[mine].sum() / rows, self.fed[mine].sum() / total
            chance = math.sqrt(last * asked * (1 - asked) * (rows - last) / max(rows - 1, 1)) / total
            if abs(found - asked) > DRIFT + 5 * chance:
                raise RuntimeError(
                    f"{found:.1%} of the rows fed have origin {origin}, but {asked:.1%} were asked for: more than "
                    f"{DRIFT:.0%} apart"
                )

    def fed_by_origin(self) -> dict[str, int]:
        """Rows handed out so far, by origin ("-1" is human)."""
        counts: Counter[str] = Counter()
        for origin, rows in zip(self.origins, self.fed, strict=True):
            counts[str(origin)] += int(rows)
        return dict(counts)
