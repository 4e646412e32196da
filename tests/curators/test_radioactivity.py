"""Radioactivity: which pairs count, the chance of another key, and what a bigram model of marked text must give."""

import math
from typing import Any

import numpy as np
import pytest

from lab.curators.marks import green_lists
from lab.curators.radioactivity import evidence, read_pairs, written_pairs
from lab.curators.watermark import corpus_z
from lab.models.ngram import Ngram
from lab.seeds import generator

V = 104
SETTINGS: dict[str, Any] = {"vocabulary": V, "ratio": 0.25, "key": 15485863}


def all_text(rows: np.ndarray) -> np.ndarray:
    return np.ones(rows.shape, np.bool_)


def unmarked(rows: int, seed: int) -> np.ndarray:
    weights = 1 / np.arange(1, V)
    return 1 + generator(seed).choice(V - 1, (rows, 64), p=weights / weights.sum())


def marked(rows: int, seed: int) -> np.ndarray:
    """Rows of the same law, in which a red token is drawn again once."""
    rng, lists, text = generator(seed), green_lists(**SETTINGS), unmarked(rows, seed + 1)
    weights = 1 / np.arange(1, V)
    for place in range(1, 64):
        red = ~lists(text[:, place - 1])[np.arange(rows), text[:, place]]
        text[red, place] = 1 + rng.choice(V - 1, red.sum(), p=weights / weights.sum())
    return text


def test_pairs_by_hand() -> None:
    rows = np.array([[1, 2, 1, 2, 5], [7, 7, 8, 0, 0]])
    text = np.array([[True] * 5, [True, True, True, True, False]])
    assert written_pairs(rows, text).tolist() == [[1, 2], [2, 1], [2, 5], [7, 7], [7, 8], [8, 0]]
    assert written_pairs(rows, text, prompt=3).tolist() == [[1, 2], [2, 5], [8, 0]]
    readings = np.arange(10, 20).reshape(2, 5)  # what comes after 1, 2, 1, 2 and after 7, 7, 8, 0
    assert read_pairs(rows, text, [readings]).tolist() == [[1, 11], [2, 12], [7, 16], [8, 18]]
    assert (
        len(read_pairs(rows, text, [readings, readings])) == 4
        and len(read_pairs(rows, text, [readings, -readings])) == 8
    )


def test_evidence_by_hand() -> None:
    """Two contexts with 3 and 2 distinct tokens after them; the variance of a hypergeometric number each."""
    pairs = np.array([[3, 1], [3, 2], [3, 4], [5, 1], [5, 9]])
    found = evidence(pairs, **SETTINGS)
    green = green_lists(**SETTINGS).holds(pairs[:, 0], pairs[:, 1]).sum()
    variance = 0.25 * 0.75 * (3 * (V - 3) + 2 * (V - 2)) / (V - 1)
    assert found["green"] == green / 5 and found["pairs"] == 5
    assert found["z"] == pytest.approx((green - 1.25) / math.sqrt(5 * 0.1875))
    assert found["p"] == pytest.approx(math.erfc((green - 1.25) / math.sqrt(2 * variance)) / 2)
    nothing = evidence(np.empty((0, 2), np.int64), **SETTINGS)
    assert nothing["pairs"] == 0 and all(math.isnan(nothing[name]) for name in ("z", "p", "green"))


def test_unmarked_text_has_p_of_200_keys() -> None:
    """Over keys p is uniform, and that of one key is the share of the others that find as much."""
    rows = unmarked(60, seed=3)
    pairs = written_pairs(rows, all_text(rows))
    found = [evidence(pairs, **{**SETTINGS, "key": key}) for key in range(10_007, 10_207)]
    z, p = (np.array([each[name] for each in found]) for name in ("z", "p"))
    assert found[0]["z"] == corpus_z(rows, **{**SETTINGS, "key": 10_007})
    assert abs(z.mean()) < 0.25 and 0.7 < z.std() < 1.1
    assert p.mean() == pytest.approx(0.5, abs=0.07) and p.std() == pytest.approx(math.sqrt(1 / 12), abs=0.04)
    shares = (z[:, None] <= z).mean(axis=1)
    assert np.abs(shares - p).max() < 0.12


def test_a_bigram_model_of_marked_text() -> None:
    """Without smoothing its chance of green after the text's contexts is the text's green share, exactly."""
    rows, lists = marked(100, seed=5), green_lists(**SETTINGS)
    before, after = rows[:, :-1].ravel(), rows[:, 1:].ravel()
    model = Ngram.fit(rows, order=2, vocab_size=V, bos=0, smoothed=False)
    laws = model.weights(np.arange(V)[:, None])
    chance = (laws * lists(np.arange(V))).sum(axis=1)
    assert chance[before].mean() == pytest.approx(lists.holds(before, after).mean(), abs=1e-6)
    human = unmarked(100, seed=9)
    for fitted, least, most in (
        (model, 3.5, 99.0),
        (Ngram.fit(human, order=2, vocab_size=V, bos=0, smoothed=False), -3, 3),
    ):
        reading = fitted.weights(np.arange(V)[:, None]).argmax(axis=1)
        likeliest = np.pad(reading[human[:, :-1]], ((0, 0), (1, 0)))
        found = evidence(read_pairs(human, all_text(human), [likeliest]), **SETTINGS)
        assert least < found["z"] < most and found["pairs"] == len(np.unique(human[:, :-1]))


def test_leaving_out_marked_pairs_makes_human_text_red() -> None:
    """The trap: the marked text holds the green pairs, so that what is left of any text is red by selection."""
    human, text = unmarked(40, seed=9), marked(100, seed=5)
    pairs, known = written_pairs(human, all_text(human)), written_pairs(text, all_text(text))
    left = pairs[~np.isin(pairs @ [V, 1], known @ [V, 1])]
    assert abs(evidence(pairs, **SETTINGS)["z"]) < 3 and evidence(left, **SETTINGS)["z"] < -3
