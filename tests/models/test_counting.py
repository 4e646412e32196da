"""Counting models: against a dictionary of counts, by hand, and through the lab's own loop."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from support.tiny import Reports, tiny

from lab.config.files import load_study, parse_study
from lab.config.study import StudyConfig
from lab.errors import InputError
from lab.loop import Study, build
from lab.metrics.risk import perplexity
from lab.models.counted import Counted
from lab.models.counting import Positions, Uniform, fit
from lab.models.ngram import Ngram
from lab.models.sampling.sample import sample
from lab.run.executors import execute
from lab.run.folder import RunFolder

V, BOS = 7, 0


def rows_of(seed: int, rows: int = 40, positions: int = 12) -> np.ndarray:
    """Return skewed text, in which some contexts are common and some tokens unseen."""
    return np.minimum(np.random.default_rng(seed).geometric(0.35, (rows, positions)) - 1, V - 1).astype(np.uint16)


def oracle(rows: np.ndarray, order: int, smoothed: bool) -> Callable[[list[int], int], float]:
    """Return P(token | context) as a function, from plain dictionaries, one for each context length."""
    counts: list[dict[tuple[int, ...], Counter[int]]] = [defaultdict(Counter) for _ in range(order)]
    for row in rows.tolist():
        text = [BOS] * (order - 1) + row
        for t, token in enumerate(row):
            for length in range(order):
                counts[length][tuple(text[t + order - 1 - length : t + order - 1])][token] += 1

    def probability(context: list[int], token: int) -> float:
        share = 1 / V
        for length in range(order):
            seen = counts[length].get(tuple(context[len(context) - length :]))
            if seen:
                total, types = sum(seen.values()), len(seen)
                share = (seen[token] + types * share) / (total + types) if smoothed else seen[token] / total
        return share

    return probability


@pytest.mark.parametrize("smoothed", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_losses_and_weights_are_the_oracles(order: int, smoothed: bool) -> None:
    model = Ngram.fit(rows_of(0), order=order, vocab_size=V, bos=BOS, smoothed=smoothed)
    probability, test = oracle(rows_of(0), order, smoothed), rows_of(1, 8)
    nats = model.nats(test)
    for row, losses in zip(test.tolist(), nats, strict=True):
        text = [BOS] * (order - 1) + row
        for t, token in enumerate(row):
            want = probability(text[t : t + order - 1], token)
            assert losses[t] == (pytest.approx(-math.log(want), rel=1e-5, abs=1e-6) if want else math.inf)
    before = np.pad(test[:, :5].astype(np.int64), ((0, 0), (1, 0)))
    for row, weights in zip(before.tolist(), model.weights(before), strict=True):
        context = ([BOS] * order + row)[-(order - 1) :] if order > 1 else []
        assert weights == pytest.approx([probability(context, token) for token in range(V)], abs=1e-6)


def test_bigram_by_hand() -> None:
    """Rows 1 2 1 and 1 1 2: after BOS always 1; after 1 come 2, 1, 2; after 2 comes 1."""
    rows = np.array([[1, 2, 1], [1, 1, 2]])
    model = Ngram.fit(rows, order=2, vocab_size=3, bos=0, smoothed=False)
    assert model.weights(np.array([[0], [1], [2]])) == pytest.approx(
        np.array([[0, 1, 0], [0, 1 / 3, 2 / 3], [0, 1, 0]])
    )
    assert perplexity(model.nats(np.array([[1, 2, 1]]))) == pytest.approx(1.5 ** (1 / 3))


def test_witten_bell_by_hand() -> None:
    """Unigram of 1 1 1 2 over 3 types: (3 + 2/3) / 6, (1 + 2/3) / 6, (2/3) / 6."""
    model = Ngram.fit(np.array([[1, 1, 1, 2]]), order=1, vocab_size=3, bos=0, smoothed=True)
    assert model.weights(np.array([[0]]))[0] == pytest.approx([2 / 18, 11 / 18, 5 / 18])


def test_positions_by_hand() -> None:
    model = Positions.fit(np.array([[0, 1], [0, 2], [1, 2], [0, 2]]), vocab_size=3)
    assert model.weights(np.array([[0]]))[0] == pytest.approx([0.75, 0.25, 0])
    assert model.weights(np.array([[0, 1]]))[0] == pytest.approx([0, 0.25, 0.75])
    assert model.nats(np.array([[2, 2]]))[0].tolist() == [math.inf, pytest.approx(-math.log(0.75))]


@pytest.mark.parametrize("smoothing", ["none", "interpolated"])
def test_a_row_of_weight_2_is_the_row_twice(smoothing: str) -> None:
    """And one of weight 0 is none, also for the types that smoothing counts; positions are weighed alike."""
    rows, weights = rows_of(0), np.tile([2.0, 1.0, 0.0, 1.0], 99)[: len(rows_of(0))]
    repeated = np.repeat(rows, weights.astype(int), axis=0)
    special = {"vocab_size": V, "bos": BOS, "eos": BOS}
    for model in ({"kind": "ngram", "order": 3, "smoothing": smoothing}, {"kind": "positions"}):
        ours = fit(model, rows, **special, weights=weights)
        theirs = fit(model, repeated, **special)
        assert np.array_equal(ours.nats(rows_of(1, 8)), theirs.nats(rows_of(1, 8)))
        assert np.array_equal(ours.weights(rows_of(1, 8)[:, :3]), theirs.weights(rows_of(1, 8)[:, :3]))
        ones, plain = fit(model, rows, **special, weights=np.ones(len(rows))), fit(model, rows, **special)
        assert np.array_equal(ones.weights(rows_of(1, 8)[:, :3]), plain.weights(rows_of(1, 8)[:, :3]))


def test_uniform_perplexity_is_the_vocabulary() -> None:
    assert perplexity(Uniform(50).nats(rows_of(0))) == pytest.approx(50, rel=1e-6)


@given(st.lists(st.lists(st.integers(0, V - 1), min_size=4, max_size=4), min_size=1, max_size=9), st.integers(1, 4))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_laws(rows: list[list[int]], order: int) -> None:
    """The order of rows does not matter, weights sum to 1, maximum likelihood beats smoothing on training text."""
    text = np.array(rows)
    plain, smooth = (Ngram.fit(text, order=order, vocab_size=V, bos=BOS, smoothed=s) for s in (False, True))
    shuffled = Ngram.fit(text[::-1], order=order, vocab_size=V, bos=BOS, smoothed=True)
    assert all(np.array_equal(a, b) for a, b in zip(smooth.arrays().values(), shuffled.arrays().values(), strict=True))
    assert smooth.weights(text).sum(axis=1) == pytest.approx(np.ones(len(text)), abs=1e-5)
    assert plain.nats(text).mean() <= smooth.nats(text).mean() + 1e-6


def test_too_many_contexts_is_an_error() -> None:
    with pytest.raises(ValueError, match="lower the order"):
        Ngram.fit(rows_of(0), order=5, vocab_size=2**16, bos=0, smoothed=True)


def test_samples_have_the_models_bigrams() -> None:
    """Chi-square of what follows each token in 60,000 sampled tokens; p > 0.001 for each."""
    rows = rows_of(3, rows=200)
    model = Counted(fit({"kind": "ngram", "order": 2, "smoothing": "interpolated"}, rows, vocab_size=V, bos=0, eos=0))
    tokens, nats = sample(model, rows=5000, positions=12, bos=0, seed=5, progress=lambda _: None)
    assert np.allclose(nats, model.nats(tokens), atol=1e-5)
    for token in range(V):
        before, after = tokens[:, :-1].ravel(), tokens[:, 1:].ravel()
        counts = np.bincount(after[before == token], minlength=V)
        want = model.model.weights(np.array([[token]]))[0].astype(np.float64)
        assert stats.chisquare(counts, want / want.sum() * counts.sum()).pvalue > 0.001


def counted(corpus: Path, **model: object) -> StudyConfig:
    fields = tiny(corpus, regimes=["human", "replace", "accumulate"], generations=4)
    return parse_study({**fields, "model": {**model, "n_positions": 16}, "train": None})


def test_a_chain_of_ngrams_runs_through_the_loop(corpus_file: Path, tmp_path: Path) -> None:
    """Every regime and metric of the lab, without a network."""
    study = build(counted(corpus_file, kind="ngram", order=3, smoothing="interpolated"))
    folder = RunFolder(tmp_path / "checkpoints" / "grams")
    assert not execute(
        folder.store, study.steps, Reports(), workers=0, threads=1, fresh=frozenset(), log=tmp_path / "log"
    )
    rows = folder_rows(folder, study)
    last = {row["regime"]: row["nll"] for row in rows if row["generation"] == 3}
    assert last["human"] < last["accumulate"] < last["replace"]
    assert all(math.isfinite(row["perplexity"]) and math.isnan(row["validation_nll"]) for row in rows)


def folder_rows(folder: RunFolder, study: Study) -> list[dict[str, float]]:
    folder.path.mkdir(parents=True, exist_ok=True)
    return folder.write_tables(study, folder.store)


def test_the_uniform_model_has_perplexity_v_through_the_loop(corpus_file: Path, tmp_path: Path) -> None:
    study = build(counted(corpus_file, kind="uniform"))
    folder = RunFolder(tmp_path / "checkpoints" / "uniform")
    execute(folder.store, study.steps, Reports(), workers=0, threads=1, fresh=frozenset(), log=tmp_path / "log")
    rows = folder_rows(folder, study)
    assert len(rows) == 12 and {round(row["perplexity"], 3) for row in rows} == {300.0}


def test_configuration() -> None:
    assert load_study("ngram").model.kind == "ngram"
    changes = {
        "model.kind=ngrm": 'unknown model.kind "ngrm" - did you mean "ngram"?',
        "model.order=6": '"model.order" is 6',
        "model.n_layer=2": 'unknown key "model.n_layer"',
        "model.smoothing=some": "\"model.smoothing\" is 'some'",
        "train={tokens: 9, batch_rows: 1, lr: 1, validation_tokens: 9}": "train has no meaning for model.kind ngram",
    }
    for change, message in changes.items():
        with pytest.raises(InputError) as error:
            load_study("ngram", [change])
        assert message in str(error.value)
    with pytest.raises(InputError, match="train is missing from the study"):
        load_study("quick", ["train=null"])
