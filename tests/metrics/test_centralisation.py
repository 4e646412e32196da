"""Measures of centralisation: known answers, by hand and on evidence made by hand."""

import itertools
import math

import numpy as np
import pytest
from metrics.test_evidence import by_hand

from lab.metrics.centralisation import (
    Voiced,
    concentration,
    homogenisation,
    in_turn,
    outcome_homogenisation,
    share_lost_by_all,
    systemic_loss,
    written_by,
)


def failures(f: tuple[int, int], members: int, copies: int, *, alike: bool) -> np.ndarray:
    """Every model fails at f[0] of f[1] items: at the same ones, or once in every combination."""
    one = np.arange(f[1]) < f[0]
    if alike:
        return np.tile(one, (members, copies))
    every = np.array(list(itertools.product(one, repeat=members))).T
    return np.tile(every, copies)


@pytest.mark.parametrize("members", [1, 2, 3, 4])
def test_independent_models_are_at_one(members: int) -> None:
    lost = failures((3, 10), members, 20_000 // 10**members + 200, alike=False)
    ratio, expected = outcome_homogenisation(lost)
    assert ratio == pytest.approx(1) and expected >= 100


@pytest.mark.parametrize(("members", "want"), [(1, 1), (2, 10), (4, 1000)])
def test_identical_models_lie_at_a_power_of_their_share(members: int, want: float) -> None:
    """f^-(M-1) at f = 1/10."""
    ratio, expected = outcome_homogenisation(failures((1, 10), members, 200_000, alike=True))
    assert ratio == pytest.approx(want) and expected == pytest.approx(2_000_000 / 10**members)


def test_too_few_items_give_no_ratio() -> None:
    """M = 2, f = 1/10: 1 in 100 fails for both by chance.  9,990 items are expected to fail 99.9 times."""
    assert outcome_homogenisation(failures((1, 10), 2, 1_000, alike=True))[0] == pytest.approx(10)
    ratio, expected = outcome_homogenisation(failures((1, 10), 2, 999, alike=True))
    assert math.isnan(ratio) and expected == pytest.approx(99.9)


def test_random_models_are_at_one_within_chance() -> None:
    lost = np.random.default_rng(3).random((2, 100_000)) < 0.3
    assert outcome_homogenisation(lost)[0] == pytest.approx(1, abs=0.03)


def test_systemic_loss_of_equal_and_disjoint_models() -> None:
    half = np.arange(10) < 5
    assert share_lost_by_all(np.array([half, half])) == 1
    assert share_lost_by_all(np.array([half, ~half])) == 0
    assert share_lost_by_all(np.array([[True, True, False], [True, False, False]])) == pytest.approx(1 / 1.5)
    assert math.isnan(share_lost_by_all(np.zeros((2, 3), bool)))


TWO = [np.full((2, 6), math.log(2))] * 2
"""The human text of `by_hand` has the words the x2, cat x2, saw x1, dog x1, all rare: 1 to 3 copies."""


def test_words_are_lost_by_the_model_that_wrote_the_row() -> None:
    """Model 0 writes: the cat the; model 1: dog dog the.  Lost: saw, dog by 0; cat, saw by 1; saw by both."""
    sample = np.array([[5, 1, 2, 1, 5, 5], [5, 3, 3, 1, 5, 5]])
    evidence = by_hand(sample=sample, member_nats=TWO)
    assert systemic_loss(evidence) == {"systemic_loss": pytest.approx(1 / 2)}
    found = homogenisation(evidence)
    assert math.isnan(found["homogenisation"]) and found["expected_lost_by_all"] == pytest.approx(4 * 0.5 * 0.5)
    alone = Voiced.of(evidence, [2, 0])
    assert systemic_loss(alone) == {"systemic_loss": pytest.approx(1 / 2.5)}, "model 0 lost saw, model 1 all four"
    assert systemic_loss(by_hand()) == {"systemic_loss": 1}, "one model"


def test_concentration() -> None:
    rows = np.zeros((8, 6), int)
    assert concentration(by_hand(sample=rows, member_nats=TWO)) == {"concentration": 0.5}
    assert concentration(Voiced.of(by_hand(sample=rows, member_nats=TWO), [6, 2])) == {"concentration": 0.625}
    assert concentration(Voiced.of(by_hand(sample=rows, member_nats=TWO), [8, 0])) == {"concentration": 1}
    assert concentration(by_hand(sample=rows)) == {"concentration": 1}


def test_equal_parts_of_unequal_voices() -> None:
    evidence = Voiced.of(by_hand(sample=np.repeat(np.arange(8), 6).reshape(8, 6), member_nats=TWO), [6, 2])
    assert written_by(evidence).tolist() == [0, 0, 1, 0, 0, 0, 1, 0]
    assert in_turn(evidence).sample[:, 0].tolist() == [0, 2, 1, 6]
    assert written_by(in_turn(evidence)).tolist() == [0, 1, 0, 1]
    silent = Voiced.of(by_hand(sample=evidence.sample, member_nats=TWO), [8, 0])
    assert len(in_turn(silent).sample) == 0


def test_a_known_source_has_no_words() -> None:
    short = by_hand(budget=100)
    assert math.isnan(systemic_loss(short)["systemic_loss"]) and math.isnan(homogenisation(short)["homogenisation"])
