"""Gopher's rules on single rows, by hand."""

import numpy as np
import pytest

from lab.curators.repetition import REPEATED, TOP, _repeated, _top, repetition, stop_words
from lab.curators.table import Table
from lab.seeds import generator


def table(rows: list[list[int]], lengths: list[int] | None = None, texts: list[str] | None = None) -> Table:
    tokens = np.array(rows, np.uint16)
    long = np.array(lengths) if lengths else np.full(len(tokens), tokens.shape[1])
    return Table(tokens, long, lambda some: [(texts or [])[int(row[0])] for row in some])


@pytest.mark.parametrize(
    ("row", "n", "top", "repeated"),
    [
        ([1, 2, 1, 2, 1, 3], 2, 4 / 6, 3 / 6),  # the second 12 and the second 21 cover 2 + 1 tokens
        ([1, 2, 3, 1, 2, 4], 2, 4 / 6, 2 / 6),
        ([1, 1, 1, 1], 2, 1, 3 / 4),
        ([1, 2, 3, 4], 2, 0, 0),
        ([1, 2], 5, 0, 0),
    ],
)
def test_shares_by_hand(row: list[int], n: int, top: float, repeated: float) -> None:
    tokens, lengths = np.array([row]), np.array([len(row)])
    assert _top(tokens, lengths, n)[0] == pytest.approx(top)
    assert _repeated(tokens, lengths, n)[0] == pytest.approx(repeated)


def test_limits_are_those_of_table_a1() -> None:
    assert TOP == {2: 0.20, 3: 0.18, 4: 0.16}
    assert list(REPEATED.values()) == [0.15, 0.14, 0.13, 0.12, 0.11, 0.10] and list(REPEATED) == [5, 6, 7, 8, 9, 10]


def test_a_row_is_dropped_above_its_limit_and_not_at_it() -> None:
    """100 tokens, of which 10 copies of a pair cover 20 and 11 copies 22: the limit is .20."""
    other = iter(range(100, 1000))
    at = [token for _ in range(10) for token in (1, 2, next(other))] + [next(other) for _ in range(70)]
    above = [token for _ in range(11) for token in (1, 2, next(other))] + [next(other) for _ in range(67)]
    reason = "the commonest 2-gram covers more than 0.2 of the row"
    assert repetition(table([at, above]), rng=generator(0)) == [None, reason]
    assert repetition(table([at, above]), rng=generator(0), scale=1.2) == [None, None]
    assert repetition(table([at, above]), rng=generator(0), scale=0.9) == [reason.replace("0.2", "0.18")] * 2


def test_only_the_text_of_a_row_counts() -> None:
    assert repetition(table([[1, 2, 3, *[0] * 20]], lengths=[3]), rng=generator(0)) == [None]
    assert repetition(table([[1, 2, 3, *[0] * 20]], lengths=[0]), rng=generator(0)) == [None]


def test_stop_words_are_counted_once_each() -> None:
    shown = table([[0], [1], [2]], texts=["The cat of the house", "the the the", "Katze und Hund"])
    assert stop_words(shown, rng=generator(0)) == [None, "fewer than 2 stop words", "fewer than 2 stop words"]
    assert stop_words(shown, rng=generator(0), least=1) == [None, None, "fewer than 1 stop words"]
