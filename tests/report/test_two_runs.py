"""Two runs beside each other, by hand: which lines meet, pairs of seeds, and runs without a common seed."""

import math
from typing import Any

import pytest
from support.tiny import tiny_config

from lab.errors import InputError
from lab.report.tables import Dim
from lab.report.two_runs import MeasuredRun, compare_runs, differences

Rows = list[dict[str, Any]]


def rows(values: dict[int, tuple[float, ...]], regime: str = "replace", first_seed: int = 0, **axes: Any) -> Rows:
    """Rows with this perplexity, and nll of its logarithm, by generation: a number per seed."""
    swept = {name.replace("__", "."): value for name, value in axes.items()}
    return [
        {"regime": regime, **swept, "seed": seed, "generation": t, "perplexity": value, "nll": math.log(value)}
        for t, by_seed in values.items()
        for seed, value in enumerate(by_seed, first_seed)
    ]


def run(name: str, table: Rows, **changes: Any) -> MeasuredRun:
    return MeasuredRun(name, tiny_config("x", **changes), table)


def cells(first: MeasuredRun, second: MeasuredRun, metric: str = "perplexity") -> list[list[str]]:
    ((_, heading, found),) = compare_runs(first, second, [metric])
    assert heading == ["regime", "gen", "a", "b", "b vs a", "over seeds"]
    return found


A = run("a", rows({0: (100, 100), 1: (100, 200)}))


def test_seeds_are_paired_at_the_last_generation_of_both() -> None:
    """110 / 100 - 1 and 222 / 200 - 1: 10.5 % +- 12.7 x 0.5 %.  Generation 2 of b is alone."""
    b = run("b", rows({0: (1, 1), 1: (110, 222), 2: (1, 1)}))
    assert cells(A, b) == [
        ["replace", "1", "150.0±70.7", "166.0±79.2", "+10.5% [+4.1%, +16.9%]", "0, 1 (paired)"],
    ]
    assert cells(A, b, "nll")[0][4] == "+0.100 [+0.042, +0.157]", "ln 1.1 = .0953 and ln 1.11 = .1044"


def test_only_common_seeds_are_paired() -> None:
    b = run("b", rows({1: (240, 7)}, first_seed=1))
    assert cells(A, b)[0][4:] == ["+20.0% (one seed)", "1 (paired)"]


def test_without_a_common_seed_the_interval_is_of_independent_means() -> None:
    """ln 100, ln 200 against ln 150, ln 150: 1.0607 - 1 = 6.1 %, error ln 2 / 2, 1 degree of freedom: 12.7 x .347."""
    b = run("b", rows({1: (150, 150)}, first_seed=5))
    shown, seeds = cells(A, b)[0][4:]
    half = 12.706205 * math.log(2) / 2
    low, high = (math.exp(math.log(150 / math.sqrt(20000)) + side * half) - 1 for side in (-1, 1))
    assert shown == f"+6.1% [{low:+.1%}, {high:+.1%}]" and seeds == "unpaired" and isinstance(shown, Dim)
    assert cells(A, b, "nll")[0][4] == f"+0.059 [{0.0588915 - half:+.3f}, {0.0588915 + half:+.3f}]"


def test_numbers_that_are_not_finite() -> None:
    b = run("b", rows({1: (math.inf, 100)}))
    assert cells(A, b)[0][4:] == ["not finite", "not finite"]


def test_an_arm_meets_the_study_of_the_same_value() -> None:
    """b sweeps what a has at 1.0: only that arm is compared, and named."""
    swept = [row for t in (0.5, 1.0) for row in rows({1: (110, 220)}, sample__temperature=t)]
    b = run("b", swept, sweep={"sample.temperature": [0.5, 1.0]})
    assert [row[0] for row in cells(A, b)] == ["replace, temperature 1.0"]
    both = MeasuredRun("a", b.config, swept)
    assert [row[0] for row in cells(both, b)] == ["replace, temperature 0.5", "replace, temperature 1.0"]


def test_nothing_in_common_is_said() -> None:
    other = run("b", rows({1: (1, 1)}, "accumulate"))
    with pytest.raises(InputError, match="no regime and arm of a has a generation in common with b: a has replace; b"):
        compare_runs(A, other, ["perplexity"])
    with pytest.raises(InputError, match="generation in common"):
        compare_runs(A, run("b", rows({7: (1, 1)})), ["perplexity"])
    with pytest.raises(InputError, match='unknown metric "perplexty"'):
        compare_runs(A, A, ["perplexty"])


def test_what_differs_between_the_studies_is_said() -> None:
    assert differences(A, run("b", A.rows, seeds=[4, 5])) == ["a -> b: no field differs"]
    swept = run("b", A.rows, sweep={"sample.temperature": [0.5, 1.0]})
    assert differences(A, swept) == ["a -> b: no field differs, but what is swept"]
    assert differences(A, run("b", A.rows, compute__dtype="bfloat16"))[0].startswith("a -> b: compute.dtype: ")
    assert differences(A, run("b", A.rows, compute__checkpoint_seconds=7)) == ["a -> b: no field differs"]
    lr = run("b", A.rows, train__lr=0.1)
    assert differences(A, lr) == ["a -> b: train.lr: 0.005 -> 0.1"]
    words = differences(A, run("b", A.rows, tokenizer__vocab_size=400))
    assert "vocab_size: 300 -> 400" in words[0] and "may be scored on different tokens" in words[1]
