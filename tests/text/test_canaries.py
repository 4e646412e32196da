"""Canaries: as many copies as asked for, in places of their own, and no candidate twice."""

import numpy as np

from lab.text.canaries import CANDIDATES, COPIES, candidates, losses, plant, planted

SPECIAL = {"vocab_size": 50, "bos": 3, "eos": 7}


def test_each_canary_is_planted_as_often_as_its_number_says() -> None:
    which = planted(0, 1000, [1, 16, 64])
    assert [int((which == COPIES.index(n)).sum()) for n in COPIES] == [1, 0, 16, 64, 0]
    assert (which != planted(1, 1000, [1, 16, 64])).any() and (which == planted(0, 1000, [1, 16, 64])).all()


def test_candidates_are_rows_of_random_tokens_without_special_ones() -> None:
    drawn = candidates(0, 16, **SPECIAL)
    assert drawn.shape == (len(COPIES) + CANDIDATES - 1, 16) and len(np.unique(drawn, axis=0)) == len(drawn)
    assert set(np.unique(drawn)) == set(range(50)) - {3, 7}


def test_planted_rows_say_so() -> None:
    rows, drawn = np.zeros((3, 4), np.uint16), np.arange(20).reshape(5, 4)
    known = {"domain": ["a", "b", None], "document": ["d", "e", "f"]}
    found = plant(rows, known, np.array([-1, 2, -1]), drawn)
    assert found.tolist() == [[0] * 4, [8, 9, 10, 11], [0] * 4] and found.dtype == np.uint16
    assert known == {"domain": ["a", None, None], "document": ["d", "canary", "f"]}


def test_a_canary_is_ranked_among_rows_that_are_planted_nowhere() -> None:
    drawn = candidates(0, 32, **SPECIAL)
    found = losses(lambda rows: rows.astype(float), drawn, 16)
    assert len(found) == CANDIDATES and found[0] == drawn[2, :16].sum() and found[1] == drawn[5, :16].sum()
