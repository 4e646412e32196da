"""Verifiers by hand: what they keep, and where a chain that they curate comes to rest."""

from typing import Any

import numpy as np
import pytest

from lab.curators import check_curator, curate, register_of
from lab.curators.judged import best
from lab.curators.table import Table, nats_of
from lab.errors import InputError
from lab.seeds import generator


def scored(**scores: Any) -> Table:
    """Return rows of one token with these scores; a name with _ has a space in its place."""
    columns = {name.replace("_", " "): np.asarray(values, np.float64) for name, values in scores.items()}
    rows = len(next(iter(columns.values())))
    return Table(np.zeros((rows, 1), np.uint16), np.ones(rows, np.int64), lambda some: [""] * len(some), columns)


def test_a_narrow_verifier_reads_the_judge_of_its_register() -> None:
    table = scored(nats=[1, 2, 3, 4], nats_sea=[4, 3, 2, 1])
    kept = {register: best(table, rng=generator(0), keep=0.5, register=register).reasons for register in ("", "sea")}
    assert [reason is None for reason in kept[""]] == [True, True, False, False]
    assert [reason is None for reason in kept["sea"]] == [False, False, True, True]
    assert register_of("best", {"keep": 1, "register": "sea"}) == "sea" and nats_of("sea") == "nats sea"
    assert register_of("best", {"keep": 1}) == register_of("random", {"keep": 1}) == ""


def generations(centre: float, wanted: tuple[str, dict[str, Any]], start: float = 3.0, count: int = 20) -> list[float]:
    """Return the means of a chain of normal laws of spread 1, each fitted to what a curator keeps of its draws.

    A row is a number x, and costs a verifier centred at c  (x - c)^2 / 2.
    """
    mean, means, rng = start, [], np.random.default_rng(0)
    for t in range(count):
        drawn = rng.normal(mean, 1, 4_000)
        found = curate(scored(nats=(drawn - centre) ** 2 / 2), [wanted], generator(t), np.zeros(4_000, np.bool_))
        mean = float(drawn[found.kept].mean())
        means.append(mean)
    return means


@pytest.mark.parametrize("centre", [-1.0, 0.0, 5.0])
def test_the_fixed_point_of_a_verified_chain_is_the_verifiers_centre(centre: float) -> None:
    """Wherever it starts (Yi et al. 2026); a random choice of as many rows leaves the mean where it was."""
    means = generations(centre, ("best", {"keep": 0.25}))
    assert abs(means[0] - centre) < abs(3 - centre) and np.mean(means[-5:]) == pytest.approx(centre, abs=0.03)
    assert generations(centre, ("random", {"keep": 0.25}))[-1] == pytest.approx(3, abs=0.6)  # a walk of 20 x 1/32


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"keep": 0.5, "register": 3}, "best: register is 3; it is the name of a domain of the corpus"),
        ({"keep": 0, "register": "sea"}, "best: keep is 0"),
    ],
)
def test_bad_options_are_refused_before_anything_runs(options: dict[str, Any], said: str) -> None:
    check_curator("best", {"keep": 0.5, "register": "sea"})
    with pytest.raises(InputError, match=said):
        check_curator("best", options)
