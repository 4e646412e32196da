"""Known distributions: what they draw is their law, and losses by hand.  Chi-square bounds: p > 0.001, fixed seeds."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from lab.config.text import SourceConfig
from lab.seeds import derive_seed, generator
from lab.text.known_source import SAVED, KnownSource, _cumulative, is_known_source


def source(process: Any = "categorical", types: int = 6, zipf: float = 1) -> KnownSource:
    return KnownSource.of(SourceConfig(kind="source", process=process, types=types, zipf=zipf, tokens=1))


def fits(found: np.ndarray, law: np.ndarray) -> float:
    return float(stats.chisquare(found, law * found.sum()).pvalue)


COIN = KnownSource(np.array([0.75, 0.25]), np.array([[0.5, 0.5], [1.0, 0.0]]))
"""First 3 : 1; after a 0 even, after a 1 always 0."""


def test_zipf_by_hand() -> None:
    """1, 1/2, 1/3 sum to 11/6; exponent 0 is uniform."""
    assert source(types=3).first == pytest.approx([6 / 11, 3 / 11, 2 / 11])
    assert source(types=4, zipf=0).first.tolist() == [0.25] * 4
    assert source(types=3, zipf=2).first == pytest.approx(np.array([36, 9, 4]) / 49)
    assert source(types=3).types == 3


@pytest.mark.parametrize("zipf", [0, 1, 2.5])
def test_categorical_draws_match_the_law_everywhere(zipf: float) -> None:
    """Each of 4 positions and neighbours, which are independent: the p of chi-square is uniform over seeds 0 .. 39.

    (One seed is not enough: the second position of seed 1 has p = 6e-5 at 20,000 rows, one in 1,200 that were looked
    at, whose p is uniform.)  5,000 rows; Kolmogorov-Smirnov, p > 0.001.
    """
    law = source(types=4, zipf=zipf)
    found = []
    for seed in range(40):
        rows = law.draw(5_000, 4, generator(seed))
        assert rows.shape == (5_000, 4)
        found += [fits(np.bincount(rows[:, position], minlength=4), law.first) for position in range(4)]
        found.append(
            fits(np.bincount(rows[:, 1] * 4 + rows[:, 2], minlength=16), np.outer(law.first, law.first).ravel())
        )
    assert stats.kstest(found, "uniform").pvalue > 0.001


def test_markov_starts_stationary_and_draws_its_transitions() -> None:
    """The first and the last position have one law; what follows each token is its row of `then`; 20,000 rows."""
    law = source("markov")
    assert law.first @ law.then == pytest.approx(law.first, abs=1e-12)
    rows = law.draw(20_000, 5, generator(2))
    for position in (0, 4):
        assert fits(np.bincount(rows[:, position], minlength=6), law.first) > 0.001
    before, after = rows[:, :-1].ravel(), rows[:, 1:].ravel()
    for token in range(6):
        assert fits(np.bincount(after[before == token], minlength=6), law.then[token]) > 0.001


def test_a_markov_source_has_the_zipf_law_in_an_order_of_its_own_for_each_token() -> None:
    law, plain = source("markov", types=12), source(types=12)
    assert np.array_equal(np.sort(law.then, axis=1), np.tile(np.sort(plain.first), (12, 1)))
    assert len({tuple(row) for row in law.then.argsort(axis=1).tolist()}) == 12
    assert np.array_equal(law.then, source("markov", types=12).then), "the same for every seed and process"


def test_draws_by_hand() -> None:
    """Uniform numbers on and beside the bounds: u < 0.75 is token 0, u = 0.75 is token 1; after a 1 all u give 0."""

    class Uniforms:
        def random(self, shape: tuple[int, int]) -> np.ndarray:
            assert shape == (2, 3)
            return np.array([[0.0, 0.7499, 0.75], [0.4999, 0.5, 0.9999]])

    assert COIN.draw(3, 2, Uniforms()).tolist() == [[0, 0], [0, 1], [1, 0]]


def test_draws_are_a_function_of_the_generator() -> None:
    law = source("markov")
    assert np.array_equal(law.draw(7, 5, generator(3)), law.draw(7, 5, generator(3)))
    assert not np.array_equal(law.draw(7, 5, generator(3)), law.draw(7, 5, generator(4)))


def test_rows_of_a_study_have_a_generator_for_each_purpose_and_seed() -> None:
    law = source()
    human = law.rows("human", 40, 5, seed=3)
    assert np.array_equal(human, law.draw(40, 5, generator(derive_seed(3, 0, "human rows"))))
    others = [law.rows("test", 40, 5, seed=3), law.rows("archive", 40, 5, seed=3), law.rows("human", 40, 5, seed=4)]
    assert all(not np.array_equal(human, other) for other in others)


def test_nats_by_hand() -> None:
    """COIN: 0 1 0 costs log 4/3, log 2, log 1; after a 1 a 1 is impossible."""
    nats = COIN.nats(np.array([[0, 1, 0], [1, 1, 0]], dtype=np.uint16))
    assert nats.dtype == np.float32
    assert nats[0] == pytest.approx([math.log(4 / 3), math.log(2), 0], abs=1e-7)
    assert nats[1].tolist() == [pytest.approx(math.log(4)), math.inf, 0]


def test_entropy_by_hand() -> None:
    """Even coin: log 2 a token.  COIN, 2 tokens: [H(3/4) + 3/4 log 2] / 2, because after a 1 nothing is open."""
    assert source(types=2, zipf=0).entropy(9) == pytest.approx(math.log(2))
    first = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert COIN.entropy(1) == pytest.approx(first)
    assert COIN.entropy(2) == pytest.approx((first + 0.75 * math.log(2)) / 2)


@pytest.mark.parametrize("process", ["categorical", "markov"])
def test_entropy_is_the_expected_loss_of_its_own_rows(process: str) -> None:
    """40,000 rows of 5; within the 99.9 % Monte-Carlo interval of the rows' mean, which finds 0.5 %."""
    law = source(process)
    means = law.nats(law.draw(40_000, 5, generator(5))).astype(np.float64).mean(axis=1)
    half = 3.2905 * means.std(ddof=1) / math.sqrt(len(means))
    assert 2 * half / law.entropy(5) < 0.01
    assert abs(means.mean() - law.entropy(5)) < half


@pytest.mark.parametrize("process", ["categorical", "markov"])
def test_save_and_load(process: str, tmp_path: Path) -> None:
    law = source(process)
    assert not is_known_source(tmp_path)
    law.save(tmp_path)
    assert is_known_source(tmp_path) and (tmp_path / SAVED).exists()
    again = KnownSource.load(tmp_path)
    assert np.array_equal(again.first, law.first) and np.array_equal(again.then, law.then)
    assert np.array_equal(again.draw(5, 4, generator(0)), law.draw(5, 4, generator(0)))


@pytest.mark.parametrize("types", [2, 10, 4096])
def test_cumulative_sums_end_at_exactly_1(types: int) -> None:
    """Ten times 0.1 sums to less than 1 in floats; a uniform number between would be token K."""
    sums = _cumulative(np.full((3, types), 1 / types))
    assert (sums[:, -1] == 1).all() and (np.diff(sums) > 0).all()
    assert np.cumsum(np.full(10, 0.1))[-1] < 1 == _cumulative(np.full(10, 0.1))[-1]
