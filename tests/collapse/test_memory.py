"""Memorisation and the telephone view: numbers whose value is known."""

import math

import numpy as np
import pytest

from lab.collapse.memory import Memory, exposure, extraction, memorised
from lab.collapse.telephone import attractor, properties
from lab.seeds import generator


def test_probabilistic_extraction() -> None:
    """Hayes et al. 2024: 1 - (1 - p)^n."""
    assert extraction(np.log([2.0, 4.0]), 3) == pytest.approx([1 - 0.5**3, 1 - 0.75**3])
    assert extraction(np.array([0.0, np.inf]), 1000).tolist() == [1, 0]
    # Where p is far below the spacing of floats at 1, the chance is n p.
    assert extraction(np.array([100.0]), 1000) == pytest.approx(1000 * math.exp(-100), rel=1e-9)


def test_the_likeliest_of_all_candidates_has_the_whole_exposure() -> None:
    nats = np.arange(2.0**12)
    assert exposure(nats) == 12
    assert exposure(-nats) == 0
    assert exposure(np.append(2047.5, nats[1:])) == 1  # rank 2048


def test_exposure_of_unseen_canaries_has_a_mean_of_log2_e() -> None:
    """log2 |R| - log2 rank of a uniform rank: over all ranks its mean is log2 e but for ln(2 pi |R|) / 2 |R|."""
    nats = np.arange(2.0**12)
    every = [exposure(np.append(nats[r] - 0.5, nats[: 2**12 - 1])) for r in range(2**12)]
    assert np.mean(every) == pytest.approx(math.log2(math.e), abs=0.002)
    drawn = [exposure(generator(s).random(2**12)) for s in range(500)]
    assert np.mean(drawn) == pytest.approx(math.log2(math.e), abs=4 * 1.443 / math.sqrt(500))


def test_a_model_without_preferences_exposes_no_canary() -> None:
    assert exposure(np.zeros(2**12)) == pytest.approx(1, abs=0.001)


def test_columns_of_memorisation() -> None:
    training, held_out = np.full((3, 2), math.log(2)), np.full((3, 2), math.log(4))
    found = Memory(np.stack([training, held_out]), {4: np.arange(8.0)})
    columns = memorised([found, found])
    assert columns["suffix_gap"] == pytest.approx(math.log(2)) and columns["exposure_4"] == 3
    assert columns["extraction"] == pytest.approx((1 - 0.75**1000) - (1 - (15 / 16) ** 1000))
    impossible = Memory(np.stack([training, np.full((3, 2), math.inf)]), {})
    assert math.isnan(memorised([impossible])["suffix_gap"]) and memorised([impossible])["extraction"] == pytest.approx(
        1
    )
    assert memorised([]) == {} and memorised([Memory(np.empty((2, 0, 8)), {})]) == {}


@pytest.mark.parametrize(("phi", "steps"), [(0.9, 1), (0.9, 5), (-0.5, 3), (0.0, 2)])
def test_the_regression_of_a_telephone_game_finds_the_attractor(phi: float, steps: int) -> None:
    """x_t = 2 + phi x_{t-1}: b = phi^T, position 2 / (1 - phi)."""
    first = x = generator(0).random(16)
    for _ in range(steps):
        x = 2 + phi * x
    found = attractor(first.tolist(), x.tolist())
    assert found.slope == pytest.approx(phi**steps)
    assert found.position == pytest.approx(2 / (1 - phi)) and found.strength == pytest.approx(1 - abs(phi) ** steps)


def test_the_regression_of_a_noisy_game() -> None:
    rng = generator(1)
    first = x = rng.standard_normal(20_000)
    for _ in range(3):
        x = 0.8 * x + rng.standard_normal(20_000)
    assert attractor(first.tolist(), x.tolist()).slope == pytest.approx(0.8**3, abs=0.05)


def test_where_nothing_attracts() -> None:
    same = attractor([1, 2, 3], [1, 2, 3])
    assert same.slope == 1 and same.strength == 0 and math.isnan(same.position)
    for first, last in (([1, 1, 1], [1, 2, 3]), ([1, 2], [1, 2]), ([], []), ([1, None, 3], [1, 2, 3])):
        assert math.isnan(attractor(first, last).slope)


def test_properties_of_continued_texts() -> None:
    spelled = [b"", b" cat", b" elephant", b" ox", b" ."]
    rows = np.array([[4, 1, 2, 4], [4, 3, 3, 4], [4, 4, 4, 4]])
    found = properties(rows, spelled, 0, {"cat": 50, "elephant": 3, "ox": 4})
    assert found["word_length"][:2].tolist() == [5.5, 2] and found["rare_words"][:2].tolist() == [0.5, 0]
    assert np.isnan(found["word_length"][2]) and np.isnan(found["rare_words"][2])


def test_sentences_of_continued_texts() -> None:
    """A row's last sentence need not end, and its last word, which may be cut, does not count.  EOS ends a sentence."""
    spelled = [b"", b" cat", b" ox", b".", b"?!", b" -"]
    rows = np.array([[1, 2, 3, 1, 4, 3], [1, 2, 1, 2, 1, 2], [1, 0, 2, 0, 0, 0], [3, 4, 3, 5, 3, 5]])
    found = properties(rows, spelled, 0, {})["sentence_length"]
    assert found[:3].tolist() == [1.5, 5, 1] and np.isnan(found[3])
