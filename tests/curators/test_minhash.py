"""Near duplicates: found as often as 1 - (1 - J^8)^14 says, and named."""

import datasketch
import numpy as np
import pytest

from lab.curators.minhash import near_duplicates
from lab.curators.table import CopyOf, Table
from lab.seeds import generator

EDITS = (20, 60, 100)
"""Places of 3 of 128 tokens, more than 5 from each other and from the ends."""


def table(rows: np.ndarray, lengths: np.ndarray | None = None) -> Table:
    return Table(rows, np.full(len(rows), rows.shape[1]) if lengths is None else lengths, lambda some: [""] * len(some))


def grams(row: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(row[place : place + 5].tolist()) for place in range(len(row) - 4)}


def edited(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of chance, and the same with 3 tokens each replaced by one that occurs nowhere else."""
    rows = np.random.default_rng(0).integers(0, 2000, (count, 128)).astype(np.uint16)
    other = rows.copy()
    other[:, EDITS] = 2000
    return rows, other


def test_pairs_of_similarity_784_are_caught_884_times_in_1000() -> None:
    rows, other = edited(500)
    one, two = grams(rows[0]), grams(other[0])
    similarity = len(one & two) / len(one | two)
    assert similarity == (124 - 15) / (124 + 15) == pytest.approx(0.784, abs=5e-4)
    expected = 1 - (1 - similarity**8) ** 14
    assert expected == pytest.approx(0.884, abs=1e-3)
    found = near_duplicates(table(np.concatenate([rows, other])), rng=generator(0))
    assert found[:500] == [None] * 500  # none of the distinct rows
    named = [answer.row == row for row, answer in enumerate(found[500:]) if answer]
    assert all(named)
    assert len(named) / 500 == pytest.approx(expected, abs=3 * (expected * (1 - expected) / 500) ** 0.5)


def test_rows_of_similarity_one_third_are_not_caught() -> None:
    """Half of a row is another's: J = 60 / 188, P(caught) = .0015."""
    rows, _ = edited(100)
    other = np.concatenate([rows[:, :64], np.random.default_rng(1).integers(0, 2000, (100, 64), np.uint16)], axis=1)
    assert sum(answer is not None for answer in near_duplicates(table(np.vstack([rows, other])), rng=generator(0))) <= 2


def test_equal_rows_are_caught_whatever_their_length_and_all_where_asked() -> None:
    rows = np.array([[1, 2, 3, 9, 9], [4, 5, 6, 7, 8], [1, 2, 3, 7, 7], [1, 2, 9, 9, 9]], np.uint16)
    lengths = np.array([3, 5, 3, 2])
    copy = "a near copy of another row"
    assert near_duplicates(table(rows, lengths), rng=generator(0)) == [None, None, CopyOf(0, copy), None]
    both = [CopyOf(2, copy), None, CopyOf(0, copy), None]
    assert near_duplicates(table(rows, lengths), rng=generator(0), drop_all=True) == both
    assert near_duplicates(table(rows[:, :3], lengths.clip(max=3)), rng=generator(0))[2] == CopyOf(0, copy)


@pytest.mark.parametrize("edits", [1, 3, 5, 8])
def test_as_many_pairs_are_caught_as_by_datasketch(edits: int) -> None:
    """Its index with 14 bands of 8 hashes, on 150 pairs in which so many of 128 tokens were replaced."""
    rows = np.random.default_rng(edits).integers(0, 2000, (150, 128)).astype(np.uint16)
    other = rows.copy()
    other[:, np.linspace(10, 118, edits).astype(int)] = 2000
    caught = sum(answer is not None for answer in near_duplicates(table(np.vstack([rows, other])), rng=generator(0)))
    index = datasketch.MinHashLSH(num_perm=112, params=(14, 8))
    for number, row in enumerate(rows):
        index.insert(number, sketch(row))
    theirs = sum(number in index.query(sketch(row)) for number, row in enumerate(other))
    similarity = (124 - 5 * edits) / (124 + 5 * edits)
    chance = 1 - (1 - similarity**8) ** 14
    for each in (caught, theirs):  # within 3.5 standard deviations of the formula, and so of each other
        assert abs(each / 150 - chance) <= 3.5 * (chance * (1 - chance) / 150) ** 0.5 + 1e-9


def sketch(row: np.ndarray) -> datasketch.MinHash:
    made = datasketch.MinHash(112)
    made.update_batch([np.array(gram, np.int64).tobytes() for gram in grams(row)])
    return made
