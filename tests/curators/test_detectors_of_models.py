"""Detectors on rows that models write: a judge's own rows, and the temperature at which a loss is blind."""

import numpy as np
import pytest
from scipy.stats import chi2, norm

from lab.config.text import SourceConfig
from lab.curators.detectors import binoculars, detected, fast_detect, likelihood
from lab.curators.evaluation import auc
from lab.curators.table import SCORES, Table
from lab.models import counting
from lab.models.counted import Counted
from lab.models.moments import moments
from lab.models.sampling.decoding import Decoding
from lab.models.sampling.sample import sample
from lab.seeds import generator
from lab.text.known_source import KnownSource

SPECIAL = {"vocab_size": 61, "bos": 60, "eos": 60}
LAW = KnownSource.of(SourceConfig(kind="source", process="markov", zipf=1.2, types=60, tokens=1))


def bigrams(rows: np.ndarray) -> Counted:
    return Counted(counting.fit({"kind": "ngram", "order": 2, "smoothing": "interpolated"}, rows, **SPECIAL))


def human(count: int, seed: int) -> np.ndarray:
    return LAW.draw(count, 40, generator(seed))


def written(model: Counted, temperature: float, count: int, seed: int) -> np.ndarray:
    return sample(
        model,
        rows=count,
        positions=40,
        bos=60,
        seed=seed,
        progress=lambda _: None,
        decoding=Decoding(temperature=temperature),
    )[0]


def scored(rows: np.ndarray, judge: Counted, observer: Counted | None = None) -> Table:
    sums = moments(judge, rows, bos=60, observer=observer).sum(axis=1)
    named = dict(zip(SCORES, sums.T, strict=False))
    return Table(rows, np.full(len(rows), rows.shape[1]), lambda some: [""] * len(some), named)


@pytest.fixture(scope="module")
def judge() -> Counted:
    return bigrams(human(60, 1))


def test_rows_of_the_judge_itself(judge: Counted) -> None:
    """Fast-DetectGPT has mean 0 and variance 1 there, and Binoculars of one model as both has ratio 1 in the mean."""
    own = scored(written(judge, 1, 1000, 2), judge, judge)
    z = fast_detect(own)
    assert abs(z.mean()) < norm.ppf(0.9995) / np.sqrt(1000)
    assert chi2.ppf(0.0005, 999) < z.var() * 1000 < chi2.ppf(0.9995, 999)
    ratio = binoculars(own)
    assert ratio.mean() == pytest.approx(1, abs=4 * ratio.std() / np.sqrt(1000)) and ratio.std() > 0.01


def test_a_loss_of_fixed_orientation_is_blind_at_some_temperature(judge: Counted) -> None:
    """At T = 0.5 a small model's text costs the judge less than human text, at T = 1 more: the AUC crosses 0.5.

    The orientation that `detected` fits to decoys of the same temperature turns with it, and finds both.
    """
    writer, people = bigrams(human(30, 3)), scored(human(200, 4), judge)
    area, orientation, found = {}, {}, {}
    for temperature in (0.5, 0.75, 1.0):
        machine = scored(written(writer, temperature, 200, 5), judge)
        area[temperature] = auc(-likelihood(people), -likelihood(machine))
        decoy = scored(written(writer, temperature, 200, 6), judge)
        pool = Table(
            machine.tokens, machine.lengths, machine.spell, machine.scores, scored(human(200, 7), judge), decoy
        )
        facts = detected(pool, rng=generator(0), by="likelihood").facts
        orientation[temperature], found[temperature] = facts["orientation"], facts["auc"]
    assert area[0.5] > 0.7 > 0.5 > 0.3 > area[1.0] and area[0.5] > area[0.75] > area[1.0]
    assert (orientation[0.5], orientation[1.0]) == (-1, 1)
    assert found[0.5] > 0.7 < found[1.0]
