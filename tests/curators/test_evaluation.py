"""Scores against who wrote the rows: areas, thresholds and exact intervals by hand."""

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import binom

from lab.curators.evaluation import auc, compared, evaluated, interval, roc, threshold
from lab.curators.outcome import outcome


def test_areas_by_hand() -> None:
    """Two Gaussians one standard deviation apart: Phi(1 / sqrt 2) = 0.760; the label: 1; a constant: 0.5."""
    rng = np.random.default_rng(0)
    assert auc(rng.normal(0, 1, 20_000), rng.normal(1, 1, 20_000)) == pytest.approx(ndtr(0.5**0.5), abs=0.01)
    assert ndtr(0.5**0.5) == pytest.approx(0.760, abs=5e-4)
    assert (
        auc(np.zeros(5), np.ones(3)) == 1 and auc(np.ones(3), np.zeros(5)) == 0 and auc(np.ones(5), np.ones(3)) == 0.5
    )
    assert auc(np.array([1.0, 2, 3]), np.array([2.0])) == pytest.approx(0.5)  # above one, equal to one, below one
    fpr, tpr = roc(np.array([1.0, 3]), np.array([2.0, 3]))
    assert (fpr.tolist(), tpr.tolist()) == ([0, 0.5, 0.5, 1], [0, 0.5, 1, 1])


def test_a_threshold_lets_no_more_through() -> None:
    human = np.arange(1.0, 201)
    assert threshold(human, 0.01) == 198 and (human > threshold(human, 0.01)).sum() == 2
    assert threshold(np.arange(50.0), 0.01) == 49, "of few rows none is let through"


@pytest.mark.parametrize(("found", "of"), [(0, 10), (10, 10), (5, 10), (37, 400)])
def test_exact_intervals(found: int, of: int) -> None:
    """At the ends so few or so many successes have the chance 2.5 %; 0 of 10 ends at 1 - 0.025 ** (1 / 10) = 0.308."""
    low, high = interval(found, of)
    assert low == 0 if not found else binom.sf(found - 1, of, low) == pytest.approx(0.025)
    assert high == 1 if found == of else binom.cdf(found, of, high) == pytest.approx(0.025)
    assert interval(0, 10)[1] == pytest.approx(1 - 0.025**0.1) == pytest.approx(0.308, abs=5e-4)
    assert interval(5, 10) == pytest.approx((0.1871, 0.8129), abs=5e-5)


def test_what_is_missing_is_none() -> None:
    nothing = dict.fromkeys(("auc", "tpr", "tpr_low", "tpr_high"))
    assert compared(np.empty(0), np.ones(3)) == {"human": 0, "machine": 3, **nothing}


def test_parts_by_hand() -> None:
    """Generation 0 is found, generation 1 turned round; short rows of generation 0 alone; one row was not seen."""
    scores = np.array([1.0, 2, 5, 6, 0, -1, np.nan])
    human = np.array([True, True, False, False, False, False, True])
    origins, lengths = np.array([-1, -1, 0, 0, 1, 1, -1]), np.array([32, 128, 30, 128, 128, 2000, 128])
    found = evaluated(scores, human, origins, lengths)
    assert (found["human"], found["machine"], found["auc"], found["tpr"]) == (2, 4, 0.5, 0.5)
    assert {t: each["auc"] for t, each in found["generations"].items()} == {"0": 1.0, "1": 0.0}
    areas = {name: (each["human"], each["machine"], each["auc"]) for name, each in found["lengths"].items()}
    assert areas == {"at most 32": (1, 1, 1.0), "at most 128": (1, 2, 0.5), "more than 1024": (0, 1, None)}
    assert found["tpr_low"] == interval(2, 4)[0]


def test_the_last_curator_with_a_score_has_the_column() -> None:
    rows = np.ones(2, np.int64), np.array([True, False]), np.zeros(2, np.bool_)
    assert outcome(*rows, {})["detector_auc"] is None
    assert outcome(*rows, {"band": {"auc": 0.3}, "detected": {"auc": 0.9}})["detector_auc"] == 0.9
