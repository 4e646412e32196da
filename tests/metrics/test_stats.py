"""Intervals: by hand, by simulated coverage, and at their edges."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from lab.metrics import stats
from lab.metrics.stats import Interval, cluster_bootstrap, mean_interval, paired_interval, welch_interval


def test_t_interval_by_hand() -> None:
    """1, 2, 3: mean 2, s = 1, half width = t(.975, 2) / sqrt 3 = 4.302653 / 1.7320508 = 2.484138."""
    interval = paired_interval([1.0, 2.0, 3.0])
    assert interval.mean == 2
    assert interval.low == pytest.approx(2 - 2.484138, abs=1e-6)
    assert interval.high == pytest.approx(2 + 2.484138, abs=1e-6)


def test_higher_confidence_is_wider() -> None:
    """t(.95, 2) = 2.919986, so the 90 % half width is 1.685855."""
    assert mean_interval([1.0, 2.0, 3.0], confidence=0.9).high == pytest.approx(2 + 1.685855, abs=1e-6)


def test_pairing_removes_what_seeds_share() -> None:
    """A is above B by about 1 at each seed, though seeds differ by 10: only the paired interval sees it."""
    b = np.array([0.0, 10.0, 20.0])
    a = b + np.array([1.0, 1.1, 0.9])
    assert paired_interval(a - b).low > 0
    assert mean_interval(a).low < mean_interval(b).high


def test_one_value_has_no_bounds_and_none_is_an_error() -> None:
    one = paired_interval([0.5])
    assert one.mean == 0.5 and math.isnan(one.low) and math.isnan(one.high)
    with pytest.raises(ValueError, match="at least 1 value"):
        paired_interval([])
    with pytest.raises(ValueError, match="shape"):
        mean_interval(np.ones((2, 2)))
    with pytest.raises(ValueError, match="between 0 and 1"):
        mean_interval([1.0, 2.0], confidence=95)


# --- coverage: of 2,000 simulated data sets, 95 % intervals hold the truth in 93-97 %; the standard error is .5 % -----


@pytest.mark.parametrize("seeds", [3, 5])
def test_paired_interval_covers(seeds: int) -> None:
    """Regime A is .3 above B.  What both share at a seed varies by 2, the rest by .2 and .1: pairs cancel the 2."""
    rng, shape = np.random.default_rng(seeds), (2000, seeds)
    shared = rng.normal(7, 2, shape)
    a, b = shared + 0.3 + rng.normal(0, 0.2, shape), shared + rng.normal(0, 0.1, shape)
    intervals = [paired_interval(differences) for differences in a - b]
    assert 0.93 <= np.mean([i.low <= 0.3 <= i.high for i in intervals]) <= 0.97
    assert np.mean([i.high - i.low for i in intervals]) < np.mean([mean_interval(v).high - v.mean() for v in a]) / 4


@pytest.mark.parametrize("seeds", [3, 5])
def test_mean_interval_covers(seeds: int) -> None:
    intervals = [mean_interval(values) for values in np.random.default_rng(seeds).normal(7, 2, size=(2000, seeds))]
    assert 0.93 <= np.mean([i.low <= 7 <= i.high for i in intervals]) <= 0.97


def heldout(rng: np.random.Generator, *, seeds: int, documents: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nats [seeds, documents] and tokens [documents] of a simulated held-out set, and each seed's true loss [seeds].

    Document lengths as in the lab's own corpus: log-normal, the logarithm's deviation 1.  All tokens of a document
    share a skewed effect of its own, at every seed; longer documents are easier by .1 a unit of log length, which
    lowers the loss per token by .1 x 1^2 (a log-normal weighted by itself moves by its variance).  Each seed's model
    is off by .2, each of its losses by 3.
    """
    log_tokens = rng.normal(6, 1, documents)
    tokens = np.ceil(np.exp(log_tokens))
    document = 0.4 * (rng.gamma(2, 1, documents) - 2) - 0.1 * (log_tokens - 6)
    model = 4 + rng.normal(0, 0.2, seeds)
    noise = 3 * np.sqrt(tokens) * rng.normal(size=(seeds, documents))
    return tokens * (model[:, None] + document) + noise, tokens, model - 0.1


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, pytest.param(3, marks=pytest.mark.full), 5])
def test_cluster_bootstrap_covers(seeds: int) -> None:
    """60 to 100 documents: each seed's interval holds that seed's true loss; that of the mean over seeds their mean."""
    rng = np.random.default_rng(seeds)
    each, whole = [], []
    for _ in range(2000):
        nats, tokens, truth = heldout(rng, seeds=seeds, documents=int(rng.integers(60, 101)))
        for totals, true in zip(nats, truth, strict=True):
            interval = cluster_bootstrap(totals, tokens, rng=rng, resamples=199)
            each.append(interval.low <= true <= interval.high)
        interval = cluster_bootstrap(nats.mean(0), tokens, rng=rng, resamples=199)
        whole.append(interval.low <= truth.mean() <= interval.high)
    assert 0.93 <= np.mean(each) <= 0.97
    assert 0.93 <= np.mean(whole) <= 0.97


@pytest.mark.slow
def test_percentiles_of_the_ratio_would_not_cover() -> None:
    """Why bootstrap-t: at 20 documents the usual percentile interval holds the truth in less than 92 %."""
    rng = np.random.default_rng(0)
    percentile, ours = [], []
    for _ in range(2000):
        nats, tokens, (truth,) = heldout(rng, seeds=1, documents=20)
        drawn = rng.integers(20, size=(399, 20))
        low, high = np.quantile(nats[0][drawn].sum(1) / tokens[drawn].sum(1), [0.025, 0.975])
        percentile.append(low <= truth <= high)
        interval = cluster_bootstrap(nats[0], tokens, rng=rng, resamples=399)
        ours.append(interval.low <= truth <= interval.high)
    assert np.mean(percentile) < 0.92
    assert 0.93 <= np.mean(ours) <= 0.97


def test_documents_say_nothing_of_seeds() -> None:
    """The interval over documents is about the models that were trained; other seeds lie outside it more often."""
    rng, covered = np.random.default_rng(0), []
    for _ in range(500):
        nats, tokens, _ = heldout(rng, seeds=1, documents=100)
        interval = cluster_bootstrap(nats[0], tokens, rng=rng, resamples=199)
        covered.append(interval.low <= 4 - 0.1 <= interval.high)
    assert np.mean(covered) < 0.75


# --- the cluster bootstrap --------------------------------------------------------------------------------------------


class Every:
    """In place of a generator: each of the 5^5 ways to draw 5 documents, once."""

    def integers(self, high: int, *, size: tuple[int, int]) -> np.ndarray:
        drawn = np.array([*itertools.product(range(high), repeat=high)])
        assert drawn.shape == size
        return drawn


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95])
def test_cluster_bootstrap_by_enumeration(confidence: float) -> None:
    """All 3,125 resamples of 5 documents, in plain Python: the ratio is 100 / 40 = 2.5 and not the mean of ratios."""
    nats, tokens = [10.0, 40.0, 8.0, 12.0, 30.0], [10.0, 10.0, 5.0, 6.0, 9.0]

    def ratio_and_error(drawn: tuple[int, ...]) -> tuple[float, float]:
        size = sum(tokens[d] for d in drawn)
        ratio = sum(nats[d] for d in drawn) / size
        return ratio, math.sqrt(sum((nats[d] - ratio * tokens[d]) ** 2 for d in drawn)) / size

    t = []
    for drawn in itertools.product(range(5), repeat=5):
        ratio, error = ratio_and_error(drawn)
        t.append(abs(ratio - 2.5) / error if len({*drawn}) > 1 else math.inf)
    half = sorted(t)[math.ceil(confidence * 3124)] * ratio_and_error((0, 1, 2, 3, 4))[1]
    rng: Any = Every()
    found = cluster_bootstrap(nats, tokens, rng=rng, resamples=3125, confidence=confidence)
    assert found.mean == 2.5
    assert [found.low, found.high] == pytest.approx([2.5 - half, 2.5 + half], rel=1e-9)


def test_cluster_bootstrap_repeats_with_its_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the blocks in which it draws."""
    x, w = np.random.default_rng(1).random(30), np.ones(30)
    first = cluster_bootstrap(x, w, rng=np.random.default_rng(2), resamples=50)
    assert first != cluster_bootstrap(x, w, rng=np.random.default_rng(3), resamples=50)
    for draws in (1, 100, 10**9):
        monkeypatch.setattr(stats, "DRAWS_AT_ONCE", draws)
        assert cluster_bootstrap(x, w, rng=np.random.default_rng(2), resamples=50) == first


@given(st.integers(0, 1000), st.integers(5, 12), st.floats(0.1, 10), st.floats(-10, 10))
def test_cluster_bootstrap_follows_unit_and_origin(seed: int, documents: int, scale: float, shift: float) -> None:
    """Losses in other units, all tokens worse by the same, or tokens in thousands: the interval moves with them."""
    nats, tokens = np.random.default_rng(seed).random((2, documents)) + 0.5
    before, units, moved, thousands = (
        cluster_bootstrap(a, b, rng=np.random.default_rng(seed), resamples=60)
        for a, b in [(nats, tokens), (scale * nats, tokens), (nats + shift * tokens, tokens), (nats, tokens / 1000)]
    )
    assert [units.mean, units.low, units.high] == pytest.approx([scale * x for x in vars(before).values()], rel=1e-6)
    assert [*vars(moved).values()] == pytest.approx([x + shift for x in vars(before).values()], rel=1e-6, abs=1e-6)
    assert [*vars(thousands).values()] == pytest.approx([1000 * x for x in vars(before).values()], rel=1e-6)


def test_clusters_matter() -> None:
    """The same 800 losses: as 8 documents that agree within themselves, or as 800 documents."""
    nats = np.repeat([1.0, 2.0, 3.0, 4.0] * 2, 100)
    apart = cluster_bootstrap(nats, np.ones(800), rng=np.random.default_rng(0), resamples=200)
    totals = nats.reshape(8, 100).sum(1)
    whole = cluster_bootstrap(totals, np.full(8, 100.0), rng=np.random.default_rng(0), resamples=200)
    assert whole.mean == apart.mean == 2.5
    assert whole.high - whole.low > 5 * (apart.high - apart.low)


def test_higher_confidence_is_wider_over_documents() -> None:
    x = np.random.default_rng(1).random(30)
    widths = []
    for confidence in (0.5, 0.9, 0.99):
        interval = cluster_bootstrap(x, np.ones(30), rng=np.random.default_rng(0), resamples=999, confidence=confidence)
        widths.append(interval.high - interval.low)
    assert widths == sorted(widths) and widths[0] < widths[1] < widths[2]


def test_cluster_bootstrap_edges() -> None:
    rng = np.random.default_rng(0)
    for documents in (1, 4):
        few = cluster_bootstrap([6.0] * documents, [3.0] * documents, rng=rng, resamples=10)
        assert few.mean == 2 and math.isnan(few.low) and math.isnan(few.high)
    agreed = cluster_bootstrap([6.0, 12, 18, 6, 6], [3.0, 6, 9, 3, 3], rng=rng, resamples=100)
    assert agreed == Interval(2.0, 2.0, 2.0)
    for totals, weights in [([], []), ([1.0], [1.0, 2.0]), ([1.0, 1.0], [1.0, 0.0])]:
        with pytest.raises(ValueError):
            cluster_bootstrap(totals, weights, rng=rng, resamples=10)
    with pytest.raises(ValueError, match="resamples"):
        cluster_bootstrap([1.0, 2.0], [1.0, 1.0], rng=rng, resamples=0)


def test_bounds_are_infinite_where_resamples_have_no_spread() -> None:
    """One document of 6 differs: a third of the resamples, (5/6)^6, leave it out and say nothing of the spread."""
    interval = cluster_bootstrap([6.0, 0, 0, 0, 0, 0], np.ones(6), rng=np.random.default_rng(0), resamples=100)
    assert interval == Interval(1.0, -math.inf, math.inf)


def test_resamples_of_documents_at_the_ratio_count_as_no_deviation() -> None:
    """6 of 8 documents lie at the ratio, 1: a tenth of the resamples, (6/8)^8, are 0 / 0, neither wide nor invalid."""
    totals, rng = [0.0, 2, 1, 1, 1, 1, 1, 1], np.random.default_rng(0)
    interval = cluster_bootstrap(totals, np.ones(8), rng=rng, resamples=999)
    error = math.sqrt(2) / 8
    assert 1 + error < interval.high < 1 + 5 * error and interval.low == pytest.approx(2 - interval.high)


def test_welch_by_hand() -> None:
    """Variances 1 / 3 and 4 / 2 of the means, error sqrt(2 1/3); (2 1/3)^2 / ((1/3)^2 / 2 + 2^2 / 1) = 1.3425 df."""
    interval = welch_interval([1.0, 2, 3], [4.0, 6.828427124746190])
    assert interval.mean == pytest.approx(2 - 5.414213562373095)
    half = scipy.stats.t.ppf(0.975, 49 / 9 / (1 / 18 + 4)) * math.sqrt(7 / 3)
    assert (interval.low, interval.high) == pytest.approx((interval.mean - half, interval.mean + half))


def test_welch_agrees_with_scipy_and_knows_its_edges() -> None:
    a, b = np.random.default_rng(1).normal(size=7), np.random.default_rng(2).normal(3, 5, size=4)
    known = scipy.stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    interval = welch_interval(a, b)
    assert (interval.low, interval.high) == pytest.approx((known.low, known.high))
    alone = welch_interval([1.0], [2.0, 3.0])
    assert alone.mean == -1.5 and math.isnan(alone.low) and not alone.holds_zero
    assert welch_interval([1.0, 1.0], [2.0, 2.0]) == Interval(-1, -1, -1)
    with pytest.raises(ValueError, match="at least 1 value"):
        welch_interval([], [1.0])
