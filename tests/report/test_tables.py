"""What lines are compared with, what a sparkline may show, what a caption claims, and what a narrow table says."""

import io
import math
from typing import Any

import pytest
from rich.console import Console
from support.tiny import tiny_config

from lab.cli.terminal import parts
from lab.errors import InputError
from lab.metrics.columns import names
from lab.report.lines import Line, lines
from lab.report.render import as_markdown, formatted, rich_table
from lab.report.tables import Dim, caption, compared, noise, scale, sparkline, tidy

Rows = list[dict[str, Any]]


def table(values: dict[tuple[str, int], tuple[float, ...]], **axes: Any) -> Rows:
    """Rows of results.csv with this perplexity by (regime, generation), a number per seed; other columns are 0.5."""
    swept = {name.replace("__", "."): value for name, value in axes.items()}
    return [
        {"regime": regime, **swept, "seed": seed, "generation": t, **dict.fromkeys(names("text"), 0.5)}
        | {"perplexity": value}
        for (regime, t), by_seed in values.items()
        for seed, value in enumerate(by_seed)
    ]


COLD = {("human", 0): (100.0, 100.0), ("replace", 0): (200.0, 220.0), ("accumulate", 0): (110.0, 110.0)}
HOT = {("human", 0): (100.0, 100.0), ("replace", 0): (100.0, 100.0), ("accumulate", 0): (100.0, 100.0)}
SWEPT = [*table(COLD, sample__temperature=0.5), *table(HOT, sample__temperature=1.0)]


def differences(rows: Rows, against: str) -> dict[str, float | None]:
    found = {line.label: line.against_reference() for line in lines(rows, ["perplexity"], against)}
    return {label: interval and round(interval.mean, 6) for label, interval in found.items()}


def test_against_another_regime() -> None:
    """replace at 0.5: (200 / 110 + 220 / 110) / 2 - 1 = 0.909091; the regime itself has no difference."""
    found = differences(SWEPT, "accumulate")
    assert found["replace, temperature 0.5"] == 0.909091 and found["accumulate, temperature 0.5"] is None
    assert found["human, temperature 1.0"] == 0 and found["accumulate, temperature 1.0"] is None


@pytest.mark.parametrize("label", ["temperature 1.0", "temperature=1", "sample.temperature 1.00"])
def test_against_another_arm_each_regime_is_beside_itself(label: str) -> None:
    """replace: 200 / 100 and 220 / 100, so +110 %."""
    found = differences(SWEPT, label)
    assert found["replace, temperature 0.5"] == 1.1 and found["human, temperature 0.5"] == 0
    assert all(found[f"{regime}, temperature 1.0"] is None for regime in ("human", "replace", "accumulate"))


def test_against_one_regime_in_one_arm() -> None:
    found = differences(SWEPT, "replace, temperature 1.0")
    assert found["replace, temperature 0.5"] == 1.1 and found["accumulate, temperature 0.5"] == 0.1
    assert found["human, temperature 1.0"] == 0 and found["replace, temperature 1.0"] is None


def test_against_a_named_arm() -> None:
    rows = [*table(COLD, arm="cold"), *table(HOT, arm="hot")]
    assert differences(rows, "hot") == differences(rows, "arm hot")
    assert differences(rows, "hot")["replace, arm cold"] == 1.1


@pytest.mark.parametrize(
    ("rows", "against", "said"),
    [
        (SWEPT, "acumulate", 'no regime or arm "acumulate" in this run - did you mean "accumulate"'),
        (SWEPT, "cold", "it has human, replace, accumulate, temperature 0.5, temperature 1.0"),
        (table(COLD), "temperature 1.0", 'no regime "temperature 1.0" in this run; it has human, replace, accumulate'),
    ],
)
def test_against_what_the_run_lacks(rows: Rows, against: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        lines(rows, ["perplexity"], against)


def test_a_run_without_a_control_is_compared_with_nothing_and_says_nothing_of_it() -> None:
    alone = [row for row in SWEPT if row["regime"] != "human"]
    assert set(differences(alone, "human").values()) == {None}


def test_every_format_names_what_it_is_compared_with() -> None:
    assert "last gen vs accumulate" in as_markdown(table(COLD), ["perplexity"], against="accumulate")
    rows = tidy(table(COLD), ["perplexity"], "accumulate")
    assert [row.get("against") for row in rows] == ["accumulate", "accumulate", None]
    assert rows[1]["difference"] == pytest.approx(0.909091) and rows[1]["change_unit"] == "ratio - 1"


# --- dim intervals -------------------------------------------------------------------------------------------------


def line_of(regime: str, rows: Rows, against: str = "human") -> Line:
    return next(line for line in lines(rows, ["perplexity"], against) if line.regime == regime)


def test_an_interval_that_holds_0_is_dim_and_no_other_cell_is() -> None:
    """-3.7 to 23.7 % holds 0: 10 % +- 12.7 x 1.08 %.  29 to 31 % does not.  One seed has no interval."""
    rows = table({("human", 0): (100.0, 100.0), ("wide", 0): (108.9, 111.1), ("sure", 0): (129.9, 130.1)})
    assert isinstance(compared(line_of("wide", rows)), Dim)
    assert not any(isinstance(compared(line_of(regime, rows)), Dim) for regime in ("sure", "human"))
    one = [row for row in rows if row["seed"] == 0]
    assert not isinstance(compared(line_of("wide", one)), Dim)
    said = io.StringIO()
    Console(file=said, width=200, force_terminal=True, color_system="standard").print(
        rich_table(rows, ["perplexity"], 200)
    )
    printed = {row.split()[0]: row for row in said.getvalue().splitlines() if "%" in row}
    assert "\x1b[2m +10.0% [" in printed["wide"] and "\x1b[2m" not in printed["sure"]


# --- sparklines ----------------------------------------------------------------------------------------------------


def bars(rows: Rows) -> dict[str, str]:
    group = lines(rows, ["perplexity"])
    return {line.regime: sparkline([line.mean(t) for t in sorted(line.values)], *scale(group)) for line in group}


NOISY = {("human", t): (100.0 + up, 104.0) for t, up in enumerate((0.0, 1.0, 0.5, 1.2))}


def test_the_noise_of_the_control_is_no_trend() -> None:
    """The control moves by less than its spread over seeds: all its bars are equal.  A real trend keeps its shape."""
    assert len(set(bars(table(NOISY))["human"])) == 1
    assert noise(lines(table(NOISY), ["perplexity"])) == pytest.approx(
        sum(math.sqrt(2) * abs(a - b) / 2 for a, b in NOISY.values()) / 4
    )
    rising = {("replace", t): (100.0 + 40 * t, 104.0 + 40 * t) for t in range(4)}
    both = bars(table(NOISY | rising))
    assert both["replace"] == "▁▃▆█" and set(both["human"]) == {"▁"}


def test_with_one_seed_the_noise_is_that_of_the_control_over_time() -> None:
    one = table({("human", t): (value,) for t, value in enumerate((100.0, 101.0, 99.5, 100.5))})
    assert max(map("▁▂▃▄▅▆▇█".index, bars(one)["human"])) - min(map("▁▂▃▄▅▆▇█".index, bars(one)["human"])) <= 3, "of 7"


def test_without_a_control_the_noise_is_that_of_generation_0() -> None:
    rows = table({("replace", 0): (100.0, 102.0), ("replace", 1): (100.0, 160.0)})
    assert noise(lines(rows, ["perplexity"])) == pytest.approx(math.sqrt(2))
    one = table({("replace", 0): (100.0,), ("replace", 1): (101.0,)})
    assert noise(lines(one, ["perplexity"])) == 0 and bars(one)["replace"] == "▁█"


# --- captions ------------------------------------------------------------------------------------------------------


def test_a_caption_of_a_sweep_states_each_value_of_what_is_swept() -> None:
    two = tiny_config("x", sweep={"sample.temperature": [0.5, 0.7]})
    said = caption(two, SWEPT)
    assert "sampled at temperature 0.5, no truncation / temperature 0.7, no truncation;" in said
    assert "temperature 1," not in said and "swept: sample.temperature; GPT-2" in said
    many = tiny_config("x", sweep={"corpus.tokens": [512, 528, 544, 560]})
    assert "4 values (swept) human tokens a seed" in caption(many, table(COLD, corpus__tokens=512))


SMALL = tiny_config("x")


def test_a_caption_describes_intervals_only_where_there_are_some() -> None:
    paired = "vs human: paired difference over seeds with 95 % t interval"
    assert paired in caption(SMALL, table(COLD))
    one = caption(SMALL, table({key: values[:1] for key, values in COLD.items()}))
    assert "95 %" not in one and "±" not in one and "seed 0: one seed has no spread and no interval" in one
    alone = caption(SMALL, [row for row in table(COLD) if row["regime"] == "replace"])
    assert "paired" not in alone and "mean ± standard deviation" in alone
    apart = [row for row in table(COLD) if (row["regime"] == "human") == (row["seed"] == 0)]
    assert "paired" not in caption(SMALL, apart), "no seed is in both"
    assert "vs accumulate: paired" in caption(SMALL, table(COLD), against="accumulate")


def test_two_seeds_are_said_to_decide_little_and_three_are_not() -> None:
    """t(1, 0.975) / sqrt 2 = 8.98 and t(4, 0.975) / sqrt 5 = 1.24 standard deviations."""
    assert "intervals of two seeds decide little: they reach 9 standard dev" in caption(SMALL, table(COLD))
    assert "decide" not in caption(SMALL, table({key: (*values, 1.0) for key, values in COLD.items()}))


# --- narrow tables -------------------------------------------------------------------------------------------------


def printed(rows: Rows, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(rich_table(rows, ["perplexity"], width))
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().split())


def long(generations: int, *regimes: str) -> Rows:
    regimes = regimes or ("human", "replace")
    return table({(r, t): (100.0 + t, 101.0 + t) for r in regimes for t in range(generations)})


def test_columns_that_a_narrow_table_leaves_out_are_named() -> None:
    assert "left out" not in printed(long(3), 120)
    narrow = printed(long(5), 60)
    assert "left out for want of room: gen 1, gen 2, gen 3, trend, since gen 0; --format csv has" in narrow
    shown = narrow.partition("left out")[0]
    assert "vs human" in shown and all(name not in shown for name in ("gen 2", "trend", "since"))
    assert "left out for want of room: 13 of 20 generations; --format csv has all numbers" in printed(long(20), 200)


@pytest.mark.parametrize("regimes", [["replace"], ["replace", "accumulate"], ["human"]])
def test_without_a_reference_no_column_stands_empty(regimes: list[str]) -> None:
    """In all formats, and among the columns that a narrow table leaves out."""
    rows = long(5, *regimes)
    texts = [printed(rows, 200), *(formatted(rows, ["perplexity"], kind) for kind in ("md", "latex"))]
    assert all("since gen 0" in text and "vs human" not in text for text in texts)
    for width in range(50, 120, 10):
        assert "vs human" not in printed(rows, width) and "gen 4" in printed(rows, width)
    assert "left out for want of room: 13 of 20 generations; --format csv" in printed(long(20, *regimes), 200)
    assert "vs replace" in as_markdown(long(2, "replace", "accumulate"), ["perplexity"], against="replace")


def test_a_table_that_is_too_wide_comes_in_parts_with_the_first_column_in_each() -> None:
    """Columns of 5, 5 and 5 characters, two apart: 12 hold the first and one more, 19 all."""
    table = [["label", "first", "other"], ["a", "1", "2"]]
    assert parts(table[0], table[1:], 19) == [table]
    narrow = [[["label", "first"], ["a", "1"]], [["label", "other"], ["a", "2"]]]
    assert parts(table[0], table[1:], 18) == parts(table[0], table[1:], 5) == narrow
