"""Detectors of machine text: a number for each row, turned into P(machine | row) on rows whose writer is known.

The curator owns these rows: trusted ones, which humans wrote, and decoys, which it had the newest published model
write.  One half of both fits the detector, and the other half, which it has not seen, calibrates it.  So the way that a
number points is never assumed: at temperature 1 a small model's text costs a judge more than human text does, at low
temperatures less.  Scores are log odds of the machine.  The prior is 1/2: without evidence they are 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit

from lab.curators.evaluation import auc, threshold
from lab.curators.table import LEAST, Drawn, Dropped, Table, needs
from lab.errors import InputError
from lab.lookup import suggestion

Floats = NDArray[np.float64]
Statistic = Callable[[Table], Floats]
BINS = 2**16
"""Places into which the n-grams of the trained detector are hashed."""
DSIR_BINS = 10_000
"""The same for `dsir`: the number of Xie et al. 2023."""
ROWS_AT_ONCE = 4096
"""Rows whose n-grams are held at one time where there may be many."""
PENALTY = 1e-4
"""Of the squared weights of the trained detector, per row."""
UNIFORM = 0.1
"""Share of a uniform law in the laws of `dsir`, so that an n-gram found nowhere costs a row no infinite loss."""


def likelihood(table: Table) -> Floats:
    """Return the mean loss of each row under the judge, in nats per token."""
    return table.mean("nats")


def fast_detect(table: Table) -> Floats:
    """Return how far each row is likelier than rows that the judge draws itself, in standard deviations.

    It is (sum ln p(x) - sum of its means) / sqrt(sum of its variances) over the tokens of a row (Fast-DetectGPT, Bao et
    al. 2024).  Rows drawn from the judge have mean 0 and variance 1.  A row without variance has 0.
    """
    above, spread = table.scores["entropy"] - table.scores["nats"], np.sqrt(table.scores["variance"])
    return np.divide(above, spread, out=np.zeros(len(table)), where=spread > 0)


def binoculars(table: Table) -> Floats:
    """Return the loss of each row under the judge, divided by what the observer's draws in its place would cost it.

    It is a ratio of logarithms of perplexities (Binoculars, Hans et al. 2024); the judge is its performer.  Where judge
    and observer are one, its own rows have ratio 1 in the mean.  A row without such a cost has 1.
    """
    cross = table.scores["cross"]
    return np.divide(table.scores["nats"], cross, out=np.ones(len(table)), where=(cross > 0) & np.isfinite(cross))


STATISTICS: dict[str, Statistic | None] = {
    "ngrams": None,
    "likelihood": likelihood,
    "fast_detect": fast_detect,
    "binoculars": binoculars,
}
"""Value of the option `by` -> the number of a row; None for the detector that is trained."""
NEEDED = {"likelihood": ("judge",), "fast_detect": ("judge",), "binoculars": ("judge", "observer")}


@needs("trusted", "decoy", by=NEEDED)
def detected(table: Table, *, rng: np.random.Generator, by: str, fpr: float = 0.01) -> Dropped:
    """Drop rows that a detector takes for the machine's, at a threshold that lets a share `fpr` of trusted rows fail.

    by: ngrams (hashed 1- and 2-grams of tokens, logistic regression), or likelihood, fast_detect or binoculars.

    Raises:
        InputError: an option is outside its range, or there are too few trusted rows or decoys.
    """
    _check_by("detected", by)
    if not _number(fpr) or not 0 < fpr < 1:
        raise InputError(
            f"detected: fpr is {fpr}; it is the share of trusted rows that may be dropped, above 0, below 1"
        )
    odds, human, machine, facts = _fitted(table, by, rng)
    cut = threshold(human, fpr)
    facts |= {"threshold": cut, "fpr": float((human > cut).mean()), "tpr": float((machine > cut).mean())}
    return Dropped([f"log odds > {cut:.2f}" if x > cut else None for x in odds], facts, odds)


@needs("trusted", "decoy", by=NEEDED)
def importance(
    table: Table, *, rng: np.random.Generator, by: str, power: float = 10, draw: float = 1.5, repeats: int = 3
) -> Drawn:
    """Draw `draw` times as many rows as there are, each at most `repeats` times, by weights (1 - P(machine)) ** power.

    Each row has `repeats` slots, and slots are drawn one after another without replacement (Drayson et al. 2025).  So
    the human share of what is drawn is at most repeats / draw times that of the pool: twice, at the paper's settings.

    Raises:
        InputError: an option is outside its range, or there are too few trusted rows or decoys.
    """
    _check_by("importance", by)
    if not _number(power) or not 0 < power < 1e6:
        raise InputError(f"importance: power is {power}; it is the exponent of 1 - P(machine), above 0")
    if isinstance(repeats, bool) or not isinstance(repeats, int) or not 1 <= repeats <= 100:
        raise InputError(f"importance: repeats is {repeats}; it is a whole number from 1 to 100")
    if not _number(draw) or not 0 < draw <= repeats:
        raise InputError(
            f"importance: draw is {draw}; it is rows drawn per row, above 0 and at most repeats = {repeats}"
        )
    odds, _, _, facts = _fitted(table, by, rng)
    weights = np.repeat(power * log_expit(-odds), repeats)
    return Drawn(_successive(weights, max(1, round(draw * len(table))), rng) // repeats, facts, odds)


@needs("trusted")
def dsir(table: Table, *, rng: np.random.Generator, keep: float) -> Dropped:
    """Keep a share of the rows, drawn with weights p_trusted / p_pool of their hashed 1- and 2-grams of tokens.

    Both laws take n-grams as independent, and the draw is without replacement (DSIR, Xie et al. 2023).  No row needs a
    label.  The score is ln (p_pool / p_trusted): how much likelier the row is by the law of the pool, in nats.

    Raises:
        InputError: keep is not above 0 and at most 1.
    """
    if not _number(keep) or not 0 < keep <= 1:
        raise InputError(f"dsir: keep is {keep}; it is the share of rows that stay, above 0 and at most 1")
    costs = np.log(_law(table) / _law(table.own))
    scores = np.concatenate([hashed(block, DSIR_BINS) @ costs for block in _blocks(table)])
    kept = np.zeros(len(table), np.bool_)
    kept[_successive(-scores, max(1, round(keep * len(table))), rng)] = True
    return Dropped([None if stays else "not drawn" for stays in kept], {"trusted": len(table.own)}, scores)


def _fitted(table: Table, by: str, rng: np.random.Generator) -> tuple[Floats, Floats, Floats, dict[str, float | str]]:
    """Fit a detector to trusted rows and decoys.

    Returns:
        The log odds of the machine: of the rows of the table, of held-out trusted rows, and of held-out decoys.  Then
        what was fitted: orientation 1 if the number itself is higher for decoys and -1 if it is lower; log odds =
        slope x orientation x number + offset; auc on the held-out rows.
    """
    human, machine = table.own, table.written
    if min(len(human), len(machine)) < LEAST:
        raise InputError(
            f"a detector is fitted to {LEAST} trusted rows and {LEAST} decoys at least, and there are {len(human)} and "
            f"{len(machine)}: give more text, or raise the sample"
        )
    (learned, held), (fake, held_fake) = (_halves(each, rng) for each in (human, machine))
    number = STATISTICS[by] or trained(learned, fake)
    fits = np.concatenate([number(learned), number(fake)])
    bounds = _bounds(fits)
    sign = 1.0 if auc(*np.split(np.clip(fits, *bounds), [len(learned)])) >= 0.5 else -1.0
    own, others = (sign * np.clip(number(each), *bounds) for each in (held, held_fake))
    slope, offset = platt(own, others)
    odds = slope * sign * np.clip(number(table), *bounds) + offset
    facts: dict[str, float | str] = {
        "by": by,
        "orientation": sign,
        "slope": slope,
        "offset": offset,
        "prior": 0.5,
        "auc": auc(own, others),
    }
    facts |= {"trusted": len(human), "decoys": len(machine), "held_out": len(held) + len(held_fake)}
    return odds, slope * own + offset, slope * others + offset, facts


def _bounds(numbers: Floats) -> tuple[float, float]:
    """Return the range of the finite numbers of labelled rows, widened by itself.

    A model that gives a row probability 0 has an infinite loss there; it counts as the bound.
    """
    finite = numbers[np.isfinite(numbers)]
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return 2 * low - high, 2 * high - low


def _halves(rows: Table, rng: np.random.Generator) -> tuple[Table, Table]:
    order = rng.permutation(len(rows))
    return rows.take(order[: len(rows) // 2]), rows.take(order[len(rows) // 2 :])


def trained(human: Table, machine: Table) -> Statistic:
    """Return a logistic regression on the hashed 1- and 2-grams of tokens, fitted by L-BFGS: row -> log odds.

    The counts of a row are divided by their Euclidean norm.  Both classes weigh the same however many rows they have.
    """
    from scipy.optimize import minimize
    from scipy.sparse import vstack

    x = vstack([_normed(human), _normed(machine)]).tocsr()
    sides = np.repeat([-1.0, 1.0], [len(human), len(machine)])
    shares = np.repeat([0.5 / len(human), 0.5 / len(machine)], [len(human), len(machine)])

    def loss(w: Floats) -> tuple[float, Floats]:
        margins = sides * (x @ w)
        slopes = -shares * sides * expit(-margins)
        return float(-(shares * log_expit(margins)).sum() + PENALTY / 2 * w @ w), x.T @ slopes + PENALTY * w

    weights = minimize(loss, np.zeros(BINS), jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return lambda table: np.concatenate([_normed(block) @ weights for block in _blocks(table)])


def _normed(table: Table) -> Any:
    """Return the n-grams of each row, divided by their Euclidean norm: sparse [N, BINS]."""
    from scipy.sparse import diags_array

    grams = hashed(table, BINS)
    norms = np.sqrt(grams.multiply(grams).sum(axis=1)).ravel()
    return diags_array(1 / np.maximum(norms, 1)) @ grams


def hashed(table: Table, bins: int) -> Any:
    """Count the 1- and 2-grams of tokens of each row's text by the bin that they are hashed to: sparse [N, bins].

    An n-gram is a number of 64 bits, multiplied by an odd constant; its upper bits give the bin (Knuth 1973).
    """
    from scipy.sparse import csr_array

    tokens, place = table.tokens.astype(np.uint64) + np.uint64(1), np.arange(table.tokens.shape[1])
    text = place < table.lengths[:, None]
    pairs = (tokens[:, :-1] << np.uint64(32)) + tokens[:, 1:]
    codes = np.concatenate([tokens[text], pairs[text[:, 1:]]])
    rows = np.concatenate([np.nonzero(text)[0], np.nonzero(text[:, 1:])[0]])
    found = ((codes * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) * np.uint64(bins) >> np.uint64(32)
    counts = csr_array((np.ones(len(rows)), (rows, found.astype(np.int64))), shape=(len(table), bins))
    counts.sum_duplicates()
    return counts


def _law(table: Table) -> Floats:
    """Return the share of each bin in the n-grams of all rows, with a uniform part: float64 [DSIR_BINS]."""
    counts = np.zeros(DSIR_BINS)
    for block in _blocks(table):
        counts += hashed(block, DSIR_BINS).sum(axis=0)
    return np.asarray((1 - UNIFORM) * counts / max(counts.sum(), 1) + UNIFORM / DSIR_BINS)


def _blocks(table: Table) -> list[Table]:
    """Divide a table into blocks of ROWS_AT_ONCE rows, whose n-grams exist at one time."""
    starts = range(0, max(1, len(table)), ROWS_AT_ONCE)
    return [table.take(np.arange(start, min(start + ROWS_AT_ONCE, len(table)))) for start in starts]


def platt(human: Floats, machine: Floats) -> tuple[float, float]:
    """Return slope and offset of the log odds of the machine, slope x score + offset, fitted to labelled scores.

    Both classes weigh the same: the prior is 1/2.  Targets are Platt's, (n + 1) / (n + 2) and 1 / (n + 2), of the
    smaller class, so that classes without overlap get a finite slope (Platt 1999).  The slope is not negative: a number
    that points the wrong way on these rows says nothing.
    """
    from scipy.optimize import minimize

    scores = np.concatenate([human, machine])
    centre, spread = float(scores.mean()), float(scores.std())
    if spread == 0:
        return 0.0, 0.0
    x, counts, n = (scores - centre) / spread, [len(human), len(machine)], min(len(human), len(machine))
    targets = np.repeat([1 / (n + 2), (n + 1) / (n + 2)], counts)
    shares = np.repeat([0.5 / len(human), 0.5 / len(machine)], counts)

    def loss(ab: Floats) -> tuple[float, Floats]:
        z = ab[0] * x + ab[1]
        wrong = shares * (expit(z) - targets)
        value = -(shares * (targets * log_expit(z) + (1 - targets) * log_expit(-z))).sum()
        return float(value), np.array([wrong @ x, wrong.sum()])

    bounds, stop = [(0, None), (None, None)], {"ftol": 1e-14, "gtol": 1e-10}
    slope, offset = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=bounds, options=stop).x
    return float(slope / spread), float(offset - slope * centre / spread)


def _successive(log_weights: Floats, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw `count` places one after another without replacement, each time in proportion to the weights of the rest.

    The places with the highest sums of logarithm and Gumbel noise have exactly that law (Vieira 2014).
    """
    return np.argsort(-(log_weights + rng.gumbel(size=len(log_weights))), kind="stable")[:count]


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_by(name: str, by: object) -> None:
    if by not in STATISTICS:
        raise InputError(f'{name}: by is "{by}"{suggestion(str(by), STATISTICS)}; allowed: {", ".join(STATISTICS)}')
