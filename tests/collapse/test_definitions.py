"""The eight definitions of collapse, on numbers whose answer is known."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import ttest_1samp

from lab.collapse.beside import first_beyond, scaling_law
from lab.collapse.chains import Chains, Point, mode_ratios
from lab.collapse.growth import equivalent, growth
from lab.collapse.verdicts import COLLAPSED, MISSING, NOT, UNDECIDED, holm, one_sided_p, power, verdict_of
from lab.config.profile import Thresholds
from lab.definitions import DEFINITIONS, Finding, findings
from lab.metrics.stats import Interval

AT = Thresholds()
Curve = Sequence[float]


def point(nll: float = 4.0, **given: Any) -> Point:
    """A generation whose numbers are those of a sound control, except the given ones."""
    columns = {
        "nll": nll,
        "unigram_nll": 6.0,
        "next_entropy": 3.0,
        "new_survival": 0.4,
        "above_human": 0.1,
    }
    facts = {name: given.pop(name) for name in ("groups", "documents", "losses") if name in given}
    return Point(columns | given, rare_words=1000, **facts)


def chains(
    regime: Sequence[Mapping[int, Point] | Point], control: Sequence[Mapping[int, Point] | Point] | None = None
) -> Chains:
    """One point or chain per seed; by default the control is sound."""

    def by_seed(given: Sequence[Any]) -> dict[int, dict[int, Point]]:
        return {seed: dict(each) if isinstance(each, Mapping) else {1: each} for seed, each in enumerate(given)}

    points = by_seed(regime)
    sound = {seed: {t: point() for t in by} for seed, by in points.items()}
    return Chains("replace", points, by_seed(control) if control is not None else sound)


def found(number: int, given: Chains, at: Thresholds = AT) -> Finding:
    return next(each for each in findings(given, at) if each.definition.number == number)


def spread(value: float, by: float = 0.001) -> list[float]:
    """Three values around one."""
    return [value - by, value, value + by]


def curve(gaps: Curve, noise: float = 0.0, seed: int = 0) -> dict[int, Point]:
    """A chain whose loss lies so much above the control's 4 nats at t = 1, 2 ..."""
    rng = np.random.default_rng(seed)
    values = [4.0, *(4.0 + gap + noise * float(rng.normal()) for gap in gaps)]
    return {t: point(value) for t, value in enumerate(values)}


# --- 1 and 2: risk ---------------------------------------------------------------------------------------------------


def test_a_unigram_has_gone_the_whole_way_and_the_control_none() -> None:
    unigram = found(1, chains([point(6.0)] * 3))
    assert unigram.value.mean == pytest.approx(1) and unigram.verdict == COLLAPSED
    same = found(1, chains([point(4.0)] * 3))
    assert same.value.mean == 0 and same.verdict == NOT
    half = found(1, chains([point(x) for x in spread(4.5)]))
    assert half.value.mean == pytest.approx(0.25) and half.verdict == NOT


def test_levels_on_the_way_to_a_unigram_are_named_with_their_generation() -> None:
    """The control's 4 nats and a unigram's 6: 25 % is 4.5, 50 % is 5.  A generation without a unigram is skipped."""
    given = chains([curve([0.3, 0.5, 0.9, 1.0])] * 3, [curve([0, 0, 0, 0])] * 3)
    assert [first_beyond(given, level) for level in (0.1, 0.25, 0.5, 0.6)] == [1, 2, 4, None]
    assert "(25% first at generation 2, 50% first at generation 4)" in found(1, given).words
    blind = curve([0, 0, 0, 0]) | {2: point(unigram_nll=math.nan)}
    assert first_beyond(chains([curve([0.3, 0.5, 0.9, 1.0])] * 3, [blind] * 3), 0.25) == 3


def test_where_a_unigram_predicts_as_well_nothing_can_be_lost() -> None:
    control = [point(5.99)] * 3
    finding = found(1, chains([point(6.5)] * 3, control))
    assert finding.verdict == MISSING and "unigram predicts this text as well" in finding.words


def test_a_twentieth_of_a_nat_per_token_is_found_exactly() -> None:
    documents = np.array([[400.0, 100], [800, 200], [100, 25], [40, 10], [404, 101], [200, 50]])
    more = documents + np.outer(documents[:, 1] * 0.05, [1, 0])
    finding = found(2, chains([point(4.05, documents=more)] * 3, [point(documents=documents)] * 3))
    assert finding.value == Interval(*[pytest.approx(0.05)] * 3)
    assert finding.documents == Interval(*[pytest.approx(0.05)] * 3)
    assert finding.verdict == COLLAPSED and "0.050 nats per token above" in finding.words


def test_documents_may_take_a_verdict_back() -> None:
    """All seeds agree, but the increase is one document's."""
    documents = np.array([[400.0, 100]] * 8)
    more = documents.copy()
    more[0, 0] += 800 * 0.1
    finding = found(2, chains([point(4.1, documents=more)] * 3, [point(documents=documents)] * 3))
    assert finding.documents is not None and finding.documents.holds_zero
    assert finding.verdict == UNDECIDED and "over test documents it is undecided" in finding.words


def test_too_few_documents_are_named_as_the_reason() -> None:
    documents = np.array([[400.0, 100]] * 4)
    more = documents + np.outer([100.0, 101, 99, 100], [1, 0])
    for number in (1, 2):
        finding = found(number, chains([point(5.2, documents=more)] * 3, [point(documents=documents)] * 3))
        assert finding.verdict == UNDECIDED and "fewer than 5 test documents have no interval" in finding.words


def test_an_increase_below_two_per_cent_of_perplexity_is_none() -> None:
    assert found(2, chains([point(4 + x) for x in (-0.001, 0.001, 0.0005)])).verdict == NOT
    assert found(2, chains([point(4 + x) for x in (-0.03, 0.05, 0.02)])).verdict == UNDECIDED


# --- 3: divergence ---------------------------------------------------------------------------------------------------


def test_exponents_of_exact_curves() -> None:
    t = np.arange(1, 11)
    assert growth(t[None].astype(float)).kappa == [0]
    assert growth(np.cumsum(1 / t**2)[None]).kappa == [2]
    assert growth(3 * np.cumsum(t**-0.5)[None]).kappa == [0.5]


def test_a_published_curve_diverges_so_far() -> None:
    """Drayson et al. 2025, synthetic text only, perplexities of an independent rerun (log): kappa 0.56."""
    perplexities = [29.62, 33.33, 36.09, 38.34, 40.38, 42.31, 44.11, 46.05, 47.65, 49.46, 50.98]
    gaps = np.log(perplexities[1:]) - np.log(perplexities[0])
    fitted = growth(gaps[None])
    assert fitted.kappa == [0.56]
    assert math.exp(-fitted.rival / len(gaps)) == pytest.approx(36, abs=1)  # times smaller a squared error
    finding = found(3, chains([curve(gaps, 0.002, seed) for seed in range(3)]))
    assert finding.verdict == COLLAPSED and "diverging so far" in finding.words


def test_exponents_of_published_replacement() -> None:
    """Kazdan et al. 2025, replace, generations 1 to 5: losses 1.81 2.07 2.21 2.30 2.39."""
    losses = np.array([1.81, 2.07, 2.21, 2.30, 2.39])
    gaps = losses[1:] - losses[0]
    assert growth(gaps[None]).kappa == [0.87]

    def errors(kappa: float) -> float:
        form = np.cumsum(np.arange(1, 5) ** -kappa)
        return float(((gaps - form * (gaps @ form) / (form @ form)) ** 2).sum())

    assert minimize_scalar(errors, bounds=(-2, 6), method="bounded").x == pytest.approx(0.87, abs=0.005)


@pytest.mark.parametrize("noise", range(3))
@pytest.mark.parametrize("kappa", [2.0, 0.0])
def test_a_sum_of_squares_levels_off_and_a_line_diverges(kappa: float, noise: int) -> None:
    """D_t = c (1 + 2^-kappa + ... + t^-kappa), six generations, with the noise of a training in the study `quick`."""
    gaps = 0.2 * np.cumsum(np.arange(1, 7) ** -kappa)
    finding = found(3, chains([curve(gaps, 0.004, 10 * noise + seed) for seed in range(3)]))
    assert finding.verdict == (NOT if kappa else COLLAPSED)
    assert finding.value.mean == pytest.approx(kappa, abs=0.2)


def test_a_curve_between_the_forms_is_left_open() -> None:
    """1 + 1/2 + 1/3 ... is the boundary: it has no bound, and no study is long enough to see it."""
    gaps = 0.4 * np.cumsum(1 / np.arange(1, 7))
    finding = found(3, chains([curve(gaps, 0.004, seed) for seed in range(3)]))
    assert finding.verdict == UNDECIDED and "the curve does not tell" in finding.words


def test_documents_that_do_not_share_the_growth_take_it_back() -> None:
    """The mean curve is a line, but it is that of three documents of eight; the loss of the others levels off."""

    def chain(level: float) -> dict[int, Point]:
        by: dict[int, Point] = {0: point(documents=np.array([[400.0, 100]] * 8))}
        for t in range(1, 8):
            gaps = np.array([0.3 * t] * 3 + [0.5 * (1 - 0.3**t)] * 5) + level
            by[t] = point(4 + gaps.mean(), documents=np.stack([(4 + gaps) * 100, np.full(8, 100.0)], axis=1))
        return by

    control = [{t: point(documents=np.array([[400.0, 100]] * 8)) for t in range(8)}] * 3
    finding = found(3, chains([chain(level) for level in spread(0)], control))
    assert finding.value.high < 1
    assert finding.documents is not None and finding.documents.low < 1 < finding.documents.high
    assert finding.verdict == UNDECIDED


@pytest.mark.parametrize(("documents", "verdict"), [(1, UNDECIDED), (4, UNDECIDED), (5, COLLAPSED)])
def test_the_growth_over_few_documents_is_left_open(documents: int, verdict: str) -> None:
    """A line that all documents and seeds share: with fewer than five documents nobody can say that others share it."""

    def chain(slope: float) -> dict[int, Point]:
        each = np.arange(documents) / 1000  # documents differ a little
        losses = [100 * (4 + slope * t * (1 + each)) for t in range(8)]
        tokens = np.full(documents, 100.0)
        return {
            t: point(nats.mean() / 100, documents=np.stack([nats, tokens], axis=1)) for t, nats in enumerate(losses)
        }

    given = chains([chain(0.3 + more) for more in spread(0)], [chain(0.0)] * 3)
    finding = found(3, given)
    assert finding.value.high < 1 and finding.verdict == verdict
    few = "fewer than 5 test documents have no interval, so it is undecided" in finding.words
    assert few == (verdict == UNDECIDED), finding.words
    assert finding.documents is not None and math.isnan(finding.documents.low) == few
    assert found(2, given).verdict == verdict and found(1, given).verdict in (verdict, UNDECIDED)


@pytest.mark.parametrize("form", ["square", "geometric"])
def test_plateaus_level_off(form: str) -> None:
    t = np.arange(1, 8)
    gaps = np.cumsum(1 / t**2) if form == "square" else 0.4 * (1 - 0.6**t)
    finding = found(3, chains([curve(gaps, 0.004, seed) for seed in range(3)]))
    assert finding.verdict == NOT and "levelling off" in finding.words


def test_growth_needs_seeds_generations_and_an_increase() -> None:
    t = np.arange(1, 7)
    assert found(3, chains([curve(0.1 * t)] * 2)).verdict == MISSING
    assert found(3, chains([curve(0.1 * t[:4])] * 3)).verdict == MISSING
    short = found(3, chains([curve(0.1 * t[:5])] * 3))
    assert short.verdict == MISSING and "6 generations after generation 0" in short.words
    flat = found(3, chains([curve(0 * t, 0.01, seed) for seed in range(3)]))
    assert flat.verdict == MISSING and "definition 2 does not hold" in flat.words


# --- 4 to 8 ----------------------------------------------------------------------------------------------------------


def test_entropy_that_falls_collapses_and_that_rises_is_said() -> None:
    falls = found(4, chains([point(next_entropy=3 - x) for x in spread(1.0)]))
    assert falls.verdict == COLLAPSED and "falls by 1.00 nats" in falls.words
    rises = found(4, chains([point(next_entropy=3 + x) for x in spread(0.5)]))
    assert rises.verdict == NOT and "rises by 0.50 nats (the model blurs)" in rises.words


def test_what_eight_times_the_data_gains() -> None:
    """Human data gains 0.4 nats, the chain's 0.1; the chain's model knows what 1/4 of the human text teaches."""
    human = {0.125: 4.4, 0.25: 4.25, 0.5: 4.1, 1.0: 4.0}
    chain = {0.125: 4.35, 0.25: 4.3, 0.5: 4.28, 1.0: 4.25}
    regime = [{0: point(losses=human), 1: point(4.25, losses=chain)}] * 3
    finding = found(5, chains(regime, [{0: point(losses=human), 1: point()}] * 3))
    assert finding.value.mean == pytest.approx(0.25) and finding.verdict == COLLAPSED
    assert "like a model that has read 25% of it" in finding.words
    assert found(5, chains([point()] * 3)).verdict == MISSING


@pytest.mark.parametrize("gain", [0.0, -0.1, 0.009])
def test_where_more_human_text_gains_nothing_no_law_can_change(gain: float) -> None:
    human = {0.125: 4 + gain, 0.25: 4.0, 0.5: 4.0, 1.0: 4.0}
    chain = {0.125: 4.3, 0.25: 4.2, 0.5: 4.1, 1.0: 4.0}
    control = [{0: point(losses=human), 1: point()}] * 3
    finding = found(5, chains([{0: point(losses=human), 1: point(losses=chain)}] * 3, control))
    assert finding.verdict == MISSING and "eight times the human text gains nothing here" in finding.words


def test_a_scaling_law_is_recovered() -> None:
    """E = 3.5, A = 1.15, alpha = 0.35, from losses without noise.  A floor that no data shows is not invented."""
    sizes = [0.125, 0.25, 0.5, 1.0]
    law = scaling_law({n: 3.5 + 1.15 * n**-0.35 for n in sizes})
    assert law is not None
    assert (law.floor, law.factor, law.exponent) == pytest.approx((3.5, 1.15, 0.35), abs=1e-5)
    rng = np.random.default_rng(0)
    noisy = [scaling_law({n: 3.5 + 1.15 * n**-0.35 + 0.001 * rng.normal() for n in sizes}) for _ in range(20)]
    assert all(each is not None and each.floor == pytest.approx(3.5, abs=0.15) for each in noisy)
    assert scaling_law({n: 4 - n**-0.35 for n in sizes}) is None  # more data makes it worse
    assert scaling_law({n: 4 - math.log(n) for n in sizes}) is None  # it falls without a floor
    assert scaling_law({0.125: 5.0, 0.25: 4.6, 0.5: 4.22, 1.0: 3.86}) is None  # its floor would be -2.8 nats
    assert scaling_law({n: 3.5 + n**-0.35 for n in sizes[1:]}) is None  # three sizes fit anything


def test_the_floor_of_replace_is_the_loss_of_its_writer() -> None:
    """Infinite data of a model give the model: its chain's curve ends at the loss of the generation before."""
    human = {n: 4.0 + 0.5 * n**-0.4 for n in (0.125, 0.25, 0.5, 1.0)}
    chain = {n: 4.5 + 0.4 * n**-0.4 for n in human}
    control = [{0: point(losses=human), 1: point()}] * 3
    words = found(5, chains([{0: point(losses=human), 1: point(4.9, losses=chain)}] * 3, control)).words
    assert "power laws end at 4.50 nats, of human text at 4.00" in words


def test_equivalent_human_text_lies_between_the_sizes() -> None:
    human = {0.125: 5.0, 0.25: 4.0, 0.5: 3.0, 1.0: 2.0}
    assert equivalent(human, 3.5) == pytest.approx(math.sqrt(0.25 * 0.5))
    assert equivalent(human, 9.0) == pytest.approx(0.125) and equivalent(human, 1.0) == 1


def modes(**rows: int) -> list[dict[str, Any]]:
    return [{"column": "domain", "group": name, "rows": count, "nll": None} for name, count in rows.items()]


def test_a_domain_that_is_gone_is_named() -> None:
    control = [point(groups=modes(sea=100, land=100, sky=40))] * 3
    gone = found(6, chains([point(groups=modes(sea=200, land=0, sky=0))] * 3, control))
    assert gone.verdict == COLLAPSED and "(land)" in gone.words  # sky has too few rows to be said of
    assert gone.value.mean == pytest.approx(0.5 / 100.5)


def test_three_seeds_show_that_a_mode_is_gone() -> None:
    """A classifier leaves 2, 6 or 12 rows of 120 to it; logarithms of such counts would spread too much to tell."""
    control = [point(groups=modes(sea=120, land=120, sky=120))] * 3
    gone = [point(groups=modes(sea=120 + k, land=240 - 2 * k, sky=k)) for k in (2, 6, 12)]
    finding = found(6, chains(gone, control))
    assert finding.verdict == COLLAPSED and "(sky)" in finding.words
    assert finding.value.mean == pytest.approx(np.mean([2.5, 6.5, 12.5]) / 120.5)
    wide = [point(groups=modes(sea=k, land=0, sky=30 + k // 20)) for k in (0, 0, 70)]
    named = found(6, chains(wide, [point(groups=modes(sea=120, land=9, sky=120))] * 3))
    assert named.verdict == COLLAPSED and "(sky)" in named.words and named.value.high < 0.5  # sea's mean is lower


def test_equal_samples_lose_no_mode() -> None:
    control = [point(groups=modes(sea=100, land=100))] * 3
    counts = [(103, 97), (95, 105), (101, 99)]
    kept = found(6, chains([point(groups=modes(sea=a, land=b)) for a, b in counts], control))
    assert kept.verdict == NOT
    assert set(mode_ratios(chains([point(groups=modes(sea=1, land=49))] * 2, control[:2]))) == {"sea", "land"}
    few = found(6, chains([point(groups=modes(sea=9))] * 3, [point(groups=modes(sea=9))] * 3))
    assert few.verdict == MISSING and "no mode has 50 rows" in few.words


def test_no_rare_word_written_any_more() -> None:
    gone = found(7, chains([point(new_survival=0.0)] * 3))
    assert gone.verdict == COLLAPSED and gone.value.mean == pytest.approx(math.log(0.5 / 400.5))
    assert found(7, chains([point(new_survival=0.4 + x) for x in spread(0, 0.01)])).verdict == NOT


def test_rows_unlike_human_text_are_counted_above_the_controls() -> None:
    assert found(8, chains([point(above_human=0.1 + x) for x in spread(0.3)])).verdict == COLLAPSED
    assert found(8, chains([point(above_human=0.1 + x) for x in spread(0.01)])).verdict == NOT
    assert found(8, chains([point(above_human=math.nan)] * 3)).verdict == MISSING


# --- verdicts --------------------------------------------------------------------------------------------------------


def test_a_threshold_of_the_study_decides() -> None:
    given = chains([point(x) for x in spread(4.5)])
    assert [found(1, given, at).verdict for at in (AT, Thresholds(catastrophic=0.2))] == [NOT, COLLAPSED]
    assert found(2, given, Thresholds(increase=0.9)).verdict == NOT, "near is no less than the threshold"


def test_one_seed_and_no_control_measure_nothing() -> None:
    alone = found(2, chains([point(5.0)]))
    assert alone.verdict == MISSING and alone.value.mean == 1 and "one seed has no interval" in alone.words
    nobody = Chains("replace", {0: {1: point()}}, {})
    assert {each.verdict for each in findings(nobody, AT)} == {MISSING}


@pytest.mark.parametrize("side", ["regime", "control", "both", "one seed", "on the way"])
def test_an_infinite_loss_is_said(side: str) -> None:
    """As that of an n-gram without smoothing on a text with a new word: of three seeds, or of one of them."""
    documents = np.array([[400.0, 100]] * 8)
    lost = documents.copy()
    lost[2, 0] = math.inf
    sound = {t: point(4 + 0.1 * t, documents=documents + np.array([10.0 * t, 0])) for t in range(8)}
    infinite = {t: point(math.inf, documents=lost) for t in range(8)}
    last = {**infinite, **{t: sound[t] for t in (6, 7)}}
    pairs = {
        "regime": ([infinite] * 3, [sound] * 3),
        "control": ([sound] * 3, [infinite] * 3),
        "both": ([infinite] * 3, [infinite] * 3),
        "one seed": ([infinite, sound, sound], [sound] * 3),
        "on the way": ([last] * 3, [{t: point(documents=documents) for t in range(8)}] * 3),
    }
    regime, control = pairs[side]
    for number in (1, 2, 3) if side != "on the way" else (3,):
        finding = found(number, chains(regime, control))
        assert finding.verdict == MISSING and "a loss is infinite" in finding.words, number
    assert found(4, chains(regime, control)).verdict == NOT, "what is no loss is measured"


SENTENCES = {
    1: ("unigram_nll", "its evidence is not there; lab profile RUN measures it"),
    4: ("next_entropy", "the entropy of the next token was not measured (profile.entropy, weights, beams)"),
    7: ("new_survival", "the generated texts have too few words to compare, or the source has none"),
    8: ("above_human", "no judge has read the texts (profile.judge), or it gives human rows no probability"),
}


@pytest.mark.parametrize("number", SENTENCES)
def test_missing_evidence_has_a_sentence_and_takes_no_place_in_the_correction(number: int) -> None:
    """It is missing too where one seed's control lacks it; what was measured keeps its verdict."""
    column, sentence = SENTENCES[number]
    control = [point(**{column: math.nan}), point(), point()]
    every = findings(chains([point()] * 3, control), AT)
    missing = every[number - 1]
    assert missing.verdict == MISSING and sentence in missing.words and math.isnan(missing.p)
    assert every[1].verdict == NOT


def test_generation_0_says_nothing() -> None:
    """A regime of one seed that has only begun is its own control: no verdict, and none of "not collapsed"."""
    whole = {t: point(4 + 0.1 * t) for t in range(3)}
    given = findings(chains([whole, {0: point()}]), AT)
    assert {each.verdict for each in given} == {MISSING}
    assert all("at generation 0 a regime is its control" in each.words for each in given)


def test_a_control_that_ended_early_is_no_control() -> None:
    """Seeds whose control has not reached the last generation are left out; without any there is none."""
    regime = [{t: point(4 + 0.1 * t) for t in range(4)}] * 3
    short = {t: point() for t in range(2)}
    whole = {t: point() for t in range(4)}
    given = chains(regime, [whole, whole, short])
    assert given.seeds == [0, 1] and found(2, given).value == Interval(*[pytest.approx(0.3)] * 3)
    none = findings(chains(regime, [short] * 3), AT)
    assert {each.words for each in none} == {"There is no control to compare with."}


def test_which_side_of_a_threshold() -> None:
    assert verdict_of(Interval(2, 1.1, 3), 1, 1, "above") == COLLAPSED
    assert verdict_of(Interval(2, 1.1, 3), 1, 1, "below") == NOT
    assert verdict_of(Interval(0.5, 0.1, 0.9), 1, 1, "below") == COLLAPSED
    assert verdict_of(Interval(1, 0.9, 1.1), 1, 1, "above") == UNDECIDED
    assert verdict_of(Interval(0.01, -0.01, 0.015), 0, 0.02, "above") == NOT
    assert verdict_of(Interval(1, math.nan, math.nan), 0, 0, "above") == UNDECIDED


def test_the_correction_of_holm() -> None:
    """Holm 1979: 0.01 <= 0.05 / 4, 0.013 <= 0.05 / 3, 0.03 > 0.05 / 2, and nothing after it."""
    assert holm([0.03, 0.01, 0.04, 0.013]) == [False, True, False, True]
    # 0.005 <= 0.05 / 4, 0.01 <= 0.05 / 3, 0.03 > 0.05 / 2: adjusted 0.02, 0.03, 0.06, 0.06
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    # without the correction all five would go, with Bonferroni's 0.01 one; Holm keeps two: 0.0125 and 0.0167 bound them
    assert holm([0.009, 0.012, 0.02, 0.03, 0.04]) == [True, True, False, False, False]
    assert holm([]) == [] and holm([0.05]) == [True] and holm([0.026, 0.026]) == [False, False]


def test_an_interval_beyond_may_not_survive_the_correction() -> None:
    """Three p values of 0.02: 0.02 > 0.05 / 3, so that not one of them is kept."""
    values = [0.46, 0.9, 1.34]  # of 2: t = 3.54
    regime = [point(4 + x, next_entropy=3.0, above_human=0.1) for x in values]
    finding = found(2, chains(regime))
    assert 0.05 / 6 < finding.p < 0.05 and finding.value.low < 0
    tight = [point(4 + x) for x in (0.5, 0.8, 0.9)]
    demoted = found(2, chains(tight))
    assert demoted.value.low > 0 and demoted.p > 0.05 / 5
    assert demoted.verdict == UNDECIDED and "not after correction for several definitions" in demoted.words


@pytest.mark.parametrize("side", ["above", "below"])
def test_one_sided_p_values_are_those_of_scipy(side: Any) -> None:
    values = [0.3, 0.9, 0.4, 0.1]
    expected = ttest_1samp(values, 0.2, alternative="greater" if side == "above" else "less").pvalue
    assert one_sided_p(values, 0.2, side) == pytest.approx(expected, rel=1e-9)
    assert one_sided_p([1, 1, 1], 0.5, "above") == 0 and one_sided_p([1, 1, 1], 0.5, "below") == 1


def test_power_of_three_seeds() -> None:
    """(t_0.975(2) + t_0.8(2)) sd / sqrt(3) = (4.3027 + 1.0607) x 0.0079 / 1.7321."""
    values = np.array([-1, 0, 1]) * 0.0079
    assert power(values.tolist()) == pytest.approx((4.30265 + 1.06066) * 0.0079 / math.sqrt(3), rel=1e-4)


def test_every_definition_says_what_it_is() -> None:
    assert [each.number for each in DEFINITIONS] == list(range(1, 9))
    assert all(hasattr(AT, each.threshold) and each.why and each.source for each in DEFINITIONS)
    for each in DEFINITIONS:
        assert each.words(0.25) and each.words(-0.25 if each.number != 7 else -1.0)
