"""Voices: how many rows each model writes, and in which order they stand."""

import numpy as np
import pytest

from lab.config.voices import fault_of, rows_by_member, writers


def test_rows_by_hand() -> None:
    assert rows_by_member(20, 4, [0.7, 0.1, 0.1, 0.1]) == (14, 2, 2, 2)
    assert rows_by_member(10, 3, [0.75, 0.15, 0.1]) == (8, 1, 1), "7.5, 1.5, 1: one row is left, the first half gets it"
    assert rows_by_member(9, 3, [0.333333, 0.333333, 0.333334]) == (3, 3, 3), "as people write a third"
    assert rows_by_member(7, 2, [1, 0]) == (7, 0)
    assert rows_by_member(10, 4, None) == (3, 3, 2, 2)


@pytest.mark.parametrize("members", range(1, 12))
def test_equal_voices_are_the_default_and_take_turns(members: int) -> None:
    for rows in range(members, 60):
        equal = rows_by_member(rows, members, None)
        assert rows_by_member(rows, members, [1 / members] * members) == equal
        assert np.array_equal(writers(equal), np.arange(rows) % members)


def test_the_head_of_a_sample_has_the_voices_of_the_whole() -> None:
    written = (700, 150, 100, 50, 0)
    found = writers(written)
    assert tuple(np.bincount(found, minlength=5)) == written
    for head in range(1, 1001):
        parts = np.bincount(found[:head], minlength=5)
        assert np.abs(parts - head * np.array(written) / 1000).max() <= 4, "give or take a row of each other model"
    assert writers([4, 2, 0]).tolist() == [0, 1, 0, 0, 1, 0]


def test_what_is_no_share() -> None:
    assert fault_of([0.1] * 10) is None and fault_of([1]) is None and fault_of([1 / 3] * 3) is None
    assert fault_of([0.5, 0.49]) == "voices add up to 0.99; they are shares of one sample and must add up to 1"
    assert "hold -0.2;" in str(fault_of([1.0, -0.2, 0.2]))
