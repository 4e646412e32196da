"""Curators that read a judge, and what resamplers may answer, by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lab.curators import Drawn, Dropped, Table, curate, needs
from lab.curators.judged import band, best
from lab.errors import InputError
from lab.seeds import generator

RNG = generator(0)
MACHINE = np.zeros(4, np.bool_)


def table(nats: list[float], length: int = 2, trusted: Table | None = None) -> Table:
    tokens = np.arange(len(nats) * length).reshape(-1, length)
    scores = {"nats": np.array(nats)}
    return Table(tokens, np.full(len(nats), length), lambda some: [""] * len(some), scores, trusted)


def test_a_band_is_of_trusted_text_per_token() -> None:
    """Trusted rows of 10 tokens cost 10 to 110 nats: 1 to 11 a token; the middle eight tenths are 2 to 10."""
    own = table([10.0 * i for i in range(1, 12)], 10)
    found = band(table([2.0, 6.0, 20.0, 24.0], trusted=own), rng=RNG, low=0.1, high=0.9)
    assert found.facts == {"low": pytest.approx(2), "high": pytest.approx(10)}
    assert found.reasons == ["loss < 2.00", None, None, "loss > 10.00"]
    assert found.scores is not None and found.scores.tolist() == [1, 3, 10, 12]
    low = band(table([2.0, 24.0], trusted=own), rng=RNG, low=0.1, high=1)
    assert [bool(each) for each in low.reasons] == [True, False] and set(low.facts) == {"low"}
    high = band(table([2.0, 24.0], trusted=own), rng=RNG, low=0, high=0.9)
    assert [bool(each) for each in high.reasons] == [False, True]


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (-0.1, 1), (0, 1.1), (True, 1)])
def test_a_band_has_two_quantiles(low: Any, high: Any) -> None:
    with pytest.raises(InputError, match="0 <= low < high <= 1"):
        band(table([1.0], trusted=table([1.0])), rng=RNG, low=low, high=high)


def test_the_best_cost_the_judge_least() -> None:
    found = best(table([8.0, 2.0, 6.0, 2.0]), rng=RNG, keep=0.5)
    assert [each is None for each in found.reasons] == [False, True, False, True]
    assert found.reasons[0] == "loss > 1.00"
    with pytest.raises(InputError, match="above 0 and at most 1"):
        best(table([1.0]), rng=RNG, keep=0)


def twice(table: Table, *, rng: np.random.Generator) -> Drawn:
    return Drawn(np.array([3, 1, 3]), {"drawn": 3.0}, np.arange(len(table)))


def not_the_first(table: Table, *, rng: np.random.Generator) -> Dropped:
    return Dropped(["first", *[None] * (len(table) - 1)])


def test_a_resampler_draws_rows_with_repeats() -> None:
    """Of what it draws, rows 1, 3 and 3, the next curator sees rows 1 and 3 once."""
    wanted = [(f"{__name__}:twice", {}), (f"{__name__}:not_the_first", {})]
    found = curate(table([1.0] * 4), wanted, RNG, MACHINE)
    assert found.times.tolist() == [0, 0, 0, 2]
    assert found.reasons == [
        f"{__name__}:twice: not drawn",
        f"{__name__}:not_the_first: first",
        f"{__name__}:twice: not drawn",
        "",
    ]
    assert found.facts == ({"curator": f"{__name__}:twice", "drawn": 3.0},)
    assert found.scores[f"{__name__}:twice"].tolist() == [0, 1, 2, 3]


def test_decisions_return_to_the_order_of_the_pool() -> None:
    order = np.array([2, 0, 3, 1])
    found = curate(table([1.0] * 4), [(f"{__name__}:twice", {})], RNG, MACHINE).back(order)
    assert found.times.tolist() == [1, 2, 0, 0]  # rows 1 and 3 of the shuffled table were rows 0 and 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda n: Drawn(np.array([n])), "must draw rows by whole numbers from 0 to 3"),
        (lambda n: Drawn(np.array([0.5])), "must draw rows by whole numbers"),
        (lambda n: Drawn(np.array([], np.int64)), "dropped every row"),
        (lambda n: Dropped([None] * (n - 1)), "one reason or None for each of 4 rows"),
        (lambda n: Dropped([None] * n, scores=np.zeros(n + 1)), "one score for each of 4 rows"),
        (lambda n: 7, "one reason or None for each of 4 rows"),
    ],
)
def test_other_answers_are_refused(answer: Callable[[int], Any], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.twice", lambda table, *, rng: answer(len(table)))
    with pytest.raises(InputError, match=said):
        curate(table([1.0] * 4), [(f"{__name__}:twice", {})], RNG, MACHINE)


@needs("trusted", "judge")
def reads(table: Table, *, rng: np.random.Generator) -> Dropped:
    assert table.trusted is not None and table.decoy is None and set(table.scores) == {"nats"}
    return Dropped([None] * len(table))


def blind(table: Table, *, rng: np.random.Generator) -> Any:
    assert table.trusted is None and not table.scores
    return table.own


def test_a_curator_sees_what_it_needs_and_no_more() -> None:
    rows = table([1.0] * 4, trusted=table([1.0]))
    full = Table(rows.tokens, rows.lengths, rows.spell, {**rows.scores, "cross": rows.scores["nats"]}, rows, rows)
    curate(full, [(f"{__name__}:reads", {})], RNG, MACHINE)
    with pytest.raises(InputError, match=r'put @needs\("trusted"\) above the function'):
        curate(full, [(f"{__name__}:blind", {})], RNG, MACHINE)
