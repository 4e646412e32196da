"""The end of `lab run`: the headline table fits the terminal, and the reading claims what the intervals allow."""

import math
from typing import Any

import pytest

from lab.metrics.columns import names, shortlist
from lab.report.headline import Headline, headline, reading

Rows = list[dict[str, Any]]


def body(found: Headline) -> list[str]:
    return [line.plain for line in found.body]


PERPLEXITY = {
    ("human", 0): (100.0, 100.0),
    ("human", 1): (100.0, 100.0),
    ("replace", 0): (100.0, 100.0),
    ("replace", 1): (129.9, 130.1),
    ("accumulate", 0): (100.0, 100.0),
    ("accumulate", 1): (104.0, 106.0),
}
"""By (regime, generation): seeds 0 and 1.

t(1, 0.975) = 12.706.  replace is 30 % above the control, standard error 0.1 %: 28.7 to 31.3 %.  accumulate is 5 % above
it, standard error 1 %: -7.7 to 17.7 %.
"""


def table(values: dict[tuple[str, int], tuple[float, ...]] = PERPLEXITY, kind: str = "text", **changes: Any) -> Rows:
    """Return rows of results.csv; columns that are not given are 0.5, and a nested dict is given by regime."""
    rows = []
    for (regime, t), by_seed in values.items():
        for seed, value in enumerate(by_seed):
            row = {**dict.fromkeys(names(kind), 0.5), "perplexity" if kind == "text" else "excess_nll": value}
            given = {k: v.get(regime, 0.5) if isinstance(v, dict) else v for k, v in changes.items()}
            rows.append({"regime": regime, "seed": seed, "generation": t, **row, **given})
    return rows


def swept(**arms: dict[tuple[str, int], tuple[float, ...]]) -> Rows:
    """Return the rows of a sweep over named arms."""
    rows = []
    for arm, values in arms.items():
        rows += [
            {"regime": r["regime"], "arm": arm.replace("_", " "), **{k: v for k, v in r.items() if k != "regime"}}
            for r in table(values)
        ]
    return rows


def only(*regimes: str, values: dict[tuple[str, int], tuple[float, ...]] = PERPLEXITY) -> dict[Any, Any]:
    return {key: value for key, value in values.items() if key[0] in regimes}


# The table


def test_the_table_by_hand() -> None:
    """At 80 columns: value, trend, change, and a star where the interval excludes 0."""
    rows = table(rare_survival={"human": 0.2, "replace": 0.05, "accumulate": 0.2})
    found = headline(rows, 80)
    assert found.title == "Generation 1, mean of 2 seeds; change vs human (* 95 % interval excludes 0)"
    assert found.heading == "regime      perplexity       rare loss      distinct-2       rare survival"
    assert body(found) == [
        "human       100.0 ▁▁         0.50 ▁▁        0.500 ▁▁         20.0% ██",
        "replace     130.0 ▁█ +30% *  0.50 ▁▁ +0.00  0.500 ▁▁ +0.000   5.0% ▁▁ -15.0 *",
        "accumulate  105.0 ▁▂  +5%    0.50 ▁▁ +0.00  0.500 ▁▁ +0.000  20.0% ██  +0.0",
    ]
    assert found.legend == (
        "rare loss: nats per token inside rare words; rare survival: share of the rare human words still written "
        "(change in points); bars: generations 0 to 1, a step >= the spread; "
        "two seeds decide little"
    )


@pytest.mark.parametrize("width", [80, 200])
def test_changes_whose_interval_holds_0_are_dim(width: int) -> None:
    """Perplexity: replace, 28.7 to 31.3 %, is bright; accumulate, -7.7 to 17.7 %, is dim, as losses without change."""
    _, replace, accumulate = headline(table(), width).body
    dim = [[line.plain[part.start : part.end].strip() for part in line.spans] for line in (replace, accumulate)]
    assert not any("+30%" in text for text in dim[0]) and "+5%" in dim[1] and "+0.00" in dim[0]


def test_three_seeds_are_not_told_that_two_decide_little() -> None:
    three = {key: (*values, values[0] + 0.1) for key, values in PERPLEXITY.items()}
    assert "decide little" not in headline(table(three), 200).legend


def test_a_wide_terminal_shows_intervals() -> None:
    found = headline(table(), 200)
    assert found.title == "Generation 1, mean of 2 seeds; change vs human [95 % interval]"
    assert "130.0 ▁█ +30% [29, 31]" in body(found)[1] and "105.0 ▁▂  +5% [-8, 18]" in body(found)[2]
    assert "0.50 ▁▁ +0.00 [0.00, 0.00]" in body(found)[1] and "*" not in "".join(body(found))


LONG = {(f"mix,fresh=true,human=0.{i},older=0.25", t): (100.0 + t, 101.0) for i in range(3) for t in range(30)}
STUDIES: dict[str, Rows] = {
    "plain": table(),
    "twenty generations": table({(r, t): (100.0 + t, 101.0 * 2**t) for r in ("human", "replace") for t in range(20)}),
    "long names": table(LONG),
    "one seed": table({key: values[:1] for key, values in PERPLEXITY.items()}),
    "no control": table(only("replace", "accumulate")),
    "swept": swept(repetition_penalty_of_one_and_a_half=PERPLEXITY, top_p=PERPLEXITY),
    "not finite": table({**PERPLEXITY, ("replace", 1): (math.inf, math.nan)}, nll_rare=math.nan),
    "source": table(kind="source"),
    "huge": table({**PERPLEXITY, ("replace", 1): (3e9, 4e9)}),
}


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("width", [80, 100, 120, 160, 240])
def test_the_table_fits(name: str, width: int) -> None:
    """No line of the table is wider than the terminal, and every regime and arm has its numbers."""
    rows, found = STUDIES[name], headline(STUDIES[name], width)
    assert found.width <= width, found
    chains = {(row["regime"], row.get("arm")) for row in rows}
    assert len([line for line in body(found) if line.count("  ") >= len(shortlist("text"))]) >= len(chains)
    text = "\n".join(body(found))
    assert all(regime in text and (arm or "") in text for regime, arm in chains)


def test_a_narrow_terminal_groups_a_sweep_by_arm() -> None:
    lines = body(headline(STUDIES["swept"], 80))
    assert lines[0] == "arm repetition penalty of one and a half" and lines[1].startswith("  human  ")
    assert lines[4] == "arm top p" and len(lines) == 8


def test_long_names_stand_above_their_numbers() -> None:
    lines = body(headline(table(LONG), 80))
    assert lines[0] == "mix,fresh=true,human=0.0,older=0.25" and lines[1].startswith("  115.0 ▁▂▃▄▅▆▇█ +15%"), lines


def test_one_seed_has_a_change_without_an_interval() -> None:
    found = headline(STUDIES["one seed"], 80)
    assert found.title == "Generation 1, one seed; change vs human"
    assert "129.9 ▁█  +30%" in body(found)[1] and "*" not in body(found)[1]


def test_without_a_control_the_change_is_since_generation_0() -> None:
    found = headline(STUDIES["no control"], 80)
    assert found.title.endswith("change since generation 0 (* 95 % interval excludes 0)")
    assert "130.0 ▁█ +30% *" in body(found)[0]


@pytest.mark.parametrize("width", [80, 200])
def test_the_title_names_no_interval_and_no_change_that_no_line_has(width: int) -> None:
    one_common_seed = {**PERPLEXITY, ("human", 1): (100.0,)}
    assert headline(table(one_common_seed), width).title == "Generation 1, mean of 2 seeds; change vs human"
    alone = table(only("human"))
    assert headline(alone, width).title == "Generation 1, mean of 2 seeds"
    infinite = table(only("human", "replace"), **{name: {"replace": math.inf} for name in names("text")})
    assert headline(infinite, width).title == "Generation 1, mean of 2 seeds"


def test_a_chain_that_stopped_early_says_where() -> None:
    found = headline(table({**PERPLEXITY, ("human", 2): (100.0, 100.0)}), 100)
    assert [line.split("  ")[0] for line in body(found)] == ["human", "replace (gen 1)", "accumulate (gen 1)"]


def test_numbers_that_are_not_finite_have_no_change() -> None:
    found = headline(STUDIES["not finite"], 80)
    assert body(found)[1].startswith("replace      none ▁") and "nan" not in "".join(body(found))
    assert "nll_rare: none: no held-out word occurs 1 to 3 times" in found.legend
    assert "perplexity: infinite in 1 of 12 rows of results.csv: the model gives some" in found.legend


# The reading


FRESH = {"rare_survival": {"human": 0.5, "replace": 0.12, "accumulate": 0.3}, "rare_survival_human": 0.54}


def test_a_difference_and_none() -> None:
    assert reading(table(**FRESH)) == (
        "Under replace, held-out perplexity is 30 % above the control's after 1 generation [95 % interval 29 to 31 %]; "
        "88 % of the rare words are no longer written (50 % under the control, 46 % in as much fresh human text). "
        "Under accumulate, held-out perplexity cannot be told apart from the control's after 1 generation: "
        "5 % above [95 % interval -8 to 18 %]; 70 % of the rare words are no longer written (50 % under the control)."
    )


def test_one_regime_is_one_sentence() -> None:
    assert reading(table(only("human", "replace"), **FRESH)).count("Under ") == 1


def test_a_regime_below_the_control() -> None:
    values = {**only("human"), ("replace", 0): (100.0, 100.0), ("replace", 1): (95.0, 95.2)}
    said = "held-out perplexity is 4.9 % below the control's after 1 generation [95 % interval -6.2 to -3.6 %]"
    assert said in reading(table(values))


def test_one_seed_claims_no_interval() -> None:
    text = reading(STUDIES["one seed"])
    assert "held-out perplexity is 30 % above the control's after 1 generation (one seed: no interval)" in text
    assert "95 %" not in text


def test_without_a_control_generation_0_is_the_reference() -> None:
    text = reading(STUDIES["no control"])
    assert text.startswith("Under replace, held-out perplexity is 30 % above that of generation 0 after 1 generation [")
    assert "control" not in text


def test_the_control_alone_is_compared_with_its_start() -> None:
    said = "Under human, held-out perplexity cannot be told apart from that of generation 0 after 1 generation: 0.0 %"
    assert reading(table(only("human"))).startswith(said)


def test_only_generation_0() -> None:
    start = {key: values for key, values in PERPLEXITY.items() if key[1] == 0}
    assert reading(table(start)).startswith("Only generation 0 is measured")


def test_of_many_arms_the_worst_and_the_mildest_are_named_as_such() -> None:
    """Whoever picks the largest of many must say so: its interval is that of one."""
    cold = {**only("human", "replace"), ("replace", 1): (200.0, 202.0)}
    text = reading(swept(cold=cold, hot=PERPLEXITY))
    assert text.startswith("Under replace, arm cold (worst of 3), held-out perplexity is 101 % above the control's")
    assert "Under accumulate, arm hot (mildest of 3), held-out perplexity cannot be told apart" in text


def test_the_extremes_of_many_are_said_to_be_chosen() -> None:
    """Of 3 or more the reading says what the choice does to numbers and intervals; of 2, both are there anyway."""
    several = swept(cold=PERPLEXITY, hot=PERPLEXITY)
    assert reading(several).endswith(
        "As the ends of 4, these two are likely to look more extreme than they are, and "
        "the intervals do not allow for that choice."
    )
    one_seed = [row for row in several if row["seed"] == 0]
    assert reading(one_seed).endswith("As the ends of 4, these two are likely to look more extreme than they are.")
    assert "As the ends" not in reading(table())


def test_infinite_and_missing_numbers() -> None:
    rare = {"rare_survival": math.nan, "rare_survival_human": math.nan}
    infinite = {**only("human", "replace"), ("replace", 1): (math.inf, 120.0)}
    assert reading(table(infinite, **rare)) == (
        "Under replace, held-out perplexity is infinite after 1 generation: the model gives no chance at all to some "
        "held-out token."
    )
    endless = {**infinite, ("human", 1): (math.inf, 100.0), ("replace", 1): (110.0, 120.0)}
    said = "Under replace, held-out perplexity is 115.0 after 1 generation, with no number to compare it with."
    assert reading(table(endless, **rare)) == said
    missing = {**infinite, ("replace", 1): (math.nan, 120.0)}
    assert "is nan after 1 generation, with no number" in reading(table(missing, **rare))


@pytest.mark.parametrize(
    ("kept", "said"), [(0.0, "100 %"), (0.0004, "99.9 %"), (0.004, "99.6 %"), (0.97, "3.0 %"), (1.0, "0 %")]
)
def test_all_and_none_are_said_of_all_and_none_only(kept: float, said: str) -> None:
    assert f"; {said} of the rare words are no longer written" in reading(table(rare_survival=kept))


def test_a_known_source_is_read_in_nats() -> None:
    values = {key: tuple(x / 1000 for x in pair) for key, pair in only("human", "replace").items()}
    assert reading(table(values, kind="source", heterozygosity={"replace": 0.25})) == (
        "Under replace, the loss above the source's own is 0.030 nats per token above the control's after 1 generation "
        "[95 % interval 0.029 to 0.031]; two generated rows differ at a locus with chance 0.250."
    )


def test_a_chain_that_stopped_at_generation_0_is_not_read() -> None:
    """replace failed before generation 1: nothing is said of it, and accumulate is the only one left."""
    rows = [row for row in table(**FRESH) if row["regime"] != "replace" or row["generation"] == 0]
    assert reading(rows).startswith("Under accumulate, held-out perplexity cannot be told apart")
    assert "replace" not in reading(rows)
