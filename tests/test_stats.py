"""Intervals: by hand, by simulated coverage, and at their edges."""

import math

import numpy as np
import pytest

from lab.stats import Interval, cluster_bootstrap, mean_interval, paired_interval


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


@pytest.mark.parametrize("n", [3, 5])
def test_coverage(n: int) -> None:
    """Of 2,000 data sets from N(7, 2^2), 95 % intervals hold 7 in 93-97 %: standard error .5 %."""
    data = np.random.default_rng(n).normal(7, 2, size=(2000, n))
    intervals = [paired_interval(values) for values in data]
    assert 0.93 <= np.mean([i.low <= 7 <= i.high for i in intervals]) <= 0.97


def test_cluster_bootstrap_is_a_ratio_of_sums() -> None:
    """10 nats on 10 tokens and 90 on 30: 100 / 40 = 2.5, not the mean of 1 and 3.  Resamples lie between 1 and 3."""
    interval = cluster_bootstrap([10.0, 90.0], [10.0, 30.0], rng=np.random.default_rng(0), resamples=200)
    assert interval == Interval(2.5, 1.0, 3.0)
    half = cluster_bootstrap(
        [10.0, 90.0], [10.0, 30.0], rng=np.random.default_rng(0), resamples=200, confidence=0.2
    )  # half of the resamples hold both documents, and are 2.5 too
    assert half == Interval(2.5, 2.5, 2.5)


def test_cluster_bootstrap_repeats_with_its_generator() -> None:
    x, w = np.random.default_rng(1).random(30), np.ones(30)
    a, b = (cluster_bootstrap(x, w, rng=np.random.default_rng(2), resamples=50) for _ in range(2))
    assert a == b
    assert a != cluster_bootstrap(x, w, rng=np.random.default_rng(3), resamples=50)


def test_cluster_bootstrap_coverage() -> None:
    """40 documents of 1 to 9 tokens share a mean of their own each; 95 % intervals over them cover about 95 %."""
    rng, covered = np.random.default_rng(0), []
    for _ in range(400):
        tokens = rng.integers(1, 10, size=40)
        nats = tokens * (3 + rng.normal(size=40))
        interval = cluster_bootstrap(nats, tokens, rng=rng, resamples=200)
        covered.append(interval.low <= 3 <= interval.high)
    assert 0.90 <= np.mean(covered) <= 0.98


def test_clusters_matter() -> None:
    """The same 400 losses: as 4 documents that agree within themselves, or as 400 documents."""
    nats = np.repeat([1.0, 2.0, 3.0, 4.0], 100)
    apart = cluster_bootstrap(nats, np.ones(400), rng=np.random.default_rng(0), resamples=200)
    whole = cluster_bootstrap(
        nats.reshape(4, 100).sum(1), np.full(4, 100.0), rng=np.random.default_rng(0), resamples=200
    )
    assert whole.mean == apart.mean == 2.5
    assert whole.high - whole.low > 5 * (apart.high - apart.low)


def test_cluster_bootstrap_edges() -> None:
    rng = np.random.default_rng(0)
    one = cluster_bootstrap([6.0], [3.0], rng=rng, resamples=10)
    assert one.mean == 2 and math.isnan(one.low) and math.isnan(one.high)
    for totals, weights in [([], []), ([1.0], [1.0, 2.0]), ([1.0, 1.0], [1.0, 0.0])]:
        with pytest.raises(ValueError):
            cluster_bootstrap(totals, weights, rng=rng, resamples=10)
    with pytest.raises(ValueError, match="resamples"):
        cluster_bootstrap([1.0, 2.0], [1.0, 1.0], rng=rng, resamples=0)
