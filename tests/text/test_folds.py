"""Folds of many short documents: the same as a plain rule with dictionaries gives, in little memory."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections import defaultdict

import numpy as np
import pytest

from lab.metrics import texts
from lab.metrics.tails import loss_by_token_bin
from lab.models.feed import before_end
from lab.seeds import generator
from lab.text.folds import SHARES, assign_folds, first_copies, name_order


def by_dictionaries(documents: list[tuple[str, str, int]]) -> list[str]:
    """Apply the rule of assign_folds, one group after another."""
    home: dict[str, str] = {}
    size: dict[str, int] = defaultdict(int)
    for group, domain, bytes_ in documents:
        home[group] = min(home.get(group, domain), domain)
        size[group] += bytes_
    fold: dict[str, str] = {}
    for domain in set(home.values()):
        members = sorted((g for g in home if home[g] == domain), key=lambda g: hashlib.sha256(g.encode()).digest())
        lacking = {name: share * sum(size[g] for g in members) for name, share in SHARES.items()}
        for group in members:
            fold[group] = max(lacking, key=lambda name: lacking[name])
            lacking[fold[group]] -= size[group]
    return [fold[group] for group, _, _ in documents]


@pytest.mark.parametrize("groups", [1, 7, 300])
def test_folds_are_those_of_the_rule_written_with_dictionaries(groups: int) -> None:
    rng = generator(groups)
    documents = [
        (f"group {rng.integers(groups)}", ("verse", "prose", "élan")[rng.integers(3)], int(rng.integers(1, 99)))
        for _ in range(500)
    ]
    found, count = assign_folds(iter(documents))
    assert [list(SHARES)[place] for place in found] == by_dictionaries(documents)
    assert count == len({group for group, _, _ in documents})


def test_first_copies_by_hand() -> None:
    texts = ["a", None, "b", " \n", "a", "", "A", "b", "\ud800"]
    assert first_copies(texts).tolist() == [True, False, True, False, False, False, True, False, True]
    assert first_copies([]).tolist() == []


def test_names_come_in_the_order_of_their_hash() -> None:
    names = [f"{i}" for i in range(300)] + ["7", "8"]
    want = sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).digest())
    assert name_order(names).tolist() == want


def test_documents_cost_bytes_and_no_objects() -> None:
    """A digest, a size and a domain are 32 bytes, before sorting; Python objects would be hundreds."""

    def most(documents: int) -> int:
        tracemalloc.start()
        assign_folds((f"{i}", "all", 1000 + i) for i in range(documents))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    few, many = 10_000, 40_000
    assert (most(many) - most(few)) / (many - few) < 148


def test_blocks_of_rows_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = generator(1).integers(0, 5, (90, 6)).astype(np.uint16)
    monkeypatch.setattr(texts, "ROWS", 7)
    text = before_end(rows, 0)
    assert np.array_equal(np.concatenate(list(texts.text_blocks(rows, 0))), rows[text])
    nats = np.ones(rows.shape, np.float32)
    assert loss_by_token_bin(rows, nats, texts.text_blocks(rows, 0), 5) == loss_by_token_bin(rows, nats, rows[text], 5)
    kept = text[:, 1:]
    upto = np.cumsum(kept).reshape(kept.shape)  # of all rows at once
    for budget in (1, 20, 99, int(kept.sum())):
        enough = int(np.argmax(upto[:, -1] >= budget)) + 1
        found = texts.head(rows, 1, budget, 0)
        assert found is not None and np.array_equal(found, np.where(kept & (upto <= budget), rows[:, 1:], 0)[:enough])
    assert texts.head(rows, 1, int(kept.sum()) + 1, 0) is None
