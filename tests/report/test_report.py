"""What people read: means, spreads, changes and intervals by hand, and tables that survive gaps."""

import csv
import io
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from support.tiny import tiny_config

from lab.errors import InputError
from lab.metrics.columns import names
from lab.report.figure import _panel, figure, looks_of
from lab.report.lines import lines
from lab.report.render import formatted, rich_table
from lab.report.tables import absent, caption, shown_generations, sparkline, tidy

PERPLEXITY = {
    ("human", 0): (100.0, 110.0),
    ("human", 1): (100.0, 120.0),
    ("replace", 0): (100.0, 110.0),
    ("replace", 1): (130.0, 168.0),
}


def table(values: dict[tuple[str, int], tuple[float, ...]] = PERPLEXITY, seeds: tuple[int, ...] = (3, 8)) -> Any:
    """Rows of results.csv whose perplexity is given and whose other columns are 0.5."""
    return [
        {"regime": regime, "seed": seed, "generation": t, **dict.fromkeys(names("text"), 0.5), "perplexity": value}
        for (regime, t), by_seed in values.items()
        for seed, value in zip(seeds, by_seed, strict=True)
    ]


def by_regime(rows: Any, metric: str = "perplexity") -> dict[str, Any]:
    return {line.regime: line for line in lines(rows, [metric])}


def test_mean_spread_and_change_by_hand() -> None:
    """130 and 168: mean 149, sd 19 sqrt 2; from 105 to 149 is + 41.9 %."""
    line = by_regime(table())["replace"]
    assert line.mean(1) == 149
    assert line.spread(1) == pytest.approx(19 * math.sqrt(2))
    assert line.change() == pytest.approx(149 / 105 - 1)


def test_against_the_control_seeds_are_paired() -> None:
    """Seed 3: 130 / 100 - 1 = .3; seed 8: 168 / 120 - 1 = .4.  Mean .35; half width t(.975, 1) x .05 = .635310."""
    interval = by_regime(table())["replace"].against_reference()
    assert interval.mean == pytest.approx(0.35)
    assert interval.high - interval.mean == pytest.approx(12.706205 * 0.05, abs=1e-6)
    assert by_regime(table())["human"].against_reference() is None


def test_a_metric_with_a_unit_is_compared_by_difference() -> None:
    rows = table()
    for row in rows:
        row["nll"] = row["perplexity"] / 100
    line = by_regime(rows, "nll")["replace"]
    assert line.change() == pytest.approx(1.49 - 1.05)
    assert line.against_reference().mean == pytest.approx((0.30 + 0.48) / 2)


def test_only_seeds_that_both_have_are_paired() -> None:
    rows = [row for row in table() if not (row["regime"] == "human" and row["seed"] == 8)]
    assert by_regime(rows)["replace"].against_reference().mean == pytest.approx(0.30)


def test_one_seed_has_no_spread_and_no_bounds() -> None:
    one = table({key: values[:1] for key, values in PERPLEXITY.items()}, seeds=(3,))
    line = by_regime(one)["replace"]
    assert math.isnan(line.spread(1)) and math.isnan(line.against_reference().low)
    assert "(one seed)" in formatted(one, ["perplexity"], "md")


def test_one_pair_of_two_seeds_is_not_one_seed() -> None:
    """Seed 8 of replace has not come to generation 1."""
    rows = [row for row in table() if (row["regime"], row["seed"], row["generation"]) != ("replace", 8, 1)]
    assert "+30.0% (1 of 2 seeds)" in formatted(rows, ["perplexity"], "md")


ABSENT = {("human", 0): (9.0, 9.0), ("human", 1): (math.inf, 9.0), ("replace", 0): (math.inf,) * 2}
ABSENT |= {("replace", 1): (math.nan, math.nan)}


@pytest.mark.parametrize("kind", ["md", "latex", "plain"])
def test_numbers_that_do_not_exist_are_said_in_words(kind: str) -> None:
    rows = table(ABSENT)
    console = Console(file=io.StringIO(), width=200)
    console.print(rich_table(rows, ["perplexity", "zipf"], 200))
    text = console.file.getvalue() if kind == "plain" else formatted(rows, ["perplexity"], kind)  # type: ignore[attr-defined]
    assert "infinite" in text and "none" in text
    assert not re.search(r"[+ -](nan|inf)\b|nan%|inf%", text), text


def test_why_a_column_has_no_number() -> None:
    rows = [row | {"zipf": math.nan} for row in table(ABSENT)]
    assert absent(rows, ["perplexity", "zipf", "nll"]) == [
        "perplexity: none in 2 of 8 rows of results.csv: the held-out rows hold no text",
        "perplexity: infinite in 3 of 8 rows of results.csv: the model gives some held-out tokens probability 0, as an "
        "n-gram without smoothing does",
        "zipf: none: the sample, or a text that it is compared with, holds fewer tokens of text than metrics.tokens, "
        "or too few words",
    ]
    assert absent(table(), ["perplexity", "nll"]) == []
    both = [row | {"nll": row["perplexity"]} for row in rows]
    assert absent(both, ["perplexity", "nll"])[0].startswith("perplexity, nll: none in 2 of 8 rows")
    assert "perplexity: infinite in 3 of 8" in formatted(rows, ["perplexity"], "md")


def test_a_resample_without_a_number_is_no_mark() -> None:
    rows = [row | {"rare_survival_human": math.nan} for row in table()]
    assert "resample" not in formatted(rows, ["rare_survival"], "md")


def test_the_caption_states_the_sizes_that_are_used() -> None:
    """Rows of 16 tokens: 500 human tokens are 31 rows, 250 compared ones 15, 130 of the test fold 8."""
    changes = {"corpus__tokens": 500, "metrics__tokens": 250, "metrics__test_tokens": 130}
    text = caption(tiny_config("x", **changes), table())
    assert "496 human tokens" in text and "texts compared at 240;" in text and "test 128 tokens" in text
    prompted = caption(tiny_config("x", **changes, sample__prompt_tokens=5), table())
    assert "texts compared at 242;" in prompted, "22 rows of 11 tokens"


def test_the_caption_has_what_the_run_found_in_its_text() -> None:
    assert "; one thing; another \\x1b" in caption(tiny_config("x"), table(), ["one thing", "another \x1b"])


def test_without_a_control_there_is_no_comparison() -> None:
    alone = [row for row in table() if row["regime"] == "replace"]
    assert by_regime(alone)["replace"].against_reference() is None
    for kind in ("md", "csv", "json", "latex"):
        assert "replace" in formatted(alone, ["perplexity"], kind)


@pytest.mark.parametrize("kind", ["md", "csv", "json", "latex", "rich"])
def test_a_number_that_does_not_exist_stops_no_table(kind: str) -> None:
    """nll_rare is nan where the test text has no rare word."""
    rows = table()
    for row in rows:
        row["nll_rare"] = math.nan
    if kind == "rich":
        Console(file=io.StringIO()).print(rich_table(rows, ["nll_rare"], 200))
    else:
        text = formatted(rows, ["nll_rare"], kind)
        if kind == "json":
            json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def without(rows: Any, **gone: Any) -> Any:
    return [row for row in rows if any(row[name] != value for name, value in gone.items())]


@pytest.mark.parametrize(
    "gone",
    [
        {"regime": "replace", "generation": 0, "seed": 3},
        {"regime": "replace", "generation": 0},
        {"regime": "replace", "generation": 1, "seed": 8},
        {"regime": "human", "generation": 1},
    ],
    ids=str,
)
def test_generations_that_failed_stop_no_table_and_no_figure(gone: dict[str, Any], tmp_path: Path) -> None:
    rows = without(table(), **gone)
    for kind in ("md", "csv", "json", "latex"):
        assert formatted(rows, ["perplexity"], kind)
    Console(file=io.StringIO()).print(rich_table(rows, ["perplexity"], 200))
    figure(rows, "title", tmp_path / "figure.svg")


def test_change_compares_the_same_seeds() -> None:
    """Seed 8 has no generation 1: the change is seed 3's, 130 / 100 - 1, not 130 against the mean of both."""
    rows = without(table(), regime="replace", generation=1, seed=8)
    assert by_regime(rows)["replace"].change() == pytest.approx(0.30)


def test_an_unknown_metric_and_an_unknown_format() -> None:
    with pytest.raises(InputError, match='unknown metric "perplexty" - did you mean "perplexity"'):
        lines(table(), ["perplexty"])
    with pytest.raises(InputError, match='unknown format "html"; allowed: md, csv, json, latex'):
        formatted(table(), ["perplexity"], "html")


def test_sparklines() -> None:
    """8 bars: the lowest value is the lowest, the highest the highest; gaps are gaps."""
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 0, 7) == "▁▂▃▄▅▆▇█"
    assert sparkline([3, 1, 2], 1, 3) in ("█▁▄", "█▁▅")
    assert sparkline([5, 5], 5, 5) == "▁▁"
    assert sparkline([1, math.nan, 2], 1, 2) == "▁ █"
    assert sparkline([], 0, 0) == ""


def test_shown_generations() -> None:
    assert shown_generations([2, 0, 1]) == [0, 1, 2]
    few = shown_generations(range(100))
    assert (few[0], few[-1], len(few)) == (0, 99, 7)


def test_tidy_by_hand() -> None:
    found = {(row["regime"], row["generation"]): row for row in tidy(table(), ["perplexity"])}
    assert found["human", 1] == {
        "metric": "perplexity",
        "regime": "human",
        "generation": 1,
        "mean": 110.0,
        "sd": pytest.approx(10 * math.sqrt(2)),
        "n": 2,
        "since_gen_0": pytest.approx(110 / 105 - 1),
        "unit": "equally likely tokens",
        "change_unit": "ratio - 1",
    }
    end = found["replace", 1]
    assert found["replace", 0]["difference"] == 0 and end["difference"] == pytest.approx(0.35)
    assert end["against"] == "human" and end["low"] == pytest.approx(0.35 - 12.706205 * 0.05, abs=1e-6)
    loss = tidy(table(), ["nll"])[0]
    assert loss["unit"] == loss["change_unit"] == "nats per token", "a difference has the unit of its metric"


def test_the_formats_agree() -> None:
    rows, metrics = table(), ["perplexity", "nll"]
    plain = json.loads(formatted(rows, metrics, "json"))
    read = list(csv.DictReader(io.StringIO(formatted(rows, metrics, "csv"))))
    assert [(row["metric"], row["regime"], float(row["mean"])) for row in read] == [
        (row["metric"], row["regime"], row["mean"]) for row in plain
    ]
    markdown, latex = formatted(rows, metrics, "md"), formatted(rows, metrics, "latex")
    assert "| replace | 105.0±7.1 | 149.0±26.9 |" in markdown and "| +41.9% |" in markdown
    assert r"replace & 105.0$\pm$7.1 & 149.0$\pm$26.9 & +41.9\%" in latex
    bars = {line.count("|") for line in markdown.splitlines() if line.startswith("|")}
    assert len(bars) == 1, "every row of the table has as many cells"


def test_names_of_a_users_own_regime_survive_latex() -> None:
    rows = [{**row, "regime": "my_module:fn"} for row in table() if row["regime"] == "replace"]
    assert r"my\_module:fn" in formatted(rows, ["perplexity"], "latex")


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_printed_table_keeps_first_and_last_generation(width: int) -> None:
    rows = table({(regime, t): (100.0 + t, 101.0 + t) for regime in ("human", "replace") for t in range(12)})
    console = Console(file=io.StringIO(), width=width)
    console.print(rich_table(rows, ["perplexity"], width))
    text = console.file.getvalue()
    assert "gen 0" in text and "gen 11" in text and "replace" in text
    uncut = Console(file=io.StringIO(), width=500)
    uncut.print(rich_table(rows, ["perplexity"], width))
    assert max(len(line.rstrip()) for line in uncut.file.getvalue().splitlines()) <= width, "cut by the terminal"


@pytest.mark.parametrize(
    ("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF")], ids=lambda value: str(value)
)
def test_figures(tmp_path: Path, name: str, start: bytes) -> None:
    figure(table(), "title", tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


def test_a_figure_is_its_numbers(tmp_path: Path) -> None:
    """The same rows draw the same SVG: it can be committed."""
    for name in ("a.svg", "b.svg"):
        figure(table(), "title", tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_figure_of_many_regimes_leaves_none_out(tmp_path: Path) -> None:
    names = [f"regime{i}" for i in range(9)]
    figure(table({(name, t): (100.0, 110.0) for name in names for t in (0, 1)}), "title", tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert [name for name in names if f"<!-- {name} -->" in text] == names


def test_eight_arms_of_two_regimes_have_two_colours_and_eight_marks(tmp_path: Path) -> None:
    rows = [
        {"regime": row["regime"], "sample.temperature": arm, **{k: v for k, v in row.items() if k != "regime"}}
        for arm in range(8)
        for row in table()
    ]
    looks = looks_of(rows)
    assert len(set(looks.colours.values())) == 2 and list(looks.colours) == ["human", "replace"]
    assert len({str(mark) for mark in looks.marks.values()}) == 8
    drawn: list[dict[str, Any]] = []
    axis = SimpleNamespace(plot=lambda *_, **look: drawn.append(look))
    _panel(axis, rows, ["perplexity"], looks)
    assert len({(line["color"], line["marker"], line["fillstyle"]) for line in drawn if "marker" in line}) == 16
    figure(rows, "title", tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert all(f"<!-- temperature {arm} -->" in text for arm in range(8)) and text.count("<!-- replace -->") == 1


@pytest.mark.parametrize("many", [3, 7, 8, 30])
def test_no_two_regimes_share_a_colour(many: int) -> None:
    colours = looks_of(table({(f"r{i}", 0): (1.0, 1.0) for i in range(many)})).colours
    assert len(set(map(str, colours.values()))) == len(colours) == many


@pytest.mark.parametrize("more", [0, 8])
def test_the_colour_of_the_control_is_never_that_of_another_regime(more: int) -> None:
    """A regime looks alike with and without a control."""
    others = ["replace", "mix", *(f"r{i}" for i in range(more))]
    rows = [table({(name, 0): (1.0, 1.0) for name in names}) for names in (["human", *others], others)]
    found = [looks_of(each).colours for each in rows]
    assert found[0] == {"human": found[0]["human"], **found[1]} and found[0]["human"] not in found[1].values()


def test_a_logarithmic_axis_of_perplexity(tmp_path: Path) -> None:
    """Ticks in plain numbers; a known source has no perplexity in its figure."""
    for name, log in (("a.svg", False), ("b.svg", True)):
        figure(table(), "title", tmp_path / name, log=log)
    plain, logged = ((tmp_path / name).read_text() for name in ("a.svg", "b.svg"))
    assert "held-out human text (logarithmic) -->" in logged and "(logarithmic)" not in plain
    assert "<!-- 150 -->" in logged and "10^" not in logged
    source = [{k: 0.5 for k in row} | row | {"source_nll": 1.0} for row in table()]
    with pytest.raises(InputError, match="known source has none"):
        figure(source, "title", tmp_path / "c.svg", log=True)


def test_a_figure_of_an_unknown_kind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must end in .png, .svg or .pdf"):
        figure(table(), "title", tmp_path / "a.jpeg")
    assert list(tmp_path.iterdir()) == []
