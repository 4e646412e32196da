"""Parts of the reference fold: whole documents, alike in what they hold, and rows enough."""

import numpy as np
import pytest

from lab.errors import InputError
from lab.text.rows import half_rows


def fold(lengths: list[int], positions: int = 8) -> np.ndarray:
    """Return the document of each token of documents with so many tokens, joined and cut into rows."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    return owner[: len(owner) // positions * positions].reshape(-1, positions)


@pytest.mark.parametrize("length", [20, 100, 700])
def test_no_document_is_in_two_parts(length: int) -> None:
    owner = fold(np.random.default_rng(0).integers(length // 2, 2 * length, 80).tolist())
    documents = [set(owner[half_rows(owner, half, 10**6)].ravel().tolist()) for half in (0, 2, 3)]
    assert all(documents) and not any(documents[i] & documents[j] for i, j in ((0, 1), (0, 2), (1, 2)))
    rows = [len(half_rows(owner, half, 10**6)) for half in (1, 2, 3)]
    assert abs(rows[1] - rows[2]) < 2 * length / 8 + 17 and sum(rows[1:]) > 0.9 * rows[0]


def test_the_parts_of_curators_are_alike() -> None:
    """Documents of one domain are neighbours in the order of a fold: each part has a share of both."""
    owner = fold([100] * 80)
    halves = [owner[half_rows(owner, half, 10**6), 0] for half in (2, 3)]
    for documents in halves:
        assert 0.4 < (documents < 60).mean() < 0.6  # half B is documents 40 to 80


def test_a_part_of_few_rows_is_refused() -> None:
    with pytest.raises(InputError, match="has 7 rows for curators to trust or to fit a model to, and 8 are the least"):
        half_rows(fold([8] * 30), 3, 100)
    with pytest.raises(InputError, match="has no row for half A or B"):
        half_rows(fold([8]), 0, 100)
