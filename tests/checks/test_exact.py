"""Comparison with exact theory: which numbers have a closed form, and what is printed when one of them is off."""

import csv
import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import nctdtr, stdtrit
from support.tiny import PROJECT

from lab.checks import exact
from lab.checks.exact import CONFIDENCE, POWER, Row, compare
from lab.cli import run as cli
from lab.cli import terminal
from lab.config.files import load_study, parse_study
from lab.loop import Study, build
from lab.report import exact as table
from lab.run.folder import RunFolder
from lab.run.signals import StopSignals
from lab.seeds import generator

RESULTS = PROJECT / "data" / "results"


def study(**changes: Any) -> Study:
    """Two equally likely types, 2 rows of 3 loci, 2 generations, 3 seeds; `a__b` is a.b."""
    fields: dict[str, Any] = {
        "name": "two",
        "seeds": [0, 1, 2],
        "generations": 2,
        "regimes": ["human", "replace", "accumulate", "accumulate_subsample", "augment"],
        "corpus": {"kind": "source", "process": "categorical", "types": 2, "zipf": 0, "tokens": 6},
        "model": {"kind": "positions", "n_positions": 3},
        "sample": {"tokens": 6, "shard_rows": 2},
        "metrics": {"tokens": 6, "test_tokens": 6},
    }
    for name, value in changes.items():
        *parents, last = name.split("__")
        node = fields
        for parent in parents:
            node = node[parent]
        node[last] = value
    return build(parse_study(fields))


def results(graph: Study, value: Callable[[str, str, int, int], float]) -> list[dict[str, Any]]:
    """Rows of results.csv by value(column, regime, seed, generation)."""
    return [
        {"regime": g.regime, **g.arm.axes, "seed": g.seed, "generation": g.t}
        | {column: value(column, g.regime, g.seed, g.t) for column in exact.LAWS}
        for g in graph.generations
    ]


def laws(graph: Study) -> dict[tuple[str, int, str], float]:
    return {(row.arm, row.generation, row.column): row.exact for row in compare(graph, results(graph, lambda *_: 0.0))}


def columns(graph: Study) -> set[str]:
    return {column for _, _, column in laws(graph)}


BY_HAND = {
    "heterozygosity": 1 / 4,  # H0 = 1/2; human draws halve it
    "distance": 1 / 4,
    "types": 5 / 4,  # X_1 = 0, 1, 2 with 1/4, 1/2, 1/4: X_2 = 0 has 1/4 + 1/2 x 1/4 = 3/8, for each of 2 types
    "unseen": 1 / 4,
    "lost_1": 1 / 4,
    "lost_2": 0,
    "share_first": 1 / 2,
}
"""Generation 0 at n = 2, whatever the regime; fewer of them where it has fewer laws."""


def test_every_law_by_hand() -> None:
    found = laws(study())
    for regime in ("human", "replace"):
        assert {column: x for (arm, t, column), x in found.items() if (arm, t) == (regime, 0)} == pytest.approx(BY_HAND)
    for regime in ("accumulate", "augment"):
        columns = {c for arm, _, c in found if arm == regime}
        assert columns == {"heterozygosity", "distance", "unseen", "share_first"}
    subsampled = {c for arm, _, c in found if arm == "accumulate_subsample"}
    assert subsampled == {"heterozygosity", "distance", "share_first"}
    second = {arm: x for (arm, t, column), x in found.items() if (t, column) == (1, "heterozygosity")}
    assert second == pytest.approx(
        {"human": 1 / 4, "replace": 1 / 8, "accumulate": 1 / 4 * 7 / 8, "accumulate_subsample": 1 / 4 * 7 / 12}
        | {"augment": 1 / 4 * 7 / 8}  # two generations are all of accumulate's
    )
    for regime in ("human", "accumulate", "augment"):
        assert found[regime, 1, "unseen"] == pytest.approx(1 / 4)
    assert found["replace", 1, "unseen"] == pytest.approx(3 / 8)
    assert found["human", 1, "lost_1"] == pytest.approx(1 / 4) != found["replace", 1, "lost_1"]


def test_fresh_mix_by_hand() -> None:
    """n = 4, half fresh: D_1 = H0/4 = 1/8, D_2 = 1/8 + (1/4 - 1/8) D_1 = 9/64; H0 = 1/2."""
    mix = {"mix": {"human": 0.5, "fresh": True}}
    sizes = {"corpus__tokens": 12, "corpus__archive_tokens": 6, "sample__tokens": 12}
    found = laws(study(regimes=[mix], **sizes))
    arm = "mix,fresh=true,human=0.5"
    assert found[arm, 0, "distance"] == pytest.approx(1 / 8)
    assert found[arm, 1, "distance"] == pytest.approx(9 / 64)
    assert found[arm, 1, "heterozygosity"] == pytest.approx(1 / 2 - 9 / 64)


def test_each_seed_has_test_rows_of_its_own() -> None:
    """So that the interval over seeds holds their spread too: a source has no one test set."""
    graph = study(seeds=[0, 1], regimes=["human"], generations=1)
    keys = {step.key for step in graph.human if step.params.get("purpose") == "test"}
    assert len(keys) == 2


# Conditions


def test_rows_only_where_a_law_holds() -> None:
    full = columns(study(regimes=["replace"]))
    assert full == set(BY_HAND)
    none: dict[str, dict[str, Any]] = {
        "markov": {"corpus__process": "markov"},
        "another model": {"model": {"kind": "ngram", "order": 1, "smoothing": "none", "n_positions": 3}},
        "small n with temperature": {"sample__temperature": 0.9},
        "small n with top-p": {"sample__top_p": 0.9},
        "another decoding": {"sample__top_k": 1},
        "samples smaller than the corpus": {"corpus__tokens": 9},
        "samples larger than the corpus": {"sample__tokens": 9},
        "one seed": {"seeds": [0]},
        "no law of this regime": {"regimes": [{"last_k": {"k": 2}}]},
        "replayed human rows": {"regimes": [{"mix": {"human": 0.5}}]},
        "older samples": {
            "regimes": [{"mix": {"human": 0.5, "older": 0.5, "fresh": True}}],
            "corpus__archive_tokens": 6,
        },
        "an archive that begins again": {
            "regimes": [{"mix": {"human": 0.5, "fresh": True, "repeat_human": True}}],
            "corpus__archive_tokens": 3,
            "generations": 4,
        },
    }
    for why, changes in none.items():
        assert laws(study(**{"regimes": ["replace"], **changes})) == {}, why


LARGE = {
    "model__n_positions": 2,
    "corpus__tokens": 20_000,
    "sample__tokens": 20_000,
    "corpus__types": 4,
    "sample__shard_rows": 20_000,
}


def test_large_n_has_the_laws_of_sharpening_under_replace_alone() -> None:
    """10,000 rows.  Top-p .75 of 4 equal types leaves 3, then 3 (2.25 rounded up); temperature .5 squares p."""
    both = ["replace", "accumulate"]
    nucleus = laws(study(regimes=both, sample__top_p=0.75, **LARGE))
    assert nucleus == {("replace", 0, "types"): 3, ("replace", 1, "types"): 3}
    cold = laws(study(regimes=both, corpus__zipf=1, sample__temperature=0.5, **LARGE))
    squares = np.array([144, 36, 16, 9]) / 205
    assert {name for name in cold} == {("replace", t, c) for t in (0, 1) for c in ("heterozygosity", "share_first")}
    assert cold["replace", 0, "share_first"] == pytest.approx(squares[0])
    assert cold["replace", 0, "heterozygosity"] == pytest.approx(1 - (squares**2).sum())
    assert laws(study(regimes=both, sample__temperature=0.5, sample__top_p=0.75, **LARGE)) == {}
    assert laws(study(regimes=both, sample__top_k=2, **LARGE)) == {}
    plain = columns(study(regimes=["replace"], **LARGE))
    assert plain == {"heterozygosity", "distance", "share_first"}, "beyond the exact chain of counts"


def test_uniform_model() -> None:
    """2 types and BOS."""
    uniform = {"kind": "uniform", "n_positions": 3}
    assert set(laws(study(model=uniform, regimes=["human"])).items()) == {
        (("human", t, "perplexity"), 3.0) for t in (0, 1)
    }


def test_each_arm_of_a_sweep_has_its_own_law() -> None:
    graph = study(regimes=["replace"], generations=1, sweep={"corpus.types": [2, 4]})
    found = laws(graph)
    assert found["replace, 2", 0, "heterozygosity"] == pytest.approx(1 / 2 * 1 / 2)
    assert found["replace, 4", 0, "heterozygosity"] == pytest.approx(3 / 4 * 1 / 2)


# Verdicts


def measured(values: list[float], column: str = "share_first") -> Row:
    graph = study(seeds=list(range(len(values))), regimes=["human"], generations=1)
    rows = compare(graph, results(graph, lambda name, regime, seed, t: values[seed] if name == column else 0.0))
    return next(row for row in rows if row.column == column)


def test_verdicts_by_hand() -> None:
    """share_first is 1/2.  .4 and .6: any mean within 636.6 x .1 agrees.  .51 three times: no spread, and off."""
    row = measured([0.4, 0.6])
    assert row.agrees and row.measured == 0.5 and row.high - 0.5 == pytest.approx(63.66, rel=1e-3)
    assert not measured([0.51] * 3).agrees
    assert measured([0.5] * 3).agrees
    assert measured([0.5 * (1 + 0.9e-6)] * 3).agrees, "float32 rounding"
    assert not measured([0.5 * (1 + 1.1e-6)] * 3).agrees


def test_a_bound_on_either_side() -> None:
    """t(2, .9995) = 31.6: mean .5 + d, spread .001: half width .01824."""
    for d in (0.018, -0.018):
        assert measured([0.499 + d, 0.5 + d, 0.501 + d]).agrees
    for d in (0.0185, -0.0185):
        assert not measured([0.499 + d, 0.5 + d, 0.501 + d]).agrees


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_number_that_is_none_is_off(bad: float) -> None:
    assert not measured([0.5, bad, 0.5]).agrees


def test_a_seed_without_a_count_is_left_out_only_where_chance_may_leave_it_without() -> None:
    """3 loci of 2 types: a seed's human rows may hold no type once.  400 loci of 8 types always hold some."""
    row = measured([0.2, math.nan, 0.3], "lost_1")
    assert row.seeds == 2 and row.agrees
    for values in ([math.nan] * 3, [0.25, math.nan, math.nan]):
        graph = study(regimes=["human"], generations=1)
        rows = compare(graph, results(graph, lambda name, regime, seed, t, v=values: v[seed]))
        assert "lost_1" not in {row.column for row in rows}
    shipped = build(load_study("exact", ["sweep=null", "regimes=[human]", "generations=1"]))
    rows = compare(shipped, results(shipped, lambda *_: math.nan))
    assert {row.column for row in rows if row.verdict == "OFF"} >= {"lost_1", "lost_2", "lost_3"}


def test_an_interval_that_tells_nothing_is_no_agreement() -> None:
    wide = Row("human", 0, "types", "", 5.0, -30.0, 40.0, 5.5, 41.0, 2)
    assert wide.agrees and wide.verdict == "too wide" and table.cells(wide)[7] == "too wide"
    assert "0 of 1 numbers" in table.summary([wide]) and "1 more have intervals too wide" in table.summary([wide])


def test_the_newest_sample_alone_is_replace() -> None:
    sizes = {"corpus__tokens": 12, "sample__tokens": 12}
    found = laws(study(regimes=["replace", {"last_k": {"k": 1}}], **sizes))
    assert found["last_k,k=1", 1, "heterozygosity"] == found["replace", 1, "heterozygosity"]


@pytest.mark.slow
def test_the_committed_comparison_is_of_the_shipped_study() -> None:
    """data/results/exact.csv, which the README shows, has the rows and exact values of the study as it is."""
    rows = exact.read(RESULTS / "exact.csv")
    found = laws(build(load_study("exact")))
    assert {(row.arm, row.generation, row.column) for row in rows} == set(found)
    assert all(row.exact == pytest.approx(found[row.arm, row.generation, row.column]) for row in rows)


def test_generations_that_are_not_there_yet_are_no_rows() -> None:
    graph = study(regimes=["human"])
    half = [row for row in results(graph, lambda *_: 0.25) if (row["seed"], row["generation"]) != (2, 1)]
    seeds = {row.generation: row.seeds for row in compare(graph, half)}
    assert seeds == {0: 3, 1: 2}
    assert {row.generation for row in compare(graph, [row for row in half if row["generation"] == 0])} == {0}


@pytest.mark.parametrize("seeds", [3, 14])
def test_the_detectable_bias_is_flagged_95_times_in_100(seeds: int) -> None:
    """4,000 samples with that bias: within the 99.9 % interval of a share of .95.  Without a bias 1 in 1,000."""
    rng, sample = generator(seeds), np.arange(seeds, dtype=np.float64)
    row = exact._row("", 0, "", (0.0, ""), list(sample))
    bias = row.detectable / sample.std(ddof=1)  # in standard deviations of a seed
    drawn = rng.standard_normal((4_000, seeds))

    def off(values: np.ndarray) -> bool:
        return not exact._row("", 0, "", (0.0, ""), list(values)).agrees

    flagged = np.mean([off(values + bias) for values in drawn])
    assert abs(flagged - POWER) <= 3.2905 * math.sqrt(POWER * (1 - POWER) / len(drawn))
    by_chance = sum(off(values) for values in drawn)
    assert by_chance <= 12, "Poisson with mean 4: more than 12 has a chance of .0003"


def test_the_detectable_bias_by_hand() -> None:
    """14 seeds, in standard errors: 6.286, where the quantiles' sum, 4.221 + 1.771, has a power of 92 % only."""
    row = measured([0.4, 0.6] * 7)
    error = np.std([0.4, 0.6] * 7, ddof=1) / math.sqrt(14)
    assert row.detectable / error == pytest.approx(6.2864, abs=1e-4)
    quantile = stdtrit(13, (1 + CONFIDENCE) / 2)
    assert nctdtr(13, row.detectable / error, quantile) == pytest.approx(0.05, abs=1e-6)
    assert 1 - nctdtr(13, quantile + stdtrit(13, POWER), quantile) == pytest.approx(0.9226, abs=1e-4)


# What people see


def test_last_generations_and_summary() -> None:
    graph = study(regimes=["human", "replace"])
    law = laws(graph)
    good = compare(graph, results(graph, lambda c, r, s, t: law.get((r, t, c), 0.0) + (s - 1) * 1e-5))
    assert all(row.agrees for row in good)
    assert {row.generation for row in table.last(good)} == {1} and len(table.last(good)) * 2 == len(good) == 28
    said = table.summary(good)
    assert said.startswith(
        "exact theory: 28 of 28 numbers over all generations agree (14 of the last generations above)"
    )
    assert "over 3 seeds" in said and "OFF" not in said
    bad = compare(graph, results(graph, lambda c, r, s, t: law.get((r, t, c), 0.0) + (c == "types" and t == 0)))
    assert "exact theory: 26 of 28" in table.summary(bad)
    assert table.summary(bad).endswith("; OFF: human gen 0 types; OFF: replace gen 0 types")


def test_markdown_by_hand() -> None:
    rows = [
        Row("replace", 3, "types", "sum P", 2.5, 2.25, 2.75, 2.625, 0.125, 14),
        Row("human", 0, "perplexity", "V", 9.0, 9.0, 9.0, 9.5, 0.0, 14),
    ]
    assert table.as_markdown(rows).splitlines() == [
        "| arm | gen | column | measured | 99.9 % interval | exact | detects | verdict | exact is |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| replace | 3 | types | 2.5000 | [2.2500, 2.7500] | 2.6250 | 0.1250 | agrees | sum P |",
        "| human | 0 | perplexity | 9.000000 | [9.000000, 9.000000] | 9.500000 | any | OFF | V |",
    ]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Mapping[str, Any]], tuple[int, str]]:
    """The exit code and the coloured output of a uniform run, after changes to the model."""

    def call(changes: Mapping[str, Any]) -> tuple[int, str]:
        from rich.console import Console

        from lab.models.counting import Uniform

        look = {"markup": False, "emoji": False, "highlight": False, "force_terminal": True, "width": 1000}
        console = Console(**look, record=True, file=io.StringIO())
        monkeypatch.setattr(terminal, "out", console)
        for name, value in changes.items():
            monkeypatch.setattr(Uniform, name, value)
        graph = study(model={"kind": "uniform", "n_positions": 3}, regimes=["human"], generations=1)
        monkeypatch.setattr("lab.run.signals.signal.signal", lambda *_: None)  # this process keeps its own
        code = cli._run(graph, RunFolder(tmp_path / "checkpoints" / "two"), 0, frozenset(), StopSignals(), 0.0)
        return code, console.export_text(styles=True)

    monkeypatch.setattr("signal.signal", lambda *_: None)
    return call


RED = "\x1b[31m"


@pytest.mark.slow
def test_a_run_that_agrees_exits_with_0(told: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, text = told({})
    assert code == 0 and "1 of 1 numbers" in text and "OFF" not in text and RED not in text
    with (tmp_path / "checkpoints" / "two" / "results.csv").open() as file:
        assert [float(row["perplexity"]) for row in csv.DictReader(file)] == pytest.approx([3, 3, 3])


def test_a_run_that_is_off_exits_with_1_and_shows_the_row_in_red(told: Callable[..., tuple[int, str]]) -> None:
    code, text = told({"nats": lambda self, rows: np.full(rows.shape, math.log(4), dtype=np.float32)})
    assert code == terminal.FAILED == 1
    assert "0 of 1 numbers" in text and "OFF: human gen 0 perplexity" in text
    (line,) = (line for line in text.splitlines() if RED in line)
    assert "perplexity" in line and "OFF" in line and "4.0" in line and "3.0" in line


@pytest.mark.slow
def test_every_number_of_the_shipped_study_has_two_ways_to_be_off() -> None:
    """Its laws are finite, each column of LAWS stands in some row, and each regime and arm has rows."""
    graph = build(load_study("exact"))
    found = laws(graph)
    assert {column for _, _, column in found} == set(exact.LAWS)
    chains = {(", ".join([g.regime, *g.arm.axes.values()]), g.t) for g in graph.generations}
    assert {(arm, t) for arm, t, _ in found} == chains
    assert all(math.isfinite(value) for value in found.values())
