"""The numbers of the profile, on evidence made by hand."""

import dataclasses
import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from lab.collapse.evidence import Judged, ProfileEvidence
from lab.collapse.modes import NaiveBayes, cluster, entanglement, fit_temperature
from lab.collapse.numbers import measure_profile
from lab.collapse.verbatim import copied, inside_copies, ngram_hashes, outside_copies, overlap
from lab.metrics.evidence import Evidence
from lab.metrics.texts import is_text
from lab.metrics.words import find_words, word_counts
from lab.seeds import generator

WORDS = ["", *(f" w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(400))]
"""A vocabulary of EOS and 400 words, one token each."""
BYTES = [word.encode() for word in WORDS]


def text(rows: int, seed: int, low: int = 1, high: int = 201, positions: int = 32) -> np.ndarray:
    """Rows of words by Zipf's law, of the vocabulary from `low` to `high`."""
    weights = 1 / np.arange(1, high - low + 1)
    return generator(seed).choice(np.arange(low, high), (rows, positions), p=weights / weights.sum()).astype(np.uint16)


HUMAN, TEST, FRESH = (text(200, seed) for seed in range(3))
LEXICON = frozenset(word.strip() for word in WORDS[1:201])


LAW = 1 / np.arange(1, 201) / (1 / np.arange(1, 201)).sum()
COST = np.append(0, np.append(-np.log(LAW), np.full(200, 12.0)))
"""What a word costs: ln(rank x H); 12 nats one of another language."""


def base_of(sample: np.ndarray) -> Evidence:
    return Evidence(
        test=TEST,
        member_nats=[COST[TEST]],
        human=HUMAN,
        sample=sample,
        resample=FRESH,
        budget=200 * 32,
        prompt=0,
        layout="blocks",
        vocab_size=401,
        bos=0,
        eos=0,
        trainings=[],
        token_bytes=BYTES,
    )


def profiled(sample: np.ndarray, **changes: Any) -> Any:
    """The profile of a sample; the judge is the law itself."""
    given = ProfileEvidence(
        base_of(sample),
        human_groups={"domain": ["sea"] * 100 + ["land"] * 100},
        test_groups={"domain": ["sea", "land"]},
        test_document=np.repeat(np.arange(200)[:, None] // 100, 32, axis=1),
        writer_nats=COST[sample].sum(axis=1),
        plain=True,
        judged=Judged(COST[sample].sum(axis=1), COST[TEST].sum(axis=1)),
        entropies=np.full((4, 32), 1.25),
    )
    return measure_profile(dataclasses.replace(given, **changes), LEXICON)


# --- copies ----------------------------------------------------------------------------------------------------------


def test_copied_ngrams_are_those_that_a_search_finds() -> None:
    rows, training = (text(20, seed, high=5, positions=12) for seed in (7, 8))
    known = {tuple(row[i : i + 4].tolist()) for row in training for i in range(9)}
    expected = [[tuple(row[i : i + 4].tolist()) in known for i in range(9)] for row in rows]
    assert copied(rows, training, 4).tolist() == expected and 0 < np.mean(expected) < 1
    assert overlap(rows, training, 4) == np.mean(expected)
    assert overlap(training, training, 4) == 1 and math.isnan(overlap(rows, training, 13))


def test_hashes_of_different_ngrams_differ() -> None:
    every = np.array(list(itertools.product(range(8), repeat=4)), np.uint16)
    assert len(np.unique(ngram_hashes(every, 4))) == 8**4
    assert ngram_hashes(np.zeros((2, 3), np.uint16), 4).shape == (2, 0)


def test_words_inside_copies_do_not_count() -> None:
    training = np.arange(1, 9)[None].astype(np.uint16)
    row = np.array([[20, *range(1, 9), 21, 22, 23]], np.uint16)
    inside = inside_copies(row, training, 8)
    assert inside.tolist() == [[False, *[True] * 8, False, False, False]]
    words = find_words(row, BYTES, 0)
    kept = [words.types[w] for w in words.word[outside_copies(words, inside)]]
    assert kept == [WORDS[t].strip() for t in (20, 21, 22)]  # the last is cut by the end of the row
    ended = np.array([[5, *[0] * 11]], np.uint16)  # the filling after a document is no copy
    assert inside_copies(ended, ended, 8).all() and not inside_copies(ended, ended, 8, is_text(ended, 0)).any()


def test_overlap_counts_text_alone() -> None:
    rows = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 0, 0]], np.uint16)
    counted = np.array([[True] * 3 + [False] * 3, [True] * 4 + [False] * 2])
    assert overlap(rows, rows[:1], 3, counted) == pytest.approx(1 / 3)


# --- modes -----------------------------------------------------------------------------------------------------------


def test_naive_bayes_is_that_of_a_hand_worked_example() -> None:
    """Tokens 1, 2 in mode 0 and 2, 2 in mode 1; counts + 1/2 over V - 1 = 2 tokens."""
    rows = np.array([[1, 2], [2, 2]])
    fitted = NaiveBayes.fit(rows, np.array([0, 1]), 2, 3, skip=0)
    expected = {0: math.log(1.5 / 3), 1: math.log(0.5 / 3)}
    assert fitted.token[1].tolist() == pytest.approx([expected[0], expected[1]])
    scores = fitted.scores(np.array([[1, 1], [2, 0]]))
    prior = math.log(0.5)
    assert scores.tolist() == [
        pytest.approx([prior + 2 * math.log(0.5), prior + 2 * math.log(0.5 / 3)]),
        pytest.approx([prior + math.log(0.5), prior + math.log(2.5 / 3)]),
    ]
    assert fitted.classify(np.array([[1, 1], [2, 0]])).tolist() == [0, 1]


def test_naive_bayes_is_that_of_plain_counting() -> None:
    """Loops and logarithms of fractions, on texts of 3 modes that EOS divides; also the rows that decide for a mode."""
    rows, mode = text(90, 3, low=0, high=12, positions=9), generator(4).integers(0, 3, 90)
    unseen = text(40, 5, low=0, high=14, positions=9)
    fitted = NaiveBayes.fit(rows, mode, 3, 15, skip=0)
    expected = []
    for row in unseen.tolist():
        scores = []
        for m in range(3):
            words = [token for of, tokens in zip(mode, rows.tolist(), strict=True) if of == m for token in tokens]
            counts = Counter(token for token in words if token != 0)
            prior = (int((mode == m).sum()) + 0.5) / (90 + 1.5)
            shares = [(counts[token] + 0.5) / (counts.total() + 14 * 0.5) for token in row if token != 0]
            scores.append(math.log(prior) + sum(map(math.log, shares)))
        expected.append(scores)
    assert fitted.scores(unseen) == pytest.approx(np.array(expected))
    assert fitted.classify(unseen).tolist() == [scores.index(max(scores)) for scores in expected]
    assert len(set(fitted.classify(unseen).tolist())) == 3


def test_clusters_of_two_languages_are_told_apart() -> None:
    both = np.concatenate([text(60, 1, 1, 30), text(60, 2, 201, 230)])
    mode = cluster(both, 401, 0, rng=generator(3))
    assert not set(mode[:60]) & set(mode[60:])


def test_a_posterior_is_calibrated_and_its_entropy_known() -> None:
    sure = np.array([[0.0, -50.0], [-50.0, 0.0]])
    assert entanglement(sure, 1.0) == pytest.approx(0, abs=1e-12)
    assert entanglement(np.zeros((3, 4)), 1.0) == pytest.approx(math.log(4))
    rng = np.random.default_rng(0)
    log_odds = rng.normal(0, 2, 20_000)
    labels = (rng.random(20_000) < 1 / (1 + np.exp(-log_odds))).astype(int)
    scores = np.stack([np.zeros_like(log_odds), log_odds], axis=1)
    assert fit_temperature(7 * scores, labels) == pytest.approx(7, rel=0.05)


def test_a_domain_that_is_not_written_has_no_rows() -> None:
    sea, land = text(100, 1, 1, 100), text(100, 2, 101, 201)
    human = np.concatenate([sea, land])
    base = {"human": human, "test": human}
    given = profiled(sea)
    assert {each["group"] for each in given.groups} == {"sea", "land"}
    fitted = NaiveBayes.fit(base["human"], np.repeat([0, 1], 100), 2, 401, 0)
    assert np.bincount(fitted.classify(text(50, 5, 1, 100)), minlength=2).tolist() == [50, 0]


@pytest.mark.parametrize("labelled", [True, False])
def test_canaries_are_text_of_no_group(labelled: bool) -> None:
    """256 copies of a row of random tokens: neither a domain nor a cluster, and no row is taken for theirs."""
    sea, land = text(100, 1, 1, 100), text(100, 2, 101, 201)
    odd = np.tile(text(1, 3, 201, 401), (256, 1))
    human = np.concatenate([sea, odd, land])
    base = dataclasses.replace(base_of(np.concatenate([sea, land])), human=human)
    labels = {"domain": ["sea"] * 100 + ["(none)"] * 256 + ["land"] * 100} if labelled else {}
    canary = np.repeat([False, True, False], [100, 256, 100])
    given = profiled(base.sample, base=base, human_groups=labels, canary=canary).groups
    assert sum(each["human_rows"] for each in given) == 200
    if labelled:
        assert [(each["group"], each["rows"]) for each in given] == [("land", 100), ("sea", 100)]
    plain = profiled(base.sample, base=dataclasses.replace(base, human=np.concatenate([sea, land])), human_groups={})
    assert labelled or given == plain.groups


def test_the_largest_mode_and_how_many_modes_are_left() -> None:
    """Three rows in four are of the sea: exp of the entropy of (3/4, 1/4) is 4 / 3^(3/4)."""
    sea, land = text(150, 1, 1, 100), text(50, 2, 101, 201)
    rows = np.concatenate([text(100, 3, 1, 100), text(100, 4, 101, 201)])
    found = profiled(
        np.concatenate([sea, land]), base=dataclasses.replace(base_of(np.concatenate([sea, land])), human=rows)
    )
    assert found.columns["largest_mode"] == 0.75
    assert found.columns["effective_modes"] == pytest.approx(4 / 3**0.75)


def test_the_number_of_models_is_of_positions_that_are_text() -> None:
    """EOS ends the text of row 0 after two tokens: what stands behind it does not count."""
    test = TEST.copy()
    test[0, 2:] = 0
    base = dataclasses.replace(base_of(HUMAN), test=test, layout="documents")
    found = np.full((1, 32), math.log(2))
    found[0, 3:] = 9
    given = profiled(HUMAN, base=base, divergence=found)
    assert given.columns["effective_models"] == pytest.approx(2)
    assert math.isnan(profiled(HUMAN).columns["effective_models"])


# --- tails and hallucination -----------------------------------------------------------------------------------------


def test_a_resample_keeps_the_human_mark() -> None:
    found = profiled(FRESH)
    assert found.columns["new_survival"] == found.columns["new_survival_human"] > 0.2
    assert found.rare_words == 10


def test_a_text_without_rare_words_keeps_none() -> None:
    counts = word_counts(find_words(HUMAN, BYTES, 0))  # without the words that the edge of a row cuts
    rare = [token for token in range(1, 401) if counts.get(WORDS[token].strip(), 0) < 4]
    without = np.where(np.isin(FRESH, rare), 1, FRESH)
    found = profiled(without)
    assert found.columns["new_survival"] == 0
    assert {each["bin"]: each["sample"] for each in found.written}["1"] == 0
    assert sum(each["sample"] for each in found.written) == pytest.approx(1)


def test_copied_training_text_keeps_no_word_of_its_own() -> None:
    found = profiled(HUMAN)
    assert found.columns["new_survival"] == 0 and found.columns["overlap_8"] > 0.95


def test_one_row_in_a_hundred_of_the_judges_own_law_is_beyond_it() -> None:
    found = [profiled(text(200, seed)).columns["above_human"] for seed in range(10, 18)]
    assert np.mean(found) == pytest.approx(0.01, abs=0.01)
    same = profiled(FRESH).columns
    assert same["kl_to_judge"] == 0 and same["below_human"] < 0.05


def test_another_language_is_unknown_and_unlike_human_text() -> None:
    foreign = profiled(text(200, 4, 201, 400)).columns
    assert foreign["unknown_words"] == 1 and foreign["above_human"] == 1
    assert profiled(FRESH).columns["unknown_words"] == 0
    uniform = generator(9).integers(1, 201, (200, 32)).astype(np.uint16)
    assert profiled(uniform).columns["above_human"] > 0.95


def test_human_text_without_probability_bounds_nothing() -> None:
    """The judge of an n-gram study without smoothing: no row can lie above a bound that is infinite."""
    judged = Judged(np.full(200, 100.0), np.append(np.full(199, 90.0), math.inf))
    found = profiled(FRESH, judged=judged).columns
    assert "above_human" not in found and "below_human" not in found and found["judge_nll"] == 100 / 32


def test_entropy_is_that_of_positions_that_are_text() -> None:
    """In the layout documents what follows the first EOS is no text, and its entropy is that of padding."""
    test = TEST.copy()
    test[:, 8:] = 0
    base = dataclasses.replace(base_of(FRESH), layout="documents", test=test)
    entropies = np.full((150, 32), 9.0)
    entropies[:, :9] = 1.5  # with EOS, which a model is asked for
    assert profiled(FRESH, base=base, entropies=entropies).columns["next_entropy"] == 1.5


def test_clusters_are_the_same_for_all_seeds() -> None:
    """Seeds draw different human rows of the same two languages; a language has one name in both."""
    both = [np.concatenate([text(100, seed, 1, 60), text(100, seed + 1, 101, 160)]) for seed in (20, 30, 40)]
    named = []
    for human in both[:2]:
        base = dataclasses.replace(base_of(text(100, 50, 1, 60)), human=human, test=both[2])
        given = profiled(base.sample, base=base, human_groups={}, judged=None)
        rows = {each["group"]: each["rows"] for each in given.groups}
        assert {each["column"] for each in given.groups} == {"cluster"} and sum(rows.values()) == 100
        named.append({name for name, count in rows.items() if count})
    assert named[0] == named[1] and len(named[0]) < len(rows)


def test_what_was_not_measured_is_left_out() -> None:
    without = profiled(FRESH, judged=None, entropies=None, plain=False).columns
    assert "above_human" not in without and "kl_to_judge" not in without and math.isnan(without["next_entropy"])
    assert profiled(FRESH).columns["next_entropy"] == 1.25


def test_a_unigram_of_counts_and_a_half() -> None:
    counts = np.bincount(HUMAN.ravel(), minlength=401) + 0.5
    expected = -np.log(counts / counts.sum())[TEST].mean()
    assert profiled(FRESH).columns["unigram_nll"] == pytest.approx(expected)


def test_losses_of_documents_and_groups_add_up() -> None:
    found = profiled(FRESH)
    assert found.documents.shape == (2, 2) and found.documents[:, 1].tolist() == [3200, 3200]
    by_group = {each["group"]: each["nll"] for each in found.groups}
    assert by_group["sea"] == pytest.approx(found.documents[0, 0] / 3200)


def test_a_group_names_the_documents_that_its_loss_is_of() -> None:
    """Documents without a scored token have no row, so those after them move up."""
    owner = np.repeat(np.arange(200)[:, None] // 50, 32, axis=1)
    owner[owner == 1] = 4  # the second document has no token
    labels = ["sea", "sea", "land", "sea", "land"]
    found = profiled(FRESH, test_groups={"domain": labels}, test_document=owner)
    by_group = {each["group"]: each for each in found.groups}
    assert by_group["sea"]["documents"] == [0, 2] and by_group["land"]["documents"] == [1, 3]
    for each in by_group.values():
        nats, tokens = found.documents[each["documents"]].sum(axis=0)
        assert tokens == each["test_tokens"] and nats / tokens == pytest.approx(each["nll"])
