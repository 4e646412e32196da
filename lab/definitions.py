"""The eight published definitions of model collapse, as measurements with intervals and verdicts.

Schaeffer et al. 2025 ("Model Collapse Does Not Mean What You Think", arXiv 2503.03150) found them in the literature.
Each has one primary estimator here, which is fixed before a run; other numbers are shown beside it and carry no
verdict.  Values are of a regime against the human control, paired by seed, at the last generation.

A verdict rests on the paired t interval over seeds, and for losses also on the bootstrap of test documents:
collapsed      both lie wholly beyond the threshold, and the definition survives Holm's correction over the definitions;
not collapsed  both lie wholly short of it (definition 2: short of `near`);
undecided      else;
not measured   evidence is missing, or there is one seed, or there are too few generations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lab.collapse.beside import floors, passed
from lab.collapse.chains import LEAST_ROWS, RESAMPLES, Chains, Point, mode_ratios
from lab.collapse.growth import Growth, equivalent, growth, kappa_bootstrap
from lab.collapse.verdicts import COLLAPSED, MISSING, NOT, UNDECIDED, Side, holm, one_sided_p, power, verdict_of
from lab.config.profile import Thresholds
from lab.metrics.stats import FEWEST_DOCUMENTS, Interval, mean_interval, paired_interval
from lab.seeds import derive_seed, generator

INFINITE = "a loss is infinite, as that of counts without smoothing"
TOO_FEW = f"fewer than {FEWEST_DOCUMENTS} test documents have no interval, so it is undecided"
LEAST_CONTEXT = 0.05
"""Nats per token that context must teach the control for definition 1 to mean something."""
LEAST_GAIN = 0.01
"""Nats per token that eight times the human text must gain for definition 5 to mean something."""
LEAST_GENERATIONS, LEAST_SEEDS = 6, 3
"""What definition 3 needs: with 4 generations a plateau looks like divergence in 42 cases of 100."""
MUCH = 4.0
"""Definition 3: how much better one form must fit, in units of twice the log likelihood ratio."""


@dataclass(frozen=True)
class Estimate:
    """What a definition's estimator found."""

    by_seed: Sequence[float] = ()
    """The value of each seed.  Empty: not measured."""
    documents: Interval | None = None
    """The interval over test documents at the given seeds; None where the estimator is no loss."""
    missing: str = ""
    """Why there is no value, as a clause that also says what to do."""
    said: str = ""
    """More that the sentence should say."""
    verdict: str | None = None
    """A verdict that the intervals alone do not give."""
    p: float | None = None
    """A p value of its own; None: of the t test over seeds."""


Estimator = Callable[[Chains, Thresholds], Estimate]


@dataclass(frozen=True)
class Definition:
    """One of the eight definitions."""

    number: int
    name: str
    threshold: str
    """Field of Thresholds."""
    side: Side
    """On which side of the threshold the definition holds."""
    unit: str
    estimator: str
    """The primary estimator in words."""
    why: str
    """Where the threshold comes from."""
    source: str
    """Papers that use the definition."""
    estimate: Estimator
    words: Callable[[float], str]
    """A clause with the value, such as "held-out loss is 0.77 nats per token above the control's"."""


@dataclass(frozen=True)
class Finding:
    """What a run says about one definition for one regime."""

    definition: Definition
    value: Interval
    documents: Interval | None
    threshold: float
    near: float
    verdict: str
    words: str
    """One sentence."""
    p: float = math.nan
    """One-sided p value against the threshold, before Holm's correction."""
    power: float = math.nan
    """The smallest effect that this many seeds find 8 times in 10, in the unit of the value."""


def catastrophic(chains: Chains, at: Thresholds) -> Estimate:
    """Estimate the share of the way from the control's loss to that of the seed's own unigram."""
    gaps = [control.columns["unigram_nll"] - control.columns["nll"] for _, control in chains.pairs()]
    if any(map(math.isnan, gaps)):
        return Estimate(missing="its evidence is not there; lab profile RUN measures it")
    if -math.inf < min(gaps) < LEAST_CONTEXT:
        return Estimate(missing="a unigram predicts this text as well as the control: context teaches nothing")
    over = chains.over_documents()
    scale = float(np.mean(gaps))
    documents = Interval(over.mean / scale, over.low / scale, over.high / scale) if over else None
    by_seed = [gap / whole for gap, whole in zip(chains.gaps(chains.last), gaps, strict=True)]
    return Estimate(by_seed, documents, said=passed(chains))


def increase(chains: Chains, at: Thresholds) -> Estimate:
    """Estimate the increase of the held-out loss over the control's."""
    return Estimate(chains.gaps(chains.last), chains.over_documents())


def divergence(chains: Chains, at: Thresholds) -> Estimate:
    """Estimate the exponent kappa of the growth of the gap, D_t = b (1 + 2^-kappa + ... + t^-kappa).

    The sum has no bound where kappa < 1.  A geometric approach, b (1 - r^t), is its rival.
    """
    if chains.last < LEAST_GENERATIONS or len(chains.seeds) < LEAST_SEEDS:
        needs = f"{LEAST_SEEDS} seeds and {LEAST_GENERATIONS} generations after generation 0"
        return Estimate(missing=f"the growth of the loss needs {needs}")
    generations = range(1, chains.last + 1)
    gaps = np.array([chains.gaps(t) for t in generations]).T
    if not np.isfinite(gaps).all():
        return Estimate(missing=INFINITE)
    increased = [paired_interval(gaps[:, -1])]
    increased += [each for each in [chains.over_documents()] if each and not math.isnan(each.low)]
    if any(verdict_of(each, at.increase, at.increase_near, "above") != COLLAPSED for each in increased):
        return Estimate(missing="definition 2 does not hold, so there is nothing that could diverge")
    found: Growth = growth(gaps)
    interval, over = paired_interval(found.kappa), _kappa_over_documents(chains, generations)
    if over and math.isnan(over.low):
        return Estimate(list(found.kappa), over, said=TOO_FEW, verdict=UNDECIDED)
    verdict = UNDECIDED
    if max(interval.high, over.high if over else -math.inf) < at.divergence and found.rival < -MUCH:
        verdict = COLLAPSED
    elif min(interval.low, over.low if over else math.inf) > at.divergence or found.rival > MUCH:
        verdict = NOT
    levels = "levelling off" + ("" if interval.low > at.divergence else ": a plateau fits better")
    said = {COLLAPSED: "diverging so far", NOT: levels, UNDECIDED: "the curve does not tell"}[verdict]
    return Estimate(list(found.kappa), over, said=said, verdict=verdict)


def _kappa_over_documents(chains: Chains, generations: Sequence[int]) -> Interval | None:
    """Return the interval of kappa over test documents, of the seeds' mean curve."""
    gaps = [each for each in (chains.document_gaps(t) for t in generations) if each is not None]
    if len(gaps) < len(generations):
        return None
    rng = generator(derive_seed(0, chains.last, "documents of the growth"))
    return kappa_bootstrap(np.stack([total for total, _ in gaps]), gaps[0][1], rng=rng, resamples=RESAMPLES)


def variance(chains: Chains, at: Thresholds) -> Estimate:
    """Estimate the change of the entropy of the decoded next-token law on held-out text."""
    values = [a.columns["next_entropy"] - b.columns["next_entropy"] for a, b in chains.pairs()]
    if any(map(math.isnan, values)):
        return Estimate(missing="the entropy of the next token was not measured (profile.entropy, weights, beams)")
    return Estimate(values, said="the model blurs" if paired_interval(values).low > 0 else "")


def scaling(chains: Chains, at: Thresholds) -> Estimate:
    """Estimate what eight times the data of the chain gain, as a share of what they gain of human data.

    Human data are those of generation 0, which every regime has trained on.
    """
    pairs = [(chains.points[s][chains.last].losses, chains.points[s].get(0, Point({})).losses) for s in chains.seeds]
    if any(len(chain) < 2 or len(human) < 2 for chain, human in pairs):
        return Estimate(missing="nested sizes were not trained; lab profile RUN --set profile.scaling=true trains them")
    gains = [[losses[min(losses)] - losses[max(losses)] for losses in pair] for pair in pairs]
    if min(human for _, human in gains) < LEAST_GAIN:
        return Estimate(missing="eight times the human text gains nothing here: take more text, or train longer")
    known = [equivalent(human, chain[max(chain)]) for chain, human in pairs]
    less = "less than " if np.mean(known) <= min(pairs[0][1]) * 1.001 else ""
    said = f"it knows human text like a model that has read {less}{100 * np.mean(known):.3g}% of it; "
    said += floors([chain for chain, _ in pairs], [human for _, human in pairs])
    return Estimate([chain / human for chain, human in gains], said=said)


def modes(chains: Chains, at: Thresholds) -> Estimate:
    """Estimate the share of generated rows of the worst mode, as a ratio to the control's."""
    ratios = mode_ratios(chains)
    if not any(point.groups for pair in chains.pairs() for point in pair):
        return Estimate(missing="its evidence is not there, or the source is known and has no modes")
    if not ratios:
        return Estimate(missing=f"no mode has {LEAST_ROWS} rows in the control's text; sample more")
    tests = {name: one_sided_p(by_seed, at.modes, "below") for name, by_seed in ratios.items()}
    intervals = {name: paired_interval(by_seed) for name, by_seed in ratios.items()}
    kept = zip(ratios, holm(list(tests.values())), strict=True)
    gone = [name for name, rejected in kept if rejected and intervals[name].high < at.modes]
    # The mode that is named is one that bears the verdict: a lower mean may have an interval that says nothing.
    worst = min(gone or ratios, key=lambda name: intervals[name].mean)
    verdict = UNDECIDED
    if gone:
        verdict = COLLAPSED
    elif all(interval.low >= at.modes for interval in intervals.values()):
        verdict = NOT
    # Not corrected twice: this is one p value, of "no mode has lost its text", whatever the number of modes.  Holm over
    # the definitions takes it as it takes any other; without the factor a text of more modes would collapse more often.
    p = min(1.0, min(tests.values()) * len(tests))
    return Estimate(ratios[worst], said=worst, verdict=verdict, p=p)


def tails(chains: Chains, at: Thresholds) -> Estimate:
    """Estimate the logarithm of the rare words still written outside of copies over those of the control."""
    pairs = chains.pairs()
    if any(
        not math.isfinite(point.columns["new_survival"]) or not point.rare_words for pair in pairs for point in pair
    ):
        return Estimate(missing="the generated texts have too few words to compare, or the source has none")
    kept = [[point.columns["new_survival"] * point.rare_words + 0.5 for point in pair] for pair in pairs]
    return Estimate([math.log(regime / control) for regime, control in kept])


def hallucination(chains: Chains, at: Thresholds) -> Estimate:
    """Estimate the share of generated rows beyond the judge's 99th percentile of human rows, above the control's."""
    values = [a.columns["above_human"] - b.columns["above_human"] for a, b in chains.pairs()]
    if any(map(math.isnan, values)):
        return Estimate(missing="no judge has read the texts (profile.judge), or it gives human rows no probability")
    return Estimate(values)


DEFINITIONS: tuple[Definition, ...] = (
    Definition(
        1,
        "catastrophic increase of risk",
        "catastrophic",
        "above",
        "share",
        "(R_t - R_control) / (R_unigram - R_control), of held-out losses",
        "half of what context taught is gone; no number is agreed on in the literature",
        "Dohmatob et al. 2024, Kazdan et al. 2024",
        catastrophic,
        lambda x: f"held-out loss has gone {x:.0%} of the way to that of a unigram",
    ),
    Definition(
        2,
        "increase of risk",
        "increase",
        "above",
        "nats/token",
        "R_t - R_control, held-out loss",
        "any increase; short of it where the whole interval is below 2 % of perplexity",
        "Taori & Hashimoto 2023, Alemohammad et al. 2023, Feng et al. 2024",
        increase,
        lambda x: f"held-out loss is {abs(x):.3f} nats per token {'above' if x >= 0 else 'below'} the control's",
    ),
    Definition(
        3,
        "diverging risk",
        "divergence",
        "below",
        "exponent",
        "kappa of D_t = b (1 + 2^-kappa + ... + t^-kappa), D_t = R_t - R_control",
        "the series has no bound where kappa < 1",
        "Gerstgrasser et al. 2024, Ferbach et al. 2024",
        divergence,
        lambda x: f"the gap to the control grows with exponent {x:.2f}",
    ),
    Definition(
        4,
        "collapsing variance",
        "variance",
        "below",
        "nats",
        "change of the entropy of the decoded next-token law on held-out text",
        "ln 2: half of the effective choices are left",
        "Seddik et al. 2024, Bertrand et al. 2024",
        variance,
        lambda x: f"the entropy of the next token {'rises' if x >= 0 else 'falls'} by {abs(x):.2f} nats",
    ),
    Definition(
        5,
        "change of the scaling law",
        "scaling",
        "below",
        "ratio",
        "[R(n/8) - R(n)] on nested rows of the last generation over that of generation 0, at equal passes",
        "the same extra data buys half as much",
        "Dohmatob et al. 2024 (A Tale of Tails), Dohmatob et al. 2025 (Strong Model Collapse)",
        scaling,
        lambda x: f"eight times the data {'gains' if x >= 0 else 'loses'} {abs(x):.0%} of what human data gains",
    ),
    Definition(
        6,
        "disappearing modes",
        "modes",
        "below",
        "ratio",
        f"the worst mode's share of generated rows over the control's, of modes with {LEAST_ROWS} control rows",
        "a mode has lost half of its text",
        "Shumailov et al. 2024, Alemohammad et al. 2023",
        modes,
        lambda x: f"the mode that suffers most keeps {x:.0%} of its text",
    ),
    Definition(
        7,
        "disappearing tails",
        "tails",
        "below",
        "log ratio",
        "log of the rare words (1 to 3 human copies) written outside of copied 8-grams, over the control's",
        "ln 0.5: half of the rare words that the control still writes are gone",
        "Shumailov et al. 2024, Guo et al. 2024",
        tails,
        lambda x: f"{math.exp(x):.0%} as many rare words are written as by the control",
    ),
    Definition(
        8,
        "hallucinated text",
        "hallucination",
        "above",
        "share",
        "generated rows above the judge's 99th percentile of human rows, minus the control's share",
        "five times the human share more",
        "Shumailov et al. 2024, figure 1",
        hallucination,
        lambda x: (
            f"rows unlike human text are {abs(100 * x):.0f} points {'more' if x >= 0 else 'fewer'} than the control's"
        ),
    ),
)


def findings(chains: Chains, at: Thresholds) -> list[Finding]:
    """Return a finding for each definition of one regime, with Holm's correction over those that are measured."""
    found = [_found(definition, chains, at) for definition in DEFINITIONS]
    tested = [each for each in found if not math.isnan(each.p)]
    kept = {each.definition.number: ok for each, ok in zip(tested, holm([f.p for f in tested]), strict=True)}
    return [
        replace(each, verdict=UNDECIDED, words=f"{each.words} (not after correction for several definitions)")
        if each.verdict == COLLAPSED and not kept.get(each.definition.number, True)
        else each
        for each in found
    ]


def _found(definition: Definition, chains: Chains, at: Thresholds) -> Finding:
    threshold = float(getattr(at, definition.threshold))
    near = max(threshold, float(getattr(at, f"{definition.threshold}_near", threshold)))  # of a side above alone
    nothing = Interval(math.nan, math.nan, math.nan)
    if not chains.seeds:
        return Finding(definition, nothing, None, threshold, near, MISSING, "There is no control to compare with.")
    if not chains.last:
        words = "Not measured: at generation 0 a regime is its control, and a seed has no later one."
        return Finding(definition, nothing, None, threshold, near, MISSING, words)
    estimate = definition.estimate(chains, at)
    if not estimate.by_seed or not np.isfinite(estimate.by_seed).all():
        why = estimate.missing or INFINITE
        return Finding(definition, nothing, None, threshold, near, MISSING, f"Not measured: {why}.")
    value = mean_interval(estimate.by_seed)
    words = definition.words(value.mean).capitalize() + (f" ({estimate.said})." if estimate.said else ".")
    if len(estimate.by_seed) == 1:
        return Finding(definition, value, None, threshold, near, MISSING, f"{words[:-1]}: one seed has no interval.")
    verdict = estimate.verdict or verdict_of(value, threshold, near, definition.side)
    if estimate.documents is not None and estimate.verdict is None and verdict != UNDECIDED:
        other = verdict_of(estimate.documents, threshold, near, definition.side)
        if other != verdict:
            why = "over test documents it is undecided"
            if math.isnan(estimate.documents.low):
                why = TOO_FEW
            verdict, words = UNDECIDED, f"{words[:-1]}; {why}."
    p = one_sided_p(estimate.by_seed, threshold, definition.side) if estimate.p is None else estimate.p
    detects = power(estimate.by_seed)
    return Finding(definition, value, estimate.documents, threshold, near, verdict, words, p, detects)
