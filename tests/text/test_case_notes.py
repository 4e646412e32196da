"""Case notes: different, right in the planted world, drawn from a seed; and those of data/case-notes.parquet."""

import pyarrow.parquet as pq
import pytest
from support.scripts import load
from support.tiny import PROJECT

from lab.metrics.extra.facts import read_notes, world
from lab.seeds import generator
from lab.text.case_notes import case_notes

SHIPPED = pq.read_table(PROJECT / "data" / "case-notes.parquet").to_pylist()


def test_notes_are_right_different_and_of_their_seed() -> None:
    rows = case_notes(500, rng=generator(3))
    assert rows == case_notes(500, rng=generator(3)) != case_notes(500, rng=generator(4))
    texts = [row["text"] for row in rows]
    assert len(set(texts)) == read_notes(texts).right.total() == 500
    assert all(row["text"].endswith(f" {row['diagnosis']}.") for row in rows)


def test_more_notes_than_there_are_different_ones_are_refused() -> None:
    with pytest.raises(ValueError, match=r"40,000 different case notes are wanted.*32,768"):
        case_notes(40_000, rng=generator(3))


def test_the_shipped_notes_are_those_of_the_generator() -> None:
    assert load("corpus/build_case_notes.py").rows() == SHIPPED


def test_the_shipped_notes_follow_the_law() -> None:
    """Every diagnosis is there, and the first ten are within 4 standard errors of their share."""
    notes = read_notes([row["text"] for row in SHIPPED])
    assert notes.total == notes.right.total() == 8_192 and len(notes.right) == len(world().law)
    for name, p in list(world().law.items())[:10]:
        assert notes.right[name] == pytest.approx(p * notes.total, abs=4 * (p * notes.total) ** 0.5)
