"""A swept field across the table, and measured beside published numbers, by hand."""

import math
from typing import Any

import pytest
from support.tiny import tiny_config

from lab.config.study import Direction, Published, StudyConfig
from lab.errors import InputError
from lab.metrics.stats import Interval
from lab.report.compare import DIRECTION_HEADING, beside, check_reported, directions, pivot, verdict

Rows = list[dict[str, Any]]


def row(regime: str, seed: int, t: int, perplexity: float, **axes: Any) -> dict[str, Any]:
    """`sample__temperature` is sample.temperature."""
    named = {name.replace("__", "."): value for name, value in axes.items()}
    found = {"regime": regime, **named, "seed": seed, "generation": t}
    return {**found, "perplexity": perplexity, "nll": math.log(perplexity)}


def swept(**values: list[Any]) -> StudyConfig:
    return tiny_config("x", sweep={name.replace("__", "."): found for name, found in values.items()})


def published(*numbers: dict[str, Any]) -> Published:
    return Published(paper="A 2020", table="table 1", differs="size", numbers=numbers)


TWO: Rows = [
    row(regime, seed, t, 100 * (t + 1) * factor + seed, sample__temperature=heat, sample__top_k=k)
    for k in ("none", 5)
    for heat, factor in ((0.5, 2), (1.0, 1))
    for regime in ("human", "replace")
    for seed in (0, 1)
    for t in (0, 1)
]


def test_pivot_by_hand() -> None:
    """Means over seeds 0 and 1 at generation 1: 200.5 and 400.5, each with a deviation of 1 / sqrt 2."""
    title, heading, cells = pivot(TWO, "perplexity", "sample.temperature")
    assert title == "perplexity of held-out human text (lower is better), generation 1"
    assert heading == ["regime", "temperature 0.5", "temperature 1.0"]
    assert cells == [
        row
        for k in ("none", 5)
        for row in (
            [f"human, top_k {k}", "400.5±0.7", "200.5±0.7"],
            [f"replace, top_k {k}", "400.5±0.7", "200.5±0.7"],
            ["  vs human", "+0.0% [+0.0%, +0.0%]", "+0.0% [+0.0%, +0.0%]"],
        )
    ]


def test_infinite_numbers_of_two_seeds_are_not_one_seed() -> None:
    """Perplexity is infinite in both seeds at generation 1: it has a ratio, and no interval."""
    rows = [row("replace", seed, t, math.inf if t else 100) for seed in (0, 1) for t in (0, 1)]
    line = {"regime": "replace", "metric": "perplexity", "values": {0: 10, 1: 20}}
    assert beside(published(line), tiny_config("x"), rows)[1][-3:] == ["infinite", "infinite", "not finite"]


def test_pivot_has_intervals_against_another_arm() -> None:
    """Seed 0: 200 / 400 - 1 = -50 %; seed 1: 201 / 401 - 1 = -49.9 %.  +- 12.706 x 0.0623 % = 0.8 points."""
    rows = [row for row in TWO if row["regime"] == "replace" and row["sample.top_k"] == 5]
    _, _, cells = pivot(rows, "perplexity", "sample.temperature", "temperature 0.5, top_k 5")
    assert cells[1] == ["  vs temperature 0.5, top_k 5", "", "-49.9% [-50.7%, -49.1%]"]


def test_pivot_with_a_hole_and_arms_of_different_length() -> None:
    rows = [
        row("replace", 0, 0, 10, sample__temperature=0.5),
        row("replace", 0, 1, 20, sample__temperature=0.5),
        row("replace", 0, 0, 30, sample__temperature=1),
        row("human", 0, 0, 40, sample__temperature=1),
    ]
    title, _, cells = pivot(rows, "perplexity", "sample.temperature")
    assert title.endswith("at each arm's last generation")
    assert cells == [["replace", "20.0", "30.0"], ["  vs human", "", "-25.0% (one seed)"], ["human", "", "40.0"]]


@pytest.mark.parametrize(
    ("rows", "by", "said"),
    [
        (TWO, "sample.temprature", 'did you mean "sample.temperature"'),
        (TWO, "model", "it sweeps sample.temperature, sample.top_k"),
        ([row("human", 0, 0, 1.0)], "regime", "nothing is swept in this run"),
    ],
)
def test_pivot_by_what_is_not_swept(rows: Rows, by: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        pivot(rows, "perplexity", by)


def test_beside_by_hand() -> None:
    """Seeds 100 -> 110 and 100 -> 130: 1.2 on average, sd of the ratio .1414, t(1, .975) 12.706: +- 1.27."""
    rows = [
        row("replace", seed, t, v) for seed, (a, b) in enumerate(((100, 110), (100, 130))) for t, v in ((0, a), (1, b))
    ]
    numbers = {"regime": "replace", "metric": "perplexity", "values": {0: 30, 1: 45, 9: 60}}
    assert beside(published(numbers), tiny_config("x"), rows) == [
        ["replace", "perplexity", "0", "30", "", "100.0±0.0", "", ""],
        ["replace", "perplexity", "1", "45", "1.50", "120.0±14.1", "1.20", "[-0.07, 2.47]"],
        ["replace", "perplexity", "9", "60", "2.00", "no generation 9", "", ""],
    ]


def test_losses_compare_as_ratios_of_perplexity() -> None:
    """exp(ln 30 - ln 10) = 3; published exp(2.5 - 1.5) = 2.72."""
    rows = [row("replace", 0, 0, 10), row("replace", 0, 1, 30)]
    numbers = {"regime": "replace", "metric": "nll", "values": {0: 1.5, 1: 2.5}}
    assert beside(published(numbers), tiny_config("x"), rows)[1] == [
        *("replace", "nll", "1", "2.5", "2.72"),
        *("3.401", "3.00", "(one seed)"),
    ]


def test_without_a_published_start_there_is_no_published_change() -> None:
    numbers = {"regime": "replace", "metric": "nll", "values": {1: 2.5}}
    rows = [row("replace", 0, 0, 10), row("replace", 0, 1, 30)]
    assert beside(published(numbers), tiny_config("x"), rows)[0][4] == ""


def arm(temperature: Any, **more: Any) -> dict[str, Any]:
    axes = {"sample.temperature": temperature, **more}
    return {"regime": "replace", "axes": axes, "metric": "perplexity", "values": {1: 5}}


def test_each_published_arm_finds_its_own() -> None:
    config = swept(sample__temperature=[0.5, 1], sample__top_k=[None, 5])
    rows = [r | {"perplexity": 1000 * r["sample.temperature"] + (r["sample.top_k"] == 5)} for r in TWO]
    table = beside(published(arm(1, **{"sample.top_k": 5}), arm(0.5, **{"sample.top_k": None}), arm(2)), config, rows)
    assert [line[5] for line in table] == ["1,001.0±0.0", "500.0±0.0", "not in this run"]
    assert table[0][0] == "replace, temperature 1, top_k 5"


def test_a_run_at_one_temperature_is_not_beside_another() -> None:
    """What is not swept has the study's value."""
    rows = [row("replace", 0, 0, 10), row("replace", 0, 1, 30)]
    table = beside(published(arm(1), arm(0.3)), tiny_config("x"), rows)
    assert [line[5] for line in table] == ["30.0", "not in this run"]


def test_named_arms_are_known_by_their_fields() -> None:
    config = tiny_config("x", sweep=[{"arm": "hot"}, {"arm": "cold", "sample.temperature": 0.5}])
    rows = [row("replace", 0, 1, v, arm=name) for name, v in (("hot", 30), ("cold", 40))]
    table = beside(published(arm(0.5), arm(1), {**arm(1), "axes": {"arm": "cold"}}), config, rows)
    assert [line[5] for line in table] == ["40.0", "30.0", "40.0"]


def test_another_regime_is_not_in_the_run() -> None:
    numbers = {"regime": "accumulate", "metric": "nll", "values": {1: 2.5}}
    assert beside(published(numbers), tiny_config("x"), [row("replace", 0, 1, 10)])[0][5] == "not in this run"


def test_a_run_without_any_reported_regime_is_refused() -> None:
    """One that has a regime of a number, or of one side of a direction, is compared."""
    rows = [row("replace", 0, t, 10) for t in (0, 1)]
    number = {"regime": "accumulate", "metric": "nll", "values": {1: 2.5}}
    said = "this run has no regime and arm that paper reports: it reports accumulate; the run has replace"
    with pytest.raises(InputError, match=said):
        check_reported(published(number), tiny_config("x"), rows, "paper")
    check_reported(published(number, number | {"regime": "replace"}), tiny_config("x"), rows, "paper")
    claim = {"claim": "so", "higher": "replace", "lower": "accumulate"}
    check_reported(published(number).model_copy(update={"directions": (Direction(**claim),)}), *given(rows))
    with pytest.raises(InputError, match=r"accumulate; last_k, temperature 0\.5"):
        lower = {"regime": "last_k", "axes": {"sample.temperature": 0.5}}
        none = Direction(claim="so", higher="accumulate", lower=lower)
        check_reported(published().model_copy(update={"directions": (none,)}), *given(rows))


def given(rows: Rows) -> tuple[StudyConfig, Rows, str]:
    return tiny_config("x"), rows, "paper"


# --- directions ----------------------------------------------------------------------------------------------------


def judged(rows: Rows, config: StudyConfig | None = None, **direction: Any) -> list[str]:
    """The cells after the claim of one direction, replace above human unless it says otherwise."""
    given = {"claim": "worse", "higher": "replace", "lower": "human", **direction}
    told = Published(paper="A 2020", table="t", differs="size", directions=(given,))  # type: ignore[arg-type]
    ((claim, *cells),) = directions(told, config or tiny_config("x"), rows)
    assert claim == "worse" and len(cells) == len(DIRECTION_HEADING) - 1
    return cells


def losses(**chains: list[list[float]]) -> Rows:
    """Loss by regime: a list of generations for each seed."""
    return [
        {"regime": regime, "seed": seed, "generation": t, "nll": value}
        for regime, seeds in chains.items()
        for seed, values in enumerate(seeds)
        for t, value in enumerate(values)
    ]


THREE = losses(human=[[5, 5], [6, 6], [7, 7]], replace=[[5, 6.0], [6, 7.1], [7, 8.2]])
"""Differences 1, 1.1, 1.2 at the last generation: sd 0.1, t(2, 0.975) = 4.303, so 1.1 +- 0.248."""


def test_a_direction_by_hand() -> None:
    assert judged(THREE) == ["replace", "human", "nll", "1", "+1.100", "[+0.852, +1.348]", "3", "direction agrees"]
    turned = judged(THREE, higher="human", lower="replace")
    assert turned[4:] == ["-1.100", "[-1.348, -0.852]", "3", "direction disagrees"]
    assert judged(THREE, least=0.9)[-1] == "undecided (not beyond 0.9)"
    assert judged(THREE, generation=0)[3:] == ["0", "+0.000", "[+0.000, +0.000]", "3", "undecided (interval holds 0)"]


def test_the_last_generation_is_the_last_that_both_have() -> None:
    rows = losses(human=[[5, 5], [5, 5]], replace=[[5, 6, 9], [5, 6, 9]])
    assert judged(rows)[3:5] == ["1", "+1.000"]
    assert judged(rows, generation=2)[3:] == ["2", "", "", "", "no generation 2 of both"]


def test_above_the_start_and_above_human() -> None:
    """replace rises by 3 and human by 1; above human, replace is 6 - 2 and human 0."""
    rows = losses(human=[[1, 2], [1, 2]], replace=[[3, 6], [3, 6]])
    assert judged(rows, above="start")[:5] == [
        *("replace, above its generation 0", "human, above its generation 0", "nll", "1", "+2.000")
    ]
    assert judged(rows, above="human")[4] == "+4.000"


def test_seeds_are_paired_and_one_decides_nothing() -> None:
    rows = losses(human=[[5.0], [6.0]], replace=[[5.5]])
    assert judged(rows)[3:] == ["0", "+0.500", "", "1", "undecided (one seed)"]


def test_a_side_that_the_run_lacks() -> None:
    assert judged(THREE, lower="accumulate")[3:] == ["", "", "", "", "not in this run"]


def test_arms_of_a_sweep_are_sides() -> None:
    """By swept field, or by the study's own value where it is not swept: 200 against 100 at temperature 0.5 and 1."""
    cold, hot = ({"regime": "replace", "axes": {"sample.temperature": t, "sample.top_k": 5}} for t in (0.5, 1.0))
    config = swept(sample__temperature=[0.5, 1.0], sample__top_k=[None, 5])
    cells = judged(TWO, config, higher=cold, lower=hot, metric="perplexity")
    assert (
        cells[0] == "replace, temperature 0.5, top_k 5" and cells[4] == "+200.000" and cells[-1] == "direction agrees"
    )
    named = tiny_config("x", sweep=[{"arm": "hot"}, {"arm": "cold", "sample.temperature": 0.5}])
    rows = [row("replace", s, 1, v, arm=name) for s in (0, 1) for name, v in (("hot", 30), ("cold", 40))]
    cold, hot = ({"regime": "replace", "axes": {"sample.temperature": t}} for t in (0.5, 1))
    assert judged(rows, named, higher=cold, lower=hot, metric="perplexity")[4] == "+10.000"


@pytest.mark.parametrize(
    ("low", "high", "least", "seeds", "said"),
    [
        (0.1, 0.3, 0, 3, "direction agrees"),
        (-0.3, -0.1, 0, 3, "direction disagrees"),
        (-0.3, -0.1, 0.5, 3, "direction disagrees"),
        (-0.1, 0.3, 0, 3, "undecided (interval holds 0)"),
        (0.1, 0.9, 0.5, 3, "undecided (not beyond 0.5)"),
        (0.6, 0.9, 0.5, 3, "direction agrees"),
        (math.nan, math.nan, 0, 1, "undecided (one seed)"),
        (math.nan, math.nan, 0, 3, "undecided (no finite difference)"),
    ],
)
def test_verdicts(low: float, high: float, least: float, seeds: int, said: str) -> None:
    assert verdict(Interval((low + high) / 2, low, high), least, seeds) == said
