"""Texts: which tokens of a row are text, and texts cut to one size so that they can be compared.

`end` is the token that ends the text of a row: EOS in the layout `documents`, None in the layout `blocks`, where all
tokens of a row are text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

ROWS = 4096
"""Rows that are read together.  No result depends on it."""


def before_end(tokens: np.ndarray, eos: int) -> np.ndarray:
    """Return which tokens of rows [N, T] stand before or at the first EOS of their row: the text of a document."""
    ends = tokens == eos
    return np.asarray(np.cumsum(ends, axis=1) - ends == 0)


def is_text(rows: np.ndarray, end: int | None) -> np.ndarray:
    """Return which tokens of rows [N, T] are text: all, or those up to the first `end`."""
    return np.ones(rows.shape, np.bool_) if end is None else before_end(rows, end)


def text_blocks(rows: np.ndarray, end: int | None) -> Iterator[np.ndarray]:
    """Yield the tokens of text in rows [N, T], flat, some rows at a time: memory-mapped rows are never copied whole."""
    for start in range(0, len(rows), ROWS):
        block = rows[start : start + ROWS]
        yield block[is_text(block, end)]


def head(rows: np.ndarray, prompt: int, budget: int, end: int | None) -> np.ndarray | None:
    """Return the first `budget` tokens of text after the prompts of rows [N, T], or None where there is less text.

    Layout blocks: the whole rows that fit into the budget, so up to a row less (`StudyConfig.compared_tokens`).
    Layout documents: exact to the token; all that is no text is `end`.
    head([[1, 2], [3, 4], [5, 6]], 0, 5, None) -> [[1, 2], [3, 4]]
    head([[1, 2, 0, 0], [3, 0, 0, 0], [4, 5, 6, 0]], 0, 6, 0) -> [[1, 2, 0, 0], [3, 0, 0, 0], [4, 0, 0, 0]]
    """
    text = rows[:, prompt:]
    if end is None:
        rows_compared = budget // text.shape[1]
        return text[:rows_compared] if len(text) >= rows_compared else None
    parts, taken = [], 0
    for start in range(0, len(text), ROWS):
        block = slice(start, start + ROWS)
        kept = before_end(rows[block], end)[:, prompt:]
        upto = taken + np.cumsum(kept).reshape(kept.shape)
        parts.append(np.where(kept & (upto <= budget), text[block], end))
        taken = int(upto[-1, -1]) if upto.size else 0
        if taken >= budget and upto.size:
            parts[-1] = parts[-1][: int(np.searchsorted(upto[:, -1], budget)) + 1]
            return np.concatenate(parts)
    return None


def level(texts: Sequence[np.ndarray | None], eos: int) -> list[np.ndarray] | None:
    """Return texts of one budget with equally many rows each, or None where one of the texts does not exist.

    Documents of one budget need different numbers of rows.  Rows of EOS alone, which hold no text, are added.
    """
    existing = [text for text in texts if text is not None]
    if len(existing) < len(texts):
        return None
    rows = max(map(len, existing))
    return [np.pad(text, ((0, rows - len(text)), (0, 0)), constant_values=eos) for text in existing]
