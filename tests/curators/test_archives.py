"""The archive by hand: what is released, in which order and proportion, and what it is refused for."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from lab.curators import check_curator
from lab.curators.archives import Held, archive, needs_by_mode, shared_out
from lab.errors import InputError
from lab.seeds import generator


@pytest.mark.parametrize("release", ["random", "oldest", "need"])
def test_every_row_is_released_once_until_the_budget_is_used(release: str) -> None:
    left, seen, counts = np.arange(40, 50), [], []
    for t in range(1, 6):
        held = Held(left, ["sea", "land"] * (len(left) // 2), {"sea": 0.5})
        found = archive(held, rng=generator(t), rows=4, budget=10, release=release)
        left = np.setdiff1d(left, found.rows)
        seen += found.rows.tolist()
        counts.append((found.facts["released"], found.facts["left"]))
    assert sorted(seen) == list(range(40, 50))
    assert counts == [(4, 6), (4, 2), (2, 0), (0, 0), (0, 0)]  # the same for every release: equal budgets


def test_oldest_takes_the_archives_order_and_random_does_not() -> None:
    held = Held(np.arange(100))
    assert archive(held, rng=generator(0), rows=5, budget=100, release="oldest").rows.tolist() == [0, 1, 2, 3, 4]
    drawn = [archive(held, rng=generator(seed), rows=50, budget=100).rows for seed in (1, 2)]
    assert not np.array_equal(*drawn) and 35 < drawn[0].mean() < 65


def test_need_by_hand() -> None:
    """Sea has risen from 10 to 12 nats (.2), land from 20 to 22 (.1), sky has fallen, moon has tripled."""
    modes = ["sea", "land", "sea", "sky", "moon"]
    first, now = np.array([4.0, 20, 6, 5, 1]), np.array([5.0, 22, 7, 4, 3])
    need = needs_by_mode(now, first, modes)
    assert need == pytest.approx({"land": 0.1, "moon": 1.0, "sea": 0.2, "sky": 0.0})
    assert needs_by_mode(np.array([np.inf]), np.ones(1), ["sea"]) == {"sea": 1.0}
    assert needs_by_mode(np.array([np.inf]), np.array([np.inf]), ["sea"]) == {"sea": 0.0}


@pytest.mark.parametrize(
    ("need", "free", "count", "quota"),
    [
        ({"a": 0.2, "b": 0.1}, {"a": 9, "b": 9}, 6, {"a": 4, "b": 2}),
        ({"a": 0.2, "b": 0.1}, {"a": 1, "b": 9}, 6, {"a": 1, "b": 5}),  # what a lacks goes to b
        ({"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 99, "b": 99, "c": 99}, 10, {"a": 5, "b": 3, "c": 2}),
        ({"a": 0.2, "b": 0.0}, {"a": 2, "b": 9}, 6, {"a": 2, "b": 0}),
        ({"a": 0.0}, {"a": 2}, 1, {"a": 0}),
    ],
)
def test_rows_are_shared_out_by_need(need: Any, free: Any, count: int, quota: dict[str, int]) -> None:
    assert shared_out(need, free, count) == quota


def test_more_rows_go_where_more_is_needed_and_chance_decides_where_nothing_is() -> None:
    modes = ["sea", "land", "sky"] * 30
    found = archive(
        Held(np.arange(90), modes, {"sea": 0.3, "land": 0.1}), rng=generator(0), rows=40, budget=90, release="need"
    )
    # 30 of the sea are all there are; land gets the rest of what need asks for
    assert Counter(modes[row] for row in found.rows) == {"sea": 30, "land": 10}
    assert found.facts["need sea"] == 0.3 and found.facts["rows sky"] == 0
    level = archive(Held(np.arange(90), modes, {}), rng=generator(0), rows=45, budget=90, release="need")
    assert len(level.rows) == 45 and min(Counter(modes[row] for row in level.rows).values()) > 8


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rows": 0, "budget": 5}, "archive: rows is 0; it is a whole number of rows, at least 1"),
        ({"rows": 2, "budget": 1.5}, "archive: budget is 1.5"),
        ({"rows": 6, "budget": 5}, "rows is 6 per generation, more than its budget of 5 in all"),
        ({"rows": 2, "budget": 5, "release": "newest"}, "release is newest; allowed: random, oldest, need"),
        ({"rows": 2}, "curator archive needs budget"),
    ],
)
def test_bad_options_are_refused_before_anything_runs(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_curator("archive", options)
