"""Weights of rows: likelihood ratios by hand, what is kept of them, and what they are refused for."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import lab.curators
from lab.curators import check_curator
from lab.curators.outcome import outcome
from lab.curators.table import Table, Weighted
from lab.curators.weighting import weights
from lab.errors import InputError
from lab.seeds import generator


def table(rows: Any) -> Table:
    tokens = np.array(rows, np.uint16)
    return Table(tokens, np.full(len(tokens), tokens.shape[1]), lambda some: [""] * len(some))


def beside(pool: Table, trusted: Any) -> Table:
    return replace(pool, trusted=table(trusted))


def test_weights_are_ratios_of_two_unigrams() -> None:
    """Pool 0 0 0 1 1 1, trusted 0 1 1 1, each type counted half more: token 0 weighs 1.5/5, token 1 3.5/5, over 1/2."""
    pool = beside(table([[0, 0], [0, 1], [1, 1]]), [[0, 1], [1, 1]])
    found = weights(pool, rng=generator(0), low=0.01, high=100)
    assert found.weights == pytest.approx([1.5 / 3.5, 1.0, 3.5 / 1.5])  # relative to the median row, 0 1
    assert weights(pool, rng=generator(0), low=0.5, high=100).weights == pytest.approx([0.5, 1, 3.5 / 1.5])
    assert weights(pool, rng=generator(0), low=0.5).facts["at low"] == pytest.approx(1 / 3)
    documents = replace(pool, lengths=np.array([1, 1, 1]))  # a token behind the end of the text says nothing
    law = (np.array([1.5, 3.5]) / 5) / (np.array([2.5, 1.5]) / 4)
    assert weights(documents, rng=generator(0), low=0).weights == pytest.approx([1, 1, law[1] / law[0]])


def test_a_weighted_pool_has_the_law_of_trusted_text() -> None:
    """Two categorical laws on single tokens: the weighted shares of the pool tend to the trusted ones."""
    rng, p, q = np.random.default_rng(0), np.array([0.2, 0.3, 0.5]), np.array([0.6, 0.3, 0.1])
    trusted, rows = (rng.choice(3, (20_000, 1), p=law) for law in (p, q))
    found = weights(beside(table(rows), trusted), rng=generator(0), high=100).weights
    shares = np.bincount(rows[:, 0], found) / found.sum()
    assert shares == pytest.approx(p, abs=0.01)


def heavy(table: Table, *, rng: np.random.Generator) -> Any:
    return Weighted(table.tokens[:, 0].astype(float))


def none(table: Table, *, rng: np.random.Generator) -> Any:
    return Weighted(np.zeros(len(table)))


def negative(table: Table, *, rng: np.random.Generator) -> Any:
    return Weighted(np.full(len(table), -1.0))


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, __name__, __import__("types").SimpleNamespace(**globals()))


def curate(rows: Any, *wanted: tuple[str, dict[str, Any]]) -> lab.curators.Decisions:
    return lab.curators.curate(table(rows), wanted, generator(0), np.zeros(len(rows), np.bool_))


def test_weights_have_a_mean_of_1_over_what_is_trained_on() -> None:
    """Rows 1 2 2 3: the copy is dropped, and 1, 2, 3 of mean 2 become .5, 1, 1.5; two that weigh are multiplied."""
    duplicates, once = ("duplicates", {}), (f"{__name__}:heavy", {})
    found = curate([[1], [2], [2], [3]], duplicates, once)
    assert found.weights is not None and found.weights.tolist() == [0.5, 1, 0, 1.5]
    again = curate([[1], [2], [2], [3]], once, once, duplicates)
    assert again.weights is not None and again.weights == pytest.approx(np.array([1, 4, 0, 9]) * 3 / 14)
    assert curate([[1], [2]], duplicates).weights is None
    order = np.array([2, 0, 1, 3])
    assert found.back(order).weights is not None
    assert found.back(order).weights.tolist() == [1, 0, 0.5, 1.5]


def test_the_human_share_is_of_what_counts() -> None:
    human, dropped = np.array([True, False, False]), np.zeros(3, np.bool_)
    found = outcome(np.ones(3, np.int64), human, dropped, {}, np.array([2.0, 0.5, 0.5]))
    assert found["human_curated"] == pytest.approx(2 / 3) and found["human_pool"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none", "gave every row that is left the weight 0"),
        ("negative", "one finite weight of at least 0 for each of 2"),
    ],
)
def test_impossible_weights_are_refused(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        curate([[1], [2]], (f"{__name__}:{name}", {}))


@pytest.mark.parametrize("options", [{"low": 2}, {"high": 0.5}, {"low": -1}, {"low": True}, {"high": float("inf")}])
def test_bad_options_are_refused_before_anything_runs(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="the bounds of a weight, 0 <= low <= 1 <= high"):
        check_curator("weights", options)
