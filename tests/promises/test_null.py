"""The null test: human controls that differ only in their seed are told apart in 5 % of the pairs, no more and no less.

scripts/checks/null_test.py tests this on human text with 2,000 chains.  Here the same script runs end to end on 112
tiny chains, and its comparison on 2,000 chains in memory: with correct intervals, with broken ones, and on groups that
do differ.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import stdtrit
from scipy.stats import ttest_1samp, ttest_rel
from support.controls import STUDY, command
from support.scripts import load
from support.tiny import run_study

from lab.config.files import load_study, parse_study
from lab.config.study import SourceConfig
from lab.loop import build
from lab.metrics.diversity import distinct_n
from lab.metrics.stats import Interval, paired_interval
from lab.models.ngram import Ngram
from lab.report import lines as report
from lab.run.folder import RunFolder
from lab.seeds import derive_seed, generator
from lab.text.known_source import KnownSource
from lab.text.rows import draw_rows

null = load("checks/null_test.py")

PAIRS, SEEDS = 28, 2
MEASURED = ("nll", "perplexity", "entropy", "distinct_2", "self_bleu")


# --- the limits ------------------------------------------------------------------------------------------------------


def chance(pairs: int, most: int) -> float:
    """Of at most so many rejections among true nulls at 5 %: the sum of C(n, k) .05^k .95^(n - k)."""
    return math.fsum(math.comb(pairs, k) * 0.05**k * 0.95 ** (pairs - k) for k in range(most + 1))


@pytest.mark.parametrize("pairs", [5, 40, 140, 200, 1000])
def test_limits_leave_out_one_in_a_thousand_on_each_side(pairs: int) -> None:
    low, high = null.limits(pairs)
    assert chance(pairs, high) >= 0.999 > chance(pairs, high - 1), "the least that is enough"
    assert chance(pairs, low) >= 0.001 > (chance(pairs, low - 1) if low else 0.0)


def test_limits_of_200_pairs() -> None:
    """The issue's 21; and of 200, one rejection or none would happen once in 2,475 tests: too wide."""
    assert null.limits(200) == (2, 21)
    assert 1 / chance(200, 1) == pytest.approx(2475, abs=1)


@pytest.mark.parametrize(
    ("rejected", "within"), [(0, False), (1, False), (2, True), (10, True), (21, True), (22, False)]
)
def test_a_rate_is_judged_by_the_limits(rejected: int, within: bool) -> None:
    assert null.Rate("nll", 5, 200, rejected).within is within


def test_the_exact_interval_by_hand() -> None:
    """Clopper-Pearson of 0 of 200: (1 - high)^200 = .025, so high = 1 - .025^(1/200)."""
    low, high = null.Rate("nll", 5, 200, 0).interval
    assert (low, high) == (0, pytest.approx(1 - 0.025 ** (1 / 200)))


# --- the comparison --------------------------------------------------------------------------------------------------


def rows_of(metric: str, values: Any) -> list[dict[str, Any]]:
    """Return a results table of one metric: a human control per value, with seeds 0, 1, .."""
    return [{"regime": "human", "seed": k, "generation": 0, metric: float(v)} for k, v in enumerate(values)]


def test_the_comparison_is_the_reports_own() -> None:
    """Perplexity 110, 121 against 100, 100: ratios - 1 of .1 and .21; nll by difference.  Seeds pair by place."""
    first, second = rows_of("perplexity", [110, 121]), rows_of("perplexity", [100, 100])
    assert null.compared(first, second, ["perplexity"])["perplexity"] == paired_interval([110 / 100 - 1, 121 / 100 - 1])
    first, second = rows_of("nll", [3.0, 2.0, 7.0])[1:], rows_of("nll", [1.5, 1.0])
    assert null.compared(first, second, ["nll"])["nll"] == paired_interval([0.5, 6.0])


def test_what_is_missing_is_an_error() -> None:
    """NaN bounds hold nothing outside: they would count as "not rejected"."""
    for values in ([1.0], [1.0, math.nan]):
        with pytest.raises(ValueError, match="no interval of nll"):
            null.compared(rows_of("nll", values), rows_of("nll", values), ["nll"])
    with pytest.raises(ValueError, match="3 and 2 rows"):
        null.compared(rows_of("nll", [1, 2, 3]), rows_of("nll", [1, 2]), ["nll"])


def test_no_seed_is_in_two_groups_and_none_is_left_out() -> None:
    groups = null.paired(list(reversed(rows_of("nll", range(12)))), 2, 3)
    seeds = [[[row["seed"] for row in group] for group in pair] for pair in groups]
    assert seeds == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    with pytest.raises(ValueError, match="12 chains were wanted"):
        null.paired(rows_of("nll", range(11)), 2, 3)


# --- end to end: chains through the lab's executor -------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    arguments: list[str]
    code: int
    folder: RunFolder
    json: Path


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Run the script as its command line does, in one process: 28 pairs of 2 + 2 seeds."""
    cwd = tmp_path_factory.mktemp("null")
    words = command(cwd, PAIRS, SEEDS, *(word for metric in MEASURED for word in ("--metric", metric)))
    return Ran(words, null.main(words), RunFolder(cwd / f"tiny-null-{PAIRS}x{SEEDS}"), cwd / "null.json")


def test_chains_of_one_law_are_seldom_told_apart(ran: Ran) -> None:
    """Of 28 pairs at most 6 (99.9 %).  Broken intervals are seen on 200 pairs below."""
    found = json.loads(ran.json.read_text())
    assert ran.code == 0
    assert (found["pairs"], found["limits"]["most"], found["made"]["steps"]) == (PAIRS, 6, found["made"]["of"])
    assert [rate["metric"] for rate in found["rates"]] == list(MEASURED)
    assert all(rate["rejected"] <= 6 for rate in found["rates"])
    assert sum(rate["rejected"] for rate in found["rates"]) > 0, "five metrics, and not one rejection"


@pytest.mark.filterwarnings("ignore:Precision loss")  # two differences that are nearly the same
def test_the_rates_are_those_of_scipys_paired_t_test(ran: Ran) -> None:
    rows = sorted(ran.folder.results(), key=lambda row: row["seed"])
    assert len(rows) == 2 * PAIRS * SEEDS
    rates = {rate["metric"]: rate["rejected"] for rate in json.loads(ran.json.read_text())["rates"]}
    for metric in MEASURED:
        a, b = np.array([row[metric] for row in rows]).reshape(PAIRS, 2, SEEDS).swapaxes(0, 1)
        p = ttest_1samp(a / b - 1, 0, axis=1) if metric == "perplexity" else ttest_rel(a, b, axis=1)
        assert rates[metric] == (p.pvalue < 0.05).sum()


def test_all_chains_differ(ran: Ran) -> None:
    """Copies of a chain would never be told apart: every seed must have rows, a model and a sample of its own."""
    rows = ran.folder.results()
    for metric in ("nll", "entropy"):
        assert len({row[metric] for row in rows}) == len(rows)


def test_the_same_command_goes_on(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    before = json.loads(ran.json.read_text())
    assert null.main(ran.arguments) == 0
    after = json.loads(ran.json.read_text())
    assert (after["made"]["steps"], after["rates"]) == (0, before["rates"])
    said = capsys.readouterr().out
    assert "| metric | 2 + 2 seeds |" in said and "2-gram" in said and "seeds 0 to 111, 28 pairs" in said


def test_bad_input_is_one_line(ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert null.main([*ran.arguments, "--set", "regimes=[human,replace]"]) == 2
    assert null.main([*ran.arguments, "--metric", "nll_rare"]) == 2, "a source has no words"
    assert [line[:6] for line in capsys.readouterr().err.splitlines()] == ["error:", "error:"]
    for arguments in (["--metric", "nil"], ["--seeds", "1"], ["--pairs", "0"]):
        with pytest.raises(SystemExit) as caught:
            null.main([*ran.arguments, *arguments])
        assert caught.value.code == 2


def test_a_rate_outside_is_exit_code_1(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "paired_interval", scaled(0.02))
    assert null.main(ran.arguments) == 1
    monkeypatch.undo()
    assert null.main(ran.arguments) == 0


def test_what_differs_is_told_apart(ran: Ran) -> None:
    """Power: `replace` after five generations against the null's controls of other seeds, 4 pairs of 4 + 4.

    A counting control is the same in each generation, so these controls stand for those of generation 5.
    """
    config = {**STUDY, "name": "power", "seeds": list(range(16)), "generations": 6, "regimes": ["replace"]}
    folder = ran.folder.path.parent / "power"  # beside the null's chains: generation 0 is in the store
    reports = run_study(build(parse_study(config)), folder)
    assert not any("gen 0" in label for label in reports.of("finished"))
    drifted = [{**row, "generation": 0} for row in RunFolder(folder).results() if row["generation"] == 5]
    controls = sorted(ran.folder.results(), key=lambda row: row["seed"])[16:]
    (rate,) = null.rates([(drifted[k : k + 4], controls[k : k + 4]) for k in range(0, 16, 4)], ["nll"], 4)
    assert rate.rejected == 4 and not rate.within


# --- in memory: 200 pairs of 5 + 5, and intervals that are broken ----------------------------------------------------


@pytest.fixture(scope="module")
def many() -> list[tuple[Any, Any]]:
    """2,000 bigrams of a Markov source, each of 32 rows of its own; the held-out rows are the same for all."""
    law = KnownSource.of(SourceConfig.model_validate(STUDY["corpus"]))
    test, rows = law.draw(32, 16, generator(derive_seed(0, 0, "test"))), []
    for seed in range(2000):
        mine = law.draw(32, 16, generator(derive_seed(seed, 0, "human")))
        model = Ngram.fit(mine, order=2, vocab_size=13, bos=12, smoothed=True)
        nll = float(model.nats(test).mean())
        measured = {"nll": nll, "perplexity": math.exp(nll), "distinct_2": distinct_n(mine, n=2, eos=12, tokens=512)}
        rows.append({"regime": "human", "seed": seed, "generation": 0, **measured})
    return null.paired(rows, 200, 5)


@pytest.mark.parametrize("seeds", [5, 3, 2])
def test_the_intervals_reject_as_often_as_they_say(many: list[tuple[Any, Any]], seeds: int) -> None:
    for rate in null.rates(many, ["nll", "perplexity", "distinct_2"], seeds):
        assert 2 <= rate.rejected <= 21, null.cell(rate)


def scaled(factor: float) -> Callable[..., Interval]:
    """Intervals of the wrong width."""

    def interval(differences: Any, confidence: float = 0.95) -> Interval:
        right = paired_interval(differences, confidence)
        half = factor * (right.high - right.mean)
        return Interval(right.mean, right.mean - half, right.mean + half)

    return interval


def normal(differences: Any, confidence: float = 0.95) -> Interval:
    """z in the place of t: 1.96 standard errors, however few the seeds."""
    n = len(differences)
    return scaled(1.959964 / float(stdtrit(n - 1, 0.975)))(differences, confidence)


def freedom(differences: Any, confidence: float = 0.95) -> Interval:
    """As many degrees of freedom as seeds: one too many."""
    n = len(differences)
    return scaled(float(stdtrit(n, 0.975) / stdtrit(n - 1, 0.975)))(differences, confidence)


def bootstrap(differences: Any, confidence: float = 0.95) -> Interval:
    """Percentiles of resampled means: what lab/metrics/stats.py warns of."""
    x = np.asarray(differences)
    means = x[np.random.default_rng(0).integers(len(x), size=(999, len(x)))].mean(axis=1)
    return Interval(float(x.mean()), *(float(q) for q in np.quantile(means, [0.025, 0.975])))


def deviation(differences: Any, confidence: float = 0.95) -> Interval:
    """Use the standard deviation instead of the standard error."""
    return scaled(math.sqrt(len(differences)))(differences, confidence)


@pytest.mark.parametrize(
    ("broken", "seeds", "side"),
    [
        (normal, 3, "many"),
        (normal, 2, "many"),
        (freedom, 2, "many"),
        (bootstrap, 5, "many"),
        (scaled(1 / 2), 5, "many"),
        (scaled(3.0), 5, "few"),
        (deviation, 5, "few"),
    ],
)
def test_a_broken_interval_fails(
    many: list[tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch, broken: Callable[..., Interval], seeds: int, side: str
) -> None:
    """The rejections of 200 pairs fall outside the limits.

    Expected are 38 for z at 3 seeds and 60 at 2, 29 for the wrong df, 34 for the bootstrap, 48 for half the width, 0.2
    for three times the width and 0.7 for the deviation.  200 pairs cannot show less: the wrong df at 5 seeds gives 12.
    """
    monkeypatch.setattr(report, "paired_interval", broken)
    (rate,) = null.rates(many, ["nll"], seeds)
    assert not rate.within
    assert rate.rejected > 21 if side == "many" else rate.rejected < 2


# --- the draws -------------------------------------------------------------------------------------------------------


def test_seeds_share_as_many_rows_as_independent_draws_do() -> None:
    """40 of 400 rows: two seeds share 40 x 40 / 400 = 4 on average (hypergeometric, deviation 1.8), so 10 % of theirs.

    The mean over 300 disjoint pairs has a standard error of .10; four of them are allowed.
    """
    fold = np.zeros((400, 2))
    drawn = [set(draw_rows(fold, seed, 0, 40).tolist()) for seed in range(600)]
    shared = [len(a & b) for a, b in zip(drawn[::2], drawn[1::2], strict=True)]
    assert np.mean(shared) == pytest.approx(4, abs=0.42)
    assert np.std(shared) == pytest.approx(math.sqrt(40 * 0.1 * 0.9 * 360 / 399), abs=0.35)


def test_the_shipped_study_is_a_null() -> None:
    """Human controls alone, and so few rows that two seeds share less than 2 % (200 of 13,183; see the script)."""
    config = load_study("null")
    assert [regime.label for regime in config.regimes] == ["human"] and config.generations == 1
    assert config.rows(config.corpus.tokens) / 13_183 < 0.02
