"""Detectors by known answers: statistics, calibration, orientation, Drayson's resampling and DSIR by hand."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, ndtr

from lab.curators import check_curator, curate, needs_of
from lab.curators.detectors import STATISTICS, _successive, detected, dsir, hashed, importance, platt, trained
from lab.curators.evaluation import auc
from lab.curators.table import Table
from lab.errors import InputError
from lab.seeds import generator

BY = list(STATISTICS)


def rows(tokens: np.ndarray, lengths: np.ndarray | None = None, **scores: np.ndarray) -> Table:
    given = np.full(len(tokens), tokens.shape[1]) if lengths is None else lengths
    return Table(tokens, given, lambda some: [""] * len(some), scores)


def scored(nats: np.ndarray) -> Table:
    """Return rows of one token with these losses, and nothing else to tell them by."""
    return rows(np.zeros((len(nats), 1), np.uint16), nats=nats, entropy=np.ones_like(nats), variance=np.ones_like(nats))


def table(pool: Table, trusted: Table, decoy: Table) -> Table:
    return Table(pool.tokens, pool.lengths, pool.spell, pool.scores, trusted, decoy)


def gaussians(shift: float, count: int = 4000) -> Table:
    """Return trusted rows, decoys and, as a pool, both again: losses of two Gaussians that lie `shift` apart."""
    rng = generator(3)
    human, machine = (lambda n: scored(rng.normal(5, 1, n))), (lambda n: scored(rng.normal(5 + shift, 1, n)))
    one, other = human(count), machine(count)
    pool = scored(np.concatenate([human(count).scores["nats"], machine(count).scores["nats"]]))
    return table(pool, one, other)


@pytest.mark.parametrize("sign", [1, -1])
def test_two_gaussians(sign: int) -> None:
    """d' = 1: AUC Phi(1 / sqrt 2) = 0.760; log odds of equal priors are exactly d' (x - middle), either way round."""
    found = detected(gaussians(sign), rng=generator(0), by="likelihood", fpr=0.1)
    assert found.facts["auc"] == pytest.approx(ndtr(1 / math.sqrt(2)), abs=0.02)
    assert found.facts["orientation"] == sign
    assert found.facts["slope"] == pytest.approx(1, abs=0.1)
    middle = -float(found.facts["offset"]) / (float(found.facts["slope"]) * sign)
    assert middle == pytest.approx(5 + sign / 2, abs=0.1)
    dropped = np.array([reason is not None for reason in found.reasons])
    assert dropped[:4000].mean() == pytest.approx(0.1, abs=0.02) and found.facts["fpr"] == 0.1
    power = ndtr(1 - 1.2816)  # of a threshold at the 90th percentile
    assert dropped[4000:].mean() == pytest.approx(power, abs=0.03) == pytest.approx(found.facts["tpr"], abs=0.03)
    assert found.facts["trusted"] == found.facts["decoys"] == found.facts["held_out"] == 4000


def test_a_score_that_is_the_label() -> None:
    found = detected(gaussians(50, 300), rng=generator(0), by="likelihood")
    dropped = [reason is not None for reason in found.reasons]
    assert found.facts["auc"] == 1 and all(dropped[300:]) and sum(dropped[:300]) < 12
    assert found.reasons[300] is not None and found.reasons[300].startswith("log odds ")


@pytest.mark.parametrize("by", ["likelihood", "ngrams"])
def test_a_constant_says_nothing(by: str) -> None:
    same = scored(np.full(40, 3.0))
    found = detected(table(same, same, same), rng=generator(0), by=by, fpr=0.5)
    assert found.facts["auc"] == 0.5 and found.reasons == [None] * 40
    assert found.scores is not None and found.scores.tolist() == [0] * 40


def test_an_infinite_loss_is_a_large_one() -> None:
    """A model without smoothing gives probability 0 to what it never saw."""
    machine = scored(np.full(20, np.inf))
    found = detected(table(machine, scored(np.arange(20.0)), machine), rng=generator(0), by="likelihood")
    assert found.scores is not None
    assert None not in found.reasons and np.isfinite(found.scores).all()
    never = detected(table(machine, machine, machine), rng=generator(0), by="likelihood")
    assert set(never.reasons) == {None}


def test_statistics_by_hand() -> None:
    both = rows(
        np.zeros((2, 4), np.uint16), nats=np.array([6.0, 0]), entropy=np.array([8.0, 0]), cross=np.array([4.0, 0])
    )
    both = rows(both.tokens, np.array([4, 0]), **both.scores, variance=np.array([16.0, 0]))
    numbers = {name: number(both).tolist() for name, number in STATISTICS.items() if number}
    assert numbers == {"likelihood": [1.5, 0], "fast_detect": [0.5, 0], "binoculars": [1.5, 1]}


def test_platt_by_hand() -> None:
    """Scores that take two values: the law of the targets at each is met exactly.

    9 human and 1 machine row at 0, 2 and 8 at 1.  Targets 1 / 12 and 11 / 12: at 0 their mean is (9 + 11) / 120.
    """
    human, machine = np.repeat([0.0, 1.0], [9, 1]), np.repeat([0.0, 1.0], [1, 9])
    slope, offset = platt(human, machine)
    low, high = (9 * 1 + 11) / 120, (1 + 9 * 11) / 120
    assert expit([offset, slope + offset]) == pytest.approx([low, high], abs=1e-6)
    assert platt(machine, human) == (0, pytest.approx(0, abs=1e-9)), "the slope is never negative"


def test_platt_is_that_of_scikit_learn() -> None:
    """Its _sigmoid_calibration, version 1.9.1, gives slope 0.4938585 and offset -1.6095048 for these scores."""
    found = platt(np.array([0.0, 1, 2, 3, 4]), np.array([2.0, 3, 5, 6, 7]))
    assert found == pytest.approx((0.4938585, -1.6095048), abs=1e-6)


def test_the_prior_is_a_half_however_many_rows_there_are() -> None:
    human, machine = generator(0).normal(0, 1, 40), generator(1).normal(1, 1, 40)
    assert platt(human, np.tile(machine, 5)) == pytest.approx(platt(human, machine), abs=1e-6)
    x = rows(generator(2).integers(0, 40, (60, 12)))
    fake = generator(3).integers(5, 45, (60, 12))
    assert trained(x, rows(np.tile(fake, (4, 1))))(x) == pytest.approx(trained(x, rows(fake))(x), abs=0.02)


def test_ngrams_find_pairs() -> None:
    """Every row holds 1 to 30 once, the machine's in order and the human ones in any: no single token tells."""
    rng = generator(1)
    shuffled = [rng.permutation(30) + 1 for _ in range(240)]
    human, machine = np.array(shuffled), np.array([np.roll(np.arange(1, 31), rng.integers(30)) for _ in range(240)])
    number = trained(rows(human[:100]), rows(machine[:100]))
    assert auc(number(rows(human[100:])), number(rows(machine[100:]))) == 1
    pool = rows(np.concatenate([human[200:], machine[200:]]))
    found = detected(table(pool, rows(human[:200]), rows(machine[:200])), rng=generator(0), by="ngrams")
    kept = [reason is None for reason in found.reasons]
    assert sum(kept[:40]) >= 38 and not any(kept[40:])


def test_what_was_fitted_is_measured_on_other_rows() -> None:
    """Trusted rows and decoys of one law: the n-grams learn their own rows by heart, and the held-out ones say so."""
    one, other = (rows(generator(seed).integers(0, 50, (200, 10))) for seed in (1, 2))
    found = detected(table(one, one, other), rng=generator(0), by="ngrams")
    assert found.facts["auc"] == pytest.approx(0.5, abs=0.12) and found.facts["held_out"] == 200


def test_grams_end_with_the_text() -> None:
    grams = hashed(rows(np.array([[1, 2, 2], [7, 2, 7], [9, 9, 9]]), np.array([3, 1, 0])), 1000)
    assert grams.sum(axis=1).tolist() == [5, 1, 0]
    assert sorted(grams[[0]].data) == [1, 1, 1, 2]  # 1, 12, 22, and 2 twice


def test_what_a_detector_needs_follows_from_by() -> None:
    """The n-grams need no judge, so that none is trained."""
    both = ("trusted", "decoy")
    assert needs_of("detected", {"by": "ngrams"}) == both == needs_of("importance", {"by": "nonsense"})
    assert (
        needs_of("importance", {"by": "likelihood"}) == (*both, "judge") == needs_of("detected", {"by": "fast_detect"})
    )
    assert needs_of("detected", {"by": "binoculars"}) == (*both, "judge", "observer")
    assert needs_of("dsir", {"keep": 0.5}) == ("trusted",) and needs_of("duplicates", {}) == ()


# --- resampling ------------------------------------------------------------------------------------------------------


def test_drayson_by_hand() -> None:
    """P(machine) 0 and 1/2, power 10, three draws of six slots: P(all are row 0) = 3/(3+3e) 2/(2+3e) 1/(1+3e)."""
    e, rng = 2.0**-10, generator(0)
    expected = 3 / (3 + 3 * e) * 2 / (2 + 3 * e) * 1 / (1 + 3 * e)
    assert expected == pytest.approx(0.9946, abs=5e-5)
    weights = np.repeat(10 * np.log([1, 0.5]), 3)
    alone = np.mean([set(_successive(weights, 3, rng) // 3) == {0} for _ in range(20_000)])
    assert alone == pytest.approx(expected, abs=0.002)


def test_places_are_drawn_one_after_another() -> None:
    """Weights 1, 2, 3, two draws without replacement: place 0 is left out with 2/6 3/4 + 3/6 2/3."""
    rng = generator(5)
    without = np.mean([0 not in _successive(np.log([1, 2, 3]), 2, rng) for _ in range(20_000)])
    assert without == pytest.approx(2 / 6 * 3 / 4 + 3 / 6 * 2 / 3, abs=0.01)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.5])
@pytest.mark.parametrize(("draw", "repeats"), [(1.5, 3), (1, 2), (1, 1), (2, 3)])
def test_resampling_raises_the_human_share_by_a_bounded_factor(share: float, draw: float, repeats: int) -> None:
    """At most repeats / draw: min(1, 2h) at the paper's 1.5 and 3, which a perfect detector reaches."""
    human = round(400 * share)
    losses = np.repeat([1.0, 90.0], [human, 400 - human])
    known = table(scored(losses), scored(np.linspace(1, 1.1, 40)), scored(np.linspace(90, 90.1, 40)))
    found = importance(known, rng=generator(0), by="likelihood", draw=draw, repeats=repeats)
    assert len(found.rows) == round(400 * draw) and np.bincount(found.rows).max() <= repeats
    assert (found.rows < human).mean() == pytest.approx(min(1, share * repeats / draw), abs=0.01)


def test_without_evidence_all_rows_are_alike() -> None:
    same = scored(np.full(2000, 3.0))
    found = importance(table(same, same, same), rng=generator(0), by="likelihood")
    times = np.bincount(found.rows, minlength=2000)
    assert times.sum() == 3000 and times[:1000].sum() == pytest.approx(1500, abs=60)


def categorical(law: list[float], count: int, seed: int) -> Table:
    return rows(generator(seed).choice(len(law), (count, 1), p=law).astype(np.uint16))


def test_dsir_weights_by_hand() -> None:
    """Rows of one token, trusted AAAB, pool ABBB: the pool makes B 3 times likelier and A 3 times rarer."""
    pool, trusted = rows(np.array([[0], [1], [1], [1]])), rows(np.array([[0], [0], [0], [1]]))
    found = dsir(table(pool, trusted, trusted), rng=generator(0), keep=0.5)
    assert found.scores == pytest.approx([-np.log(3), *[np.log(3)] * 3], abs=1e-3)
    assert sum(reason is None for reason in found.reasons) == 2


def test_dsir_keeps_the_law_of_trusted_text_as_the_pool_grows() -> None:
    """One row in a hundred is drawn, so that the pool hardly runs out of what p wants more of than q has."""
    p, q = [0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]
    trusted, distances = categorical(p, 40_000, 1), []
    for count in (500, 40_000):
        pool = categorical(q, count, 2)
        answer = dsir(table(pool, trusted, trusted), rng=generator(3), keep=0.01)
        kept = pool.tokens[[reason is None for reason in answer.reasons], 0]
        distances.append(np.abs(np.bincount(kept, minlength=4) / len(kept) - p).sum() / 2)
    assert distances[1] < 0.05 < distances[0]


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("detected", {"by": "gltr"}, 'detected: by is "gltr"; allowed: ngrams, likelihood, fast_detect, binoculars'),
        ("importance", {"by": "ngram"}, 'importance: by is "ngram" - did you mean "ngrams"'),
        ("detected", {"by": True}, 'detected: by is "True"; allowed'),
        ("detected", {}, "curator detected needs by"),
        ("detected", {"by": "ngrams", "fpr": 0}, "detected: fpr is 0; it is the share of trusted rows"),
        ("detected", {"by": "ngrams", "fpr": 1}, "detected: fpr is 1"),
        ("detected", {"by": "ngrams", "fpr": True}, "detected: fpr is True"),
        ("detected", {"by": "ngrams", "fpr": "low"}, "detected: fpr is low"),
        ("detected", {"by": "ngrams", "fpr": float("nan")}, "detected: fpr is nan"),
        ("importance", {"by": "ngrams", "power": 0}, "importance: power is 0; it is the exponent"),
        ("importance", {"by": "ngrams", "power": -1}, "importance: power is -1"),
        ("importance", {"by": "ngrams", "draw": 0}, "importance: draw is 0; it is rows drawn per row, above 0"),
        ("importance", {"by": "ngrams", "draw": 4}, "importance: draw is 4; .* at most repeats = 3"),
        ("importance", {"by": "ngrams", "repeats": 1.5}, "importance: repeats is 1.5; it is a whole number"),
        ("dsir", {}, "curator dsir needs keep"),
        ("dsir", {"keep": 0}, "dsir: keep is 0; it is the share"),
    ],
)
def test_what_is_refused(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_curator(name, options)


@pytest.mark.parametrize("by", BY)
def test_what_is_allowed_is_tried_before_anything_runs(by: str) -> None:
    for name in ("detected", "importance"):
        check_curator(name, {"by": by})


def test_a_detector_without_labels_is_refused() -> None:
    few = scored(np.arange(7.0))
    with pytest.raises(InputError, match="fitted to 8 trusted rows and 8 decoys at least, and there are 20 and 7"):
        detected(table(few, scored(np.arange(20.0)), few), rng=generator(0), by="likelihood")


def test_a_curator_that_does_not_ask_gets_none() -> None:
    alone = scored(np.arange(9.0))
    with pytest.raises(InputError, match=r'table\.written, the decoys: put @needs\("decoy"\) above the function'):
        detected(table(alone, alone, alone.decoy), rng=generator(0), by="likelihood")  # type: ignore[arg-type]


@pytest.mark.parametrize("at_once", [1, 7, 64])
def test_blocks_of_rows_change_nothing(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (rows(generator(seed).integers(seed, 30, (40, 9))) for seed in (1, 9))
    shown = table(one, one, other)
    whole = dsir(shown, rng=generator(0), keep=0.5), detected(shown, rng=generator(0), by="ngrams")
    monkeypatch.setattr("lab.curators.detectors.ROWS_AT_ONCE", at_once)
    parts = dsir(shown, rng=generator(0), keep=0.5), detected(shown, rng=generator(0), by="ngrams")
    for a, b in zip(whole, parts, strict=True):
        assert a.reasons == b.reasons and a.scores == pytest.approx(b.scores)


def test_a_detector_among_curators() -> None:
    """Scores are written for the rows that it saw, and facts by name."""
    known = gaussians(50, 20)
    wanted: list[tuple[str, dict[str, Any]]] = [("random", {"keep": 0.5}), ("detected", {"by": "likelihood"})]
    found = curate(known, wanted, generator(0), np.zeros(40, np.bool_))
    assert np.isnan(found.scores["detected"]).sum() == 20 and found.facts[0]["curator"] == "detected"
