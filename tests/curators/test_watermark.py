"""Detection: transformers' counts, known answers, calibration on human rows, edits, and the rule that drops rows."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, WatermarkDetector, WatermarkingConfig

from lab.curators import check_curator, curate
from lab.curators.evaluation import auc, roc, threshold
from lab.curators.marks import TABLE, TournamentBits, context_hashes, green_lists, layer_keys
from lab.curators.table import Table
from lab.curators.watermark import corpus_z, count_bits, count_green, edited, power, rows_as_texts
from lab.errors import InputError
from lab.seeds import generator

V = 400
SETTINGS: dict[str, Any] = {"vocabulary": V, "ratio": 0.25, "key": 15485863}


def zipf(rows: int, positions: int, seed: int) -> np.ndarray:
    """Rows of an unmarked law that repeats itself as text does."""
    weights = 1 / np.arange(1, V + 1)
    return generator(seed).choice(V, (rows, positions), p=weights / weights.sum())


def marked(rows: int, positions: int, bias: float, seed: int = 2) -> np.ndarray:
    """Rows of a uniform law with a mark."""
    lists, rng = green_lists(**SETTINGS), generator(seed)
    text = np.zeros((rows, positions + 1), np.int64)
    share = 0.25 * math.exp(bias) / (0.25 * math.exp(bias) + 0.75)
    for position in range(positions):
        green = lists(text[:, position])
        wanted = rng.random(rows) < share
        scores = np.where(green == wanted[:, None], rng.random((rows, V)), -1)
        text[:, position + 1] = scores.argmax(axis=1)
    return text[:, 1:]


@pytest.mark.parametrize("key", [15485863, 11])
def test_counts_are_those_of_transformers_detector(key: int) -> None:
    """With ignore_repeated_ngrams, whose range of versions once counted nothing; some pairs repeat here."""
    rows = zipf(4, 60, seed=1) % 40 + 1
    config = WatermarkingConfig(greenlist_ratio=0.25, hashing_key=key)
    detector = WatermarkDetector(GPT2Config(vocab_size=V, bos_token_id=0), "cpu", config, ignore_repeated_ngrams=True)
    theirs: Any = detector(torch.from_numpy(rows), return_dict=True)
    ours = count_green(rows_as_texts(rows), **{**SETTINGS, "key": key})
    assert ours.scored.tolist() == theirs.num_tokens_scored.tolist() and (ours.scored < 59).all()
    assert ours.found.tolist() == theirs.num_green_tokens.tolist()
    assert ours.z == pytest.approx(theirs.z_score)  # V ratio is whole here
    assert count_green([rows[0, :1]], **SETTINGS).scored.tolist() == [0]


def test_the_null_share_is_that_of_the_list() -> None:
    assert count_green([np.arange(5)], vocabulary=11, ratio=0.25, key=1).share == 2 / 11


def test_z_of_a_uniform_model_at_200_tokens() -> None:
    """Bias 2, ratio .25: the green share is .7112 and z is 1.0652 sqrt(200) = 15.06."""
    counts = count_green(rows_as_texts(marked(200, 201, 2.0)), **SETTINGS)
    assert counts.found.sum() / counts.scored.sum() == pytest.approx(0.7112, abs=0.01)
    assert counts.z.mean() == pytest.approx(15.06, abs=0.25)


def test_human_text_has_no_mark_under_25_keys() -> None:
    rows, unique, repeated = 1 + zipf(100, 64, seed=3) % 100, [], []
    pairs = np.stack([rows[:, :-1].ravel(), rows[:, 1:].ravel()])
    for key in range(10_007, 10_032):
        settings: dict[str, Any] = {"vocabulary": 104, "ratio": 0.25, "key": key}
        unique.append(corpus_z(rows, **settings))
        share = green_lists(**settings).holds(*pairs).mean()
        repeated.append((share - 0.25) * math.sqrt(pairs.shape[1] / 0.1875))
    assert (np.abs(unique) < 3).all() and 0.5 < np.std(unique) < 1.6
    assert np.std(repeated) > 2.5, "with repeated pairs the same text has any z"


def test_bits_of_one_layer() -> None:
    """E g = 1/2 + (1 - sum p^2) / 4 for tokens of one tournament layer; 1/2 for unmarked ones, on average."""
    law = np.array([0.5, 0.3, 0.2])
    bits = TournamentBits(layer_keys(3, 1))
    hashes = context_hashes(generator(1).integers(0, 5000, (20_000, 4)))
    tokens = np.array([17, 1200, 40_000])
    g = bits.of(hashes[:, None], tokens[None])[0]
    tournament = law * (1 + g - (g * law).sum(axis=1, keepdims=True))
    assert tournament.sum(axis=1) == pytest.approx(1)
    assert (tournament * g).sum(axis=1).mean() == pytest.approx(0.5 + (1 - (law**2).sum()) / 4, abs=0.01)
    assert bits.bits.shape == (1, TABLE)


def test_human_rows_carry_no_bits() -> None:
    counts = count_bits(rows_as_texts(zipf(100, 64, seed=4)), layers=9, key=7)
    assert counts.scored.max() == 9 * 60 and abs(counts.z.mean()) < 0.4
    assert count_bits([np.arange(4)], layers=9, key=7).scored.tolist() == [0]


def test_thresholds_come_from_human_rows() -> None:
    human = np.arange(100.0)
    assert threshold(human, 0.01) == 98 and (human > threshold(human, 0.01)).mean() == 0.01
    assert auc(human, human) == pytest.approx(0.5) and auc(human, human + 1000) == 1
    fpr, tpr = roc(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    assert fpr.tolist() == [0, 0, 0.5, 1] and tpr.tolist() == [0, 0.5, 1, 1]


def test_power_rises_with_length_and_falls_with_edits() -> None:
    human, rows = zipf(200, 64, seed=5), marked(100, 64, 1.0)
    found = power(human, rows, (8, 32, 64), 0.01, **SETTINGS)
    assert found[0]["tpr"] < found[1]["tpr"] < found[2]["tpr"]
    z = [
        count_green(rows_as_texts(edited(rows, share, V, generator(6))), **SETTINGS).z.mean() for share in (0, 0.25, 1)
    ]
    assert z[1] / z[0] == pytest.approx(0.75**2, abs=0.1) and abs(z[2]) < 0.5


def table(rows: np.ndarray) -> Table:
    return Table(rows, np.full(len(rows), rows.shape[1]), lambda some: [""] * len(some))


def test_the_rule_drops_marked_rows_and_says_why() -> None:
    rows = np.concatenate([zipf(50, 64, seed=7), marked(50, 64, 3.0)])
    cut = threshold(count_green(rows_as_texts(zipf(200, 64, seed=8)), **SETTINGS).z, 0.01)
    options, unused = {"z": cut, "vocabulary": V}, np.zeros(len(rows), np.bool_)
    found = curate(table(rows), [("watermarked", options)], generator(0), unused)
    assert found.kept[:50].mean() >= 0.9 and not found.kept[50:].any()
    assert found.reasons[-1].startswith("watermarked: z ")
    with pytest.raises(InputError, match=r"a token is \d+, outside vocabulary 300"):
        curate(table(rows), [("watermarked", {**options, "vocabulary": 300})], generator(0), unused)
    check_curator("watermarked", {"z": 3, "vocabulary": 2048})
    check_curator("watermarked", {"z": 3, "scheme": "synthid"})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"z": 3}, "vocabulary is 0; kgw needs the entries"),
        ({"z": 3, "vocabulary": 300, "scheme": "gumbel"}, 'scheme is "gumbel"; it is kgw or synthid'),
        ({"z": True, "vocabulary": 300}, "z is True; it is a number"),
        ({"z": 3, "vocabulary": 300, "key": 0}, "key is 0; it is a whole number from 1"),
        ({"z": 3, "scheme": "synthid", "layers": 1.5}, "layers is 1.5"),
        ({"z": 3, "vocabulary": 300, "ratio": 2}, "ratio from 0.01 to 0.99"),
        ({"vocabulary": 300}, "z"),
    ],
)
def test_options_are_refused_in_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        check_curator("watermarked", options)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_bigram_model_of_marked_text_writes_the_mark_unmarked() -> None:
    """Radioactivity: what it writes has the green share of what it counted; one fitted to unmarked text has none."""
    uniform = generator(9).integers(0, V, (200, 64))
    shares, found = [], []
    for rows in (marked(200, 64, 2.0), uniform):
        after: dict[int, list[int]] = {}
        for first, second in zip(rows[:, :-1].ravel().tolist(), rows[:, 1:].ravel().tolist(), strict=True):
            after.setdefault(first, []).append(second)
        rng = generator(10)
        starts = rng.choice(rows[:, :-1].ravel(), 4000)
        drawn = np.array([[first, rng.choice(after[first])] for first in starts.tolist()])
        lists = green_lists(**SETTINGS)
        shares.append(lists.holds(*drawn.T).mean() - lists.holds(rows[:, :-1].ravel(), rows[:, 1:].ravel()).mean())
        found.append(corpus_z(drawn, **SETTINGS))
    assert shares == pytest.approx([0, 0], abs=0.03)
    assert found[0] > 30 and abs(found[1]) < 3
